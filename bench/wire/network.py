"""Hosts that are network namespaces on one switch, each behind a link of a set rate in both directions.

Needs root, `ip` and `tc` (iproute2). Names carry the id of this process; whatever ends it, the namespaces go:
on leaving the block, at exit, on SIGTERM and SIGINT, and those of a killed run when the next one starts.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import signal
import subprocess
import sys

BURST, LATENCY = "256kb", "50ms"
INTERFACE = "eth0"
GOODPUT = 1448 / 1514  # payload of a full TCP segment over its bytes on Ethernet


def command(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def missing() -> str | None:
    """Why there can be no network here, or None."""
    try:
        name = f"scrimp-{os.getpid()}-probe"
        command("ip", "netns", "add", name)
        command("ip", "netns", "del", name)
        command("tc", "qdisc", "show", "dev", "lo")
    except OSError as error:
        return str(error)
    return None


class Network:
    """`with Network(4, 1000) as hosts:` gives four hosts at 1,000 Mbit/s each way."""

    def __init__(self, size: int, mbit: float) -> None:
        self.size, self.mbit = size, mbit
        self._stem = f"scrimp-{os.getpid()}-"
        self._switch = f"{self._stem}switch"
        self._before: dict[int, object] = {}

    def name(self, host: int) -> str:
        return f"{self._stem}{host}"

    @staticmethod
    def address(host: int) -> str:
        return f"10.77.0.{host + 1}"

    def limit_seconds(self, nbytes: float) -> float:
        """Return what the link needs for so many bytes of payload."""
        return nbytes / (self.mbit * 1e6 / 8 * GOODPUT)

    def __enter__(self) -> Network:
        delete_left_over()
        atexit.register(self.delete)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, lambda *_: sys.exit(130))
        try:
            self._build()
        except BaseException:
            self.delete()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.delete()
        atexit.unregister(self.delete)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _build(self) -> None:
        switch = self._switch
        command("ip", "netns", "add", switch)
        command("ip", "-n", switch, "link", "add", "br0", "type", "bridge")
        command("ip", "-n", switch, "link", "set", "br0", "up")
        for host in range(self.size):
            name, port = self.name(host), f"port{host}"
            command("ip", "netns", "add", name)
            ends = ("link", "add", INTERFACE, "netns", name, "type", "veth", "peer", "name", port)
            command("ip", *ends, "netns", switch)
            command("ip", "-n", name, "link", "set", "lo", "up")
            command("ip", "-n", name, "addr", "add", f"{self.address(host)}/24", "dev", INTERFACE)
            command("ip", "-n", name, "link", "set", INTERFACE, "up")
            command("ip", "-n", switch, "link", "set", port, "master", "br0", "up")
            for where, device in ((name, INTERFACE), (switch, port)):  # up to the switch, and down from it
                rate = ("rate", f"{self.mbit:g}mbit", "burst", BURST, "latency", LATENCY)
                command("tc", "-n", where, "qdisc", "add", "dev", device, "root", "tbf", *rate)

    def delete(self) -> None:
        for name in [self.name(host) for host in range(self.size)] + [self._switch]:
            with contextlib.suppress(OSError):
                command("ip", "netns", "del", name)


def delete_left_over() -> None:
    """Delete the namespaces of runs that were killed."""
    for found in re.finditer(r"^(scrimp-(\d+)-\S+)", command("ip", "netns", "list"), re.MULTILINE):
        if not os.path.exists(f"/proc/{found[2]}"):
            with contextlib.suppress(OSError):
                command("ip", "netns", "del", found[1])


def sent_bytes() -> int:
    """Bytes that this host's interface has sent, read inside its namespace."""
    with open("/proc/net/dev") as stream:
        for line in stream:
            name, _, fields = line.partition(":")
            if name.strip() == INTERFACE:
                return int(fields.split()[8])
    raise OSError(f"no interface {INTERFACE} in this namespace")
