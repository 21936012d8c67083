"""One host's process of the wire bench: times every contestant on every size; rank 0 prints JSON lines.

Started by bench/wire/__init__.py's runner inside a namespace: `python -m wire.rank torch|mpi CASES`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import scrimp
from scrimp.comm import Comm
from wire.network import sent_bytes

MB = 1 << 20
ENOUGH_SECONDS = 0.7  # what takes longer is timed once
REPEATS = 5


def values(n: int, seed: int) -> np.ndarray:
    """Return n normal values; the same ones again and again, to be quick."""
    some = np.random.default_rng(seed).standard_normal(min(n, 1 << 22)).astype(np.float32)
    return np.tile(some, -(-n // some.size))[:n].copy()


class Bucket:
    """What torch's hooks ask of a bucket, around one square matrix."""

    def __init__(self, x: Any) -> None:
        self.x = x
        side = int(x.numel() ** 0.5)
        self.matrix = x[: side * side].view(side, side)

    def buffer(self) -> Any:
        return self.x

    def set_buffer(self, x: Any) -> None:
        self.x.copy_(x)

    def gradients(self) -> list[Any]:
        return [self.matrix]

    def parameters(self) -> list[Any]:
        return [self.matrix]

    def index(self) -> int:
        return 0

    def is_last(self) -> bool:
        return True


def scrimp_codec(comm: Comm, x: np.ndarray, name: str) -> Callable[[], Any]:
    """Return a call: codec, kind of feedback after a plus, and perhaps no undo."""
    words, _, plain = name.partition(" ")
    codec, _, kind = words.partition("+")
    feedback = scrimp.ErrorFeedback(kind) if kind else None
    how = {"undo": False, "nonfinite": "propagate"} if plain else {}
    return lambda: comm.all_reduce(x, codec=codec, raw_below=0, feedback=feedback, name="x", **how)


def power_hook(x: np.ndarray, rank: int) -> Callable[[], Any]:
    import torch

    from scrimp.torch import CompressionState, compression_hook

    state = CompressionState(method="powersgd", rank=rank, raw_below=0)
    bucket = Bucket(torch.from_numpy(x))
    return lambda: compression_hook(state, bucket).wait()


def torch_contestants(x: np.ndarray) -> dict[str, Callable[[], Callable[[], Any]]]:
    import torch
    import torch.distributed as dist
    from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook as power

    tensor = torch.from_numpy(x)
    size, rank = dist.get_world_size(), dist.get_rank()

    def fp32() -> None:
        dist.all_reduce(tensor)
        tensor.div_(size)

    def fp16() -> None:
        small = tensor.to(torch.float16).div_(size)
        dist.all_reduce(small)
        tensor.copy_(small)

    def torch_power(columns: int) -> Callable[[], Any]:
        state = power.PowerSGDState(None, columns, start_powerSGD_iter=2, use_error_feedback=True)
        bucket = Bucket(tensor)
        state.iter = 2
        return lambda: power.powerSGD_hook(state, bucket).wait()

    def encode(part: Any) -> tuple[Any, Any]:
        scale = part.abs().max() / 127
        return (part / scale).round().to(torch.int8), scale.reshape(1)

    def swap(mine: list[Any]) -> list[Any]:
        theirs = [torch.empty_like(mine[rank]) for _ in range(size)]
        theirs[rank].copy_(mine[rank])
        work = [dist.irecv(theirs[p], p) for p in range(size) if p != rank]
        work += [dist.isend(mine[p], p) for p in range(size) if p != rank]
        for each in work:
            each.wait()
        return theirs

    def naive_int8() -> None:
        parts = tensor.chunk(size)
        encoded = [encode(part) for part in parts]
        codes, scales = swap([c for c, _ in encoded]), swap([s for _, s in encoded])
        total = sum(c.float() * s for c, s in zip(codes, scales, strict=True)) / size
        code, scale = encode(total)
        codes, scales = swap([code] * size), swap([scale] * size)
        for part, c, s in zip(parts, codes, scales, strict=True):
            part.copy_(c.float() * s)

    return {
        "gloo fp32": lambda: fp32,
        "fp16 hook": lambda: fp16,
        "naive int8": lambda: naive_int8,
        "PowerSGD-1 hook": lambda: torch_power(1),
        "PowerSGD-2 hook": lambda: torch_power(2),
        "scrimp PowerSGD-1": lambda: power_hook(x, 1),
        "scrimp PowerSGD-2": lambda: power_hook(x, 2),
    }


def mpi_contestants(x: np.ndarray) -> dict[str, Callable[[], Callable[[], Any]]]:
    from mpi4py import MPI

    return {"MPICH fp32": lambda: lambda: MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, x)}


def timed(comm: Comm, call: Callable[[], Any], usage: Callable[[], scrimp.usage.Usage]) -> dict[str, Any]:
    """Slowest rank's seconds (median), its CPU, and what left the interfaces beside what was counted."""
    times: list[float] = []
    cpu: list[float] = []
    call()
    comm.barrier()
    while len(times) < REPEATS and sum(times) < ENOUGH_SECONDS:
        comm.barrier()
        sent, counted = sent_bytes(), usage()
        start, cpu_start = time.perf_counter(), time.process_time()
        call()
        mine = time.perf_counter() - start, time.process_time() - cpu_start
        now = usage()
        said = now.wire_bytes + now.header_bytes - counted.wire_bytes - counted.header_bytes
        told = json.dumps([*mine, sent_bytes() - sent, said]).encode()
        ranks = [json.loads(text) for text in comm.all_gather_bytes(told)]
        times.append(max(r[0] for r in ranks))
        cpu.append(max(r[1] for r in ranks))
        interface, counted_bytes = max((r[2], r[3]) for r in ranks)
    return {
        "seconds": sorted(times)[len(times) // 2],
        "cpu_ms": 1e3 * sorted(cpu)[len(cpu) // 2],
        "interface_bytes": interface,
        "counted_bytes": counted_bytes,
        "repeats": len(times),
    }


def connect(engine: str) -> Comm:
    if engine == "mpi":
        return scrimp.comm.from_mpi(timeout=120)
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    return scrimp.comm.from_torch(timeout=120)


def main() -> None:
    engine, cases = sys.argv[1], json.loads(sys.argv[2])
    scrimp._core.set_default_threads(1)
    comm = connect(engine)
    for megabytes, names in cases:
        n = int(megabytes * MB) // 4
        for name in names:
            x = values(n, comm.rank)
            others = torch_contestants(x) if engine == "torch" else mpi_contestants(x)
            call = others[name]() if name in others else scrimp_codec(comm, x, name)
            result = timed(comm, call, lambda: comm.usage)
            result["equal"] = len(set(comm.all_gather_bytes(x[:: max(1, n // 4096)].tobytes()))) == 1
            if comm.rank == 0:
                about = {"engine": engine, "name": name, "megabytes": megabytes}
                print(json.dumps({**about, **result}), flush=True)
            del call, others, x
    comm.barrier()
    os._exit(0)  # nobody waits for the others' sockets


if __name__ == "__main__":
    main()
