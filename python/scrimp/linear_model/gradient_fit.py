"""Fitting any loss by gradients, through `minimize`: what estimators with the same options share."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from scrimp.comm import single
from scrimp.cost import Budget, Meter
from scrimp.errors import InputError
from scrimp.linear_model.inputs import DOUBLE_SIZES, SINGLE_SIZES, Inputs, check_columns, check_targets
from scrimp.linear_model.transfer import Known
from scrimp.linear_model.weights import Coefficients
from scrimp.matrix import QuantizedMatrix, product
from scrimp.train import Fit, minimize
from scrimp.train.dense import one_thread
from scrimp.train.linear import (
    CURVATURE,
    CodeRows,
    LinearObjective,
    pilot_rows,
    sample_rows,
    take_pilot,
)
from scrimp.train.newton import Start, newton_start
from scrimp.train.shared_rows import SharedRows
from scrimp.train.stopping import ENOUGH_MEMORIES, SETTLED_MEMORIES, enough_epochs, memory_of
from scrimp.usage import Usage

LBFGS_ITERATIONS, SGD_EPOCHS = 300, 20
FEW_VALUES, FEW_ROWS_TOL = 1 << 16, 1e-13  # rows of so few values are fitted to all digits: it takes no time
PRECISE_VALUES = 1 << 22  # rows of fewer values are multiplied in float64: it takes no time
CHOICES: dict[str, tuple[Any, ...]] = {
    "data_bits": (32, 8, 4, 2, 1),
    "weight_bits": (32, 8, 4),
    "refine": ("auto", False),
}
# Options that count something, and the least that each may be; None where an option has a default of its own.
COUNTS = {"workers": 1, "threads": 0, "batch_size": 1, "sync_every": 1, "raw_below": 0, "max_iter": 1}


def _are_few(shape: tuple[int, int]) -> bool:
    return shape[0] * shape[1] <= FEW_VALUES


class Found(NamedTuple):
    """What a fit by gradients found.

    Attributes
    ----------
    w, intercept : float64[d, k], float64[k]
    objective : LinearObjective
    fit : Fit
    rate : float
        The step that suits mini-batches.
    usage : Usage
        Of the preparation too.
    is_near : bool
        Whether the start was the solution for a sample of the rows.
    """

    w: NDArray[np.float64]
    intercept: NDArray[np.float64]
    objective: LinearObjective
    fit: Fit
    rate: float
    usage: Usage
    is_near: bool = False

    @property
    def scatter(self) -> NDArray[np.float64]:
        """Curvature along each coefficient: what an error of it costs, float64[d]."""
        d = len(self.w)
        each = 1 / self.objective.units.scale**2
        return each if len(each) == d else each.reshape(-1, self.w.shape[1])[:d].mean(axis=1)

    @property
    def how(self) -> str:
        """What was done, in words."""
        start = "Newton's method on a sample, " if self.is_near else ""
        return f"{start}{self.fit.n_iter} passes, {self.fit.stop}"


class GradientFit:
    """Estimators whose options are those of `minimize` and of the rows."""

    def _check_options(self: Any) -> None:
        for name, known in CHOICES.items():
            value = getattr(self, name, known[0])
            if not any(value == one and type(value) is type(one) for one in known):
                raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
        for name, least in COUNTS.items():
            value = getattr(self, name, None)
            if value is not None and not (isinstance(value, int | np.integer) and value >= least):
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        momentum, rate = getattr(self, "momentum", 0.0), getattr(self, "learning_rate", "auto")
        if not (isinstance(momentum, int | float | np.number) and 0 <= momentum < 1):
            raise ValueError(f"momentum must be at least 0 and below 1, got {momentum!r}")
        if rate != "auto" and not (isinstance(rate, int | float | np.number) and 0 < rate < np.inf):
            raise ValueError(f"learning_rate must be 'auto' or a number above 0, got {rate!r}")
        if not (isinstance(self.tol, int | float | np.number) and self.tol > 0):
            raise ValueError(f"tol must be above 0, got {self.tol!r}")
        if self.budget is not None and not isinstance(self.budget, Budget):
            raise TypeError(f"budget must be a scrimp.Budget or None, got {type(self.budget).__name__}")

    def _seed(self: Any) -> int:
        """Return a seed; None is 0, so that fits are the same from run to run."""
        return (
            0 if self.random_state is None else int(check_random_state(self.random_state).randint(2**31 - 1))
        )

    def _by_loss(
        self: Any,
        inputs: Inputs,
        loss: str,
        alpha: NDArray[np.float64],
        solver: str,
        delta: float = 1.0,
        bias: bool = False,
        known: Known | None = None,
    ) -> Found:
        """Fit from 0, or from what another model knows of these columns and outputs.

        Parameters
        ----------
        inputs : Inputs
        loss : str
            Of `scrimp.gradient`.
        alpha : float64[k]
            Penalty ½·α‖w‖² against Σ s·L.
        solver : {"lbfgs", "sgd"}
        delta : float
            Of huber.
        bias : bool
            Train the intercept; it comes from exact means otherwise, which suits the squared loss.
        known : Known, optional
        """
        with Meter() as meter:
            data, objective, rate = self._prepare(inputs, loss, alpha, solver, delta, bias)
            near = _near_start(data, objective) if solver == "lbfgs" else None
        start, changes = objective.start(np.float32 if solver == "sgd" else np.float64), {}
        if near is not None:
            objective = replace(objective, units=near.units)
            start, changes = objective.start(np.float64, near.theta), {"gradient_scale": near.gradient_norm}
        if known is not None:
            start = objective.start(start.dtype.type, objective.centred(known.coef.T, known.intercept))
        fit = self._minimize(objective, start, data, solver, rate, **changes)
        w, intercept = objective.weights(fit.w)
        return Found(w, intercept, objective, fit, rate, meter.usage + fit.usage, near is not None)

    def _prepare(
        self: Any,
        inputs: Inputs,
        loss: str,
        alpha: NDArray[np.float64],
        solver: str,
        delta: float,
        bias: bool,
    ) -> tuple[tuple[Any, ...], LinearObjective, float]:
        """Quantize the rows if asked for, find means, units and step."""
        rows, n = inputs.X, len(inputs.y)
        precise = solver != "sgd" and (rows.shape[0] * rows.shape[1] <= PRECISE_VALUES or self.tol < 1e-5)
        sizes = DOUBLE_SIZES if precise else SINGLE_SIZES
        check_columns(rows, sizes)
        check_targets(inputs.y, sizes)
        if self.data_bits != 32 and not isinstance(rows, QuantizedMatrix) and rows.dtype != np.int8:
            rows = QuantizedMatrix.from_array(rows, self.data_bits, seed=self._seed(), threads=self.threads)
        rows = CodeRows.of(rows) if isinstance(rows, QuantizedMatrix) else rows
        total = float(n) if inputs.weight is None else float(inputs.weight.sum())
        k = len(alpha)
        mean, centre = np.zeros(rows.shape[1]), np.zeros(k)
        if self.fit_intercept:
            whole = SharedRows(single(), inputs.X, inputs.y, inputs.weight, 0, self.threads)
            mean, y_mean = whole.moments()
            centre = y_mean if loss in ("squared", "huber") else centre
        bend, penalty = CURVATURE[loss], alpha / total
        pilot = take_pilot(rows, mean, float(penalty.max()), bend, stochastic=solver == "sgd")
        rate = pilot.learning_rate(self.batch_size, n, self.momentum)
        rate = rate if self.learning_rate == "auto" else float(self.learning_rate)
        bias = bias and self.fit_intercept
        objective = LinearObjective(
            loss, mean, centre, pilot.units, penalty, bias, precise, self.threads, delta
        )
        weight = () if inputs.weight is None else (inputs.weight * (n / total),)
        return (rows, inputs.y, *weight), objective, rate

    def _minimize(
        self: Any,
        objective: LinearObjective,
        start: NDArray[Any],
        data: tuple[Any, ...],
        solver: str,
        rate: float,
        **changes: Any,
    ) -> Fit:
        options = {
            "workers": self.workers,
            "shard": self.shard,
            "solver": solver,
            "learning_rate": rate,
            "momentum": self.momentum,
            "schedule": "linear",
            "batch_size": self.batch_size,
            "max_iter": self._most_passes(solver, len(data[1])) if self.max_iter is None else self.max_iter,
            "tol": min(self.tol, FEW_ROWS_TOL) if _are_few(data[0].shape) else self.tol,
            "sync_every": self.sync_every,
            "compress": self.compress,
            "raw_below": self.raw_below,
            "feedback": self.feedback,
            "seed": self._seed(),
            "budget": self.budget,
            "checkpoint": self.checkpoint,
            "on_failure": self.on_failure,
        }
        with (
            one_thread()
        ):  # the rows are the kernels' work; threads for small matrices only wait for each other
            return minimize(objective, start, data, **(options | changes))

    def _most_passes(self: Any, solver: str, n: int) -> int:
        """Return iterations, or epochs of enough steps, by default."""
        return max(SGD_EPOCHS, self._epochs(n, ENOUGH_MEMORIES)) if solver == "sgd" else LBFGS_ITERATIONS

    def _epochs(self: Any, n: int, memories: int) -> int:
        """Return the epochs that are so many memories of the momentum long."""
        memory = memory_of("sgd", self.momentum, self.sync_every)
        return enough_epochs(-(-n // self.batch_size), memory, memories)

    def _warn_if_short(self: Any, found: Found, solver: str, n: int) -> None:
        """Warn where `max_iter` ended iterations, or so few mini-batches that they cannot have settled."""
        passes = found.fit.n_iter
        if found.fit.stop != "max_iter" or (solver == "sgd" and passes >= self._epochs(n, SETTLED_MEMORIES)):
            return
        what = "epochs of mini-batches" if solver == "sgd" else "iterations"
        text = f"stopped after {passes} {what}: raise max_iter or tol"
        warnings.warn(text, ConvergenceWarning, stacklevel=4)

    def _store(
        self: Any, w: NDArray[np.float64], scatter: NDArray[np.float64], narrow: bool
    ) -> NDArray[np.float64]:
        """Store coefficients of [d, k] in the model's own precision; return what it predicts with."""
        with np.errstate(over="ignore"):
            own = np.ascontiguousarray(w.T, np.float32 if narrow else np.float64)
        size = float(np.abs(w).max(initial=0.0))
        if not np.isfinite(own).all() or (size and not own.any()):
            kind = f"{own.dtype}, the type of X" if narrow else "float64"
            raise InputError(f"coefficients of up to {size:.3g} do not fit {kind}; rescale X or y")
        self._coefficients = Coefficients.of(own, self.weight_bits, scatter)
        return np.asarray(self._coefficients.values, np.float64)

    def _linear(self: Any, rows: Any) -> NDArray[Any]:
        """Return x·coef_ + intercept_: float64 for float64 rows, else float32."""
        if isinstance(rows, np.ndarray) and rows.dtype == np.float64:
            return np.asarray(rows @ self.coef_.T + self.intercept_)
        kept: Coefficients = self._coefficients
        packed = kept.product(rows, self.coef_, self.intercept_, self.threads)
        if packed is not None:
            return packed
        return product(rows, self.coef_.T, self.intercept_, threads=self.threads)


def _near_start(data: tuple[Any, ...], objective: LinearObjective) -> Start | None:
    """Fit a sample of the rows by Newton's method, where the loss is a logistic one."""
    X, y, *weight = data
    rows = pilot_rows(len(y))
    z = sample_rows(X, rows) - objective.mean
    shares = weight[0][rows] if weight else None
    penalty = float(objective.penalty.max())
    return newton_start(z, y[rows], shares, objective.loss, penalty, objective.bias, len(objective.penalty))


def is_narrow(X: Any) -> bool:
    """Whether coefficients for these rows are float32."""
    return isinstance(X, QuantizedMatrix) or X.dtype != np.float64
