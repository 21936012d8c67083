"""Cross-validation of ridge penalties from one Gram matrix a fold: rows are read once for all penalties."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrimp.comm import Comm, shard_bounds
from scrimp.matrix import LEAF_ROWS, Gram, QuantizedMatrix
from scrimp.matrix.blas import one_thread
from scrimp.train.dense import Factor, Matrix, PseudoInverse
from scrimp.train.equations import NormalOptions
from scrimp.train.shared_rows import SharedRows


class Moments(NamedTuple):
    """Centred second moments of some rows; they add."""

    n: float
    mean: Matrix  # [d]
    y_mean: Matrix  # [k]
    a: Matrix  # [d, d]
    b: Matrix  # [d, k]
    y_scatter: float

    @classmethod
    def of(cls, gram: Gram) -> Moments:
        """Centre a Gram matrix."""
        a, b = gram.centered()
        y_scatter = gram.y_square - gram.n * float(gram.y_mean @ gram.y_mean)
        return cls(gram.n, gram.mean, gram.y_mean, a, b.reshape(len(gram.mean), -1), y_scatter)

    @classmethod
    def sum(cls, parts: list[Moments]) -> Moments:
        """Join the rows of all parts."""
        n = sum(part.n for part in parts)
        mean = np.sum([part.n * part.mean for part in parts], axis=0) / n
        y_mean = np.sum([part.n * part.y_mean for part in parts], axis=0) / n
        a, b = np.sum([part.a for part in parts], axis=0), np.sum([part.b for part in parts], axis=0)
        y_scatter = sum(part.y_scatter for part in parts)
        for part in parts:
            x, y = part.mean - mean, part.y_mean - y_mean
            a, b = a + part.n * np.outer(x, x), b + part.n * np.outer(x, y)
            y_scatter = y_scatter + part.n * float(y @ y)
        return cls(n, mean, y_mean, a, b, y_scatter)

    def about_zero(self) -> Moments:
        """Take the moments about 0, for fits without an intercept."""
        zero_x, zero_y = np.zeros_like(self.mean), np.zeros_like(self.y_mean)
        a = self.a + self.n * np.outer(self.mean, self.mean)
        b = self.b + self.n * np.outer(self.mean, self.y_mean)
        square = self.y_scatter + self.n * float(self.y_mean @ self.y_mean)
        return Moments(self.n, zero_x, zero_y, a, b, square)

    def solve(self, alpha: float) -> Matrix:
        """Return the ridge coefficients."""
        a = self.a + alpha * np.eye(len(self.a))
        return (Factor.of(a) or PseudoInverse.of(a)).solve(self.b)

    def squared_error(self, w: Matrix, fitted: Moments) -> float:
        """Return Σ‖y − x·w − b‖² over these rows, b the intercept of the fit on others."""
        off = self.y_mean - fitted.y_mean - (self.mean - fitted.mean) @ w
        inner = float((w * (self.a @ w)).sum()) - 2 * float((w * self.b).sum())
        return max(self.y_scatter + inner, 0.0) + self.n * float(off @ off)


def cross_validate(
    comm: Comm,
    X: Any,
    y: Matrix,
    weight: Matrix | None,
    alphas: NDArray[np.float64],
    folds: int,
    options: NormalOptions,
) -> Matrix:
    """Return the mean squared error of each penalty on rows that were left out, float64[len(alphas)].

    Folds are contiguous runs of rows, as scikit-learn's KFold without shuffling; of a QuantizedMatrix, of
    leaves.
    """
    block = LEAF_ROWS if isinstance(X, QuantizedMatrix) else 1
    bounds = [pair for pair in shard_bounds(len(y), folds, block) if pair[0] < pair[1]]
    if len(bounds) < 2:
        raise ValueError(f"cross-validation needs at least 2 folds of rows, got n_samples = {len(y)}")
    if weight is not None:
        bounds = [(begin, end) for begin, end in bounds if weight[begin:end].any()]
        if len(bounds) < 2:
            raise ValueError(
                f"sample_weight must be above 0 in at least 2 folds of cross-validation, is in {len(bounds)}"
            )
    with one_thread():
        parts = [_moments(comm, X, y, weight, begin, end, options) for begin, end in bounds]
        parts = parts if options.fit_intercept else [part.about_zero() for part in parts]
        errors = np.zeros(len(alphas))
        for i, held_out in enumerate(parts):
            rest = Moments.sum([part for j, part in enumerate(parts) if j != i])
            errors += [held_out.squared_error(rest.solve(alpha), rest) for alpha in alphas.tolist()]
        return errors / sum(part.n for part in parts)


def _moments(
    comm: Comm, X: Any, y: Matrix, weight: Matrix | None, begin: int, end: int, options: NormalOptions
) -> Moments:
    own = None if weight is None else weight[begin:end]
    if isinstance(X, QuantizedMatrix):
        rows = X.leaves(begin // LEAF_ROWS, -(-end // LEAF_ROWS))
        shared = SharedRows(comm, _from_leaf_zero(rows), y[begin:end], own, options.seed, options.threads)
        return Moments.of(shared.quantized_gram(8))
    shared = SharedRows(comm, X[begin:end], y[begin:end], own, options.seed, options.threads)
    few = (end - begin) <= LEAF_ROWS
    if own is not None or (few and not shared.has_codes):
        return Moments.of(shared.exact_gram(shared.moments()[0]))
    return Moments.of(shared.quantized_gram(8 if options.data_bits == 32 else options.data_bits))


def _from_leaf_zero(rows: QuantizedMatrix) -> QuantizedMatrix:
    """Count rows from 0, as a shard of their own."""
    return replace(rows, first_row=0)
