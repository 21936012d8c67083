"""Runs the parts of the wire suite and makes rows of what the ranks print."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wire import targets
from wire.network import INTERFACE, Network, missing

BENCH = Path(__file__).resolve().parent.parent
MB = 1 << 20
MBIT = 1000
TIMEOUT_S = 140
SIZES = (1 / 256, 1, 16, 256)  # MB
CODECS = ("raw", "int8", "int4", "int4+ef14", "rot2", "rot1", "rot1+ef14")
NO_UNDO = ("int4 no-undo", "rot2 no-undo", "rot1 no-undo")  # at 256 MB: as peers, and the DDP hook, have it
PEERS = ("gloo fp32", "fp16 hook", "naive int8", "PowerSGD-1 hook")
POWER = ("scrimp PowerSGD-1",)
RANK_TWO = ("PowerSGD-2 hook", "scrimp PowerSGD-2")  # at 256 MB on two hosts
SLOW = ("raw", "naive int8", "MPICH fp32")  # not at 256 MB on four hosts: they would take most of the time
LOSS = ("fp32", "fp16 hook", "scrimp int4+ef14", "scrimp rot1+ef14")
LOSS_TARGET = 0.25
HEADER_SHARE = 0.004  # of TCP, IP and Ethernet and of acknowledgements: the kernel hands over 64 KB at once
HEADER_NBYTES = 40_000  # the same for short messages, and the barrier around the measurement


def size(megabytes: float) -> str:
    return f"{megabytes:g} MB" if megabytes >= 1 else f"{1024 * megabytes:g} KB"


@dataclass(frozen=True)
class Part:
    """Contestants that one set of processes times."""

    hosts: int
    engine: str  # torch, mpi or loss

    @property
    def label(self) -> str:
        return f"{self.hosts} hosts {self.engine}"

    def cases(self, only: str) -> list[tuple[float, list[str]]]:
        found = []
        for megabytes in SIZES:
            names = (*PEERS, *POWER, *CODECS) if self.engine == "torch" else ("MPICH fp32", *CODECS)
            if megabytes == max(SIZES):
                names = (*names, *NO_UNDO)
            if self == Part(2, "torch") and megabytes == max(SIZES):
                names = (*names, *RANK_TWO)
            if self.hosts > 2 and megabytes == max(SIZES):
                names = tuple(name for name in names if name not in SLOW)
            chosen = [n for n in names if only in f"{self.label} {size(megabytes)} {n}"]
            if chosen:
                found.append((megabytes, chosen))
        return found


PARTS = [Part(2, "torch"), Part(2, "mpi"), Part(4, "torch"), Part(4, "mpi"), Part(2, "loss")]


def run(only: str) -> list[dict[str, Any]]:
    """Return the rows, after printing them and what became of the targets."""
    why = missing()
    if why:
        print(f"missing: wire (needs root, ip and tc: {why})", file=sys.stderr)
        return []
    rows: list[dict[str, Any]] = []
    for part in PARTS:
        if part.engine == "loss":
            if only in f"{part.label} training":
                rows += losses(part)
        elif cases := part.cases(only):
            rows += collectives(part, cases)
    targets.show(rows)
    return rows


def collectives(part: Part, cases: list[tuple[float, list[str]]]) -> list[dict[str, Any]]:
    with Network(part.hosts, MBIT) as network:
        words = ["-m", "wire.rank", part.engine, json.dumps(cases)]
        found = (mpi_ranks if part.engine == "mpi" else torch_ranks)(network, words)
        rows = [row(part, network, result) for result in found]
    for each in rows:
        print_row(each)
    return rows


def row(part: Part, network: Network, result: dict[str, Any]) -> dict[str, Any]:
    """Return what one contestant needed."""
    name, megabytes = result["name"], result["megabytes"]
    codec_name = re.split("[+ ]", name)[0]
    own = codec_name in {codec.partition("+")[0] for codec in CODECS}
    limit = None
    if own:
        from scrimp import codec

        nbytes = codec(codec_name).nbytes(int(megabytes * MB) // 4)
        limit = 1e3 * network.limit_seconds(2 * (part.hosts - 1) / part.hosts * nbytes)
        check_bytes(part, result)
    milliseconds = 1e3 * result["seconds"]
    return {
        "suite": "wire",
        "case": f"all_reduce {size(megabytes)}, {part.hosts} hosts",
        "threads": 1,
        "unit": "ms",
        "hosts": part.hosts,
        "megabytes": megabytes,
        "name": f"scrimp {name}, {part.engine}" if own else name,
        "milliseconds": milliseconds,
        "limit": limit,
        "of_limit": limit / milliseconds if limit else None,
        **{key: result[key] for key in ("cpu_ms", "interface_bytes", "counted_bytes", "repeats", "equal")},
    }


def check_bytes(part: Part, result: dict[str, Any]) -> None:
    """Require that what was counted left the interface, within 1 % and the headers of packets."""
    counted, interface = result["counted_bytes"], result["interface_bytes"]
    allowed = 0.01 * counted + HEADER_SHARE * counted + HEADER_NBYTES * part.hosts
    if not result["equal"]:
        raise AssertionError(f"{part.label}: ranks ended with different values: {result}")
    if abs(interface - counted) > allowed:
        raise AssertionError(f"{part.label}: counted {counted} bytes, the interface {interface}: {result}")


def print_row(each: dict[str, Any]) -> None:
    limit = f"{each['of_limit']:5.0%} of line rate" if each["of_limit"] else ""
    print(
        f"{each['case']:32} {each['name']:24} {each['milliseconds']:9.1f} ms {each['cpu_ms']:8.0f} CPU-ms "
        f"{each['interface_bytes'] / 1e6:8.2f} MB sent  {limit}",
        flush=True,
    )


def inside(network: Network, host: int) -> list[str]:
    return ["ip", "netns", "exec", network.name(host)]


def torch_ranks(network: Network, words: list[str]) -> list[dict[str, Any]]:
    """Start one process a host; return what rank 0 printed."""
    shared = {
        "MASTER_ADDR": network.address(0),
        "MASTER_PORT": "29400",
        "WORLD_SIZE": str(network.size),
        "GLOO_SOCKET_IFNAME": INTERFACE,
        "OMP_NUM_THREADS": "1",
    }
    started = [
        subprocess.Popen(
            [*inside(network, host), sys.executable, *words],
            cwd=BENCH,
            env=os.environ | shared | {"RANK": str(host)},
            stdout=subprocess.PIPE if host == 0 else subprocess.DEVNULL,
            stderr=None if host == 0 else subprocess.DEVNULL,
            text=True,
        )
        for host in range(network.size)
    ]
    try:
        out, _ = started[0].communicate(timeout=TIMEOUT_S)
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [json.loads(line) for line in out.splitlines()]


def mpi_ranks(network: Network, words: list[str]) -> list[dict[str, Any]]:
    """Do the same by MPICH's mpiexec, whose ssh is a script that enters the namespace."""
    found = mpich()
    if not found:
        print("missing: MPICH and mpi4py (pip install mpi4py mpich)", file=sys.stderr)
        return []
    # Without these MPICH would see one machine and go through shared memory; the interface counters tell.
    settings = {"UCX_TLS": "tcp,self", "UCX_NET_DEVICES": INTERFACE, "MPIR_CVAR_NOLOCAL": "1", **found[1]}
    with tempfile.TemporaryDirectory(prefix="scrimp-wire") as folder:
        script = Path(folder) / "enter"
        stem = network.name(0)[:-1]
        script.write_text(
            "#!/bin/bash\nwhile [[ $1 == -* ]]; do shift; done\nhost=$1; shift\n"
            f'exec ip netns exec {stem}$(( ${{host##*.}} - 1 )) bash -c "$*"\n'
        )
        script.chmod(0o755)
        hosts = ",".join(network.address(host) for host in range(network.size))
        launch = [found[0], "-launcher", "ssh", "-launcher-exec", str(script)]
        launch += ["-localhost", network.address(0)]
        launch += ["-hosts", hosts, "-ppn", "1", "-n", str(network.size)]
        done = subprocess.run(
            [*inside(network, 0), *launch, sys.executable, *words],
            cwd=BENCH,
            env=os.environ | settings,
            stdout=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT_S,
        )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def mpich() -> tuple[str, dict[str, str]] | None:
    """Mpiexec and what mpi4py needs to find the library of MPICH's wheel."""
    try:
        importlib.metadata.version("mpi4py")
        files = importlib.metadata.files("mpich") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    paths = {f.name: str(f.locate().resolve()) for f in files if f.name in ("libmpi.so.12", "mpiexec")}
    if len(paths) == 2:
        return paths["mpiexec"], {"MPI4PY_LIBMPI": paths["libmpi.so.12"]}
    launcher = shutil.which("mpiexec")
    return (launcher, {}) if launcher else None


def losses(part: Part) -> list[dict[str, Any]]:
    """Train over the slow link until a loss."""
    with Network(part.hosts, MBIT) as network:
        found = torch_ranks(network, ["-m", "wire.loss", json.dumps(LOSS), str(LOSS_TARGET)])
    rows = []
    for result in found:
        seconds = result["seconds"]
        told = f"{seconds:.2f} s" if seconds else f"not reached ({result['loss']:.3f})"
        print(
            f"MNIST to a loss of {LOSS_TARGET}, {part.hosts} hosts  {result['name']:20} {told:>10}, "
            f"{result['steps']} steps of {result['milliseconds_a_step']:.1f} ms, "
            f"{result['megabytes_sent']:.1f} MB sent",
            flush=True,
        )
        case = f"MNIST to a loss of {LOSS_TARGET}, {part.hosts} hosts"
        rows.append({"suite": "wire", "case": case, "threads": 1, "unit": "s", **result})
    return rows
