"""Collectives give the same bytes over every transport, and every transport reports its lost peers."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import scrimp
from scrimp.comm import Comm
from scrimp.comm.framed import FramedTransport
from scrimp.comm.transport import LocalTransport, Message

LENGTHS = [0, 1, 2, 127, 128, 129, 5000]
CODECS = ["raw", "bf16", "int8", "int4:rounding=stochastic"]


class FramedLocal(FramedTransport):
    """Frames over the local engine: what network transports share, without a network; can damage bytes."""

    def __init__(self, inner: LocalTransport) -> None:
        super().__init__(inner.rank, inner.size, 30.0)
        self.inner = inner
        self.flip = False

    def move(self, sends: Sequence[Message], recvs: Sequence[Message], label: str) -> None:
        self.inner.exchange(sends, recvs, 1, label)
        if self.flip and recvs:
            recvs[0][1][-1] ^= 1


def everything(comm: Comm) -> list[bytes]:
    """One result of every kind."""
    out = []
    feedback = scrimp.ErrorFeedback("ef21")
    for n, codec in itertools.product(LENGTHS, CODECS):
        x = np.random.default_rng([comm.rank, n]).standard_normal(n).astype(np.float32)
        comm.all_reduce(x, codec=codec, raw_below=0)
        out.append(x.tobytes())
        comm.all_reduce(x, codec="int8", feedback=feedback, name=f"{codec}{n}", raw_below=0)
        out.append(x.tobytes())
        begin, end = scrimp.shard_bounds(n, comm.size, 128)[comm.rank]
        shard = np.empty(end - begin, np.float32)
        comm.reduce_scatter(x, shard, codec=codec)
        comm.all_gather(shard, x, codec=codec)
        out.append(x.tobytes())
    y = np.arange(7) * (comm.rank + 1)
    comm.broadcast(y, root=comm.size - 1)
    out += [y.tobytes(), *comm.all_gather_bytes(b"x" * comm.rank)]
    comm.barrier()
    return out


def compare_framed(comm: Comm) -> None:
    assert everything(Comm(FramedLocal(comm.transport))) == everything(Comm(comm.transport))


def flip_a_bit(comm: Comm) -> None:
    transport = FramedLocal(comm.transport)
    world = Comm(transport)
    before = np.ones(1000, np.float32)
    x = before.copy()
    transport.flip = True
    with pytest.raises(scrimp.CommError, match=r"bytes from rank \d were damaged.*all_reduce of 'w', slice"):
        world.all_reduce(x, codec="int4", raw_below=0, name="w")
    assert (x == before).all()
    with pytest.raises(scrimp.CommError, match="the group ended earlier: bytes from"):
        world.barrier()


@pytest.mark.parametrize("size", [2, 4])
def test_frames_change_no_byte(size: int) -> None:
    scrimp.run(compare_framed, workers=size)


def test_a_flipped_bit_is_an_error_and_nothing_is_written() -> None:
    scrimp.run(flip_a_bit, workers=3)


def over_torch(comm: Comm, store: str) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{store}", rank=comm.rank, world_size=comm.size)
    world = scrimp.comm.from_torch(timeout=20)
    assert everything(world) == everything(Comm(comm.transport))
    if comm.rank == 1:
        os._exit(9)
    x = np.ones(1000, np.float32)
    with pytest.raises(scrimp.CommError, match=r"rank 1 is gone .*; rank \d was in all_reduce of 'w', slice"):
        world.all_reduce(x, codec="int4", name="w", raw_below=0)
    assert (x == 1).all()
    raise ValueError(f"rank {comm.rank} saw it")


@pytest.mark.peers
def test_gloo_gives_the_same_bytes_and_names_a_lost_peer(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with pytest.raises((scrimp.CommError, ValueError), match=r"rank 1 .* exited with code 9|saw it"):
        scrimp.run(over_torch, workers=3, args=(str(tmp_path / "store"),))


MPI_SCRIPT = """
import hashlib, sys, time
sys.path.insert(0, {folder!r})
import test_transports, scrimp
world = scrimp.comm.from_mpi(timeout=20)
results = test_transports.everything(world)
world.barrier()
if world.rank == 1:
    time.sleep(1)
before = time.process_time()
world.barrier()
waited = time.process_time() - before
if world.rank == 0:
    print(hashlib.sha256(b"".join(results)).hexdigest(), waited < 0.5)
"""


def digest(comm: Comm) -> str:
    import hashlib

    return hashlib.sha256(b"".join(everything(comm))).hexdigest()


@pytest.mark.peers
def test_mpi_gives_the_same_bytes_and_does_not_burn_a_core() -> None:
    pytest.importorskip("mpi4py")
    mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    probe = subprocess.run([sys.executable, "-c", "from mpi4py import MPI"], capture_output=True)
    if mpiexec is None or probe.returncode:
        pytest.skip("no MPI library")
    script = MPI_SCRIPT.format(folder=str(Path(__file__).parent))
    done = subprocess.run(
        [mpiexec, "-n", "3", sys.executable, "-c", script], capture_output=True, text=True, timeout=100
    )
    assert done.stdout.split() == [scrimp.run(digest, workers=3)[0], "True"], done.stderr
