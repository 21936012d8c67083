"""The centred normal equations, what they are solved with, and what a solution tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrimp.matrix import Gram
from scrimp.train.dense import Factor, Matrix, PseudoInverse
from scrimp.train.refinement import Refined

MAX_PASSES = 30
NOTHING = 32 * float(np.finfo(np.float64).eps)  # spread of a constant column, relative to its mean


@dataclass(frozen=True, slots=True)
class NormalOptions:
    """How to solve.

    Parameters
    ----------
    alpha : float64[k]
        Penalty α‖w‖² by output, against Σ wᵢ(y − x·w − b)².
    fit_intercept : bool
    data_bits : int
        32: the rows as they are. 8, 4, 2, 1: the Gram matrix, and without refinement the fit, reads rows of
        so few bits.
    refine : bool
        Read the original rows until the coefficients are good to `tol`.
    gram : bool
        False: conjugate gradients on the rows without any Gram matrix, for many columns.
    tol : float
        Relative error of the coefficients.
    max_iter : int
        Passes over the original rows.
    seed, threads : int
    start : float64[d, k], optional
        Where conjugate gradients without a Gram matrix begin.
    """

    alpha: NDArray[np.float64]
    fit_intercept: bool = True
    data_bits: int = 32
    refine: bool = True
    gram: bool = True
    tol: float = 1e-6
    max_iter: int = MAX_PASSES
    seed: int = 0
    threads: int = 0
    start: Matrix | None = None


class NormalSolution(NamedTuple):
    """A ridge fit.

    Attributes
    ----------
    w : float64[d, k]
    mean, y_mean : float64[d], float64[k]
        Exact weighted means: the intercept is y_mean − mean·w. Zeros without an intercept. Where a sample
        gave the Gram matrix, its means and the prediction there.
    scatter : float64[d]
        Diagonal of the centred Gram matrix: n times the variance of each column. An estimate where a sample
        gave the Gram matrix.
    how : str
        What was done, in words.
    n_iter : int
        Passes over the rows, that of the Gram matrix among them.
    error : float
        Estimated relative error of the coefficients; 0 for a direct solve, NaN for quantized rows alone.
    rank : int
        Of the centred columns; d unless found singular.
    """

    w: Matrix
    mean: Matrix
    y_mean: Matrix
    scatter: Matrix
    how: str
    n_iter: int
    error: float
    rank: int


@dataclass(frozen=True, slots=True)
class Centred:
    """The normal equations (A + α)·w = b of the centred columns, without those that are constant."""

    a: Matrix
    b: Matrix
    used: NDArray[np.bool_]
    noise: Matrix
    mean: Matrix
    y_mean: Matrix
    options: NormalOptions

    @classmethod
    def of(cls, gram: Gram, options: NormalOptions) -> Centred:
        """Centre a Gram matrix, or leave it where no intercept is wanted."""
        d, k = len(gram.mean), len(gram.y_mean)
        if options.fit_intercept:
            (a, b), mean, y_mean = gram.centered(), gram.mean, gram.y_mean
        else:
            a, b, mean, y_mean = gram.xtx, gram.xty, np.zeros(d), np.zeros(k)
        used = np.diag(a) + gram.noise > gram.n * (NOTHING * mean) ** 2
        return cls(
            a[np.ix_(used, used)], b.reshape(d, k)[used], used, gram.noise[used], mean, y_mean, options
        )

    def factor(self, alpha: float, with_noise: bool = False) -> Factor | None:
        """Return the Cholesky factor of A + α, on request with the rounding noise; None if there is none."""
        return Factor.of(self.a + np.diag(alpha + (self.noise if with_noise else np.zeros_like(self.noise))))

    def scatter(self) -> Matrix:
        """Return the diagonal of A for all columns."""
        return self.widen(np.diag(self.a)[:, None])[:, 0]

    def widen(self, w: Matrix) -> Matrix:
        """Return coefficients of all columns: 0 where a column is constant."""
        out = np.zeros((len(self.used), w.shape[1]))
        out[self.used] = w
        return out

    def solution(
        self, w: Matrix, how: str, refined: Refined | None = None, rank: int | None = None
    ) -> NormalSolution:
        """Return coefficients of the used columns as a solution."""
        passes, error = (1 + refined.n_iter, refined.error) if refined else (1, 0.0)
        rank = int(self.used.sum()) if rank is None else rank
        return NormalSolution(self.widen(w), self.mean, self.y_mean, self.scatter(), how, passes, error, rank)


class Solver:
    """One way to apply M⁻¹ for every output, each with its own penalty.

    `of` returns None where A + α is not positive definite for some α.
    """

    def __init__(self, by_alpha: dict[float, Factor | PseudoInverse], alpha: Matrix) -> None:
        self._by_alpha, self._alpha = by_alpha, alpha

    @classmethod
    def of(cls, problem: Centred, with_noise: bool = False) -> Solver | None:
        """Factor A + α for every distinct α."""
        alpha = problem.options.alpha
        factors = {value: problem.factor(value, with_noise) for value in np.unique(alpha).tolist()}
        if None in factors.values():
            return None
        return cls(factors, alpha)  # type: ignore[arg-type]

    @classmethod
    def pseudo(cls, problem: Centred) -> Solver:
        """Decompose A + α for every distinct α."""
        alpha = problem.options.alpha
        d = len(problem.a)
        return cls({v: PseudoInverse.of(problem.a + v * np.eye(d)) for v in np.unique(alpha).tolist()}, alpha)

    def __call__(self, b: Matrix) -> Matrix:
        """Return M⁻¹·b for b of [d, k]."""
        out = np.empty_like(b)
        for value, inverse in self._by_alpha.items():
            mine = self._alpha == value
            out[:, mine] = inverse.solve(b[:, mine])
        return out

    def smallest_pivot(self) -> float:
        """Return how near to singular the worst factor is, at unit diagonal."""
        return min(
            inverse.smallest_pivot() for inverse in self._by_alpha.values() if isinstance(inverse, Factor)
        )

    def rank(self) -> int:
        """Return the least rank of the decompositions."""
        return min(inverse.rank for inverse in self._by_alpha.values() if isinstance(inverse, PseudoInverse))
