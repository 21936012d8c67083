"""Least squares by gradients: the objective that `minimize` is given, units and step that suit the data.

A sample of the rows gives an approximate Hessian; training runs on weights in the units of its Cholesky
factor, where the objective is about equally curved in all directions. Rows are never touched: the fused
kernel reads them as they are, and each gradient is turned into those units.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrimp import _core
from scrimp.matrix import LEAF_ROWS, QuantizedMatrix, TreeSum, column_ranges, gradient_sums
from scrimp.matrix.blas import one_thread
from scrimp.matrix.gradients import Source, float_targets
from scrimp.matrix.many_outputs import has_many_outputs
from scrimp.matrix.quantized import row_weights
from scrimp.train.checkpoint import fingerprint
from scrimp.train.dense import Factor, Matrix
from scrimp.train.steps import LinearSteps, steps_of_call

PILOT_ROWS = 8192
LEVERAGE = 10.0  # units that a value of a column may be from its mean
FACTOR_COLUMNS = 2048  # above, units are those of single columns
SHRINK = 1.0  # diagonal that is added for a sample of as many rows as columns, relative
WHOLE_SHRINK = 1e-4  # the same where the sample is all rows: enough for Cholesky


# Largest second derivative of a loss by its argument; of softmax, largest eigenvalue (Böhning, 1992).
CURVATURE = {"squared": 1.0, "huber": 1.0, "logistic": 0.25, "softmax": 0.5}


@dataclass(frozen=True, slots=True)
class LinearObjective:
    """mean(s·L(y, (x − m)·w + c + b)) + ½·Σ λ_k·‖w_k‖², as a function of u: w = R⁻ᵀ·u[:d], b = u[d].

    Called with u of [d, k], or [d + 1, k] where `bias` has its own row, and rows (X, y) or (X, y, s); returns
    value and gradient per row, so that the mean over any split of the rows is that of all.

    Parameters
    ----------
    loss : str
        Of `scrimp.gradient`.
    mean : float64[d]
        m; without a bias row the exact means, and then c makes the best intercept of the squared loss.
    centre : float64[k]
        c.
    units : Factor
        R of [d, d]; or of [(d + bias)·k, (d + bias)·k], and then it turns all of u: (w, b) = R⁻ᵀ·u.
    penalty : float64[k]
        λ = α / Σs.
    bias : bool
        Whether u has a row for b.
    precise, threads, delta
        As in `scrimp.gradient`.
    """

    loss: str
    mean: Matrix
    centre: Matrix
    units: Factor
    penalty: Matrix
    bias: bool = False
    precise: bool = False
    threads: int = 0
    delta: float = 1.0

    def __call__(self, u: Matrix, rows: tuple[Any, ...]) -> tuple[float, Matrix]:
        """Return value and gradient."""
        w, intercept = self.weights(u)
        return self._from_total(w, self._leaf_sums(w, intercept, rows, 0).total(), len(rows[1]))

    def leaf_sums(self, u: Matrix, rows: tuple[Any, ...], first_row: int) -> TreeSum:
        """Return the sums over some rows that `from_total` wants of all, by leaves."""
        return self._leaf_sums(*self.weights(u), rows, first_row)

    def from_total(self, u: Matrix, total: Matrix, n: int) -> tuple[float, Matrix]:
        """Return value and gradient, given the sums over n rows."""
        return self._from_total(self.weights(u)[0], total, n)

    def identity(self) -> dict[str, Any]:
        """Return what a checkpoint must agree with."""
        lower = np.zeros(0) if self.units.lower is None else self.units.lower
        frame = fingerprint(self.mean, self.centre, self.units.scale, lower)
        return {
            "loss": self.loss,
            "penalty": self.penalty.tolist(),
            "bias": self.bias,
            "delta": self.delta,
            "frame": frame,
        }

    def _leaf_sums(self, w: Matrix, intercept: Matrix, rows: tuple[Any, ...], first_row: int) -> TreeSum:
        x, y, *weight = rows
        x = x.matrix if isinstance(x, CodeRows) else x
        if not len(y):
            return TreeSum(w.size + w.shape[1] + 2, {})
        return gradient_sums(
            x,
            y,
            w,
            loss=self.loss,
            intercept=intercept,
            sample_weight=weight[0] if weight else None,
            first_row=first_row,
            precise=self.precise,
            delta=self.delta,
            threads=self.threads,
        )

    def _from_total(self, w: Matrix, total: Matrix, n: int) -> tuple[float, Matrix]:
        g = np.empty((len(self.mean) + self.bias, w.shape[1]))
        return self._units().gradient(w, total, n, g), g

    def many_steps(
        self, rows: tuple[Any, ...], batch_rows: int, momentum: float, nesterov: bool
    ) -> LinearSteps | None:
        """Return what takes many steps of sgd at once; None for rows that are taken a step at a time."""
        x, y, *weights = rows
        noise = None
        if isinstance(x, CodeRows):
            noise = x.row_noise if self.loss == "squared" and x.row_noise.any() else None
            x = x.matrix
        source = Source.of(x, 0)
        k = len(self.penalty)
        if batch_rows > LEAF_ROWS or has_many_outputs(source.array, k) or (weights and noise is not None):
            return None
        own = row_weights(weights[0], source.n) if weights else None
        how = self.loss, self.delta, self.precise, self.threads
        lower = self.units.lower
        solved = 0 if lower is None else lower.size * (1 if self._are_joint else k)
        most = steps_of_call(batch_rows, source.d, k, solved)
        targets = float_targets(y, source.n)
        return LinearSteps(self._units(), source, noise, targets, own, *how, momentum, nesterov, most)

    def weights(self, u: Matrix) -> tuple[Matrix, Matrix]:
        """Return the coefficients float64[d, k] and intercepts float64[k] that u stands for."""
        d, k = len(self.mean), len(self.penalty)
        w, intercept = np.empty((d, k)), np.empty(k)
        self._units().weights(np.ascontiguousarray(u, np.float64), w, intercept)
        return w, intercept

    def start(self, dtype: type, theta: Matrix | None = None) -> Matrix:
        """Return the u of these coefficients and centred intercepts, by default of none."""
        shape = (len(self.mean) + self.bias, len(self.penalty))
        if theta is None:
            return np.zeros(shape, dtype)
        if self._are_joint:
            return self.units.half_multiply_transposed(theta.reshape(-1, 1)).reshape(shape).astype(dtype)
        d = len(self.mean)
        return np.vstack([self.units.half_multiply_transposed(theta[:d]), theta[d:]]).astype(dtype)

    def centred(self, w: Matrix, intercept: Matrix) -> Matrix:
        """Return what `start` takes for coefficients of [d, k] and intercepts of [k]."""
        if not self.bias:
            return w
        return np.vstack([w, intercept + self.mean @ w - self.centre])

    def rounding_in_gradient(self, u: Matrix, rows: QuantizedMatrix, y: Matrix) -> float:
        """Return about how long the part of the gradient is that is noise of the codes.

        A row of residual r adds r·e to the gradient, e the rounding of its values, and what e·w does to r.
        Residuals of least squares are taken to be those of the means, which is more than they are.
        """
        n, d = rows.shape
        w, _ = self.weights(u)
        square = np.full(w.shape[1], CURVATURE[self.loss])
        if self.loss in ("squared", "huber"):
            square = np.asarray(((y - self.centre) ** 2).mean(axis=0), np.float64)
        units = self.units.scale**2
        each = units if len(units) == d else units.reshape(-1, w.shape[1])[:d].mean(axis=1)
        noise = rows.noise / n
        own = float((each * noise).sum() * square.sum())
        return float(np.sqrt((own + CURVATURE[self.loss] * d * float((noise[:, None] * w * w).sum())) / n))

    def with_still(self) -> LinearObjective:
        """Return the same for more rows: columns that did not vary get units as if their spread was 1."""
        scale = self.units.scale
        usual = 1 / np.sqrt(CURVATURE[self.loss] + self.penalty.max())
        return replace(self, units=Factor(np.where(scale > 0, scale, usual), self.units.lower))

    @property
    def _are_joint(self) -> bool:
        return len(self.units.scale) == (len(self.mean) + self.bias) * len(self.penalty) != len(self.mean)

    def _units(self) -> _core.Units:
        mean, centre, penalty, scale = (
            np.ascontiguousarray(a, np.float64)
            for a in (self.mean, self.centre, self.penalty, self.units.scale)
        )
        return _core.Units(mean, centre, penalty, scale, self.units.lower, self.bias, self._are_joint)


@dataclass(frozen=True, slots=True)
class CodeRows:
    """Rows of a QuantizedMatrix that can be taken in any order, as `minimize` does.

    What rounding did to a single row is not known any more, so each is taken to have the mean noise of all:
    the gradient of a random batch stays unbiased.
    """

    matrix: QuantizedMatrix
    row_noise: Matrix  # [d]

    @classmethod
    def of(cls, matrix: QuantizedMatrix) -> CodeRows:
        """Take all rows."""
        return cls(matrix, matrix.noise / max(float(matrix.weight_blocks.sum()), 1.0))

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.matrix.shape

    def __len__(self) -> int:
        return self.matrix.shape[0]

    def __getitem__(self, rows: Any) -> CodeRows:
        matrix = self.matrix
        codes = np.ascontiguousarray(matrix.codes[rows])
        starts = np.arange(0, len(codes), LEAF_ROWS)
        counts = np.minimum(len(codes) - starts, LEAF_ROWS).astype(np.float64)
        noise = counts[:, None] * self.row_noise
        unknown = np.full_like(noise, np.nan), counts, np.full(len(starts), np.nan)
        taken = QuantizedMatrix(codes, matrix.bits, matrix.scale, matrix.offset, noise, *unknown)
        return CodeRows(taken, self.row_noise)


class Pilot(NamedTuple):
    """What samples of the rows say of the whole.

    Attributes
    ----------
    units : Factor
        Of an approximate mean of bend·z·zᵀ + λ, z the centred rows.
    curvature : float
        Largest eigenvalue of the Hessian in these units.
    roughness : float
        Largest eigenvalue of the mean of ‖z‖²·z·zᵀ in these units, over that of the Hessian: what one row
        adds.
    """

    units: Factor
    curvature: float
    roughness: float

    def learning_rate(self, batch_size: int, n: int, momentum: float, beside: float = 0.0) -> float:
        """Return a step at which mini-batches contract: (1 − μ) / (curvature + roughness / batch).

        `beside` is the curvature along the intercept, which no column has.
        """
        smooth = max(self.curvature, beside) + self.roughness * max(0.0, 1 / min(batch_size, n) - 1 / n)
        return (1 - momentum) / max(smooth, 1e-300)


def take_pilot(
    X: Any, mean: Matrix, penalty: float, bend: float = 1.0, *, stochastic: bool, more: bool = False
) -> Pilot:
    """Look at two samples of up to 8,192 evenly spaced rows: units from one, curvature from the other.

    So few rows are both samples.

    Parameters
    ----------
    X : array[n, d] or CodeRows
    mean : float64[d]
        Exact means, zeros for a fit without an intercept.
    penalty : float
        λ of the objective, in units of w.
    bend : float
        Largest second derivative of the loss.
    stochastic : bool
        For mini-batches: no column gets a unit so small that one row reaches further than 10 of them.
    more : bool
        Other rows will come, in which columns may vary that are constant here.
    """
    is_whole = len(X) <= PILOT_ROWS
    rows = pilot_rows(len(X), 2 * PILOT_ROWS)
    first = sample_rows(X, rows if is_whole else rows[::2]) - mean
    second = first if is_whole else sample_rows(X, rows[1::2]) - mean
    reach = (_reach(X, mean) / LEVERAGE) ** 2 if stochastic else 0.0
    with one_thread():
        units = _units(X, first, mean, reach, penalty, bend, more)
        return _pilot_of(second, units, penalty, bend)


def look_again(X: Any, objective: LinearObjective) -> Pilot:
    """Look at a sample of other rows in the units that an objective has."""
    some = sample_rows(X, pilot_rows(len(X))) - objective.mean
    with one_thread():
        return _pilot_of(some, objective.units, float(objective.penalty.max()), CURVATURE[objective.loss])


def _pilot_of(centred: Matrix, units: Factor, penalty: float, bend: float) -> Pilot:
    z = np.sqrt(bend) * units.half_solve(centred.T).T
    least = penalty * float((units.scale**2).max(initial=0.0))
    curvature = _largest_eigenvalue(z, np.ones(len(z))) + least
    rough = _largest_eigenvalue(z, (z * z).sum(axis=1))
    return Pilot(units, curvature, rough / max(curvature, 1e-300))


def sample_units(X: Any, mean: Matrix, penalty: float, bend: float) -> Factor:
    """Look at a sample of up to 8,192 evenly spaced rows for units alone; parameters of `take_pilot`."""
    some = sample_rows(X, pilot_rows(len(X))) - mean
    with one_thread():
        return _units(X, some, mean, 0.0, penalty, bend)


def pilot_rows(n: int, most: int = PILOT_ROWS) -> NDArray[np.int64]:
    """Return up to `most` evenly spaced row numbers."""
    m = min(most, n)
    return np.arange(m) * (n - 1) // max(m - 1, 1)


def sample_rows(X: Any, rows: NDArray[np.int64]) -> Matrix:
    """Return some rows in float64."""
    some = X[rows]
    if isinstance(some, CodeRows):
        return some.matrix.exactly(some.matrix.dequantize())
    return np.asarray(some, np.float64)


def without_still(units: Factor, still: NDArray[np.bool_], k: int = 1) -> Factor:
    """Give columns that do not vary units of 0, in which nothing moves their coefficients.

    These are 0 wherever a fit starts. The slope along them is 0, but for the rounding of sums of large
    values, which would blow them up.

    Parameters
    ----------
    units : Factor
        Of columns; or of coefficients [d, k] and intercepts, row by row.
    still : bool[d]
    k : int
        Units of a column.
    """
    if not still.any():
        return units
    scale = units.scale.copy()
    scale[: len(still) * k].reshape(-1, k)[still] = 0.0
    return Factor(scale, units.lower)


def spread_of_rare(X: Any, first: Matrix, mean: Matrix) -> Matrix:
    """Return the variance of columns that the sample shows as constant; 0 for the others."""
    spread = np.zeros(len(mean))
    rare = np.flatnonzero(np.ptp(first, axis=0) == 0)
    if not len(rare):
        return spread
    for begin in range(0, len(X), PILOT_ROWS):
        z = _columns(X, slice(begin, begin + PILOT_ROWS), rare) - mean[rare]
        spread[rare] += (z * z).sum(axis=0) / len(X)
    return spread


def _columns(X: Any, rows: slice, columns: NDArray[np.int64]) -> Matrix:
    if isinstance(X, CodeRows) and X.matrix.bits == 8:
        codes = X.matrix.codes[rows, columns]
        return np.asarray(X.matrix.offset[columns] + X.matrix.scale[columns] * codes)
    if isinstance(X, CodeRows):
        return X.matrix.exactly(X.matrix.dequantize(rows))[:, columns]
    return np.asarray(X[rows, columns], np.float64)


def _reach(X: Any, mean: Matrix) -> Matrix:
    """Return how far the values of each column are from its mean at most."""
    if isinstance(X, CodeRows):
        codes, half = X.matrix.codes, 1 << (X.matrix.bits - 1)
        ends = (codes.min(axis=0), codes.max(axis=0)) if X.matrix.bits == 8 else (-half, half - 1)
        low, high = (X.matrix.offset + X.matrix.scale * end - mean for end in ends)
        return np.asarray(np.maximum(np.abs(low), np.abs(high)))
    if X.dtype == np.int8:
        return 128 + np.abs(mean)
    found = column_ranges(X)
    return np.maximum(found.high - mean, mean - found.low)


def _units(
    X: Any, z: Matrix, mean: Matrix, reach: Any, penalty: float, bend: float, more: bool = False
) -> Factor:
    """Factor a sample's Hessian, its diagonal raised to `reach`; the diagonal alone where d is large."""
    spread = np.maximum(np.einsum("ij,ij->j", z, z) / len(z), np.maximum(spread_of_rare(X, z, mean), reach))
    safe = bend * np.where(spread > 0, spread, 1.0) + penalty
    diagonal, still = Factor(1 / np.sqrt(safe), None), (spread == 0) & (not more)
    if z.shape[1] > FACTOR_COLUMNS:
        return without_still(diagonal, still)
    is_whole = len(X) <= PILOT_ROWS
    shrink = WHOLE_SHRINK if is_whole else SHRINK * min(1.0, z.shape[1] / len(z))
    sample = bend * (z.T @ z) / len(z)
    lift = safe - np.diag(sample) + shrink * safe
    return without_still(Factor.of(sample + np.diag(lift)) or diagonal, still)


def _largest_eigenvalue(z: Matrix, weight: Matrix) -> float:
    """Estimate λmax of the mean of weight·z·zᵀ by power iteration from below; 10 % on top."""
    v: Any = np.random.default_rng(0).normal(size=z.shape[1])
    size = 0.0
    for _ in range(20):
        v = z.T @ (weight * (z @ v)) / len(z)
        size = float(np.sqrt(v @ v))
        if size == 0:
            return 0.0
        v = v / size
    return 1.1 * size
