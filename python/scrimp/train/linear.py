"""Least squares by gradients: the objective that `minimize` is given, scale and step that suit the data.

Columns are standardized without being touched: weights are kept in units of 1/unit_j about the exact means,
and each gradient of the fused kernel is turned into those units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrimp.matrix import LEAF_ROWS, QuantizedMatrix, column_ranges, gradient_sums
from scrimp.train.dense import Matrix

PILOT_ROWS = 8192
REACH = 32.0  # the same over all rows: a pilot does not meet rare columns and would blow them up without end
LEVERAGE = 10.0  # a column is not blown up until its largest value is more than this many units from the mean


@dataclass(frozen=True, slots=True)
class SquaredObjective:
    """½·mean(s·(y − ȳ − (x − m)·w)²) + ½·Σ λ_k·‖w_k‖², w = u / unit, as a function of u and some rows.

    Called with u of [d, k] and rows (X, y) or (X, y, s); returns value and gradient, both per row, so that
    the mean over any split of the rows is that of all.
    """

    mean: Matrix
    y_mean: Matrix
    unit: Matrix
    penalty: Matrix  # [k] α/n
    precise: bool = False
    threads: int = 0

    def __call__(self, u: Matrix, rows: tuple[Any, ...]) -> tuple[float, Matrix]:
        """Return value and gradient."""
        x, y, *weight = rows
        x = x.matrix if isinstance(x, CodeRows) else x
        w = np.asarray(u, np.float64) / self.unit[:, None]
        d, k = w.shape
        total = gradient_sums(
            x,
            y,
            w,
            intercept=self.y_mean - self.mean @ w,
            sample_weight=weight[0] if weight else None,
            first_row=0,
            precise=self.precise,
            threads=self.threads,
        ).total() / len(y)
        g0 = total[d * k : d * k + k]
        g = total[: d * k].reshape(d, k) - np.outer(self.mean, g0) + self.penalty * w
        value = float(total[-2]) + 0.5 * float((self.penalty * (w * w)).sum())
        return value, g / self.unit[:, None]


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
    """What a sample of the rows says of the whole.

    Attributes
    ----------
    unit : float64[d]
        Typical size of a centred column, its penalty included: the objective is about as curved in all of
        them.
    curvature : float
        Largest eigenvalue of the mean of z·zᵀ, z the centred rows in these units.
    leverage : float
        Largest ‖z‖² of the sample, or of a single column over all rows.
    """

    unit: Matrix
    curvature: float
    leverage: float

    def learning_rate(self, batch_size: int, n: int, momentum: float) -> float:
        """Return a stable step: (1 − μ)/L, L the expected smoothness of a mini-batch (Gower et al., 2019)."""
        b = min(batch_size, n)
        smooth = n * (b - 1) / max(b * (n - 1), 1) * self.curvature
        smooth += (n - b) / max(b * (n - 1), 1) * self.leverage
        return (1 - momentum) / max(smooth, 1e-30)


def take_pilot(X: Any, mean: Matrix, penalty: float, seed: int = 0) -> Pilot:
    """Look at up to 8,192 evenly spaced rows.

    Parameters
    ----------
    X : array[n, d] or CodeRows
    mean : float64[d]
        Exact means, zeros for a fit without an intercept.
    penalty : float
        λ of the objective, in units of w.
    seed : int
        Of the start of the power iteration.
    """
    rows = np.unique(np.linspace(0, len(X) - 1, min(PILOT_ROWS, len(X))).astype(np.int64))
    some = X[rows]
    z = (some.matrix.dequantize() if isinstance(some, CodeRows) else some).astype(np.float64) - mean
    unit = np.maximum(np.sqrt((z * z).mean(axis=0) + penalty), np.abs(z).max(axis=0) / LEVERAGE)
    reach = _reach(X, mean)
    unit = np.maximum(unit, reach / REACH)
    unit = np.where(unit > 1e-12 * np.maximum(np.abs(mean), 1e-300), unit, 1.0)
    z /= unit
    curvature = _largest_eigenvalue(z, seed) + penalty / float(unit.min()) ** 2
    leverage = max(float((z * z).sum(axis=1).max(initial=0.0)), float(np.square(reach / unit).max()))
    return Pilot(unit, curvature, leverage)


def _reach(X: Any, mean: Matrix) -> Matrix:
    """Return the largest distance of each column from its mean, over all rows."""
    if isinstance(X, CodeRows):
        codes, half = X.matrix.codes, 1 << (X.matrix.bits - 1)
        ends = (codes.min(axis=0), codes.max(axis=0)) if X.matrix.bits == 8 else (-half, half - 1)
        low, high = (X.matrix.offset + X.matrix.scale * end for end in ends)
    elif X.dtype == np.int8:
        low, high = X.min(axis=0), X.max(axis=0)
    else:
        ranges = column_ranges(X)
        low, high = ranges.low, ranges.high
    return np.asarray(np.maximum(high - mean, mean - low))


def _largest_eigenvalue(z: NDArray[np.float64], seed: int) -> float:
    """Estimate λmax of zᵀz/n from below by power iteration; 10 % on top."""
    v: Any = np.random.default_rng(seed).normal(size=z.shape[1])
    size = 0.0
    for _ in range(20):
        v = z.T @ (z @ v) / len(z)
        size = float(np.sqrt(v @ v))
        if size == 0:
            return 0.0
        v = v / size
    return 1.1 * size
