"""One rank under mpiexec: `python -m contestants.mpi_rank ADDRESS`."""

from __future__ import annotations

import sys

from mpi4py import MPI

from contestants.data import normal
from contestants.ranks import Calls, serve


def make(n: int) -> Calls:
    x = normal(n)

    def all_reduce() -> None:
        MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, x)

    return {NAME: all_reduce}


NAME = "Open MPI" if "Open MPI" in MPI.Get_library_version() else "MPICH"
serve(sys.argv[1], make, MPI.COMM_WORLD.Barrier)
