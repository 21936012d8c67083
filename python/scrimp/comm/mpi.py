"""MPI as a transport, by non-blocking messages: a blocking MPI call burns a core while it waits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from scrimp.comm.communicator import Comm
from scrimp.comm.framed import FramedTransport
from scrimp.comm.transport import Message
from scrimp.errors import CommError

_EAGER_TESTS = 200  # before the first sleep: a peer that is on its way answers within these
_FIRST_SLEEP_S, _LAST_SLEEP_S = 20e-6, 1e-3
_SLICE_S = 0.1  # a machine that was suspended counts as one slice


class MpiTransport(FramedTransport):
    """Messages over a duplicate of an MPI communicator."""

    def __init__(self, world: Any, timeout: float) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self._world = world.Dup()
        super().__init__(self._world.Get_rank(), self._world.Get_size(), timeout)

    def move(self, sends: Sequence[Message], recvs: Sequence[Message], label: str) -> None:
        """Start everything, then test with pauses that grow to a millisecond."""
        byte = self._mpi.BYTE
        try:
            requests = [(p, self._world.Irecv([data, byte], source=p)) for p, data in recvs]
            requests += [(p, self._world.Isend([data, byte], dest=p)) for p, data in sends]
            self._wait(requests, label)
        except self._mpi.Exception as error:
            kind = error.Get_error_class()
            if kind == self._mpi.ERR_TRUNCATE:
                raise CommError(
                    f"a peer of rank {self.rank} sent more than was expected in {label}"
                ) from error
            raise CommError(f"MPI failed in {label} on rank {self.rank}: {error}") from error

    def _wait(self, requests: list[tuple[int, Any]], label: str) -> None:
        waited, pause, tests = 0.0, _FIRST_SLEEP_S, 0
        before = time.monotonic()
        while requests:
            left = [(peer, request) for peer, request in requests if not request.Test()]
            if len(left) < len(requests):
                waited, pause, tests = 0.0, _FIRST_SLEEP_S, 0
            requests = left
            tests += 1
            if tests > _EAGER_TESTS:
                time.sleep(pause)
                pause = min(1.5 * pause, _LAST_SLEEP_S)
            now = time.monotonic()
            waited, before = waited + min(now - before, _SLICE_S), now
            if requests and waited > self.timeout:
                raise self.stuck(requests[0][0], label)


def from_mpi(world: Any = None, *, timeout: float = 30.0, seed: int = 0) -> Comm:
    """Return a Comm over an MPI communicator.

    Parameters
    ----------
    world : mpi4py.MPI.Comm, optional
        Whose ranks take part; `MPI.COMM_WORLD` if absent. It is duplicated: other messages do not mix.
    timeout : float, default 30.0
        Seconds that a collective waits for a peer.
    seed : int, default 0
        Of stochastic rounding.

    Returns
    -------
    Comm
        All ranks of `world` must call this at the same time.

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
