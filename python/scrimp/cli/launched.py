"""When mpiexec or torchrun starts the same command many times, the processes meet and train together."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from scrimp.errors import ScrimpError

if TYPE_CHECKING:
    from scrimp.comm import Comm

TIMEOUT_S = 600.0  # a rank may read its data for long before it meets the others

# Launcher -> environment variables of rank and number of ranks that it sets.
_VARIABLES = {
    "torchrun": ("RANK", "WORLD_SIZE"),
    "Open MPI": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    "MPICH": ("PMI_RANK", "PMI_SIZE"),
    "Slurm": ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),  # srun --mpi=pmix: Open MPI has not begun yet
}


@dataclass(frozen=True, slots=True)
class Launch:
    """Who started this process, which of how many it is."""

    launcher: str
    rank: int
    size: int


def launch() -> Launch:
    """Read from the environment how this process was started; by hand, it is rank 0 of 1.

    Examples
    --------
    >>> launch().size
    1
    """
    for launcher, (rank, size) in _VARIABLES.items():
        found = os.environ.get(rank, ""), os.environ.get(size, "")
        if all(text.isdecimal() for text in found) and int(found[1]) > 1:
            return Launch(launcher, *map(int, found))
    return Launch("", 0, 1)


class _Waited:
    """Ends the job of MPI if this rank leaves before it has joined: the others would wait for it for ever."""

    def __init__(self) -> None:
        self._mpi: Any = None

    def begin(self, mpi: Any) -> None:
        self._mpi = mpi
        atexit.register(self.leave, 1)  # after the traceback of a bug

    def leave(self, code: Any) -> None:
        """Tell how this process ends; it ends here, with all others, unless they have met or `code` is 0."""
        mpi, self._mpi = self._mpi, None
        if mpi is not None and code:
            mpi.COMM_WORLD.Abort(code if isinstance(code, int) else 1)


_waited = _Waited()
leave = _waited.leave


def meet() -> None:
    """Start MPI where it started this process, before anything can fail: only then can a rank end the job."""
    mine = launch()
    if mine.size == 1 or mine.launcher == "torchrun":  # which ends all when one fails
        return
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py finds no MPI library
        raise _missing(mine, "mpi") from error
    _waited.begin(MPI)
    size = MPI.COMM_WORLD.Get_size()
    if size != mine.size:
        raise ScrimpError(f"{mine.launcher} started {mine.size} ranks, mpi4py sees {size}: not the same MPI")


def alone(command: str) -> None:
    """Refuse a command that would run, and write its results, once for every rank."""
    mine = launch()
    if mine.size > 1:
        raise typer.BadParameter(
            f"{command} runs in one process, {mine.launcher} started {mine.size}: start it by itself"
        )


@contextmanager
def joined() -> Iterator[Launch]:
    """Join the other ranks, if there are any: fits inside the block run on all of them."""
    from scrimp.train.ranks import joining

    mine = launch()
    if mine.size == 1:
        yield mine
        return
    connect = _torch if mine.launcher == "torchrun" else _mpi
    from scrimp.comm import two_level

    with connect(mine) as flat:
        comm = two_level(flat)
        with joining(comm):
            yield mine
            comm.barrier()


@contextmanager
def _torch(mine: Launch) -> Iterator[Comm]:
    try:
        import torch.distributed as dist
    except ImportError as error:
        raise _missing(mine, "torch") from error
    from scrimp.comm import from_torch

    dist.init_process_group("gloo")
    try:
        yield from_torch(timeout=TIMEOUT_S)
    finally:
        dist.destroy_process_group()


@contextmanager
def _mpi(mine: Launch) -> Iterator[Comm]:
    from scrimp.comm import from_mpi

    comm = from_mpi(timeout=TIMEOUT_S)
    leave(0)  # from here on the communicator tells the others
    yield comm


def _missing(mine: Launch, extra: str) -> ScrimpError:
    needed = f"scrimp[{extra}]" + (" and the library of that MPI" if extra == "mpi" else "")
    return ScrimpError(f"{mine.launcher} started {mine.size} ranks; to join them, install {needed}")
