"""Fitting any loss by gradients, through `minimize`: what estimators with the same options share."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from scrimp.comm import single
from scrimp.cost import Budget, Meter
from scrimp.errors import InputError
from scrimp.linear_model.inputs import (
    DOUBLE_SIZES,
    SINGLE_SIZES,
    SQUARED_SIZES,
    Inputs,
    check_columns,
    check_targets,
)
from scrimp.linear_model.option_types import check_types
from scrimp.linear_model.transfer import Known
from scrimp.linear_model.weights import Coefficients
from scrimp.matrix import NibblePlanes, QuantizedMatrix, product
from scrimp.matrix.blas import one_thread
from scrimp.train import Fit, minimize
from scrimp.train.linear import (
    CURVATURE,
    CodeRows,
    LinearObjective,
    pilot_rows,
    sample_rows,
    sample_units,
    spread_of_rare,
    take_pilot,
    without_still,
)
from scrimp.train.newton import SIZE, Start, newton_start
from scrimp.train.shared_rows import SharedRows
from scrimp.train.stopping import ENOUGH_MEMORIES, SETTLED_MEMORIES, enough_epochs, memory_of
from scrimp.usage import Usage

PLANES = "4+8"  # of `data_bits`: passes over the first plane of two, then over both
ROUGH_TOL = 0.1  # the least that a pass over codes must bring
COARSE_TOL = 1e-3  # relative norm of the gradient on quantized rows, before finer rows are read
LBFGS_ITERATIONS, SGD_EPOCHS = 300, 20
FEW_VALUES, FEW_ROWS_TOL = 1 << 16, 1e-13  # rows of so few values are fitted to all digits: it takes no time
PRECISE_VALUES = 1 << 22  # rows of fewer values are multiplied in float64: it takes no time
CHOICES: dict[str, tuple[Any, ...]] = {
    "data_bits": (32, 8, 4, 2, 1),
    "weight_bits": (32, 8, 4),
    "refine": ("auto", False),
    "nesterov": (False, True),
}


def _sizes(few: Any, rows: Any) -> str:
    """Say what a pass reads, where passes read rows of several sizes."""
    if not isinstance(few, NibblePlanes) or not isinstance(rows, CodeRows):
        return ""
    return f" over quantized rows of {rows.matrix.bits} bits ({rows.matrix.nbytes:,} bytes each)"


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
    coarse_passes : int
        Over quantized rows, before those of `fit` over the rows as they came.
    coarse_how : str
        Those in words.
    read : str
        What the passes of `fit` read, in words, where passes read rows of several sizes.
    """

    w: NDArray[np.float64]
    intercept: NDArray[np.float64]
    objective: LinearObjective
    fit: Fit
    rate: float
    usage: Usage
    is_near: bool = False
    coarse_passes: int = 0
    coarse_how: str = ""
    read: str = ""

    @property
    def scatter(self) -> NDArray[np.float64]:
        """Curvature along each coefficient: what an error of it costs, float64[d]; 0 for constant columns."""
        d = len(self.w)
        square = self.objective.units.scale**2
        each = np.divide(1.0, square, out=np.zeros(len(square)), where=square > 0)
        return each if len(each) == d else each.reshape(-1, self.w.shape[1])[:d].mean(axis=1)

    @property
    def how(self) -> str:
        """What was done, in words."""
        start = "Newton's method on a sample, " if self.is_near else ""
        return f"{start}{self.coarse_how}{self.fit.n_iter} passes{self.read}, {self.fit.stop}"

    @property
    def n_iter(self) -> int:
        """Passes, over quantized rows too."""
        return self.coarse_passes + self.fit.n_iter


class GradientFit:
    """Estimators whose options are those of `minimize` and of the rows."""

    def _check_options(self: Any) -> None:
        check_types(self)
        for name, usual in CHOICES.items():
            known = (*usual, PLANES) if name == "data_bits" and self._takes_planes() else usual
            value = getattr(self, name, known[0])
            if name == "data_bits" and value == PLANES and not self._takes_planes():
                who = "LinearRegression, Ridge and LogisticRegression without l1"
                raise ValueError(f"data_bits={PLANES!r} is for solver='lbfgs' of {who}")
            if not any(value == one and type(value) is type(one) for one in known):
                raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
        momentum, rate = getattr(self, "momentum", 0.0), getattr(self, "learning_rate", "auto")
        if not (isinstance(momentum, int | float | np.number) and 0 <= momentum < 1):
            raise ValueError(f"momentum must be at least 0 and below 1, got {momentum!r}")
        if rate != "auto" and not (isinstance(rate, int | float | np.number) and 0 < rate < np.inf):
            raise ValueError(f"learning_rate must be 'auto' or a number above 0, got {rate!r}")
        if not (isinstance(self.tol, int | float | np.number) and self.tol > 0):
            raise ValueError(f"tol must be above 0, got {self.tol!r}")
        if self.budget is not None and not isinstance(self.budget, Budget):
            raise TypeError(f"budget must be a scrimp.Budget or None, got {type(self.budget).__name__}")

    def _takes_planes(self: Any) -> bool:
        """Whether rows may be two planes of four bits: only passes of "lbfgs" read them."""
        return False

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
            few = self._in_few_bits(inputs.X)
            data, objective, rate, near = self._prepare(inputs, loss, alpha, solver, delta, bias, few)
        start, changes = objective.start(np.float32 if solver == "sgd" else np.float64), {}
        if near is not None:
            start, changes = objective.start(np.float64, near.theta), {"gradient_scale": near.gradient_norm}
        if known is not None:
            start = objective.start(start.dtype.type, objective.centred(known.coef.T, known.intercept))
        usage, passes, how = meter.usage, 0, ""
        for stage, finer in enumerate(self._finer_rows(inputs, few) if solver == "lbfgs" else ()):
            coarse, changes = self._on_codes(objective, start, data, changes, stage)
            start, usage, passes = coarse.w, usage + coarse.usage, passes + coarse.n_iter
            how += f"{coarse.n_iter} passes{_sizes(few, data[0]) or ' over quantized rows'}, "
            data = (finer(), *data[1:])
        fit = self._minimize(objective, start, data, solver, rate, **changes)
        w, intercept = objective.weights(fit.w)
        spent, is_near, read = usage + fit.usage, near is not None, _sizes(few, data[0])
        return Found(w, intercept, objective, fit, rate, spent, is_near, passes, how, read)

    def _in_few_bits(self: Any, X: Any) -> QuantizedMatrix | NibblePlanes | None:
        """Quantize rows if asked for; None where they stay as they came."""
        if self.data_bits == 32 or isinstance(X, QuantizedMatrix) or X.dtype == np.int8:
            return None
        if self.data_bits == PLANES:
            return NibblePlanes.from_array(X, seed=self._seed(), threads=self.threads)
        return QuantizedMatrix.from_array(X, self.data_bits, seed=self._seed(), threads=self.threads)

    def _finer_rows(
        self: Any, inputs: Inputs, few: QuantizedMatrix | NibblePlanes | None
    ) -> list[Callable[[], Any]]:
        """Return what gives the rows of each stage after the first."""
        stages: list[Callable[[], Any]] = []
        if isinstance(few, NibblePlanes):
            planes = few
            stages.append(lambda: CodeRows.of(planes.fine()))
        if few is not None and getattr(self, "refine", False) == "auto" and self.budget is None:
            stages.append(lambda: inputs.X)
        return stages

    def _on_codes(
        self: Any,
        objective: LinearObjective,
        start: NDArray[Any],
        data: tuple[Any, ...],
        changes: dict[str, Any],
        stage: int,
    ) -> tuple[Fit, dict[str, Any]]:
        """Fit the quantized rows, as far as their rounding makes sense; return options for what follows."""
        if "gradient_scale" not in changes:
            changes = {"gradient_scale": float(np.linalg.norm(objective(start, data)[1]))}
        tol = COARSE_TOL
        if self.data_bits == PLANES:
            floor = objective.rounding_in_gradient(start, data[0].matrix, data[1])
            tol = min(floor / max(changes["gradient_scale"], 1e-300), ROUGH_TOL)
        path = None if self.checkpoint is None else f"{os.fspath(self.checkpoint)}.coarse{stage or ''}"
        own = {"tol": max(self.tol, tol), "checkpoint": path}
        return self._minimize(objective, start, data, "lbfgs", 1.0, **changes, **own), changes

    def _prepare(
        self: Any,
        inputs: Inputs,
        loss: str,
        alpha: NDArray[np.float64],
        solver: str,
        delta: float,
        bias: bool,
        few: QuantizedMatrix | NibblePlanes | None,
        more: bool = False,
    ) -> tuple[tuple[Any, ...], LinearObjective, float, Start | None]:
        """Find means and units, of rows that are all or that `more` will follow; a step or a start."""
        rows, n = inputs.X, len(inputs.y)
        precise = solver != "sgd" and (rows.shape[0] * rows.shape[1] <= PRECISE_VALUES or self.tol < 1e-5)
        sizes = DOUBLE_SIZES if precise else SINGLE_SIZES
        ranges = check_columns(rows, sizes)
        check_targets(inputs.y, sizes)
        if few is not None:
            rows = few.coarse if isinstance(few, NibblePlanes) else few
        rows = CodeRows.of(rows) if isinstance(rows, QuantizedMatrix) else rows
        total = float(n) if inputs.weight is None else float(inputs.weight.sum())
        k = len(alpha)
        mean, centre = np.zeros(rows.shape[1]), np.zeros(k)
        if self.fit_intercept:
            weighed = inputs.y, inputs.weight
            whole = SharedRows(single(), inputs.X, *weighed, 0, self.threads, ranges=ranges)
            mean, y_mean = whole.moments()
            centre = y_mean if loss in ("squared", "huber") else centre
        bend, penalty, bias = CURVATURE[loss], alpha / total, bias and self.fit_intercept
        rate, near = 1.0, None
        if solver == "sgd":
            pilot = take_pilot(rows, mean, float(penalty.max()), bend, stochastic=True, more=more)
            units = pilot.units
            rate = pilot.learning_rate(self.batch_size, n, self.momentum, bend if bias else 0.0)
            check_targets(inputs.y, SQUARED_SIZES)
        else:
            near = _near_start(rows, inputs, mean, loss, penalty, bias)
            units = near.units if near else sample_units(rows, mean, float(penalty.max()), bend)
        rate = rate if self.learning_rate == "auto" else float(self.learning_rate)
        objective = LinearObjective(loss, mean, centre, units, penalty, bias, precise, self.threads, delta)
        weight = () if inputs.weight is None else (inputs.weight * (n / total),)
        return (rows, inputs.y, *weight), objective, rate, near

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
        # What L-BFGS has for a BLAS is small: its threads would only wait for each other.
        with one_thread() if solver == "lbfgs" else nullcontext():
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


def _near_start(
    X: Any, inputs: Inputs, mean: NDArray[np.float64], loss: str, penalty: NDArray[np.float64], bias: bool
) -> Start | None:
    """Fit a sample of the rows by Newton's method, where the loss is a logistic one."""
    if loss not in ("logistic", "softmax") or (len(mean) + bias) * len(penalty) > SIZE:
        return None
    rows = pilot_rows(len(inputs.y))
    z = sample_rows(X, rows) - mean
    shares = None if inputs.weight is None else inputs.weight[rows]
    if shares is not None and not shares.any():
        return None
    is_whole = len(rows) == len(inputs.y)
    near = newton_start(z, inputs.y[rows], shares, loss, float(penalty.max()), bias, len(penalty), is_whole)
    still = (np.ptp(z, axis=0) == 0) & (spread_of_rare(X, z, mean) == 0)
    return near and near._replace(units=without_still(near.units, still, len(penalty)))


def is_narrow(X: Any) -> bool:
    """Whether coefficients for these rows are float32."""
    return isinstance(X, QuantizedMatrix) or X.dtype != np.float64
