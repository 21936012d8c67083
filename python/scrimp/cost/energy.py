"""Joules: read from the processor's counters (RAPL) where they can be read, else estimated and labelled so.

RAPL counts the whole package, every process on the machine included. The estimate uses the average watts of a
hardware thread in a cloud from Cloud Carbon Footprint; take it as ±50 %.
https://www.cloudcarbonfootprint.org/docs/methodology
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from scrimp.cost.memory import Sampler
from scrimp.usage import Usage

IDLE_W_PER_CPU = 0.74
BUSY_W_PER_CPU = 3.5
W_PER_GB = 0.392

POWERCAP = Path("/sys/class/powercap")
_PACKAGE = re.compile("intel-rapl:[0-9]+")
UNWRAP_S = 30.0  # counters overflow after 262 kJ or more, over ten minutes at 400 W


@dataclass(slots=True)
class _Package:
    counter: Path
    range_uj: int
    last_uj: int
    total_uj: int = 0

    def read(self) -> None:
        now = int(self.counter.read_text())
        step = now - self.last_uj
        self.total_uj += step if step >= 0 else step + self.range_uj
        self.last_uj = now


@dataclass(slots=True)
class EnergyCounter:
    """RAPL energy of all packages since `start`; `available` is False where it cannot be read."""

    packages: list[_Package] = field(default_factory=list)
    _sampler: Sampler | None = None

    @property
    def available(self) -> bool:
        """Whether at least one package counter could be read."""
        return bool(self.packages)

    def start(self, powercap: Path = POWERCAP) -> None:
        """Open the package counters `intel-rapl:N` (AMD too), not their subdomains (they are inside)."""
        names = os.listdir(powercap) if powercap.is_dir() else []
        for zone in (powercap / name for name in sorted(names) if _PACKAGE.fullmatch(name)):
            try:
                range_uj = int((zone / "max_energy_range_uj").read_text())
                last_uj = int((zone / "energy_uj").read_text())
            except (OSError, ValueError):  # not readable by this user, or not a counter
                continue
            self.packages.append(_Package(zone / "energy_uj", range_uj, last_uj))
        if self.packages:
            self._sampler = Sampler(self._read, UNWRAP_S)

    def stop(self) -> float:
        """Return the joules since `start`."""
        if self._sampler is not None:
            self._sampler.stop()
            self._read()
        return sum(package.total_uj for package in self.packages) / 1e6

    def _read(self) -> None:
        for package in self.packages:
            package.read()


def estimated_joules(usage: Usage) -> float:
    """Estimate energy from the CPUs that are usable, the CPU-seconds and the memory held.

    Examples
    --------
    >>> round(estimated_joules(Usage(cpu_s=100)), 3)
    276.0
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    idle = IDLE_W_PER_CPU * cpus * usage.wall_s
    busy = (BUSY_W_PER_CPU - IDLE_W_PER_CPU) * usage.cpu_s
    return idle + busy + W_PER_GB * usage.peak_bytes / 1e9 * usage.wall_s
