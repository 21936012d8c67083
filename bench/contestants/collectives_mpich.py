"""All-reduce of fp32 by MPICH through mpi4py; the wheel `mpich` beside this Python."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from contestants.ranks import Cases, launched


def found(name: str) -> tuple[Path, Path, str]:
    """Return mpiexec, the library and the version of an MPI wheel."""
    try:
        wheel = distribution(name)
    except PackageNotFoundError as error:
        raise ImportError(f"no wheel {name}") from error
    files = [Path(wheel.locate_file(file)).resolve() for file in wheel.files or []]
    mpiexec = next(file for file in files if file.name == "mpiexec")
    return mpiexec, next(file for file in files if file.name.startswith("libmpi.so.")), wheel.version


MPIEXEC, LIBRARY, VERSION = found("mpich")
START = launched([str(MPIEXEC)], LIBRARY, "contestants.mpi_rank")
CASES = {"collectives.all_reduce": Cases(START).all_reduce}


def version() -> str:
    return VERSION
