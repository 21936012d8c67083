"""What a worker process costs on this machine before it has done any work."""

from __future__ import annotations

import os
from dataclasses import dataclass

from scrimp.comm import Comm, run
from scrimp.cost import Meter


@dataclass(frozen=True, slots=True)
class Machine:
    """Measured in about a second.

    Attributes
    ----------
    cpus : int
        That this process may use.
    start_s, start_cpu_s : float
        Seconds of the clock, and CPU-seconds a worker, to start and end two workers.
    """

    cpus: int
    start_s: float
    start_cpu_s: float


def calibrate() -> Machine:
    """Start two workers that do nothing, and measure it."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with Meter() as meter:
        run(_rank, workers=2)
    return Machine(cpus, meter.usage.wall_s, meter.usage.cpu_s / 2)


def _rank(comm: Comm) -> int:
    return comm.rank
