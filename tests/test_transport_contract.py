"""The contract grid over MPI and gloo: sizes, lengths, codecs, operations; bytes as in shared memory.

All sizes × lengths × codecs are in test_comm_contract.py; here every pair of them meets.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import scrimp
from scrimp.comm import Comm

SIZES = [1, 2, 3, 4, 5, 8]
CODECS = [
    "step:k=0.01,bits=16" if name == "step" else name
    for name in [*scrimp.codec_names(), "int4:rounding=stochastic"]
]
LONG = {1: ["raw"], 2: CODECS, 3: ["raw", "int4"], 4: ["int8"], 5: ["rot1"], 8: ["int4"]}


def values_of(rank: int, n: int) -> np.ndarray:
    return np.random.default_rng([rank, n]).standard_normal(n).astype(np.float32)


def cases(size: int) -> list[tuple[str, int]]:
    """One size in six for a codec and a length, the next size for the next length."""
    lengths = [0, 1, size - 1, size, size + 1, 127, 128, 129, 1023, 1024, 1025]
    grid = itertools.product(enumerate(CODECS), enumerate(lengths))
    own = [(codec, n) for (i, codec), (j, n) in grid if (i + j) % len(SIZES) == SIZES.index(size)]
    return [*own, *((codec, 10**6) for codec in LONG[size])]


def test_every_pair_of_size_length_and_codec_is_covered() -> None:
    by_size = {size: cases(size) for size in SIZES}
    for size, own in by_size.items():
        assert {codec for codec, _ in own} == set(CODECS)
        assert {n for _, n in own} >= {0, 1, size - 1, size, size + 1, 127, 128, 129, 1023, 1024, 1025, 10**6}
    for codec in CODECS:
        lengths = {n for own in by_size.values() for c, n in own if c == codec}
        assert lengths >= {0, 1, 127, 128, 129, 1023, 1024, 1025, 10**6}


def every_operation(comm: Comm, codec: str, n: int) -> list[bytes]:
    """All operations once; what all ranks hold alike."""
    x = values_of(comm.rank, n)
    total, everything, sent = x.copy(), np.zeros_like(x), x.copy()
    comm.all_reduce(total, codec=codec, raw_below=0)
    begin, end = scrimp.shard_bounds(n, comm.size, max(128, scrimp.codec(codec).block))[comm.rank]
    shard = np.zeros(end - begin, np.float32)
    comm.reduce_scatter(x, shard, codec=codec, op="sum")
    comm.all_gather(shard, everything, codec=codec)
    comm.broadcast(sent, root=comm.size - 1, codec=codec)
    return [total.tobytes(), everything.tobytes(), sent.tobytes()]


def constants(comm: Comm) -> None:
    """Tensors of rank + 1 sum exactly."""
    codecs = ["raw", "int8", "int4", "int2", "rot4", "rot2", "rot1"]
    for n, codec in itertools.product([1, 2, 8, 128, 1024, 10**6 if comm.size == 2 else 10**4], codecs):
        x = np.full(n, comm.rank + 1, np.float32)
        comm.all_reduce(x, codec=codec, op="sum", raw_below=0)
        assert (x == comm.size * (comm.size + 1) / 2).all(), (n, codec)


def reproduced(comm: Comm) -> bytes:
    """The ranks hold the same arrays in two orders, cut into two kinds of buckets."""
    found = set()
    for mine, bucket in [(comm.rank, 3000), (comm.size - 1 - comm.rank, 3000), (comm.rank, 1024)]:
        out = []
        for codec in ("raw", "f16", "int8", "int4", "rot4"):
            x = values_of(mine, 3000)
            for i in range(0, x.size, bucket):
                comm.step = 3
                part = x[i : i + bucket]
                comm.all_reduce(part, codec=codec, raw_below=0, reproducible=True, first_index=i, op="sum")
            out.append(x.tobytes())
        found.add(b"".join(out))
    assert len(found) == 1
    return found.pop()


def nonfinite(comm: Comm) -> list[bytes]:
    """NaN on one rank, in each mode."""
    outcomes = []
    for codec, n, mode in itertools.product(
        ("raw", "bf16", "int4"), (1000, 200_000), ("raise", "skip", "propagate")
    ):
        feedback = scrimp.ErrorFeedback() if codec == "int4" else None
        x = np.ones(n, np.float32)
        x[700] = np.nan if comm.rank == comm.size - 1 else 1
        before = x.tobytes()
        try:
            comm.all_reduce(x, codec=codec, nonfinite=mode, raw_below=0, feedback=feedback, name="g")  # type: ignore[arg-type]
        except ValueError as error:
            assert mode == "raise"
            assert x.tobytes() == before
            outcomes.append(str(error).encode())
        else:
            assert mode != "raise"
            assert bool(np.isnan(x).any()) == (mode == "propagate")
            outcomes.append(x.tobytes())
        if feedback:
            assert not any(r.any() for r in feedback.state_dict().get("residuals", {}).values())
    return outcomes


def grid(comm: Comm) -> str:
    """Return the digest of everything; all ranks hold the same."""
    digest = hashlib.sha256()
    for codec, n in cases(comm.size):
        digest.update(b"".join(every_operation(comm, codec, n)))
    constants(comm)
    digest.update(reproduced(comm))
    if comm.size > 1:
        digest.update(b"".join(nonfinite(comm)))
    digests = comm.all_gather_bytes(digest.digest())
    assert len(set(digests)) == 1
    return digest.hexdigest()


@cache
def in_shared_memory(size: int) -> str:
    return str(scrimp.run(grid, workers=size)[0])


def over_gloo(comm: Comm, store: str) -> str:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{store}", rank=comm.rank, world_size=comm.size)
    found = grid(scrimp.comm.from_torch(timeout=60))
    comm.barrier()
    dist.destroy_process_group()
    return found


@pytest.mark.peers
@pytest.mark.parametrize("size", SIZES)
def test_gloo_holds_the_bytes_of_shared_memory(size: int, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    found = scrimp.run(over_gloo, workers=size, args=(str(tmp_path / "store"),), timeout=100)
    assert set(found) == {in_shared_memory(size)}


OVER_MPI = """
import sys
sys.path.insert(0, {folder!r})
import scrimp, test_transport_contract
comm = scrimp.comm.from_mpi(timeout=60)
found = test_transport_contract.grid(comm)
if comm.rank == 0:
    print(found)
"""


@pytest.mark.peers
@pytest.mark.parametrize("size", SIZES)
def test_mpi_holds_the_bytes_of_shared_memory(mpi: list[str], size: int) -> None:
    script = OVER_MPI.format(folder=str(Path(__file__).parent))
    command = [*mpi, "-n", str(size), sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.stdout.split() == [in_shared_memory(size)], done.stderr
