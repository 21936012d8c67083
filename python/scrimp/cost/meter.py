"""A meter measures what a block of code used. It knows no prices."""

from __future__ import annotations

import resource
import time
from dataclasses import replace
from types import TracebackType

from scrimp.cost.energy import EnergyCounter, estimated_joules
from scrimp.cost.memory import PeakMemory, shared_resident_bytes
from scrimp.usage import Usage


class Meter:
    """Measure wall-clock time, CPU, peak memory and energy of a `with` block.

    Parameters
    ----------
    count_shared : bool
        False leaves out the pages of shared segments that are resident at the end: for a worker that
        maps data which its parent counts.

    Attributes
    ----------
    usage : Usage
        Valid after the block; inside it, what was spent so far (peak and joules still 0).

        - `wall_s`: `time.perf_counter`.
        - `cpu_s`: user and system time of this process, all threads, and of child processes that were
          reaped inside the block (`getrusage`); children still running are not in it.
        - `peak_bytes`: largest resident memory of this process inside the block, what was resident
          before included; plus the peaks of workers handed to `add`. `peak_source` tells how it was
          measured.
        - `joules`: RAPL of the whole machine, else an estimate, then `joules_estimated` is True.
        - bytes and flops: what was handed to `add`.
    peak_source : str
        `"VmHWM"`, `"sampled"` or `"ru_maxrss"`, see `scrimp.cost.memory.PeakMemory`.

    Examples
    --------
    >>> with Meter() as meter:
    ...     total = sum(range(1000))
    >>> meter.usage.wall_s > 0 and meter.usage.peak_bytes > 0
    True
    """

    def __init__(self, *, count_shared: bool = True) -> None:
        self._count_shared = count_shared
        self._memory = PeakMemory()
        self._energy = EnergyCounter()
        self._added = Usage()
        self._worker_peak = 0
        self._wall_start = self._cpu_start = 0.0
        self._usage: Usage | None = None

    def __enter__(self) -> Meter:
        self._memory.start()
        self._energy.start()
        self._cpu_start = cpu_seconds()
        self._wall_start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wall_s, cpu_s = self._seconds()
        peak = self._memory.stop() + self._worker_peak
        if not self._count_shared:
            peak -= shared_resident_bytes()
        joules, known = self._energy.stop(), self._energy.available
        spent = self._added + Usage(wall_s, cpu_s, max(peak, 0), joules=joules, joules_estimated=not known)
        self._usage = spent if known else replace(spent, joules=estimated_joules(spent))

    @property
    def usage(self) -> Usage:
        """What was spent."""
        if self._usage is not None:
            return self._usage
        return self._added + Usage(*self._seconds())

    def _seconds(self) -> tuple[float, float]:
        """Return wall-clock and CPU seconds so far."""
        return time.perf_counter() - self._wall_start, cpu_seconds() - self._cpu_start

    @property
    def peak_source(self) -> str:
        """How the peak was measured."""
        return self._memory.source

    def add(self, usage: Usage, *, worker: bool = False) -> None:
        """Take in bytes and flops that only the code inside the block can count.

        Parameters
        ----------
        usage : Usage
            Its wire, raw, header and stored bytes and flops are added. Its seconds are not: the meter
            has its own.
        worker : bool
            True: another process spent it while the block ran; its peak memory counts beside this
            process's own.
        """
        self._added += Usage(
            wire_bytes=usage.wire_bytes,
            raw_bytes=usage.raw_bytes,
            header_bytes=usage.header_bytes,
            stored_bytes=usage.stored_bytes,
            flops=usage.flops,
        )
        if worker:
            self._worker_peak += usage.peak_bytes


def cpu_seconds() -> float:
    """Return user and system seconds of this process and its reaped children so far."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(who)
        total += used.ru_utime + used.ru_stime
    return total
