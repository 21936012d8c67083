"""A bill is usage times prices, line by line. Bills add; each says whose prices it used."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from scrimp.cost.prices import Prices
from scrimp.usage import Usage

if TYPE_CHECKING:
    from rich.table import Table

GIB = 2**30


@dataclass(frozen=True, slots=True)
class BillLine:
    """One resource on a bill: `usd = quantity · usd_per_unit`."""

    name: str
    quantity: float
    unit: str
    usd_per_unit: float
    usd: float


@dataclass(frozen=True, slots=True)
class Bill:
    """What a piece of work cost.

    Attributes
    ----------
    lines : tuple of BillLine
        One per resource that was used or has a price.
    usage : Usage
        The amounts behind the lines.
    priced_by : tuple of str
        Name and date of the prices; more than one after adding bills of different prices.

    Examples
    --------
    >>> one = bill(Usage(cpu_s=3600), Prices(name="ours", source="contract", date="2026-01", cpu_hour=0.04))
    >>> one.total_usd, (one + one).total_usd
    (0.04, 0.08)
    """

    lines: tuple[BillLine, ...]
    usage: Usage
    priced_by: tuple[str, ...]

    @property
    def total_usd(self) -> float:
        """Sum of the lines."""
        return sum(line.usd for line in self.lines)

    def __add__(self, other: Bill) -> Bill:
        """Work done one after the other. Lines of equal name and price join; usage adds."""
        joined: dict[tuple[str, str, float], BillLine] = {}
        for line in (*self.lines, *other.lines):
            key = (line.name, line.unit, line.usd_per_unit)
            quantity = line.quantity + (joined[key].quantity if key in joined else 0.0)
            joined[key] = _line(line.name, quantity, line.unit, line.usd_per_unit)
        names = tuple(dict.fromkeys((*self.priced_by, *other.priced_by)))
        return Bill(tuple(joined.values()), self.usage + other.usage, names)

    def __radd__(self, other: int | Bill) -> Bill:
        """Let `sum(bills)` begin with 0."""
        return self if isinstance(other, int) else other + self

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict of schema `scrimp.bill/1`, for JSON."""
        return {
            "schema": "scrimp.bill/1",
            "total_usd": self.total_usd,
            "lines": [asdict(line) for line in self.lines],
            "usage": self.usage.to_dict(),
            "priced_by": list(self.priced_by),
        }

    def __str__(self) -> str:
        rows = [(*_cells(line),) for line in self.lines]
        rows.append(("total", "", "", format_usd(self.total_usd)))
        width = [max(len(row[i]) for row in rows) for i in range(4)]
        body = (f"{a:<{width[0]}}  {b:>{width[1]}}  {c:>{width[2]}}  {d:>{width[3]}}" for a, b, c, d in rows)
        return "\n".join((*(line.rstrip() for line in body), _caption(self)))

    def __rich__(self) -> Table:
        """Return the bill as a rich table."""
        from rich.table import Table

        table = Table(title="Bill", caption=_caption(self), caption_justify="left", show_footer=True)
        table.add_column("", footer="total")
        table.add_column("used", justify="right")
        table.add_column("price", justify="right")
        table.add_column("US dollars", justify="right", footer=format_usd(self.total_usd))
        for line in self.lines:
            table.add_row(*_cells(line))
        return table


def bill(usage: Usage, prices: Prices | None = None) -> Bill:
    """Price a usage.

    Parameters
    ----------
    usage : Usage
        What was spent.
    prices : Prices, optional
        Default: the shipped example list prices.

    Returns
    -------
    Bill
        CPU: `cpu_s / 3600`. Memory: `peak_bytes / 2³⁰ · wall_s / 3600`. Machine: `wall_s / 3600`. Wire:
        bytes sent with headers. Storage: `stored_bytes · stored_months`. Energy: joules / 3.6e6. A
        resource without usage and without price has no line.

    Examples
    --------
    >>> prices = Prices(name="ours", source="contract", date="2026-01", machine_hour=1.0)
    >>> bill(Usage(wall_s=1800), prices).total_usd
    0.5
    """
    prices = Prices.load() if prices is None else prices
    hours = usage.wall_s / 3600
    energy = "energy (estimated)" if usage.joules_estimated else "energy"
    lines = (
        _line("cpu", usage.cpu_s / 3600, "CPU·h", prices.cpu_hour),
        _line("memory", usage.peak_bytes / GIB * hours, "GiB·h", prices.memory_gib_hour),
        _line("machine", hours, "h", prices.machine_hour),
        _line("wire", (usage.wire_bytes + usage.header_bytes) / GIB, "GiB", prices.wire_gib),
        _line(
            "storage", usage.stored_bytes / GIB * prices.stored_months, "GiB·month", prices.stored_gib_month
        ),
        _line(energy, usage.joules / 3.6e6, "kWh", prices.kwh),
    )
    kept = (line for line in lines if line.usd_per_unit or (line.quantity and line.name != "machine"))
    return Bill(tuple(kept), usage, (f"{prices.name} ({prices.date})",))


def format_usd(usd: float, digits: int = 3) -> str:
    """Write an amount: cents from one dollar on, else with so many significant digits.

    Examples
    --------
    >>> format_usd(12.345), format_usd(0.00012345), format_usd(0)
    ('$12.35', '$0.000123', '$0')
    """
    if usd == 0:
        return "$0"
    if abs(usd) >= 1:
        return f"${usd:,.2f}"
    if abs(usd) < 1e-9:
        return "<$1e-9"
    decimals = digits - 1 - math.floor(math.log10(abs(usd)))
    return "$" + f"{usd:.{decimals}f}".rstrip("0").rstrip(".")


def _line(name: str, quantity: float, unit: str, usd_per_unit: float) -> BillLine:
    return BillLine(name, quantity, unit, usd_per_unit, quantity * usd_per_unit)


def _cells(line: BillLine) -> tuple[str, str, str, str]:
    price = f"{format_usd(line.usd_per_unit, 5)}/{line.unit}" if line.usd_per_unit else "not billed"
    return line.name, f"{line.quantity:.3g} {line.unit}", price, format_usd(line.usd)


def _caption(bill: Bill) -> str:
    return "prices: " + "; ".join(bill.priced_by)
