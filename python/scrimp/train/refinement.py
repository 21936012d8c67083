"""Conjugate gradients that ask for products instead of making them.

`refine` is a generator: it yields what it wants to know of the rows and is sent the answer, so that the same
lines serve one process, many ranks, and a test with a small matrix. A good preconditioner (the Gram of the
quantized rows) makes it iterative refinement: two or three passes to 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import numpy as np

from scrimp.train.dense import Matrix

WINDOW = 40  # iterations whose steps tell of the eigenvalues
TINY = 1e-3  # the least that the smallest is taken for: errors below are rounding's


class Ask(NamedTuple):
    """A question to all rows.

    Attributes
    ----------
    what : str
        `"product"`: A·v; `"residual"`: A·v − b, both of the centred rows without penalty. Others are the
        caller's.
    values : tuple of float64 arrays
        What the question is about, here (v,), v of [d, k].
    """

    what: str
    values: tuple[Matrix, ...]


class Refined(NamedTuple):
    """Where the conjugate gradients ended.

    Attributes
    ----------
    w : float64[d, k]
    error : float
        Estimated relative error of the coefficients, worst output: ‖M⁻¹r‖ / ‖w‖, over λmin(M⁻¹A) as far as
        it is known; infinite where rows are not finite, or products of them.
    n_iter : int
        Passes over the rows.
    """

    w: Matrix
    error: float
    n_iter: int


Refinement = Generator[Ask, Any, Refined]


def refine(
    w: Matrix,
    alpha: Matrix,
    solve: Callable[[Matrix], Matrix],
    scale: Matrix,
    tol: float,
    max_iter: int,
    intercept: bool = False,
) -> Refinement:
    """Solve (A + α)·w = b from a start, each output by its own conjugate gradients.

    Parameters
    ----------
    w : float64[d, k]
        Start.
    alpha : float64[k] or float64[d, k]
        Penalty by output, or by coefficient.
    solve : callable
        The preconditioner M⁻¹, for [d, k].
    scale : float64[d]
        Size of a coefficient of each column that moves predictions by one unit: the error is measured in
        these units and in plain ones, and the larger counts.
    tol : float
        Stop when the estimated relative error of the coefficients is at most this.
    max_iter : int
        Passes at most.
    intercept : bool
        Whether the last row of w holds intercepts: their errors count, their size does not.

    Yields
    ------
    Ask
        Send the answer in.

    Returns
    -------
    Refined

    Notes
    -----
    Every correction is looked at. To apply the last one, M⁻¹r, on the word of the eigenvalues seen so far
    saves a pass and was tried: a rare one-hot is an eigenvalue that two steps do not see, and the flights of
    `bench/contestants/datasets.py` ended at 8e-6 instead of 1e-6.
    """
    residual = yield Ask("residual", (w,))
    with np.errstate(over="ignore", invalid="ignore"):
        r, passes, lanczos = -residual - alpha * w, 1, Lanczos()
        if not np.isfinite(r).all():
            return Refined(w, np.inf, passes)
        z = solve(r)
        p, rz = z, _inner(r, z)
        error = float(relative_errors(z, w, scale, intercept).max(initial=0.0))
    while error > tol and passes < max_iter:
        product = yield Ask("product", (p,))
        with np.errstate(over="ignore", invalid="ignore"):
            q = product + alpha * p
            step = _ratio(rz, _inner(p, q))
            if not step.any():
                break
            w, r, passes = w + step * p, r - step * q, passes + 1
            if not np.isfinite(r).all():
                return Refined(w, np.inf, passes)
            z = solve(r)
            rz, before = _inner(r, z), rz
            ratio = _ratio(rz, before)
            p = z + ratio * p
            lanczos.add(step, ratio)
            error = lanczos.worst(relative_errors(z, w, scale, intercept))
    return Refined(w, error, passes)


class Lanczos:
    """What conjugate gradients learn of the smallest eigenvalue of M⁻¹A on their way.

    An error is A⁻¹r, and M⁻¹r is what is known of it: up to 1/λmin(M⁻¹A) smaller. The steps are the entries
    of a tridiagonal matrix whose smallest eigenvalue comes down to λmin (Golub and Meurant, 1997).

    Examples
    --------
    >>> seen = Lanczos()
    >>> seen.add(np.array([2.0]), np.array([0.0]))
    >>> seen.worst(np.array([0.1]))
    0.2
    """

    def __init__(self, steps: Sequence[Matrix] = (), ratios: Sequence[Matrix] = ()) -> None:
        self._steps, self._ratios = list(steps), list(ratios)

    def to_arrays(self) -> dict[str, Matrix]:
        """Return what `__init__` takes, as arrays."""
        return {"steps": np.array(self._steps), "ratios": np.array(self._ratios)}

    def add(self, step: Matrix, ratio: Matrix) -> None:
        """Note an iteration: α and β of each output, float64[k]."""
        self._steps, self._ratios = [*self._steps, step][-WINDOW:], [*self._ratios, ratio][-WINDOW:]

    def worst(self, errors: Matrix) -> float:
        """Return the largest of the errors ‖M⁻¹r‖ / ‖w‖ of the outputs, corrected by λmin."""
        if not len(errors):
            return 0.0
        output = int(np.argmax(errors))
        return float(errors[output]) / min(1.0, max(float(self._eigenvalues(output)[0]), TINY))

    def _eigenvalues(self, output: int) -> Matrix:
        steps, ratios = (np.array([a[output] for a in values]) for values in (self._steps, self._ratios))
        count = int(np.argmin(np.append(steps > 0, False)))  # outputs that are done step no more
        if not count:
            return np.ones(1)
        steps, ratios = steps[:count], ratios[:count]
        diagonal = 1 / steps
        diagonal[1:] += ratios[:-1] / steps[:-1]
        beside = np.sqrt(ratios[:-1]) / steps[:-1]
        tridiagonal = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
        return np.linalg.eigvalsh(tridiagonal).astype(np.float64, copy=False)


def _inner(a: Matrix, b: Matrix) -> Matrix:
    total: Matrix = (a * b).sum(axis=0)
    return total


def _ratio(a: Matrix, b: Matrix) -> Matrix:
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


def relative_errors(z: Matrix, w: Matrix, scale: Matrix, intercept: bool = False) -> Matrix:
    """Return ‖z‖ / ‖w‖ of each output, plain or in units of the columns, whichever is larger.

    Without an intercept in the last row, if there is one; in units of the columns its error counts.
    """
    units, d = scale[:, None], len(z) - intercept
    return np.maximum(_relative(z[:d], w[:d]), _relative(z / units, (w / units)[:d]))


def _relative(z: Matrix, w: Matrix) -> Matrix:
    change, size = np.linalg.norm(z, axis=0), np.linalg.norm(w, axis=0)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return np.where(change == 0, 0.0, change / size)
