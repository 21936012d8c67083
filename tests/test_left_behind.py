"""What a collective that fails leaves under way: it must not hold up the program, nor abort its end."""

from __future__ import annotations

import atexit
import gc
import os
import threading
import time
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import scrimp
from scrimp.comm import Comm
from scrimp.comm.mpi import _MpiRequests


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Message:
    """A request of MPI that is through at some time."""

    def __init__(self, clock: Clock, at: float) -> None:
        self._clock, self._at = clock, at

    def Test(self) -> bool:  # noqa: N802 - as mpi4py
        return self._clock.now >= self._at

    def Cancel(self) -> None:  # noqa: N802
        """Does nothing: its sender has begun."""

    def Wait(self) -> None:  # noqa: N802
        raise AssertionError("a blocking wait may never end")


def requests_of(messages: list[Message], clock: Clock, monkeypatch: pytest.MonkeyPatch) -> _MpiRequests:
    """What a transport with a timeout of one second has posted in turn."""
    monkeypatch.setattr("scrimp.comm.mpi.time", clock)
    posted: Any = iter(messages)
    world = SimpleNamespace(Isend=lambda *_, dest: next(posted), Irecv=lambda *_, source: next(posted))
    mpi = SimpleNamespace(BYTE=None, REQUEST_NULL=None, Exception=OSError)
    stuck = lambda peer, label: scrimp.CommError(f"rank {peer} is stuck in {label}")  # noqa: E731
    transport: Any = SimpleNamespace(mpi=mpi, world=world, rank=0, timeout=1.0, stuck=stuck)
    return _MpiRequests(transport)


def test_a_message_that_mpi_cannot_take_back_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    messages = [Message(clock, at=np.inf), Message(clock, at=0.0)]
    kept = weakref.ref(messages[0])
    requests = requests_of(messages, clock, monkeypatch)
    for _ in range(2):
        requests.receive(1, np.empty(1, np.uint8))
    requests.close()
    assert clock.now < 0.2
    del requests, messages
    gc.collect()
    assert kept() is not None, "MPI would write into memory that is no more"


def test_a_slow_link_that_sends_one_message_after_another_is_not_stuck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    requests = requests_of([Message(clock, at) for at in (0.7, 1.4, 2.1, 99.0)], clock, monkeypatch)
    for peer in range(1, 4):
        requests.send(peer, np.empty(1, np.uint8))
    requests.finish("a test")
    assert 2.1 <= clock.now < 2.2
    requests.send(4, np.empty(1, np.uint8))
    with pytest.raises(scrimp.CommError, match="rank 4 is stuck in a test"):
        requests.finish("a test")
    assert clock.now < 3.5


def fail_while_a_peer_is_silent(comm: Comm, store: str, n_threads: np.ndarray) -> None:
    """Rank 0 fails because of rank 2 and ends, while rank 1 sends nothing and stays."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{store}", rank=comm.rank, world_size=comm.size)
    world = scrimp.comm.from_torch(timeout=60)
    if comm.rank == 0:
        before = threading.active_count()

        def look() -> None:
            n_threads[0] = 1 + threading.active_count() - before

        atexit.register(look)  # what is registered later runs before
    if comm.rank != 1:
        with pytest.raises(scrimp.CommError, match=r"rank [02] is in another collective"):
            world.all_reduce(np.ones(10), op="mean" if comm.rank else "sum")
    deadline = time.monotonic() + 60
    while comm.rank and not n_threads[0]:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.peers
def test_no_thread_waits_for_gloo_when_the_interpreter_ends(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    n_threads = scrimp.shared_array(65536)  # large enough to be one memory for all
    scrimp.run(fail_while_a_peer_is_silent, workers=3, args=(str(tmp_path / "store"), n_threads), timeout=100)
    assert n_threads[0] == 1
