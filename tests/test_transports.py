"""Collectives give the same bytes over every transport, and every transport reports its lost peers."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from socket import AF_UNIX, SOCK_STREAM

import numpy as np
import pytest

import scrimp
from scrimp.comm import Comm
from scrimp.comm.flight import FRAME_NBYTES, Requests
from scrimp.comm.framed import FramedTransport
from scrimp.comm.transport import Bytes

LENGTHS = [0, 1, 2, 127, 128, 129, 5000]
CODECS = ["raw", "bf16", "int8", "int4:rounding=stochastic"]


class SocketRequests(Requests):
    """A thread for each direction of each pair: what network transports share, without their libraries."""

    def __init__(self, transport: SocketTransport) -> None:
        self.transport = transport
        self.threads: list[threading.Thread] = []
        self.queues: dict[tuple[str, int], SimpleQueue[Bytes | None]] = {}
        self.ended: SimpleQueue[tuple[int, OSError | None]] = SimpleQueue()

    def send(self, peer: int, data: Bytes) -> None:
        data.flags.writeable = False  # it is read from now on: who writes its frame again fails
        self._queue("send", peer).put(data)

    def receive(self, peer: int, data: Bytes) -> None:
        self._queue("receive", peer).put(data)

    def next(self, label: Callable[[int], str]) -> int:
        peer, error = self.ended.get(timeout=30)
        if error is not None:
            raise self.transport.lost(peer, label(peer), str(error))
        return peer

    def finish(self, label: str) -> None:
        for queue in self.queues.values():
            queue.put(None)
        for thread in self.threads:
            thread.join(30)

    def close(self) -> None:
        for queue in self.queues.values():
            queue.put(None)

    def _queue(self, way: str, peer: int) -> SimpleQueue[Bytes | None]:
        if (way, peer) not in self.queues:
            queue = self.queues[way, peer] = SimpleQueue()
            self.threads.append(threading.Thread(target=self._move, args=(way, peer, queue), daemon=True))
            self.threads[-1].start()
        return self.queues[way, peer]

    def _move(self, way: str, peer: int, queue: SimpleQueue[Bytes | None]) -> None:
        pipe = self.transport.sockets[peer]
        while (data := queue.get()) is not None:
            view = memoryview(data).cast("B")
            try:
                if way == "send":
                    pipe.sendall(view)
                    continue
                while view:
                    got = pipe.recv_into(view)
                    if not got:
                        raise OSError("closed")
                    view = view[got:]
            except OSError as error:
                self.ended.put((peer, error))
                return
            if self.transport.flip and data.size == self.transport.flip:
                data[-1] ^= 1
            self.ended.put((peer, None))


class SocketTransport(FramedTransport):
    """Framed messages over Unix sockets; can damage the messages of one size."""

    def __init__(self, comm: Comm) -> None:
        super().__init__(comm.rank, comm.size, 30.0)
        self.sockets: dict[int, socket.socket] = {}
        self.flip = 0
        listener = socket.socket(AF_UNIX, SOCK_STREAM)
        listener.bind(b"")
        listener.listen()
        addresses = comm.all_gather_bytes(listener.getsockname())
        for peer in range(comm.rank):
            self.sockets[peer] = socket.socket(AF_UNIX, SOCK_STREAM)
            self.sockets[peer].connect(addresses[peer])
            self.sockets[peer].sendall(bytes([comm.rank]))
        for _ in range(comm.rank + 1, comm.size):
            connection, _ = listener.accept()
            self.sockets[connection.recv(1)[0]] = connection

    def requests(self) -> Requests:
        return SocketRequests(self)


def everything(comm: Comm) -> list[bytes]:
    """One result of every kind."""
    out = []
    feedback, largest_first = scrimp.ErrorFeedback("ef21"), scrimp.ErrorFeedback("ef14")
    for n, codec in itertools.product(LENGTHS, CODECS):
        x = np.random.default_rng([comm.rank, n]).standard_normal(n).astype(np.float32)
        comm.all_reduce(x, codec=codec, raw_below=0)
        out.append(x.tobytes())
        comm.all_reduce(x, codec="int8", feedback=feedback, name=f"{codec}{n}", raw_below=0)
        out.append(x.tobytes())
        comm.all_reduce(x, codec="topk:ratio=0.05", feedback=largest_first, name=f"{n}", raw_below=0)
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
    transport = SocketTransport(comm)
    assert everything(Comm(transport)) == everything(Comm(comm.transport))


def compare_chunks(comm: Comm) -> None:
    """Arrays of many chunks, of codecs that are decoded at the end and of some that are on arrival."""
    transport = SocketTransport(comm)
    early = {"undo": False, "nonfinite": "propagate"}  # decoded on arrival
    worlds = [(Comm(transport), {}), (Comm(comm.transport, native=False), {}), (Comm(transport), early)]
    for codec, n in itertools.product(["raw", "int4", "rot1", "topk:ratio=0.05"], [3 * 65536, 600_001]):
        x = np.random.default_rng([comm.rank, n]).standard_normal(n).astype(np.float32)
        results, states = [], []
        for world, how in worlds:
            feedback = None if codec == "raw" else scrimp.ErrorFeedback("ef14")
            for _ in range(2):
                y = x.copy()
                world.all_reduce(y, codec=codec, feedback=feedback, name="x", op="sum", step=3, **how)
            results.append(y.tobytes())
            states.append(feedback and feedback.state_dict())
        assert results[0] == results[1] == results[2]
        assert str(states[0]) == str(states[1]) == str(states[2])
    assert len({world.usage.wire_bytes for world, _ in worlds}) == 1


def refuse_nonfinite(comm: Comm) -> None:
    """Many chunks; one value is not finite: nobody's array or residual moves, unless asked to."""
    wire = Comm(SocketTransport(comm))
    for codec in ["raw", "int4", "rot1"]:
        feedback = None if codec == "raw" else scrimp.ErrorFeedback("ef14")
        x = np.random.default_rng(comm.rank).standard_normal(300_000).astype(np.float32)
        wire.all_reduce(x, codec=codec, feedback=feedback, name="x")
        residuals = feedback and str(feedback.state_dict())
        x[250_000] = np.nan if comm.rank == 1 else 1.0
        before = x.tobytes()
        with pytest.raises(ValueError, match=r"x\[250000\] of rank 1 is nan; nothing was written"):
            wire.all_reduce(x, codec=codec, feedback=feedback, name="x")
        assert x.tobytes() == before
        assert residuals == (feedback and str(feedback.state_dict()))
        wire.all_reduce(x, codec=codec, feedback=feedback, name="x", nonfinite="propagate")
        assert np.isnan(x[250_000])
        assert np.isfinite(x[:200_000]).all()


def flip_a_bit(comm: Comm) -> None:
    early = {"undo": False, "nonfinite": "propagate"}
    cases = [("int4", 1000, {}), ("rot1", 500_000, {}), ("raw", 500_001, {}), ("rot1", 500_000, early)]
    for codec, n, how in cases:
        transport = SocketTransport(comm)
        world = Comm(transport)
        feedback = None if codec == "raw" else scrimp.ErrorFeedback()
        before = np.arange(n, dtype=np.float32)
        x = before.copy()
        # the result's last chunk: all others have arrived by then
        chunk = 65536
        owner = 0 if comm.rank else 1
        block = 1 if codec == "raw" else scrimp.codec(codec).block
        begin, end = scrimp.shard_bounds(n, comm.size, block)[owner]
        last = (end - begin) % chunk or chunk
        payload = scrimp.codec(codec).nbytes(last)
        transport.flip = payload if codec == "raw" else FRAME_NBYTES + 16 + payload
        with pytest.raises(scrimp.CommError, match=r"bytes from rank \d were damaged.*of 'w', slice"):
            world.all_reduce(x, codec=codec, raw_below=0, name="w", feedback=feedback, **how)
        assert (x == before).all() == (how is not early)  # then what came in time is there already
        if feedback is not None:
            assert not any(r.any() for r in feedback.state_dict()["residuals"].values())
        with pytest.raises(scrimp.CommError, match="the group ended earlier: bytes from"):
            world.barrier()
        comm.barrier()  # an exit would end the threads that still send


class InterruptedTransport(FramedTransport):
    """Whoever waits is interrupted."""

    def requests(self) -> Requests:
        return InterruptedRequests()


class InterruptedRequests(Requests):
    def send(self, peer: int, data: Bytes) -> None:
        pass

    def receive(self, peer: int, data: Bytes) -> None:
        pass

    def next(self, label: Callable[[int], str]) -> int:
        raise KeyboardInterrupt

    def finish(self, label: str) -> None:
        pass


@pytest.mark.parametrize("call", [Comm.barrier, lambda comm: comm.all_reduce(np.ones(1000, np.float32))])
def test_an_interrupted_collective_ends_the_group(call: Callable[[Comm], None]) -> None:
    comm = Comm(InterruptedTransport(0, 2, 30.0))
    with pytest.raises(KeyboardInterrupt):
        call(comm)
    for _ in range(2):
        with pytest.raises(scrimp.CommError, match="group ended earlier: KeyboardInterrupt on rank 0"):
            call(comm)


def over_two_levels(comm: Comm, hosts: str) -> tuple[bytes, int, bytes | None]:
    """One character a rank names its host."""
    world = scrimp.comm.two_level(Comm(SocketTransport(comm)), host=hosts[comm.rank])
    n, feedback = 70_001, scrimp.ErrorFeedback()
    x = np.random.default_rng(comm.rank).standard_normal(n).astype(np.float32)
    mine = x.copy()
    for _ in range(2):
        x = mine.copy()
        world.all_reduce(x, codec="int8", feedback=feedback, name="w")
    sent = world.usage.wire_bytes
    exact = mine.copy()
    Comm(comm.transport).all_reduce(exact)
    assert np.abs(x - exact).max() < 0.05 * np.abs(exact).max()
    y = mine.astype(np.float64)
    world.all_reduce(y, op="sum")
    assert np.allclose(y, comm.size * exact, atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="too large for its type"):
            world.all_reduce(np.full(3, 1e300), codec="int8", raw_below=0)
    mine[7] = np.inf if comm.rank == comm.size - 1 else 0
    before = mine.tobytes()
    with pytest.raises(ValueError, match=rf"x\[7\] of rank {comm.size - 1} is inf; nothing was written"):
        world.all_reduce(mine, codec="int8", feedback=feedback, name="w")
    assert mine.tobytes() == before
    world.all_reduce(mine, codec="int8", nonfinite="skip")
    assert not mine.any()
    for reproducible in (False, True):
        count = np.array([comm.rank, 2**24 + 1])
        world.all_reduce(count, op="sum", reproducible=reproducible)
        assert count.tolist() == [comm.size * (comm.size - 1) // 2, comm.size * (2**24 + 1)]
    with pytest.raises(TypeError, match="x must be an array of numbers, got list"):
        world.all_reduce([1.0])  # type: ignore[arg-type]
    world.barrier()
    residual = feedback.state_dict()["residuals"].get("w/sent")
    return x.tobytes(), sent, None if residual is None else residual.tobytes()


@pytest.mark.parametrize("hosts", ["aabb", "abab", "aaab"])
def test_two_levels_give_all_ranks_the_same_bytes_and_one_rank_a_host_sends(hosts: str) -> None:
    results = scrimp.run(over_two_levels, workers=4, args=(hosts,))
    assert len({x for x, _, _ in results}) == 1
    senders = [rank for rank, (_, sent, _) in enumerate(results) if sent]
    assert senders == sorted({hosts.index(name) for name in hosts})
    assert all(sent < 2 * 70_001 * 8.3 / 8 for _, sent, _ in results)
    assert [rank for rank, (_, _, residual) in enumerate(results) if residual] == senders


INSIDE = "on the host of the ranks 0, 1, counted from 0"


def refused_between_hosts(comm: Comm) -> str:
    transport = SocketTransport(comm)
    world = scrimp.comm.two_level(Comm(transport), host="aabb"[comm.rank])
    x = np.zeros(1001, np.float32)
    x[176] = 300 * comm.rank
    with pytest.raises(ValueError, match="cannot be encoded") as caught:
        world.all_reduce(x, codec="step:k=1,bits=8", op="sum", name="w", raw_below=0)
    assert x[176] == 300 * comm.rank
    transport.flip = FRAME_NBYTES + 16 + 501 if comm.rank == 0 else 0  # the result of the other host
    try:
        world.all_reduce(x * 0, codec="step:k=1,bits=8", name="w", raw_below=0)
        said, lost = "", None
    except scrimp.CommError as error:
        said, lost = str(error), error.lost
    comm.barrier()
    assert (said, lost) == [
        ("bytes from rank 2 were damaged on their way; rank 0 was in all_reduce of 'w', slice 1 of 2", 2),
        (f"{INSIDE}: rank 0 raised an error; rank 1 was in all_gather_bytes", None),
        ("", None),
        ("", None),
    ][comm.rank]
    return str(caught.value)


def test_errors_between_hosts_name_the_ranks_of_all() -> None:
    value = "x[176] of the host of rank 2 cannot be encoded by step:k=1.0"
    said = f"all_reduce of 'w': {value}; nothing was written on any rank"
    assert scrimp.run(refused_between_hosts, workers=4) == [said] * 4


def lose_a_host(comm: Comm) -> None:
    transport = SocketTransport(comm)
    world = scrimp.comm.two_level(Comm(transport), host="aab"[comm.rank])
    x = np.ones(1000, np.float32)
    if comm.rank == 2:
        for pipe in transport.sockets.values():
            pipe.shutdown(socket.SHUT_RDWR)
        return
    with pytest.raises(scrimp.CommError):
        world.all_reduce(x, codec="int8")
    assert (x == 1).all()


def test_all_ranks_of_a_host_learn_that_another_host_is_lost() -> None:
    scrimp.run(lose_a_host, workers=3)


def on_one_host(comm: Comm) -> None:
    flat = Comm(SocketTransport(comm))
    world = scrimp.comm.two_level(flat)
    assert type(world) is Comm
    assert world.transport is not flat.transport
    for codec in ("raw", "int4"):
        results = []
        for each in (world, flat):
            x = np.random.default_rng(comm.rank).standard_normal(5000).astype(np.float32)
            each.all_reduce(x, codec=codec, raw_below=0, step=1)
            results.append(x.tobytes())
        assert results[0] == results[1]
    alone = scrimp.comm.two_level(flat, host=str(comm.rank))
    assert alone is flat


def test_ranks_of_one_host_meet_in_shared_memory_with_the_same_bytes() -> None:
    scrimp.run(on_one_host, workers=3)


@pytest.mark.parametrize("size", [2, 4])
def test_frames_change_no_byte(size: int) -> None:
    scrimp.run(compare_framed, workers=size)


def test_chunks_change_no_byte() -> None:
    scrimp.run(compare_chunks, workers=3)


def test_a_value_that_is_not_finite_leaves_everything_as_it_was() -> None:
    scrimp.run(refuse_nonfinite, workers=2)


def test_a_flipped_bit_is_an_error_and_nothing_is_written() -> None:
    scrimp.run(flip_a_bit, workers=2)


def over_torch(comm: Comm, store: str) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{store}", rank=comm.rank, world_size=comm.size)
    world = scrimp.comm.from_torch(timeout=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert world.all_gather_bytes(b"ab" * 70_000) == [b"ab" * 70_000] * comm.size
    assert everything(world) == everything(Comm(comm.transport))
    if comm.rank == 1:
        time.sleep(1)
    before = time.process_time()
    world.barrier()
    assert comm.rank == 1 or time.process_time() - before < 0.5, "a wait burns a core"
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


def in_groups_of_torch(comm: Comm, store: str) -> None:
    """Ranks that are in unlike numbers of groups meet in each of them, and in that of all."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{store}", rank=comm.rank, world_size=comm.size)
    for ranks in ([0, 2], [1], [2, 1]):
        group = dist.new_group(ranks)
        if comm.rank not in ranks:
            with pytest.raises(TypeError, match="a ProcessGroup that this rank is in, got"):
                scrimp.comm.from_torch(group)
            continue
        part = scrimp.comm.from_torch(group, timeout=20)
        assert (part.rank, part.size) == (sorted(ranks).index(comm.rank), len(ranks))
        assert part.all_gather_bytes(bytes([comm.rank])) == [bytes([rank]) for rank in sorted(ranks)]
    first, second = scrimp.comm.from_torch(timeout=20), scrimp.comm.from_torch(timeout=20)
    dist.destroy_process_group()
    for world in (second, first):  # they have a group of their own
        assert world.all_gather_bytes(bytes([comm.rank])) == [b"\0", b"\1", b"\2"]
    with pytest.raises(TypeError, match=r"there is none: call init_process_group\(\)"):
        scrimp.comm.from_torch()


@pytest.mark.peers
def test_gloo_ranks_may_be_in_unlike_numbers_of_groups(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    scrimp.run(in_groups_of_torch, workers=3, args=(str(tmp_path / "store"),), timeout=60)


def two_groups_at_once(comm: Comm) -> None:
    """Two threads, each in a group of its own in shared memory, with collectives of many sizes."""
    second = scrimp.comm.two_level(Comm(SocketTransport(comm)))
    assert second.transport is not comm.transport

    def work(world: Comm, scale: int) -> None:
        for n in range(1, 40_000, 997):
            x = np.full(n, scale * (comm.rank + 1), np.float32)
            world.all_reduce(x, codec="int8" if n % 2 else "raw", op="sum", raw_below=0)
            assert (x == scale * comm.size * (comm.size + 1) // 2).all()

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(work, comm, 1), pool.submit(work, second, 3)]:
            done.result()


def test_two_groups_work_at_once() -> None:
    scrimp.run(two_groups_at_once, workers=3)


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
@pytest.mark.parametrize("kind", ["mpi", "open_mpi"])
def test_mpi_gives_the_same_bytes_and_does_not_burn_a_core(kind: str, request: pytest.FixtureRequest) -> None:
    mpi = request.getfixturevalue(kind)
    script = MPI_SCRIPT.format(folder=str(Path(__file__).parent))
    done = subprocess.run(
        [*mpi, "-n", "3", sys.executable, "-c", script], capture_output=True, text=True, timeout=100
    )
    assert done.stdout.split() == [scrimp.run(digest, workers=3)[0], "True"], done.stderr
