"""Elastic nets on a Gram matrix: coordinate descent until the duality gap says that it is done.

Where that takes long, a search of the support helps.

Nothing here sees rows. Sums, not means: ½‖y − X·w‖² + l1·‖w‖₁ + ½·l2·‖w‖², with A = XᵀX and b = Xᵀy of the
centred columns, each of k outputs with its own penalties.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrimp import _core
from scrimp.train.active_set import OneOutput, search
from scrimp.train.dense import Factor, Matrix

ROUNDS = 60  # of coordinate descent, each of up to SWEEPS, with a jump on the support between them
SWEEPS = 100
PATIENCE = 10  # rounds after which supports are searched: a step costs the cube of their size
WORK = 5e10  # multiplications of that search, about: seconds
ROUNDING = 1e-13  # of yᵀy: a gap below cannot be told from 0


class Penalty(NamedTuple):
    """What weights cost.

    Attributes
    ----------
    l1, l2 : float64[k]
        Against ½‖y − X·w‖² of each output.
    positive : bool
        Weights are at least 0.
    """

    l1: Matrix
    l2: Matrix
    positive: bool = False

    def cost(self, w: Matrix) -> Matrix:
        """Return the penalty of each output, float64[k], for w of [d, k]."""
        total: Matrix = self.l1 * np.abs(w).sum(axis=0) + 0.5 * self.l2 * (w * w).sum(axis=0)
        return total

    def shrink(self, pull: Matrix, bend: Matrix) -> Matrix:
        """Return argmin of ½·bend·v² − pull·v + penalty(v) for every coefficient, [d, k]."""
        size = np.maximum((pull if self.positive else np.abs(pull)) - self.l1, 0.0)
        return np.asarray(np.copysign(size, pull) / (bend + self.l2))

    def of(self, outputs: NDArray[np.bool_]) -> Penalty:
        """Return the penalties of some outputs."""
        return Penalty(self.l1[outputs], self.l2[outputs], self.positive)


def objective_and_gap(
    w: Matrix, q: Matrix, b: Matrix, y_square: Matrix, penalty: Penalty
) -> tuple[Matrix, Matrix]:
    """Return the objective of each output and how far above the minimum it can be at most.

    Parameters
    ----------
    w, q : float64[d, k]
        Weights, and b − A·w there.
    b : float64[d, k]
    y_square : float64[k]
        yᵀy of the centred targets.

    Notes
    -----
    Two dual points are tried and the better one counts. One reads l2 as further rows of X and scales the
    residual until no |xᵀr| is above l1 (as in scikit-learn); the other lets the conjugate of the whole
    penalty, (|u| − l1)₊² / 2·l2, pay for what is above, which also serves l1 = 0.

    Examples
    --------
    >>> one = np.ones(1)
    >>> value, gap = objective_and_gap(np.zeros((1, 1)), 2 * np.ones((1, 1)), 2 * np.ones((1, 1)), 4 * one,
    ...                                Penalty(2 * one, 0 * one))
    >>> value.tolist(), gap.tolist()
    ([2.0], [0.0])
    """
    explained = (w * b).sum(axis=0)
    square = np.maximum(y_square - explained - (w * q).sum(axis=0), 0.0)
    value = 0.5 * square + penalty.cost(w)
    pull = q - penalty.l2 * w
    top = (pull if penalty.positive else np.abs(pull)).max(axis=0, initial=0.0)
    share = np.minimum(1.0, np.divide(penalty.l1, top, out=np.ones_like(top), where=top > 0))
    wide = square + penalty.l2 * (w * w).sum(axis=0)
    best = share * (y_square - explained) - 0.5 * share**2 * wide
    smooth = penalty.l2 > 0
    if smooth.any():
        over = np.maximum((q if penalty.positive else np.abs(q)) - penalty.l1, 0.0)
        paid = np.divide((over**2).sum(axis=0), 2 * penalty.l2, out=np.full_like(top, np.inf), where=smooth)
        best = np.maximum(best, y_square - explained - 0.5 * square - paid)
    return value, np.maximum(value - best, 0.0)


def relative_gap(value: Matrix, gap: Matrix, y_square: Matrix) -> Matrix:
    """Return the part of the gap that is more than rounding, relative to the objective."""
    above = np.maximum(gap - ROUNDING * y_square, 0.0)
    return np.divide(above, value, out=np.zeros_like(above), where=above > 0)


class Quadratic(NamedTuple):
    """½wᵀAw − bᵀw + ½·y_square for each output, with b of [d, k]."""

    a: Matrix
    b: Matrix
    y_square: Matrix

    def slope(self, w: Matrix) -> Matrix:
        """Return b − A·w."""
        return self.b - self.a @ w

    def gap(self, w: Matrix, penalty: Penalty) -> tuple[Matrix, Matrix]:
        """Return objective and duality gap of each output."""
        return objective_and_gap(w, self.slope(w), self.b, self.y_square, penalty)

    def of(self, outputs: NDArray[np.bool_]) -> Quadratic:
        """Return the same for some outputs."""
        return Quadratic(self.a, self.b[:, outputs], self.y_square[outputs])


def minimize_quadratic(
    problem: Quadratic, penalty: Penalty, start: Matrix, tol: float, threads: int = 0
) -> tuple[Matrix, Matrix]:
    """Minimize a quadratic with penalties.

    Parameters
    ----------
    problem : Quadratic
        A positive semidefinite.
    penalty : Penalty
    start : float64[d, k]
    tol : float
        Duality gap relative to the objective at which an output is done.
    threads : int

    Returns
    -------
    w : float64[d, k]
    gap : float64[k]
        Relative to the objective; above `tol` only where `ROUNDS` were not enough.
    """
    w = start.copy()
    value, gap = problem.gap(w, penalty)
    fine = np.full(len(value), 0.1)
    for done in range(1, ROUNDS + 1):
        todo = relative_gap(value, gap, problem.y_square) > tol
        if not todo.any():
            break
        some, costs = problem.of(todo), penalty.of(todo)
        aim = fine[todo] * np.sqrt(2 * tol * np.maximum(value[todo], 1e-300) / max(len(w), 1))
        w[:, todo] = _on_support(some, costs, _sweep(some, costs, w[:, todo], aim, threads))
        if done == PATIENCE:
            w[:, todo] = _searched(some, costs, w[:, todo])
        value[todo], gap[todo] = some.gap(w[:, todo], costs)
        fine[todo] /= 4  # who comes again stopped too early
    return w, relative_gap(value, gap, problem.y_square)


def _sweep(problem: Quadratic, penalty: Penalty, w: Matrix, aim: Matrix, threads: int) -> Matrix:
    own = np.ascontiguousarray(w.T)
    slope = np.ascontiguousarray(problem.slope(w).T)
    done = np.zeros(len(own), np.int64)
    l1, l2 = (np.ascontiguousarray(values) for values in (penalty.l1, penalty.l2))
    a = np.ascontiguousarray(problem.a)
    _core.descend(a, own, slope, l1, l2, aim, penalty.positive, SWEEPS, done, threads)
    return own.T.copy()


def _on_support(problem: Quadratic, penalty: Penalty, w: Matrix) -> Matrix:
    """Go to the minimum with the signs that w has, or as far as they last; the objective falls on the way."""
    out = w.copy()
    for o in range(w.shape[1]):
        support = np.flatnonzero(w[:, o])
        if not len(support):
            continue
        factor = Factor.of(
            problem.a[np.ix_(support, support)] + np.diag(np.full(len(support), penalty.l2[o]))
        )
        if factor is None or factor.smallest_pivot() < 1e-10:
            continue
        here = w[support, o]
        goal = factor.solve((problem.b[support, o] - penalty.l1[o] * np.sign(here))[:, None])[:, 0]
        turns = here * goal < 0
        length = float((here[turns] / (here[turns] - goal[turns])).min(initial=1.0))
        there = here + length * (goal - here)
        there[turns & (np.abs(there) <= 1e-12 * np.abs(here))] = 0.0
        out[support, o] = there
    return out


def _searched(problem: Quadratic, penalty: Penalty, w: Matrix) -> Matrix:
    """Search the supports, by the work that this is; what is not lower is not taken."""
    diagonal = np.diag(problem.a)
    if not (diagonal > 0).all():
        return w
    found, unit = w.copy(), np.sqrt(diagonal)
    a = problem.a / unit[:, None] / unit
    for o in range(w.shape[1]):
        l1, l2 = penalty.l1[o] / unit, penalty.l2[o] / diagonal
        one = OneOutput(a, problem.b[:, o] / unit, l1, l2, penalty.positive)
        found[:, o] = search(one, w[:, o] * unit, WORK) / unit
    lower = problem.gap(found, penalty)[0] < problem.gap(w, penalty)[0]
    return np.where(lower, found, w)
