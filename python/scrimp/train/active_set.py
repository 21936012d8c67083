"""The last digits of an elastic net on a Gram matrix: Newton's method on the coefficients that are not 0.

Coordinate descent crawls where columns depend on each other and the penalty is small. From where it stands,
the support is pruned until its columns are independent, then solved for exactly with the signs it has; a
coefficient that would turn its sign leaves, the one whose slope exceeds the penalty most comes in. The
objective never rises: the feature-sign search of Lee, Battle, Raina and Ng (2007).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrimp.train.dense import Factor, Matrix

DEPENDENT = 1e-10  # pivots at unit diagonal, below which columns count as sums of the others


class OneOutput(NamedTuple):
    """½wᵀAw − bᵀw + Σ l1|w| + ½Σ l2·w², in units in which A has a diagonal of 1.

    Attributes
    ----------
    a : float64[d, d]
    b, l1, l2 : float64[d]
    positive : bool
        Weights are at least 0.
    """

    a: Matrix
    b: Matrix
    l1: Matrix
    l2: Matrix
    positive: bool

    def bend(self, support: NDArray[np.intp]) -> Matrix:
        """Return the curvature of some coefficients."""
        bend: Matrix = self.a[np.ix_(support, support)].copy()
        bend[np.diag_indices(len(support))] += self.l2[support]
        return bend

    def pull(self, w: Matrix) -> Matrix:
        """Return minus the slope without that of |w|."""
        return np.asarray(self.b - self.a @ w - self.l2 * w)


def search(problem: OneOutput, w: Matrix, work: float) -> Matrix:
    """Go on from w of [d] for about so many multiplications, or until no change lowers the objective."""
    w = w.copy()
    support = _independent(problem, w)
    while work > 0:
        work -= len(w) ** 2 + len(support) ** 3
        factor = Factor.of(problem.bend(support)) if len(support) else None
        if len(support) and factor is None:
            break
        if factor is not None:
            here = w[support]
            goal = factor.solve((problem.b[support] - problem.l1[support] * np.sign(here))[:, None])[:, 0]
            if (out := _move(w, support, goal - here, 1.0)) is not None:
                support = np.delete(support, out)
                continue
        enters = _violator(problem, w, support)
        if enters is None:
            break
        j, gain = enters
        step, length = _step_in(problem, factor, support, j, gain)
        support = np.append(support, j)
        if (out := _move(w, support, step, length)) is not None:
            support = np.delete(support, out)
    return w


def _independent(problem: OneOutput, w: Matrix) -> NDArray[np.intp]:
    """Move along directions that the rows do not see until the columns of the support are independent."""
    support = np.flatnonzero(w)
    if not len(support):
        return support
    values, vectors = np.linalg.eigh(problem.bend(support))
    blind = vectors[:, values < DEPENDENT]
    while blind.shape[1] and len(support):
        down = -blind @ (blind.T @ (problem.l1[support] * np.sign(w[support])))
        if not np.abs(down).max() > 1e-12 * problem.l1.max(initial=0.0):
            down = blind[:, 0]
        if not (down * w[support] < 0).any():
            down = -down
        out = _move(w, support, down, np.inf)
        if out is None:
            break
        pivot = int(np.abs(blind[out]).argmax())
        blind = blind - np.outer(blind[:, pivot], blind[out] / blind[out, pivot])
        blind = np.delete(np.delete(blind, pivot, axis=1), out, axis=0)
        support = np.delete(support, out)
    return support


def _move(w: Matrix, support: NDArray[np.intp], step: Matrix, most: float) -> int | None:
    """Change w by `most` times a step, or until a coefficient gets to 0; return its place in the support."""
    here = w[support]
    turns = np.flatnonzero(here * step < 0)
    ways = -here[turns] / step[turns]
    first = int(ways.argmin()) if len(turns) else -1
    if first < 0 or ways[first] > most:
        w[support] = here + (most if np.isfinite(most) else 0.0) * step
        return None
    w[support] = here + ways[first] * step
    w[support[turns[first]]] = 0.0
    return int(turns[first])


def _violator(problem: OneOutput, w: Matrix, support: NDArray[np.intp]) -> tuple[int, float] | None:
    """Return the coefficient outside the support that lowers the objective most, and its slope."""
    pull = problem.pull(w)
    above = (pull if problem.positive else np.abs(pull)) - problem.l1
    above[support] = 0.0
    j = int(above.argmax())
    noise = 1e-14 * (np.abs(problem.b).max() + problem.l1.max())
    return (j, float(np.copysign(above[j], pull[j]))) if above[j] > noise else None


def _step_in(
    problem: OneOutput, factor: Factor | None, support: NDArray[np.intp], j: int, gain: float
) -> tuple[Matrix, float]:
    """Return the step of the support and of j that is best with the signs there are, and how far it goes."""
    bend = problem.a[j, j] + problem.l2[j]
    if factor is None:
        return np.array([gain / bend]), 1.0
    others = factor.solve(problem.a[support, j][:, None])[:, 0]
    own = float(bend - problem.a[j, support] @ others)
    step = np.append(-others, 1.0)
    return (step * (gain / own), 1.0) if own > DEPENDENT * bend else (step * np.sign(gain), np.inf)
