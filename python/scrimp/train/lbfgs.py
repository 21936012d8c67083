"""L-BFGS on a vector that may be spread over ranks.

The two-loop recursion runs on coefficients of the basis {s_1…s_m, y_1…y_m, g}, so all an iteration needs from
the other ranks is one small matrix of inner products (Chen, Wang, Zhou, "Large-scale L-BFGS using MapReduce",
2014). The line search finds a point that meets the weak Wolfe conditions by bisection (Lewis and Overton,
2013).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrimp.train.structure import Vector

Oracle = Callable[[Vector], tuple[float, Vector]]  # own part of w -> global value, own part of the gradient
SumOverRanks = Callable[[NDArray[np.float64]], NDArray[np.float64]]

ARMIJO, CURVATURE = 1e-4, 0.9
MAX_TRIALS = 30
ARRAYS = ("w", "gradient", "steps", "changes", "scalars")  # of `LbfgsState.to_arrays`
INVISIBLE = 1e-7  # a gradient so much shorter than the first one moves the value by less than its last digit


class Point(NamedTuple):
    """A place with its value and gradient, the rank's own part of each vector."""

    w: Vector
    value: float
    gradient: Vector


class LbfgsState(NamedTuple):
    """All that the next iteration depends on: the point, the last steps and changes, oldest first."""

    point: Point
    steps: NDArray[Any]
    changes: NDArray[Any]
    first_norm: float

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state as arrays, for a checkpoint."""
        w, value, gradient = self.point
        scalars = np.array([value, self.first_norm])
        return {
            "w": w,
            "gradient": gradient,
            "steps": self.steps,
            "changes": self.changes,
            "scalars": scalars,
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> LbfgsState:
        """Undo `to_arrays`."""
        value, first_norm = (float(x) for x in arrays["scalars"])
        point = Point(arrays["w"], value, arrays["gradient"])
        return cls(point, arrays["steps"], arrays["changes"], first_norm)


def start(oracle: Oracle, w: Vector, total: SumOverRanks) -> LbfgsState:
    """Evaluate the first point."""
    value, gradient = oracle(w)
    empty = np.empty((0, w.size), w.dtype)
    return LbfgsState(Point(w, value, gradient), empty, empty, _norm(gradient, total))


def restart(oracle: Oracle, state: LbfgsState) -> LbfgsState:
    """Evaluate the point anew, by another oracle, and forget the steps."""
    empty = state.steps[:0]
    return LbfgsState(Point(state.point.w, *oracle(state.point.w)), empty, empty, state.first_norm)


def iterate(
    oracle: Oracle,
    state: LbfgsState,
    total: SumOverRanks,
    tol: float,
    memory: int = 10,
    max_trials: int = MAX_TRIALS,
) -> tuple[LbfgsState, str | None]:
    """Make one iteration.

    Parameters
    ----------
    oracle : callable
        Own part of w to (global value, own part of the gradient).
    state : LbfgsState
        From `start` or the iteration before.
    total : callable
        Sum of a float64 array over all ranks.
    tol : float
        Converged when the gradient norm is at most `tol` times the first one.
    memory : int
        Pairs that are kept.
    max_trials : int
        Evaluations of a line search.

    Returns
    -------
    state : LbfgsState
    stop : str or None
        `"converged"`, `"stalled"` (no lower value can be found at this precision) or None.
    """
    point = state.point
    if _norm(point.gradient, total) <= tol * state.first_norm:
        return state, "converged"
    direction, slope, scale = _direction(state, total)
    if slope >= 0:
        state = state._replace(steps=state.steps[:0], changes=state.changes[:0])
        direction, slope, scale = _direction(state, total)
    found = _line_search(oracle, point, direction, slope, scale, total, max_trials)
    if found is None:
        is_flat = _norm(point.gradient, total) <= INVISIBLE * state.first_norm
        return state, "converged" if is_flat else "stalled"
    steps, changes = state.steps, state.changes
    step, change = found.w - point.w, found.gradient - point.gradient
    if _dot(step, change, total) > 1e-10 * abs(_dot(change, change, total)):
        steps = np.vstack([steps, step])[-memory:]
        changes = np.vstack([changes, change])[-memory:]
    return LbfgsState(found, steps, changes, state.first_norm), None


def _direction(state: LbfgsState, total: SumOverRanks) -> tuple[Vector, float, float]:
    """Return the direction −H·g, its slope gᵀp, and the length to try first."""
    basis = np.vstack([state.steps, state.changes, state.point.gradient[None, :]])
    wide = basis.astype(np.float64, copy=False)
    gram = total(wide @ wide.T)
    weights = _two_loops(gram, len(state.steps))
    direction = (weights @ wide).astype(basis.dtype, copy=False)
    norm = float(np.sqrt(gram[-1, -1]))
    length = 1.0 if len(state.steps) else min(1.0, 1.0 / max(norm, 1e-300))
    return direction, float(weights @ gram[:, -1]), length


def _two_loops(gram: NDArray[np.float64], m: int) -> NDArray[np.float64]:
    """Return the coefficients of −H·g in the basis (Nocedal and Wright, algorithm 7.4, on inner products)."""
    weights = np.zeros(2 * m + 1)
    weights[-1] = -1.0
    alpha = np.zeros(m)
    for i in reversed(range(m)):
        alpha[i] = gram[i] @ weights / gram[i, m + i]
        weights[m + i] -= alpha[i]
    if m:
        weights *= gram[m - 1, 2 * m - 1] / gram[2 * m - 1, 2 * m - 1]
    for i in range(m):
        weights[i] += alpha[i] - gram[m + i] @ weights / gram[i, m + i]
    return weights


def _line_search(
    oracle: Oracle,
    point: Point,
    direction: Vector,
    slope: float,
    length: float,
    total: SumOverRanks,
    max_trials: int,
) -> Point | None:
    low, high = 0.0, np.inf
    noise = 4 * float(np.finfo(np.float64).eps) * abs(point.value)
    best: Point | None = None
    for _ in range(max_trials):
        w = point.w + point.w.dtype.type(length) * direction
        trial = Point(w, *oracle(w))
        if not trial.value <= point.value + ARMIJO * length * slope + noise:
            high = length
        elif _dot(trial.gradient, direction, total) < CURVATURE * slope:
            low, best = length, trial
        else:
            return trial if trial.value < point.value or _is_flatter(trial, point, total) else None
        length = 2 * low if high == np.inf else (low + high) / 2
    return best


def _is_flatter(trial: Point, point: Point, total: SumOverRanks) -> bool:
    return _norm(trial.gradient, total) < _norm(point.gradient, total)


def _dot(a: Vector, b: Vector, total: SumOverRanks) -> float:
    return float(total(np.atleast_1d(np.dot(a.astype(np.float64), b.astype(np.float64))))[0])


def _norm(a: Vector, total: SumOverRanks) -> float:
    return float(np.sqrt(_dot(a, a, total)))
