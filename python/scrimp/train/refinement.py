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
SURE = 3.0  # times the error that one more correction is expected to leave
TINY = 1e-3  # the least that the smallest is taken for: errors below are rounding's


class Ask(NamedTuple):
    """A question to all rows.

    Attributes
    ----------
    what : str
        `"product"`: A·v; `"residual"`: A·v − b, both of the centred rows without penalty, and with
        `"quick_"` before in float32. Others are the caller's.
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
    `bench/contestants/datasets.py` ended at 8e-6 instead of 1e-6. `refine_by_sample`, which such columns do
    not come to, does so.
    """
    system = System(alpha, solve, scale, intercept)
    state = yield from look(w, system, "residual")
    state = yield from descend(state, system, "product", tol, max_iter - 1)
    return Refined(state.w, state.error, 1 + state.steps)


def refine_by_sample(w: Matrix, system: System, tol: float, max_iter: int, rate: float) -> Refinement:
    """Solve as `refine` does where a pass is expected to leave `rate` of an error; most passes in float32.

    Conjugate gradients with products in float32 come so near that one correction by a residual in float64 is
    enough. It is not looked at again: an even sample of one row in s has no eigenvalue of M⁻¹A below 1/s, so
    that a correction is not far shorter than the error; flights, whose rare one-hots ended at 8e-6 that way,
    get no sample. A correction is too long where an eigenvalue is large, as of a row far from the rest that
    the sample lacks: such a one weighs in the steps, and is seen. Where the residual says that more is to be
    done, or the eigenvalues, that is done in float64.
    """
    near = tol / (SURE * rate * rate)
    state = yield from look(_as_floats(w), system, "quick_residual")
    state = yield from descend(state, system, "quick_product", near, max_iter - 2)
    if state.lost:
        return Refined(w, np.inf, 1 + state.steps)
    quick, away, passes = state.error, state.away, 2 + state.steps
    state = yield from look(state.w + state.z, system, "residual")
    rate = max(rate, away / 2, state.error / quick if quick > 0 else 0.0)
    if state.error * rate * SURE <= tol:
        return Refined(state.w + state.z, state.error * rate, passes)
    state = yield from descend(state, system, "product", tol, max_iter - passes)
    return Refined(state.w, state.error, passes + state.steps)


class System(NamedTuple):
    """What is solved: penalty, preconditioner, units of the error and whether the last row are intercepts."""

    alpha: Matrix
    solve: Callable[[Matrix], Matrix]
    scale: Matrix
    intercept: bool = False

    def errors(self, z: Matrix, w: Matrix) -> Matrix:
        """Return the relative error of each output that a correction z says."""
        return relative_errors(z, w, self.scale, self.intercept)


class State(NamedTuple):
    """Coefficients, their residual b − (A + α)w and correction M⁻¹r; the estimated error, and steps made.

    `lost`: the residual is not finite. `away`: how far from 1 the steps have seen eigenvalues of M⁻¹A, about
    2·rate where the rows are like the sample.
    """

    w: Matrix
    r: Matrix
    z: Matrix
    error: float
    steps: int = 0
    lost: bool = False
    away: float = 0.0


def look(w: Matrix, system: System, ask: str) -> Generator[Ask, Any, State]:
    """Ask for the residual of coefficients; the error is infinite where it is not finite."""
    residual = yield Ask(ask, (w,))
    with np.errstate(over="ignore", invalid="ignore"):
        r = -residual - system.alpha * w
        if not np.isfinite(r).all():
            return State(w, r, r, np.inf, lost=True)
        z = system.solve(r)
        return State(w, r, z, float(system.errors(z, w).max(initial=0.0)))


def descend(state: State, system: System, ask: str, tol: float, most: int) -> Generator[Ask, Any, State]:
    """Go down by conjugate gradients, at most so many steps; products are asked for under that name."""
    w, r, z, error, steps = state[:5]
    if state.lost:
        return state
    with np.errstate(over="ignore", invalid="ignore"):
        p, rz, lanczos = z, _inner(r, z), Lanczos()
    while error > tol and steps < most:
        p = _as_floats(p) if ask == "quick_product" else p
        product = yield Ask(ask, (p,))
        with np.errstate(over="ignore", invalid="ignore"):
            q = product + system.alpha * p
            step = _ratio(rz, _inner(p, q))
            if not step.any():
                break
            w, r, steps = w + step * p, r - step * q, steps + 1
            if not np.isfinite(r).all():
                return State(w, r, z, np.inf, steps, lost=True)
            z = system.solve(r)
            rz, before = _inner(r, z), rz
            ratio = _ratio(rz, before)
            p = z + ratio * p
            lanczos.add(step, ratio)
            error = lanczos.worst(system.errors(z, w))
    return State(w, r, z, error, steps, away=lanczos.away())


def _as_floats(w: Matrix) -> Matrix:
    """Round to what float32 holds: what is multiplied in float32 is then known to the last bit."""
    with np.errstate(over="ignore"):
        return w.astype(np.float32).astype(np.float64)


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

    def away(self) -> float:
        """Return how far from 1 an eigenvalue of any output was seen."""
        outputs = range(len(self._steps[0]) if self._steps else 0)
        return max((float(np.abs(self._eigenvalues(output) - 1).max()) for output in outputs), default=0.0)

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
