"""`plan`: measure, try, predict, and choose the cheapest way to train that will do."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from scrimp.cost import Budget, Prices, format_usd
from scrimp.errors import InputError
from scrimp.planner.machine import Machine, calibrate
from scrimp.planner.options import Option, all_options, choose, choose_weight_bits, solvers_for
from scrimp.planner.pilot import Pilot, run_pilot
from scrimp.planner.reasons import reasons_for


@dataclass(frozen=True)
class Plan:
    """How to train, and why.

    Attributes
    ----------
    estimator : str
        Name of the class in `scrimp.linear_model`.
    choice : dict
        Its settings.
    n_rows : int
        Rows to train on; fewer than there are if the target allows.
    batch_size, learning_rate
        For `minimize` with `solver="sgd"` on such data.
    reasons : dict of str to str
        One for each choice.
    predicted : Option
        The option that was chosen, with usage, score and dollars.
    options : list of Option
        All that were weighed, cheapest first.
    reaches : bool
        Whether target and budget are expected to be met.
    pilot : Pilot
    machine : Machine
    """

    estimator: str
    choice: dict[str, Any]
    n_rows: int
    batch_size: int
    learning_rate: float
    reasons: dict[str, str]
    predicted: Option
    options: list[Option] = field(repr=False)
    reaches: bool
    pilot: Pilot = field(repr=False)
    machine: Machine = field(repr=False)

    def make(self) -> Any:
        """Return the estimator, ready to be fitted."""
        from scrimp import linear_model

        return getattr(linear_model, self.estimator)(**self.choice)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict, for JSON."""
        return {
            "estimator": self.estimator,
            "choice": self.choice,
            "n_rows": self.n_rows,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "reasons": self.reasons,
            "reaches": self.reaches,
            "metric": self.pilot.metric,
            "predicted": self.predicted.to_dict(),
            "options": [option.to_dict() for option in self.options],
            "pilot": _pilot_dict(self.pilot),
            "machine": asdict(self.machine),
        }

    def __str__(self) -> str:
        settings = ", ".join(f"{key}={value!r}" for key, value in self.choice.items())
        used = self.predicted.usage
        lines = [f"{self.estimator}({settings}) on {self.n_rows:,} rows"]
        lines += [f"  {name}: {reason}" for name, reason in self.reasons.items()]
        lines.append(
            f"  predicted: {self.pilot.metric} {self.predicted.score:.4f}"
            f" (at least {self.predicted.floor:.4f}), {used.wall_s:.3g} s,"
            f" {used.cpu_s:.3g} CPU-s, {format_usd(self.predicted.usd)}"
        )
        return "\n".join(lines)


def plan(
    X: ArrayLike,
    y: ArrayLike,
    *,
    target: float | None = None,
    budget: Budget | None = None,
    task: str = "auto",
    alpha: float = 1.0,
    prices: Prices | None = None,
    seed: int = 0,
) -> Plan:
    """Choose how to train a linear model at least cost.

    Parameters
    ----------
    X : float array of shape (n, d)
    y : array of n
    target : float, optional
        Held-out score to reach: R² or accuracy. Without it, the best that the data gives, less at most 0.002.
    budget : Budget, optional
        That the fit must keep.
    task : {"auto", "regression", "classification"}
        "auto": classification if y is text or bool.
    alpha : float
        L2 penalty of the full fit.
    prices : Prices, optional
        What is cheapest depends on them; default the budget's, else the shipped examples.
    seed : int
        Of the pilot's sample.

    Returns
    -------
    Plan
        `plan.make().fit(X[:plan.n_rows], …)` is the fit that was planned (rows in random order).

    Raises
    ------
    InputError
        Fewer than 64 rows, or values that are not finite.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(2000, 5)).astype(np.float32)
    >>> chosen = plan(X, X @ np.arange(5.0) + rng.normal(size=2000), target=0.9)
    >>> chosen.reaches, chosen.estimator
    (True, 'Ridge')
    """
    rows, labels, classes = _checked(X, y, task)
    prices = prices or (budget.prices if budget is not None else None) or Prices.load()
    estimator = "LogisticRegression" if classes else "Ridge"
    n, d = rows.shape

    def make(n_rows: int, **settings: Any) -> Any:
        from scrimp import linear_model

        return getattr(linear_model, estimator)(alpha=alpha * n_rows / n, random_state=seed, **settings)

    machine = calibrate()
    pilot = run_pilot(rows, labels, make, solvers_for(classes, d), classes=classes, seed=seed)
    options = all_options(pilot, machine, n, target, prices)
    chosen, reaches = choose(options, target, budget)
    weight_bits = choose_weight_bits(pilot, chosen, target)
    batch = int(np.clip(2 ** np.round(np.log2(pilot.noise_rows)), 16, max(16, n // 8)))
    return Plan(
        estimator=estimator,
        choice={
            "alpha": alpha * chosen.n_rows / n,
            "solver": chosen.solver,
            "data_bits": chosen.data_bits,
            "weight_bits": weight_bits,
            "workers": chosen.workers,
            "random_state": seed,
        },
        n_rows=chosen.n_rows,
        batch_size=batch,
        learning_rate=1.0 / pilot.lambda_max if pilot.lambda_max > 0 else 1.0,
        reasons=reasons_for(pilot, machine, options, chosen, weight_bits, batch, target, n),
        predicted=chosen,
        options=options,
        reaches=reaches,
        pilot=pilot,
        machine=machine,
    )


def _checked(X: ArrayLike, y: ArrayLike, task: str) -> tuple[Any, Any, bool]:
    rows, labels = np.asarray(X), np.asarray(y)
    if rows.ndim != 2 or rows.dtype.kind != "f":
        raise InputError(f"X must be a 2-D float array, got {rows.dtype}{rows.shape}")
    if labels.shape != (len(rows),):
        raise InputError(f"y must have shape ({len(rows)},), got {labels.shape}")
    if task not in ("auto", "regression", "classification"):
        raise ValueError(f"unknown task {task!r}; known: auto, regression, classification")
    classes = task == "classification" or (task == "auto" and labels.dtype.kind in "OUSb")
    return rows, labels, classes


def _pilot_dict(pilot: Pilot) -> dict[str, Any]:
    """Write the trials as a list: JSON has no tuples as keys."""
    trials = [
        {"solver": solver, "data_bits": bits, **asdict(trial)}
        for (solver, bits), trial in pilot.trials.items()
    ]
    return {**asdict(pilot), "trials": trials}
