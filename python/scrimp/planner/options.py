"""The ways to train that are weighed against each other, with what each is predicted to cost and to score."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from scrimp.cost import Budget, Prices, bill
from scrimp.cost.energy import estimated_joules
from scrimp.errors import BudgetExceeded
from scrimp.planner.machine import Machine
from scrimp.planner.pilot import Pilot, Z
from scrimp.usage import Usage

TOLERANCE = 0.002  # score that may be lost for a cheaper fit where no target is given
GRAM_WIDTH = 1500  # wider data is not tried with a Gram matrix
ROW_SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)


@dataclass(frozen=True, slots=True)
class Option:
    """One way to train, as predicted.

    Attributes
    ----------
    solver : str
    data_bits, workers, n_rows : int
    usage : Usage
        Predicted.
    score, floor : float
        Predicted held-out score and its lower 95 % bound.
    usd : float
    """

    solver: str
    data_bits: int
    workers: int
    n_rows: int
    usage: Usage
    score: float
    floor: float
    usd: float

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict, for JSON."""
        return asdict(self)


def solvers_for(classes: bool, d: int) -> tuple[str, ...]:
    """Return the solvers to try; the first is the reference."""
    if classes:
        return ("lbfgs",)
    return ("gram", "cg") if d <= GRAM_WIDTH else ("cg",)


def all_options(pilot: Pilot, machine: Machine, n: int, target: float | None, prices: Prices) -> list[Option]:
    """Every solver, number of bits and of workers, cheapest first; fewer rows only if there is a target."""
    shares = (int(n * share) for share in ROW_SHARES)
    sizes = [n] if target is None else sorted({min(n, rows) for rows in (*pilot.rows, *shares, n)})
    options = [
        _option(pilot, machine, prices, solver, bits, workers, rows)
        for solver, bits in pilot.trials
        for workers in sorted({1, machine.cpus})
        for rows in sizes
    ]
    return sorted(options, key=lambda option: (option.usd, option.usage.wall_s))


def choose(options: list[Option], target: float | None, budget: Budget | None) -> tuple[Option, bool]:
    """Return the cheapest option that will do, and True; else the best that the budget allows, and False."""
    wanted = max(option.score for option in options) - TOLERANCE if target is None else target
    within = [option for option in options if _fits(option, budget)]
    bound = [option.score if target is None else option.floor for option in within]
    enough = [option for option, score in zip(within, bound, strict=True) if score >= wanted]
    if enough:
        return enough[0], True
    if within:
        return max(within, key=lambda option: option.score), False
    return min(options, key=lambda option: option.usd), False


def choose_weight_bits(pilot: Pilot, chosen: Option, target: float | None) -> int:
    """Return the fewest bits of a stored weight that cost no more than a quarter of what may be lost."""
    spare = TOLERANCE if target is None else max(0.0, chosen.floor - target)
    cheap = [
        bits for bits, lost in sorted(pilot.lost_by_weight_bits.items()) if lost <= max(spare, TOLERANCE) / 4
    ]
    return cheap[0]


def _fits(option: Option, budget: Budget | None) -> bool:
    if budget is None:
        return True
    try:
        budget.check(option.usage)
    except BudgetExceeded:
        return False
    return True


def _option(
    pilot: Pilot, machine: Machine, prices: Prices, solver: str, bits: int, workers: int, n_rows: int
) -> Option:
    spent = pilot.trials[solver, bits].usage(n_rows)
    starting = workers / 2 if workers > 1 else 0.0
    usage = Usage(
        wall_s=spent.wall_s + machine.start_s * starting,
        cpu_s=spent.cpu_s + machine.start_cpu_s * 2 * starting,
        peak_bytes=spent.peak_bytes,
    )
    usage = replace(usage, joules=estimated_joules(usage), joules_estimated=True)
    score = pilot.score(n_rows, solver, bits)
    floor = score - Z * pilot.error
    return Option(solver, bits, workers, n_rows, usage, score, floor, bill(usage, prices).total_usd)
