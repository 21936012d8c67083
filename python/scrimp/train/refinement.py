"""Conjugate gradients that ask for products instead of making them.

`refine` is a generator: it yields what it wants to know of the rows and is sent the answer, so that the same
lines serve one process, many ranks, and a test with a small matrix. A good preconditioner (the Gram of the
quantized rows) makes it iterative refinement: two or three passes to 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import numpy as np

from scrimp.train.dense import Matrix


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
        Estimated relative error of the coefficients, worst output: ‖M⁻¹r‖ / ‖w‖.
    n_iter : int
        Passes over the rows.
    """

    w: Matrix
    error: float
    n_iter: int


Refinement = Generator[Ask, Any, Refined]


def refine(
    w: Matrix, alpha: Matrix, solve: Callable[[Matrix], Matrix], scale: Matrix, tol: float, max_iter: int
) -> Refinement:
    """Solve (A + α)·w = b from a start, each output by its own conjugate gradients.

    Parameters
    ----------
    w : float64[d, k]
        Start.
    alpha : float64[k]
        Penalty by output.
    solve : callable
        The preconditioner M⁻¹, for [d, k].
    scale : float64[d]
        Size of a coefficient of each column that moves predictions by one unit: the error is measured in
        these units and in plain ones, and the larger counts.
    tol : float
        Stop when the estimated relative error of the coefficients is at most this.
    max_iter : int
        Passes at most.

    Yields
    ------
    Ask
        Send the answer in.

    Returns
    -------
    Refined
    """
    r = -(yield Ask("residual", (w,))) - alpha * w
    z = solve(r)
    p, rz = z, _inner(r, z)
    error, passes = _relative(z, w, scale), 1
    while error > tol and passes < max_iter:
        q = (yield Ask("product", (p,))) + alpha * p
        step = _ratio(rz, _inner(p, q))
        if not step.any():
            break
        w, r = w + step * p, r - step * q
        z = solve(r)
        rz, before = _inner(r, z), rz
        p = z + _ratio(rz, before) * p
        error, passes = _relative(z, w, scale), passes + 1
    return Refined(w, error, passes)


def _inner(a: Matrix, b: Matrix) -> Matrix:
    total: Matrix = (a * b).sum(axis=0)
    return total


def _ratio(a: Matrix, b: Matrix) -> Matrix:
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


def _relative(z: Matrix, w: Matrix, scale: Matrix) -> float:
    units = scale[:, None]
    return max(_worst(z, w), _worst(z / units, w / units))


def _worst(z: Matrix, w: Matrix) -> float:
    change, size = np.linalg.norm(z, axis=0), np.linalg.norm(w, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.where(change > 0, change / size, 0.0).max(initial=0.0))
