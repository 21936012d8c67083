"""Small dense solves in float64 with one LAPACK thread, so that equal bytes in give equal bytes out.

Nothing here sees rows: matrices of d columns by d, on one rank. Everything is solved in units in which the
diagonal is 1, so that columns of huge and tiny scale do not hide each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

ALIKE = 1e3  # lengths of columns whose ratio is below lose no digits to each other
MANY_COLUMNS = 4096  # above, few rows are solved as they are
# Eigenvalues below this, relative to a unit diagonal and times d, cannot be told from rounding of a float64
# Gram.
RANK_TOLERANCE = 64 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Factor:
    """Cholesky factor of a scaled symmetric positive definite matrix.

    Examples
    --------
    >>> factor = Factor.of(np.array([[4.0, 1.0], [1.0, 3.0]]))
    >>> factor.solve(np.array([[6.0], [7.0]])).round(12).tolist()
    [[1.0], [2.0]]
    """

    scale: Matrix  # [d] 1/√diagonal; 0 leaves a coordinate out: it is 0 in all that comes out
    lower: Matrix | None  # [d, d] of the matrix with unit diagonal; None: the identity

    @classmethod
    def of(cls, a: Matrix) -> Factor | None:
        """Return the factor, or None if the matrix is not positive definite."""
        diagonal = np.diag(a)
        if not (diagonal > 0).all():
            return None
        scale = 1 / np.sqrt(diagonal)
        try:
            return cls(scale, np.asarray(np.linalg.cholesky(a * scale[:, None] * scale), np.float64))
        except np.linalg.LinAlgError:
            return None

    def solve(self, b: Matrix) -> Matrix:
        """Return A⁻¹·b for b of [d, k]."""
        return self.half_solve_transposed(self.half_solve(b))

    def half_solve(self, b: Matrix) -> Matrix:
        """Return A^(−½)·b, for the square root R with A = R·Rᵀ that Cholesky gives: R⁻¹·b."""
        return self._triangular(b * self.scale[:, None], transposed=False)

    def half_solve_transposed(self, b: Matrix) -> Matrix:
        """Return R⁻ᵀ·b."""
        return self._triangular(b, transposed=True) * self.scale[:, None]

    def half_multiply_transposed(self, w: Matrix) -> Matrix:
        """Return Rᵀ·w, which undoes `half_solve_transposed`."""
        scale = self.scale[:, None]
        scaled = np.divide(w, scale, out=np.zeros(w.shape), where=scale > 0)
        return scaled if self.lower is None else np.asarray(self.lower.T @ scaled)

    def _triangular(self, b: Matrix, transposed: bool) -> Matrix:
        # solve_triangular takes 40 µs to call it
        from scipy.linalg.lapack import dtrtrs

        if self.lower is None or not b.size:
            return b
        x, _ = dtrtrs(self.lower.T, b, lower=0, trans=0 if transposed else 1)  # pivots are above 0
        return np.asarray(x)

    def smallest_pivot(self) -> float:
        """Return the least pivot: the least eigenvalue at unit diagonal is not above it."""
        return 1.0 if self.lower is None else float(np.diag(self.lower).min(initial=1.0) ** 2)


@dataclass(frozen=True, slots=True)
class PseudoInverse:
    """Solutions of least norm for a symmetric positive semidefinite matrix.

    Examples
    --------
    >>> inverse = PseudoInverse.of(np.ones((2, 2)))
    >>> inverse.solve(np.full((2, 1), 2.0)).round(12).tolist(), inverse.rank
    ([[1.0], [1.0]], 1)
    """

    scale: Matrix  # [d] 1/√diagonal
    values: Matrix  # [rank] eigenvalues at unit diagonal
    vectors: Matrix  # [d, rank] their eigenvectors
    null: Matrix  # [d, d − rank] orthonormal basis of the null space of the matrix itself

    @classmethod
    def of(cls, a: Matrix) -> PseudoInverse:
        """Decompose a matrix. What is below the rounding of a float64 Gram matrix counts as zero."""
        diagonal = np.diag(a)
        scale = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
        values, vectors = np.linalg.eigh(a * scale[:, None] * scale)
        kept = values > RANK_TOLERANCE * max(len(values), 1) * values[-1:].max(initial=1.0)
        null, _ = np.linalg.qr(vectors[:, ~kept] * scale[:, None])
        return cls(scale, values[kept], vectors[:, kept], null)

    @property
    def rank(self) -> int:
        """Number of directions that the matrix does not map to 0."""
        return len(self.values)

    def solve(self, b: Matrix) -> Matrix:
        """Return the w of least norm with A·w = b, for b of [d, k] in the range of A."""
        inner = (self.vectors.T @ (b * self.scale[:, None])) / self.values[:, None]
        w = self.scale[:, None] * (self.vectors @ inner)
        return w - self.null @ (self.null.T @ w)


def ridge_by_svd(x: Matrix, y: Matrix, alpha: Matrix) -> tuple[Matrix, int]:
    """Return the ridge (α > 0) or minimum-norm (α = 0) solution for a few rows, and the rank of x.

    Parameters
    ----------
    x : float64[n, d]
        Centred rows, times the root of their weight.
    y : float64[n, k]
        The same.
    alpha : float64[k]
        Penalty by output.
    """
    n, d = x.shape
    size = max(n, d)
    if n > 2 * d >= 2 * y.shape[1]:  # a triangle has the same singular values, and d rows instead of n
        triangle = np.asarray(np.linalg.qr(np.hstack([x, y]), mode="r"))
        x, y = triangle[:d, :d], triangle[:d, d:]
    norms = np.sqrt((x * x).sum(axis=0))
    sizes = norms[norms > 0]
    if x.shape[1] <= MANY_COLUMNS and sizes.max(initial=0.0) > ALIKE * sizes.min(initial=np.inf):
        return _ridge_of_unlike_columns(x, y, alpha, norms, size)
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    rank = _rank(s, size)
    s = s[:rank]
    damped = s[:, None] / (s[:, None] ** 2 + alpha)
    return vt[:rank].T @ (damped * (u[:, :rank].T @ y)), rank


def _ridge_of_unlike_columns(
    x: Matrix, y: Matrix, alpha: Matrix, norms: Matrix, size: int
) -> tuple[Matrix, int]:
    """Solve by the singular values of rows and penalty together, every column of length 1."""
    d = x.shape[1]
    w = np.empty((d, y.shape[1]))
    plain = x / np.where(norms > 0, norms, 1.0)
    rank = _rank(np.linalg.svd(plain, compute_uv=False), size)
    for value in np.unique(alpha):
        mine = alpha == value
        length = np.sqrt(norms**2 + value)
        scale = 1 / np.where(length > 0, length, 1.0)
        rows = np.vstack([x, np.sqrt(value) * np.eye(d)]) if value else x
        right = np.zeros((len(rows), int(mine.sum())))
        right[: len(x)] = y[:, mine]
        w[:, mine] = _least_norm(rows * scale, right, scale, size)
    return w, rank


def _least_norm(a: Matrix, b: Matrix, scale: Matrix, size: int) -> Matrix:
    """Return the w = scale∘v of least norm that minimizes ‖a·v − b‖²."""
    u, s, vt = np.linalg.svd(a, full_matrices=len(a) < a.shape[1])
    rank = _rank(s, size)
    w = scale[:, None] * (vt[:rank].T @ ((u[:, :rank].T @ b) / s[:rank, None]))
    free = np.where(np.abs(vt[rank:]) > RANK_TOLERANCE, vt[rank:], 0.0)  # rounding, which scale would blow up
    null, _ = np.linalg.qr(free.T * scale[:, None])
    return np.asarray(w - null @ (null.T @ w))


def _rank(s: NDArray[Any], size: int) -> int:
    """Return how many singular values of a matrix of that size, largest first, are not rounding."""
    return int((s > np.finfo(np.float64).eps * size * s[:1].max(initial=0.0)).sum())
