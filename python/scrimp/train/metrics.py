"""Where a model of a smooth function, and an l1 penalty, are lowest: proximal steps in a metric.

The weights are one vector; the last `free` of them (intercepts) have no penalty. A dense metric is a Hessian,
solved by coordinate descent and improved by what each evaluation tells of the curvature (BFGS; Lee, Sun and
Saunders, "Proximal Newton-type methods", 2014). A diagonal one serves any number of weights: its length is
that of the last change of the gradient (Wright, Nowak and Figueiredo, "SpaRSA", 2009).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from scrimp.train.dense import Factor, Matrix
from scrimp.train.lasso import Penalty, Quadratic, minimize_quadratic, objective_and_gap

LEAST_BEND, MOST_BEND = 1e-3, 1e6  # of a diagonal metric, relative to what it was made of
LIFT = 1e-8  # of the diagonal of a Hessian that is not positive definite


class Metric(Protocol):
    """A model of the curvature."""

    def propose(self, theta: Matrix, slope: Matrix, l1: float, gap: float) -> Matrix:
        """Return the weights where slope·step + ½·stepᵀM·step + l1·‖w‖₁ is within `gap` of its minimum."""

    def square(self, step: Matrix) -> float:
        """Return stepᵀM·step."""

    def learn(self, step: Matrix, change: Matrix) -> None:
        """Take in how the gradient changed along a step."""

    def stiffen(self) -> None:
        """Make steps shorter: the last one did not go down."""


class DenseMetric:
    """A Hessian of all weights, float64[D, D]."""

    def __init__(self, hessian: Matrix, free: int, threads: int = 0) -> None:
        self._m, self._free, self._threads = hessian.copy(), free, threads

    def propose(self, theta: Matrix, slope: Matrix, l1: float, gap: float) -> Matrix:
        """Eliminate the weights without a penalty, then descend along the others."""
        size = len(theta) - self._free
        a: Matrix = self._m[:size, :size]
        pull, w = slope[:size], theta[:size]
        lean, own = np.zeros((0, size)), np.zeros(0)
        if self._free:
            corner = self._m[size:, size:]
            both = np.column_stack([self._m[size:, :size], slope[size:]])
            solved = np.asarray(np.linalg.solve(corner, both), np.float64)
            lean, own = solved[:, :size], solved[:, size]
            a, pull = a - self._m[:size, size:] @ lean, pull - lean.T @ slope[size:]
        factor = Factor.of(a)
        if factor is None:
            a = a + np.diag(LIFT * np.diag(a))
            factor = Factor.of(a)
        b = (a @ w - pull)[:, None]
        square = np.maximum((b * (factor.solve(b) if factor else b)).sum(axis=0), 0.0)
        penalty, model = Penalty(np.array([l1]), np.zeros(1)), Quadratic(a, b, square)
        value, _ = objective_and_gap(w[:, None], -pull[:, None], b, square, penalty)
        tol = gap / max(float(value[0]), 1e-300)
        goal = minimize_quadratic(model, penalty, w[:, None].copy(), tol, self._threads)[0][:, 0]
        return np.concatenate([goal, theta[size:] - own - lean @ (goal - w)])

    def square(self, step: Matrix) -> float:
        """Return stepᵀM·step."""
        return float(step @ self._m @ step)

    def learn(self, step: Matrix, change: Matrix) -> None:
        """Update by BFGS where the curvature along the step is positive."""
        bent, along = float(step @ change), self._m @ step
        square = float(step @ along)
        if bent > 1e-10 * square > 0:
            self._m += np.outer(change, change) / bent - np.outer(along, along) / square

    def stiffen(self) -> None:
        """Double all curvature."""
        self._m *= 2.0


class DiagonalMetric:
    """Curvature of each weight, float64[D], times one number that follows the gradients."""

    def __init__(self, bend: Matrix, free: int) -> None:
        self._bend, self._free, self._length = bend, free, 1.0

    def propose(self, theta: Matrix, slope: Matrix, l1: float, gap: float) -> Matrix:
        """Shrink what a step of the gradient gives; `gap` is 0."""
        bend, size = self._length * self._bend, len(theta) - self._free
        goal = theta - slope / bend
        excess = np.maximum(np.abs(goal[:size]) - l1 / bend[:size], 0.0)
        return np.concatenate([np.copysign(excess, goal[:size]), goal[size:]])

    def square(self, step: Matrix) -> float:
        """Return stepᵀM·step."""
        return self._length * float(self._bend @ (step * step))

    def learn(self, step: Matrix, change: Matrix) -> None:
        """Take the curvature along the step for all of it (Barzilai and Borwein, 1988)."""
        square = float(self._bend @ (step * step))
        if square > 0:
            self._length = float(np.clip(step @ change / square, LEAST_BEND, MOST_BEND))

    def stiffen(self) -> None:
        """Double all curvature."""
        self._length *= 2.0
