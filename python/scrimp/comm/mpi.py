"""MPI as a transport, by non-blocking messages: a blocking MPI call burns a core while it waits."""

from __future__ import annotations

import atexit
import ctypes
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from scrimp.comm.communicator import Comm
from scrimp.comm.flight import Requests, last_words
from scrimp.comm.framed import FramedTransport
from scrimp.comm.transport import Bytes
from scrimp.errors import CommError

_EAGER_TESTS = 50  # before the first sleep: a peer that is on its way answers within these
_FIRST_SLEEP_S, _LAST_SLEEP_S = 20e-6, 1e-3
_TAKE_BACK_S = 0.1  # what messages get that are on their way already when an error ends their collective
_SLICE_S = 0.1  # a machine that was suspended counts as one slice


class MpiTransport(FramedTransport):
    """Messages over a duplicate of an MPI communicator."""

    def __init__(self, world: Any, timeout: float) -> None:
        from mpi4py import MPI

        self.mpi = MPI
        self.world = world.Dup()
        super().__init__(self.world.Get_rank(), self.world.Get_size(), timeout)
        self._exit = _Exit(MPI, self.world)
        atexit.register(self._exit)

    def explained(self, error: CommError, awaited: list[int]) -> CommError:
        """Return the error; remember it for the end of the program."""
        self._exit.to_blame = error.lost
        return error

    def stuck(self, peer: int, label: str) -> CommError:
        """Return the error for a peer that shows no progress; this process cannot end in peace with it."""
        self._exit.aborts = True
        return super().stuck(peer, label)

    def requests(self) -> Requests:
        """Return non-blocking messages."""
        return _MpiRequests(self)


class _Exit:
    """What a rank does when its program ends.

    `MPI_Finalize` waits for all ranks: those that wait for this one in a collective would do so until their
    timeout, and a rank that is stuck never comes. So peers are told; with a stuck one, the job is aborted.
    """

    def __init__(self, mpi: Any, world: Any) -> None:
        self._mpi, self._world = mpi, world
        self._requests: list[Any] = []
        self.aborts = False
        self.to_blame: int | None = None

    def __call__(self) -> None:
        if self._mpi.Is_finalized():
            return
        if self.aborts:
            self._world.Abort(1)
        rank = self._world.Get_rank()
        for peer in set(range(self._world.Get_size())) - {rank}:
            self._requests.append(self._world.Isend([last_words(self.to_blame), self._mpi.BYTE], dest=peer))


class _MpiRequests(Requests):
    """Requests that are tested with pauses that grow to a millisecond."""

    def __init__(self, transport: MpiTransport) -> None:
        self._transport = transport
        self._receives: dict[int, deque[Any]] = {}
        self._sends: deque[tuple[int, Any]] = deque()

    def send(self, peer: int, data: Bytes) -> None:
        with self._translated("a message"):
            message = [data, self._transport.mpi.BYTE]
            self._sends.append((peer, self._transport.world.Isend(message, dest=peer)))

    def receive(self, peer: int, data: Bytes) -> None:
        with self._translated("a message"):
            message = [data, self._transport.mpi.BYTE]
            request = self._transport.world.Irecv(message, source=peer)
            self._receives.setdefault(peer, deque()).append(request)

    def next(self, label: Callable[[int], str]) -> int:
        def arrived() -> int | None:
            for peer, requests in self._receives.items():
                if requests and requests[0].Test():
                    requests.popleft()
                    return peer
            return None

        def awaited() -> int:
            return next(peer for peer, requests in self._receives.items() if requests)

        with self._translated(label(awaited())):
            peer: int = self._poll(arrived, awaited, label)
            return peer

    def finish(self, label: str) -> None:
        with self._translated(label):
            while self._sends:
                self._poll(self._sent, lambda: self._sends[0][0], lambda _: label)

    def close(self) -> None:
        """Take back what an error has left under way: MPI would write into memory that is no more.

        Not with `Wait`: what its sender has begun cannot be taken back, and he may never end it. That, and
        what is sent, stays as it is until MPI_Finalize, after the last object.
        """
        left = [r for requests in self._receives.values() for r in requests]
        left = [r for r in left if r != self._transport.mpi.REQUEST_NULL]  # of a message that was too long
        for request in left:
            request.Cancel()
        deadline = time.monotonic() + _TAKE_BACK_S
        while left := [request for request in left if not self._is_over(request)]:
            if time.monotonic() > deadline:
                break
            time.sleep(_FIRST_SLEEP_S)
        for request in (*left, *(request for _, request in self._sends)):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(request))

    def _is_over(self, request: Any) -> bool:
        try:
            return bool(request.Test())
        except self._transport.mpi.Exception:  # too long for its room
            return True

    def _sent(self) -> bool | None:
        """Forget the oldest message that is sent; None if it is not."""
        if not self._sends[0][1].Test():
            return None
        self._sends.popleft()
        return True

    def _poll(self, test: Callable[[], Any], awaited: Callable[[], int], label: Callable[[int], str]) -> Any:
        """Call `test` until it returns something."""
        waited, pause, tests = 0.0, _FIRST_SLEEP_S, 0
        before = time.monotonic()
        while (found := test()) is None:
            tests += 1
            if tests > _EAGER_TESTS:
                time.sleep(pause)
                pause = min(1.5 * pause, _LAST_SLEEP_S)
            now = time.monotonic()
            waited, before = waited + min(now - before, _SLICE_S), now
            if waited > self._transport.timeout:
                raise self._transport.stuck(awaited(), label(awaited()))
        return found

    @contextmanager
    def _translated(self, label: str) -> Iterator[None]:
        mpi, rank = self._transport.mpi, self._transport.rank
        try:
            yield
        except mpi.Exception as error:
            if error.Get_error_class() == mpi.ERR_TRUNCATE:
                text = f"a peer of rank {rank} sent more than was expected in {label}"
                raise CommError(text) from error
            raise CommError(f"MPI failed in {label} on rank {rank}: {error}") from error


def from_mpi(world: Any = None, *, timeout: float = 30.0, seed: int = 0) -> Comm:
    """Return a Comm over an MPI communicator. All its ranks must call this at the same time.

    Parameters
    ----------
    world : mpi4py.MPI.Comm, optional
        Whose ranks take part; `MPI.COMM_WORLD` if absent. It is duplicated: other messages do not mix.
    timeout : float, default 30.0
        Seconds that a wait may last without progress.
    seed : int, default 0
        Of stochastic rounding.

    Returns
    -------
    Comm
        Of the ranks of `world`.

    Raises
    ------
    ImportError
        mpi4py is not installed (`pip install "scrimp[mpi]"` and an MPI, for example `pip install mpich`).

    Notes
    -----
    When a rank dies, `mpiexec` ends the whole job. A rank whose program ends, also by an error, tells the
    others: a collective that waits for it raises CommError. A program that ends after a peer was stuck aborts
    the job, for MPI would wait for that peer.
    """
    if world is None:
        from mpi4py import MPI

        world = MPI.COMM_WORLD
    return Comm(MpiTransport(world, timeout), seed=seed)
