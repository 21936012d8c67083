"""What a training run is told, what it hands from step to step, and what it gives back."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from scrimp.cost import Budget
from scrimp.train.exchange import Wire
from scrimp.train.optimizers import Optimizer, Schedule, adam, decayed, sgd
from scrimp.train.structure import Structure, Vector
from scrimp.usage import Usage

SOLVERS = ("sgd", "adam", "lbfgs")
MOST = 2**63 - 1  # of what is counted: kernels and files hold it in 64 bits


class Report(NamedTuple):
    """What a callback is told after each epoch (sgd, adam) or iteration (lbfgs).

    Attributes
    ----------
    iteration : int
        Epochs or iterations done.
    value : float
        Mean of the objective: over the batches of the epoch, or over all rows.
    weights : callable
        Returns the weights as every rank sees them, in the structure of `w0`.
    """

    iteration: int
    value: float
    weights: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of `minimize`; see there."""

    solver: str
    shard: str
    wire: Wire
    sync_every: int
    batch_size: int
    learning_rate: float
    momentum: float
    nesterov: bool
    schedule: str
    max_iter: int
    tol: float
    gradient_scale: float
    average: int
    seed: int
    budget: Budget | None
    checkpoint: str | None
    callback: Callable[[Report], bool | None] | None
    on_failure: str = "raise"

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise ValueError(f"unknown solver {self.solver!r}; known: {', '.join(SOLVERS)}")
        if self.shard not in ("rows", "zero"):
            raise ValueError(f"unknown shard {self.shard!r}; known: rows, zero")
        for name in ("sync_every", "batch_size", "max_iter", "seed"):
            count = check_count(name, getattr(self, name), 0 if name == "seed" else 1)
            object.__setattr__(self, name, count)
        for name in ("tol", "gradient_scale"):
            if not (is_number(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name} must be a number >= 0, got {getattr(self, name)!r}")
        if not (is_number(self.momentum) and 0 <= self.momentum < 1):
            raise ValueError(f"momentum must be at least 0 and below 1, got {self.momentum!r}")
        if not (is_number(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be a number above 0, got {self.learning_rate!r}")
        for name in ("tol", "gradient_scale", "momentum", "learning_rate"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if self.nesterov not in (False, True):
            raise ValueError(f"nesterov must be True or False, got {self.nesterov!r}")
        if self.budget is not None and not isinstance(self.budget, Budget):
            raise TypeError(f"budget must be a scrimp.Budget or None, got {type(self.budget).__name__}")
        if self.callback is not None and not callable(self.callback):
            raise TypeError(f"callback must be callable or None, got {self.callback!r}")
        self.rate(1)  # refuses a schedule that is not known
        if self.average and self.solver == "lbfgs":
            raise ValueError("average needs solver='sgd' or 'adam'")
        if self.on_failure == "continue" and self.shard != "rows":
            raise ValueError("on_failure='continue' needs shard='rows': a lost rank's slice is lost")
        if self.sync_every > 1 and (self.shard != "rows" or self.solver == "lbfgs"):
            raise ValueError("sync_every above 1 needs shard='rows' and solver='sgd' or 'adam'")

    def rate(self, total_steps: int) -> Schedule:
        """Return the learning rate by step."""
        return decayed(self.learning_rate, self.schedule, total_steps)

    def rule(self, total_steps: int) -> Optimizer:
        """Return the update rule of a stochastic solver."""
        rate = self.rate(total_steps)
        return adam(rate) if self.solver == "adam" else sgd(rate, self.momentum, self.nesterov)

    def identity(self, structure: Structure, size: int | None) -> dict[str, Any]:
        """Return what a checkpoint must agree with; how long to train is not in it.

        `size` is None where another number of ranks may go on.
        """
        wire = self.wire
        facts: dict[str, Any] = {"weights": structure.size, "dtype": str(structure.dtype)}
        if size is not None:
            facts["workers"] = size
        facts |= {name: getattr(self, name) for name in ("solver", "shard", "sync_every", "seed")}
        facts |= {
            "compress": f"{wire.gradient},{wire.weight}",
            "raw_below": wire.raw_below,
            "feedback": wire.feedback,
        }
        if self.solver != "lbfgs":
            own = ("batch_size", "learning_rate", "momentum", "nesterov", "schedule", "average")
            facts |= {name: getattr(self, name) for name in own}
        return facts


def check_count(name: str, value: Any, least: int, most: int = MOST) -> int:
    """Return an option as an int; ValueError unless it is a whole number in a range, and no truth value."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not (whole and value >= least):
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    if value > most:
        raise ValueError(f"{name} must be at most {most}, got {value!r}")
    return int(value)


def is_number(value: Any) -> bool:
    """Whether an option is a real number that is finite, and no truth value."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return number and math.isfinite(value)


def averaged_after(average: bool | int) -> int:
    """Return the rows that are trained on before the mean of the weights begins; 0 for no mean.

    Examples
    --------
    >>> [averaged_after(average) for average in (False, True, 500)]
    [0, 1, 500]
    """
    if not (isinstance(average, int | np.integer) and average >= 0):
        raise ValueError(f"average must be False, True or a whole number of rows >= 0, got {average!r}")
    return int(average)


class Outcome(NamedTuple):
    """Result of a loop, the same on every rank."""

    vector: Vector
    value: float
    n_iter: int
    history: list[float]
    stop: str
    message: str
    last: Vector | None = None
    n_averaged: int = 0


@dataclass(frozen=True, slots=True)
class Fit:
    """What `minimize` found.

    Attributes
    ----------
    w : array, or tuple, list or dict of arrays
        The weights, in the structure of `w0`; the exact master weights, whatever codec they travelled in.
    value : float
        Last entry of `history`.
    n_iter : int
        Epochs (sgd, adam) or iterations (lbfgs), those before a checkpoint included.
    history : list of float
        Mean of the objective by epoch (over its batches, as the weights moved) or by iteration (over all
        rows).
    stop : str
        Why it ended: `"converged"`, `"max_iter"`, `"callback"`, or `"stalled"` where no lower value can be
        found at the precision of the gradients, or at the constant learning rate.
    usage : Usage
        Of all ranks, the start of processes included.
    last : like w
        The weights after the last step; others than `w` where that is a mean.
    n_averaged : int
        Steps over which `w` is a mean; 0 where it is not one.
    """

    w: Any
    value: float
    n_iter: int
    history: list[float]
    stop: str
    usage: Usage
    last: Any
    n_averaged: int
