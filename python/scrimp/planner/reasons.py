"""Why each choice was made, in words and with the numbers that decided."""

from __future__ import annotations

from scrimp.cost import format_usd
from scrimp.planner.machine import Machine
from scrimp.planner.options import TOLERANCE, Option
from scrimp.planner.pilot import Pilot


def reasons_for(
    pilot: Pilot,
    machine: Machine,
    options: list[Option],
    chosen: Option,
    weight_bits: int,
    batch: int,
    target: float | None,
    n: int,
) -> dict[str, str]:
    """Return one sentence a choice."""
    metric = pilot.metric
    return {
        "score": _score(pilot, chosen, target),
        "rows": _rows(pilot, chosen, target, n),
        "solver": _solver(options, chosen),
        "data_bits": _data_bits(pilot, options, chosen),
        "weight_bits": f"{weight_bits} bits lose {_lost(pilot.lost_by_weight_bits[weight_bits])} {metric}",
        "workers": _workers(machine, chosen),
        "batch_size": f"for sgd: {batch:,}; the gradient noise scale is {pilot.noise_rows:,.0f} rows",
        "learning_rate": f"for sgd: 1/λmax; power iteration on the pilot gave λmax = {pilot.lambda_max:.3g}",
    }


def _score(pilot: Pilot, chosen: Option, target: float | None) -> str:
    found = ", ".join(
        f"{score:.4f} on {rows:,}" for rows, score in zip(pilot.rows, pilot.scores, strict=True)
    )
    text = f"pilot fits scored {found}; {chosen.score:.4f} ± {pilot.error:.4f} expected on {chosen.n_rows:,}"
    if target is None:
        return f"{text}; up to {TOLERANCE} may go for a cheaper fit"
    if chosen.floor >= target:
        return f"{text}; its lower 95 % bound {chosen.floor:.4f} reaches the target {target:g}"
    return f"{text}; the target {target:g} is not sure to be reached (lower 95 % bound {chosen.floor:.4f})"


def _rows(pilot: Pilot, chosen: Option, target: float | None, n: int) -> str:
    if chosen.n_rows < n:
        gain = pilot.score(n, chosen.solver, chosen.data_bits) - chosen.score
        return f"{chosen.n_rows:,} of {n:,} are enough for the target; all would add {gain:.4f}"
    return (
        "all: there is no target to stop at"
        if target is None
        else "all: fewer would not surely reach the target"
    )


def _solver(options: list[Option], chosen: Option) -> str:
    others = [
        option
        for option in options
        if (option.n_rows, option.workers, option.data_bits)
        == (chosen.n_rows, chosen.workers, chosen.data_bits)
        and option.solver != chosen.solver
    ]
    if not others:
        return f"{chosen.solver} is the only one for this task and width"
    other = others[0]
    return (
        f"{chosen.solver} needs {chosen.usage.wall_s:.3g} s and scores {chosen.score:.4f},"
        f" {other.solver} {other.usage.wall_s:.3g} s and {other.score:.4f}"
    )


def _data_bits(pilot: Pilot, options: list[Option], chosen: Option) -> str:
    rows = []
    for option in sorted(options, key=lambda option: -option.data_bits):
        same = (option.n_rows, option.workers, option.solver) == (
            chosen.n_rows,
            chosen.workers,
            chosen.solver,
        )
        if same:
            rows.append(f"{option.data_bits} bits {option.score:.4f} for {format_usd(option.usd)}")
    return f"predicted {pilot.metric}: {'; '.join(rows)}"


def _workers(machine: Machine, chosen: Option) -> str:
    if machine.cpus == 1:
        return "there is one CPU"
    if chosen.workers == 1:
        return (
            f"one process uses all {machine.cpus} CPUs by threads; {machine.cpus} processes would do the same"
            f" work and take {machine.start_s:.2f} s to start. Workers pay on several machines"
        )
    return f"{chosen.workers} processes share the rows"


def _lost(lost: float) -> str:
    return "no" if lost < 5e-5 else f"{lost:.4f}"
