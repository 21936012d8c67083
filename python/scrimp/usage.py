"""What was spent, as a value that flows upward and adds. Prices are known only in `scrimp.cost`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources that a piece of work used.

    Parameters
    ----------
    wall_s : float
        Elapsed seconds. Work of several workers at once counts once.
    cpu_s : float
        CPU-seconds of all processes.
    peak_bytes : int
        Largest resident memory, summed over the processes alive at once.
    wire_bytes, raw_bytes : int
        Bytes that collectives sent, payload and scales; and what fp32 would have sent.
    header_bytes : int
        Packet headers on top of `wire_bytes`.
    stored_bytes : int
        Bytes kept on disk.
    flops : float
        Floating-point operations, by formula.
    joules : float
        Energy; `joules_estimated` says whether it was estimated rather than read from RAPL.

    Examples
    --------
    >>> (Usage(wall_s=1, wire_bytes=10) + Usage(wall_s=2, peak_bytes=5)).wall_s
    3
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    wire_bytes: int = 0
    raw_bytes: int = 0
    header_bytes: int = 0
    stored_bytes: int = 0
    flops: float = 0.0
    joules: float = 0.0
    joules_estimated: bool = False

    def __add__(self, other: Usage) -> Usage:
        """Work done one after the other: amounts add, the peak is the larger one."""
        return Usage(
            wall_s=self.wall_s + other.wall_s,
            cpu_s=self.cpu_s + other.cpu_s,
            peak_bytes=max(self.peak_bytes, other.peak_bytes),
            wire_bytes=self.wire_bytes + other.wire_bytes,
            raw_bytes=self.raw_bytes + other.raw_bytes,
            header_bytes=self.header_bytes + other.header_bytes,
            stored_bytes=self.stored_bytes + other.stored_bytes,
            flops=self.flops + other.flops,
            joules=self.joules + other.joules,
            joules_estimated=self.joules_estimated or other.joules_estimated,
        )

    def alongside(self, other: Usage) -> Usage:
        """Work of another process at the same time: amounts and peaks add, the longer clock counts.

        Examples
        --------
        >>> both = Usage(wall_s=1, cpu_s=1, peak_bytes=5).alongside(Usage(wall_s=2, cpu_s=2, peak_bytes=5))
        >>> both.wall_s, both.cpu_s, both.peak_bytes
        (2, 3, 10)
        """
        total = self + other
        return replace(
            total, wall_s=max(self.wall_s, other.wall_s), peak_bytes=self.peak_bytes + other.peak_bytes
        )

    def to_dict(self) -> dict[str, float]:
        """Return the fields as a plain dict, for JSON."""
        return asdict(self)
