"""MPI as a transport, by non-blocking messages: a blocking MPI call burns a core while it waits."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from scrimp.comm.communicator import Comm
from scrimp.comm.flight import Requests
from scrimp.comm.framed import FramedTransport
from scrimp.comm.transport import Bytes
from scrimp.errors import CommError

_EAGER_TESTS = 50  # before the first sleep: a peer that is on its way answers within these
_FIRST_SLEEP_S, _LAST_SLEEP_S = 20e-6, 1e-3
_SLICE_S = 0.1  # a machine that was suspended counts as one slice


class MpiTransport(FramedTransport):
    """Messages over a duplicate of an MPI communicator."""

    def __init__(self, world: Any, timeout: float) -> None:
        from mpi4py import MPI

        self.mpi = MPI
        self.world = world.Dup()
        super().__init__(self.world.Get_rank(), self.world.Get_size(), timeout)

    def requests(self) -> Requests:
        """Return non-blocking messages."""
        return _MpiRequests(self)


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
        def sent() -> bool | None:
            while self._sends and self._sends[0][1].Test():
                self._sends.popleft()
            return None if self._sends else True

        with self._translated(label):
            self._poll(sent, lambda: self._sends[0][0], lambda _: label)

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
    When a rank dies, `mpiexec` ends the whole job.
    """
    if world is None:
        from mpi4py import MPI

        world = MPI.COMM_WORLD
    return Comm(MpiTransport(world, timeout), seed=seed)
