"""Kill, stop, cut off or garble a rank at random points of random collectives; check what is left.

Run as a script for a long series: `python tests/faults.py 200` or `python tests/faults.py 200 local kill`.
The suite runs a short one (test_workers.py, test_faults.py). Every survivor must get a CommError within 20 s
and hold whole arrays; errors more than a second late (after the timeout where the victim is only stopped) are
counted. In shared memory all of them name the victim and what they were doing; over gloo all but where
connections were closed: then at least one.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np

import scrimp
from scrimp.comm import Comm, launch

HANG_S = 20.0
TIMEOUT_S = {"stop": 2.0}  # else HANG_S: on a busy machine also a rank that is fine may rest for a second
FAULTS = {"local": ["kill", "stop"], "gloo": ["kill", "stop", "close", "flip"]}


def fault_after(delay_s: float, fault: Callable[[], None], at: np.ndarray) -> None:
    """Call fault() a little later, wherever this process is then, and note when."""

    def strike() -> None:
        time.sleep(delay_s)
        at[0] = time.monotonic()
        fault()

    threading.Thread(target=strike, daemon=True).start()


def signal_self(code: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), code)


def close_connections() -> None:
    """Shut down every TCP connection of this process."""
    for link in Path("/proc/self/fd").iterdir():
        try:
            with socket.socket(fileno=os.dup(int(link.name))) as connection:
                if connection.family in (socket.AF_INET, socket.AF_INET6) and connection.getpeername():
                    connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue  # not a socket, not connected, or gone


def collectives_until_an_error(
    worlds: list[Comm], rng: np.random.Generator, most: int
) -> tuple[scrimp.CommError, bool]:
    """Return the error, and whether the array of the failed call is whole: as it was, or the result."""
    comm = worlds[0]
    total = comm.size * (comm.size + 1) / 2
    while True:
        n = int(rng.integers(1, most))
        world = worlds[int(rng.integers(len(worlds)))]
        codec, shared = str(rng.choice(["raw", "raw", "int8", "int4"])), bool(rng.random() < 0.5)
        x = comm.empty(n) if shared else np.empty(n, np.float32)
        x[...] = comm.rank + 1
        before = x.copy()
        feedback = scrimp.ErrorFeedback()
        try:
            world.all_reduce(x, codec=codec, op="sum", raw_below=0, name="w", feedback=feedback)
        except scrimp.CommError as error:
            whole = x.tobytes() == before.tobytes() or (shared and bool((x == total).all()))
            return error, whole and not any(r.any() for r in feedback.state_dict()["residuals"].values())
        assert (x == total).all()


# The local engine: workers of scrimp.run


def local_rank(comm: Comm, victim: int, delay_s: float, fault: str, seed: int, at: np.ndarray) -> None:
    """All kinds of collectives until the fault; what the witnesses see goes into `at`."""
    if comm.rank == victim:
        fault_after(delay_s, signal_self(signal.SIGKILL if fault == "kill" else signal.SIGSTOP), at)
    worlds = [Comm(comm.transport), Comm(comm.transport), Comm(comm.transport, native=False)]
    error, whole = collectives_until_an_error(worlds, np.random.default_rng(seed), 3_000_000)
    at[1 + comm.rank] = time.monotonic()
    assert whole, "the buffer was half written"
    assert re.search(rf"rank {victim}\b.*of 'w'", str(error)), str(error)
    raise error


def strike_local(fault: str, trial: int) -> float:
    """Return the seconds from the fault to the last survivor's error."""
    rng = np.random.default_rng(trial)
    size = int(rng.integers(2, 5))
    victim = int(rng.integers(size))
    at = scrimp.shared_array(65536)  # large enough to be one memory for all
    args = (victim, float(rng.uniform(0, 0.05)), fault, trial, at)
    text = "no error"
    try:
        with patch.object(launch, "_GRACE_S", HANG_S):  # nobody is killed: all must see it themselves
            scrimp.run(local_rank, workers=size, args=args, timeout=TIMEOUT_S.get(fault, HANG_S))
    except scrimp.CommError as error:
        text = str(error)
    assert f"rank {victim} " in text, text
    assert not Path(f"/proc/self/task/{os.getpid()}/children").read_text().split(), "a process was left"
    survivors = [at[1 + rank] for rank in range(size) if rank != victim]
    assert min(survivors) > 0, "a survivor saw nothing"
    return float(max(survivors) - at[0])


# gloo: ranks are forked, for torch takes seconds to import


def flip_a_bit(rng: np.random.Generator, at: np.ndarray) -> None:
    """Garble one bit of one of the next messages that this process hands to gloo."""
    from scrimp.comm.torch_group import TorchTransport

    start, left = TorchTransport.start, int(rng.integers(1, 40))

    def garbled(transport, receives, peer, data):  # type: ignore[no-untyped-def]
        nonlocal left
        left -= not receives
        if left == 0 and not receives:
            data = data.copy()
            bit = int(rng.integers(8 * len(data)))
            data[bit // 8] ^= 1 << bit % 8
            at[0] = time.monotonic()
        return start(transport, receives, peer, data)

    TorchTransport.start = garbled  # type: ignore[method-assign]


def gloo_rank(rank: int, size: int, victim: int, fault: str, trial: int, folder: str, at: np.ndarray) -> None:
    """Like local_rank; leaves its report in a file."""
    import torch.distributed as dist

    rng = np.random.default_rng([trial, 7])
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
    comm = scrimp.comm.from_torch(timeout=TIMEOUT_S.get(fault, HANG_S))
    comm.barrier()
    if rank == victim and fault == "flip":
        flip_a_bit(rng, at)
    elif rank == victim:
        faults = {
            "kill": signal_self(signal.SIGKILL),
            "stop": signal_self(signal.SIGSTOP),
            "close": close_connections,
        }
        fault_after(float(rng.uniform(0, 0.05)), faults[fault], at)
    error, whole = collectives_until_an_error([comm], np.random.default_rng(trial), 100_000)
    report = {"at": time.monotonic(), "error": str(error), "whole": whole}
    Path(folder, f"report{rank}.new").write_text(json.dumps(report))
    os.rename(f"{folder}/report{rank}.new", f"{folder}/report{rank}")
    if fault in ("kill", "stop"):  # stay until everybody has seen it: who leaves is no suspect
        signal.pause()


def fork_rank(*args: object) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            gloo_rank(*args)  # type: ignore[arg-type]
        finally:
            os._exit(0)
    return pid


def strike_gloo(fault: str, trial: int) -> float:
    """Return the seconds from the fault to the last survivor's error."""
    rng = np.random.default_rng(trial)
    size = int(rng.integers(2, 5))
    victim = int(rng.integers(size))
    at = scrimp.shared_array(1)
    with tempfile.TemporaryDirectory() as folder:
        pids = [fork_rank(rank, size, victim, fault, trial, folder, at) for rank in range(size)]
        try:
            reports = wait_for_reports(folder, [r for r in range(size) if r != victim])
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    assert all(report["whole"] for report in reports), "the buffer was half written"
    named = [bool(re.match(rf"rank {victim} |.*from rank {victim} ", report["error"])) for report in reports]
    # Connections between ranks that live: each sees the other go; who had none to the victim sees others go.
    due = 1 if fault == "close" else len(named)
    assert sum(named) >= due, [report["error"] for report in reports]
    return float(max(report["at"] for report in reports) - at[0])


def wait_for_reports(folder: str, ranks: list[int]) -> list[dict]:
    deadline = time.monotonic() + HANG_S
    paths = [Path(folder, f"report{rank}") for rank in ranks]
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline, f"hang: {[p.name for p in paths if not p.exists()]}"
        time.sleep(0.002)
    return [json.loads(path.read_text()) for path in paths]


def strike(transport: str, fault: str, trial: int) -> float:
    return (strike_local if transport == "local" else strike_gloo)(fault, trial)


def shared_names() -> set[str]:
    """Names in /dev/shm, but those of other programs."""
    return {name for name in os.listdir("/dev/shm") if re.match("scrimp|torch|gloo", name)}


def series(transport: str, fault: str, count: int) -> str:
    """Return one line of figures; raise at the first thing that is not as it must be."""
    shared, files = shared_names(), len(os.listdir("/proc/self/fd"))
    seconds = [strike(transport, fault, trial) for trial in range(count)]
    assert shared_names() == shared
    assert len(os.listdir("/proc/self/fd")) == files
    limit = 1.0 + TIMEOUT_S.get(fault, 0)
    late = sum(s > limit for s in seconds)
    median, worst = 1e3 * float(np.median(seconds)), 1e3 * max(seconds)
    return f"{transport} {fault}: {count} faults, median {median:.0f} ms, worst {worst:.0f} ms, {late} late"


def main(count: int, transport: str = "", fault: str = "") -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    for name in [transport] if transport else FAULTS:
        if name == "gloo":
            import torch

            torch.set_num_threads(1)
        for kind in [fault] if fault else FAULTS[name]:
            sys.stdout.write(series(name, kind, count) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
