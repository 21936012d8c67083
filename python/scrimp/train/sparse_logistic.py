"""Logistic regression and softmax with an l1 penalty: a sample proposes the curvature, the rows judge.

As in `sparse`, rank 0 solves and asks, every rank answers for its own leaves, and the coefficients have the
same bits for every number of ranks and threads. The problem is solved on a sample of the rows first; its
solution is the start, and its Hessian there the metric of the proximal steps over all rows.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from scrimp.comm import Comm
from scrimp.matrix import QuantizedMatrix
from scrimp.matrix.blas import one_thread
from scrimp.train.checkpoint import fingerprint
from scrimp.train.dense import Matrix
from scrimp.train.equations import NormalSolution
from scrimp.train.linear import CURVATURE, CodeRows, pilot_rows, sample_rows, spread_of_rare
from scrimp.train.metrics import DenseMetric, DiagonalMetric, Metric
from scrimp.train.newton import SIZE, Sample
from scrimp.train.normal import Questions, RunOptions, converse
from scrimp.train.refinement import Ask
from scrimp.train.replay import Replay
from scrimp.train.shared_rows import SharedRows
from scrimp.train.watch import Watch

RECENT = 5  # values of which a step must not be above the highest
SAMPLE_STEPS = 50
ENOUGH_OF_SAMPLE = 0.01  # a coefficient and row, of the mean loss: a sample cannot tell more
DIGITS = 1e-14  # of the loss of the intercepts alone: what float64 can tell
FEW_TRIALS = 20  # steps that do not go down, one after the other, before it is rounding that stops them


@dataclass(frozen=True, slots=True)
class SparseLogisticProblem:
    """What to solve: mean(s·L) + l1·‖w‖₁ + ½·l2‖w‖².

    Parameters
    ----------
    loss : {"logistic", "softmax"}
    k : int
        Outputs.
    l1, l2 : float
        Against the weighted mean of the loss.
    bias : bool
        Whether there are intercepts.
    tol : float
        Relative size of the proximal gradient: its square bounds how far above the minimum the objective is,
        by the model of the curvature, relative to the loss of the intercepts alone.
    max_iter : int
        Passes over the rows.
    precise : bool
        As in `scrimp.gradient`.
    start : float64[d + bias, k], optional
        Coefficients and intercepts.
    seed, threads : int
    """

    loss: str
    k: int
    l1: float
    l2: float
    bias: bool
    tol: float
    max_iter: int
    precise: bool
    start: Matrix | None = None
    seed: int = 0
    threads: int = 0


class _Point(NamedTuple):
    theta: Matrix  # [(d + bias)·k]
    value: float  # with both penalties
    slope: Matrix  # of all but l1


def solve_sparse_logistic(
    comm: Comm,
    X: Any,
    y: Matrix,
    sample_weight: Matrix | None,
    problem: SparseLogisticProblem,
    run: RunOptions | None = None,
) -> NormalSolution:
    """Fit on all ranks; each is given all rows and reads its own leaves.

    Parameters
    ----------
    X : float array[n, d], int8 array[n, d] or QuantizedMatrix
    y : float64[n, 1] or float64[n, k]
        As `scrimp.gradient` takes it for the loss.
    sample_weight : float64[n], optional
    problem : SparseLogisticProblem
    run : RunOptions, optional

    Returns
    -------
    NormalSolution
        `y_mean` holds the intercepts for centred rows; `error` is the relative size of the proximal gradient;
        `scatter` the mean curvature of the loss along the coefficients of each column.

    Raises
    ------
    BudgetExceeded
        Before the pass over the rows that would overspend.
    """
    run = run or RunOptions()
    with one_thread():
        rows = SharedRows(comm, X, y, sample_weight, problem.seed, problem.threads)
        path = run.checkpoint if comm.rank == 0 else None  # nobody else solves
        replay = Replay(path, _identity(X, y, sample_weight, problem) if path is not None else {})
        watch = Watch(comm, run.budget, replay.spent_before, run.started)
        questions = _solve(X, y, sample_weight, problem) if comm.rank == 0 else None
        return converse(rows, questions, replay, watch, run)


def _identity(
    X: Any, y: Matrix, sample_weight: Matrix | None, problem: SparseLogisticProblem
) -> dict[str, Any]:
    codes = X.codes if isinstance(X, QuantizedMatrix) else X
    arrays = [np.ones(0) if a is None else a for a in (sample_weight, problem.start)]
    facts = {name: getattr(problem, name) for name in ("loss", "l1", "l2", "bias", "seed", "precise")}
    return facts | {"rows": len(y), "data": fingerprint(codes, y, *arrays)}


def _solve(X: Any, y: Matrix, weight: Matrix | None, problem: SparseLogisticProblem) -> Questions:
    mean, _ = yield Ask("moments", ())
    mean = mean if problem.bias else np.zeros_like(mean)
    free = problem.k * problem.bias
    first = np.zeros((len(mean) + problem.bias, problem.k)) if problem.start is None else problem.start.copy()
    first[len(mean) :] += mean @ first[: len(mean)]
    reference = _null_loss(y, weight, problem)
    metric, theta, curvature, how = _by_sample(X, y, weight, mean, problem, first.reshape(-1), reference)
    point = yield from _evaluate(theta, mean, problem)
    recent, passes, trials = [point.value], 2, 0
    goal = max(problem.tol**2, DIGITS) * reference
    left = reference
    while True:
        gap = max(0.1 * goal, 0.01 * left)
        there = metric.propose(point.theta, point.slope, problem.l1, gap)
        left = _decrease(metric, point, there, problem.l1, free)
        if left <= goal and gap > goal:
            continue
        if left <= goal or passes >= problem.max_iter or trials > FEW_TRIALS:
            break
        trial = yield from _evaluate(there, mean, problem)
        passes += 1
        step, change = trial.theta - point.theta, trial.slope - point.slope
        noise = (1e-15 if problem.precise else 1e-8) * abs(point.value)
        is_lower = trial.value <= max(recent) - 1e-4 * left + noise
        metric.learn(step, change)
        if not is_lower and trials:
            metric.stiffen()
        trials = 0 if is_lower else trials + 1
        if is_lower:
            point, recent = trial, [*recent, trial.value][-RECENT:]
    error = float(np.sqrt(left / reference)) if left > DIGITS * reference and trials <= FEW_TRIALS else 0.0
    d = len(mean)
    shaped = point.theta.reshape(-1, problem.k)
    intercept = shaped[d] if problem.bias else np.zeros(problem.k)
    return NormalSolution(shaped[:d], mean, intercept, curvature, how, passes, error, d)


def _decrease(metric: Metric, point: _Point, there: Matrix, l1: float, free: int) -> float:
    """Return by how much the model falls."""
    step, size = there - point.theta, len(there) - free
    costs = l1 * float(np.abs(point.theta[:size]).sum() - np.abs(there[:size]).sum())
    return max(costs - float(point.slope @ step) - 0.5 * metric.square(step), 0.0)


def _evaluate(theta: Matrix, mean: Matrix, problem: SparseLogisticProblem) -> Generator[Ask, Any, _Point]:
    """Ask all rows for loss and slope."""
    d, k = len(mean), problem.k
    shaped = theta.reshape(-1, k)
    w, bias = shaped[:d], shaped[d] if problem.bias else np.zeros(k)
    total = yield Ask(problem.loss, (w, bias - mean @ w, np.array(float(problem.precise))))
    sums = total[:-1] / total[-1]
    flat = sums[d * k : d * k + k]
    slope = sums[: d * k].reshape(d, k) - np.outer(mean, flat) + problem.l2 * w
    value = float(sums[-1]) + problem.l1 * float(np.abs(w).sum()) + 0.5 * problem.l2 * float((w * w).sum())
    if not problem.bias:
        return _Point(theta, value, slope.reshape(-1))
    flat = flat - flat.mean() if k > 1 else flat  # what all classes share, softmax does not see
    return _Point(theta, value, np.vstack([slope, flat]).reshape(-1))


def _null_loss(y: Matrix, weight: Matrix | None, problem: SparseLogisticProblem) -> float:
    """Return the mean loss of the best intercepts alone: a size to measure by, never 0."""
    k = problem.k
    counts: Matrix
    if k > 1 and y.shape[1] == 1:
        counts = np.asarray(np.bincount(y[:, 0].astype(np.intp), weight, minlength=k), np.float64)
    else:
        counts = y.sum(axis=0) if weight is None else weight @ y
        total = float(len(y)) if weight is None else float(weight.sum())
        counts = np.append(counts, total - counts.sum()) if k == 1 else counts
    shares = np.maximum(counts / counts.sum(), 0.0)
    seen = shares[shares > 0]
    return max(float(-(seen * np.log(seen)).sum()), 1e-3)


def _by_sample(
    X: Any,
    y: Matrix,
    weight: Matrix | None,
    mean: Matrix,
    problem: SparseLogisticProblem,
    theta: Matrix,
    reference: float,
) -> tuple[Metric, Matrix, Matrix, str]:
    """Return metric and start, the curvature of each column, and in words what was done."""
    rows = pilot_rows(len(y))
    source = CodeRows.of(X) if isinstance(X, QuantizedMatrix) else X
    z = sample_rows(source, rows) - mean
    rare, k = spread_of_rare(source, z, mean), problem.k
    spread = np.sqrt(np.maximum((z * z).mean(axis=0), rare))
    spread[spread == 0] = 1.0
    shares = None if weight is None else weight[rows]
    free = k * problem.bias
    bend = CURVATURE[problem.loss] * spread**2 + problem.l2
    if len(theta) > SIZE or (shares is not None and not shares.any()):
        each = np.append(bend, CURVATURE[problem.loss]) if problem.bias else bend
        return DiagonalMetric(np.repeat(each, k), free), theta, bend, "proximal gradients"
    units = np.repeat(np.append(spread, 1.0) if problem.bias else spread, k)
    sample = Sample.of(z / spread, y[rows], shares, problem.loss, 0.0, problem.bias, k)
    lift = np.repeat(np.append(rare > 0, False) if problem.bias else rare > 0, k) * CURVATURE[problem.loss]
    lift = units**2 * lift
    lift[: len(lift) - free] += problem.l2
    model = _SampleModel(sample, units, lift, problem, free)
    enough = DIGITS if len(rows) == len(y) else ENOUGH_OF_SAMPLE * len(theta) / len(y) / reference
    theta = model.descend(theta, enough * reference) if problem.start is None else theta
    hessian = model.hessian(theta)
    curvature = np.diag(hessian)[: len(theta) - free].reshape(-1, k).mean(axis=1)
    return DenseMetric(hessian, free, problem.threads), theta, curvature, "proximal Newton steps"


class _SampleModel:
    """The problem on a sample of the rows, in float64."""

    def __init__(
        self, sample: Sample, units: Matrix, ridge: Matrix, problem: SparseLogisticProblem, free: int
    ) -> None:
        self._sample, self._units, self._ridge, self._problem = sample, units, ridge, problem
        self._free, self._shape = free, (-1, problem.k)

    def hessian(self, theta: Matrix) -> Matrix:
        """Return the curvature of all but l1."""
        p = self._sample.probabilities((theta * self._units).reshape(self._shape))
        inner = self._sample.hessian(p) * self._units[:, None] * self._units
        return np.asarray(inner + np.diag(self._ridge))

    def point(self, theta: Matrix) -> _Point:
        """Evaluate."""
        shaped = (theta * self._units).reshape(self._shape)
        slope = self._sample.gradient(shaped, self._sample.probabilities(shaped)).reshape(-1) * self._units
        size = len(theta) - self._free
        costs = self._problem.l1 * float(np.abs(theta[:size]).sum()) + 0.5 * float(self._ridge @ theta**2)
        return _Point(theta, self._sample.value(shaped) + costs, slope + self._ridge * theta)

    def descend(self, theta: Matrix, enough: float) -> Matrix:
        """Make proximal Newton steps until the model falls by no more than `enough`."""
        point, l1 = self.point(theta), self._problem.l1
        left = abs(point.value)
        for _ in range(SAMPLE_STEPS):
            metric = DenseMetric(self.hessian(point.theta), self._free, self._problem.threads)
            there = metric.propose(point.theta, point.slope, l1, max(0.1 * enough, 0.01 * left))
            left = _decrease(metric, point, there, l1, self._free)
            length, lower = 1.0, point
            while length > 1e-6 and lower is point:
                trial = self.point(point.theta + length * (there - point.theta))
                lower = trial if trial.value <= point.value - 1e-4 * length * left else point
                length /= 2
            if lower is point or left <= enough:
                return lower.theta
            point = lower
        return point.theta
