"""Elastic nets on rows: an approximate Gram matrix proposes, the rows themselves judge by the duality gap.

As in `normal`, rank 0 solves and asks, every rank answers for its own leaves, and the coefficients have the
same bits for every number of ranks and threads. A pass over the rows gives the exact slope at the weights;
coordinate descent then solves the problem with that slope and the curvature of the quantized rows. Two or
three passes reach what float64 can tell.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scrimp.comm import Comm
from scrimp.matrix import LEAF_ROWS
from scrimp.matrix.blas import one_thread
from scrimp.train.checkpoint import fingerprint
from scrimp.train.dense import Factor, Matrix
from scrimp.train.equations import NOTHING, Centred, NormalOptions, NormalSolution
from scrimp.train.lasso import Penalty, Quadratic, minimize_quadratic, objective_and_gap, relative_gap
from scrimp.train.normal import RunOptions, converse, identity
from scrimp.train.refinement import Ask
from scrimp.train.replay import Replay
from scrimp.train.shared_rows import SharedRows
from scrimp.train.watch import Watch

PROPOSALS = 6  # passes after which an approximate Gram matrix that does not help is given up
INNER = 0.1  # of the tolerance, for the problem that a pass over the rows sets
MANY_OUTPUTS = 8  # times the outputs: more columns than this make one exact Gram cheaper than passes

Questions = Generator[Ask, Any, NormalSolution]


@dataclass(frozen=True, slots=True)
class SparseProblem:
    """What to solve.

    Parameters
    ----------
    penalty : Penalty
        Of all outputs, against ½ Σ s(y − x·w − b)².
    options : NormalOptions
        `alpha` is not used; `tol` is the duality gap relative to the objective.
    start : float64[d, k]
        First weights.
    repeat : int
        How often the targets stand side by side, each time with its own penalties (a path of them).
    """

    penalty: Penalty
    options: NormalOptions
    start: Matrix
    repeat: int = 1


def solve_sparse(
    comm: Comm,
    X: Any,
    y: Matrix,
    sample_weight: Matrix | None,
    problem: SparseProblem,
    run: RunOptions | None = None,
) -> NormalSolution:
    """Fit on all ranks; each is given all rows and reads its own leaves.

    Parameters
    ----------
    X : float array[n, d], int8 array[n, d] or QuantizedMatrix
    y : float64[n, k / repeat]
    sample_weight : float64[n], optional
    problem : SparseProblem
    run : RunOptions, optional

    Returns
    -------
    NormalSolution
        `error` is the largest duality gap, relative to the objective. `y_mean` is that of y, `repeat` times.

    Raises
    ------
    BudgetExceeded
        Before the pass over the rows that would overspend.
    """
    run = run or RunOptions()
    options = problem.options
    with one_thread():
        rows = SharedRows(comm, X, y, sample_weight, options.seed, options.threads)
        facts: dict[str, Any] = {}
        path = run.checkpoint if comm.rank == 0 else None  # nobody else solves
        if path is not None:
            penalty = problem.penalty
            facts = identity(X, y, sample_weight, options) | {
                "penalty": fingerprint(penalty.l1, penalty.l2, problem.start),
                "positive": penalty.positive,
            }
        replay = Replay(path, facts)
        watch = Watch(comm, run.budget, replay.spent_before, run.started)
        questions = _solve(rows, problem) if comm.rank == 0 else None
        return converse(rows, questions, replay, watch, run)


def _solve(rows: SharedRows, problem: SparseProblem) -> Questions:
    options = problem.options
    if not options.gram:
        return (yield from _solve_by_passes(problem))
    if rows.has_codes or not options.refine:
        bits = float(8 if options.data_bits == 32 else options.data_bits)
        gram = yield Ask("quantized_gram", (np.array(bits),))
        how = "Gram of integer rows" if rows.has_codes else f"Gram of int{int(bits)} codes, its noise removed"
        y_square = yield from _centre(options)
        return _on_gram(gram, problem, y_square, how)
    few = rows.n <= LEAF_ROWS or problem.repeat > 1 or MANY_OUTPUTS * len(problem.penalty.l1) > rows.d
    if few or rows.weighted:
        return (yield from _solve_exactly(problem))
    bits = float(8 if options.data_bits == 32 else options.data_bits)
    gram = yield Ask("quantized_gram", (np.array(bits),))
    found = yield from _refined(Centred.of(gram, _wide(problem)), problem, int(bits))
    if found is None:
        return (yield from _solve_exactly(problem))
    return found


def _wide(problem: SparseProblem) -> NormalOptions:
    return replace(problem.options, alpha=problem.penalty.l2)


def _centre(options: NormalOptions) -> Generator[Ask, Any, Matrix]:
    """Centre the rows; return Σ s(y − ȳ)² of each target."""
    mean, y_mean = yield Ask("moments", ())
    if not options.fit_intercept:
        mean, y_mean = np.zeros_like(mean), np.zeros_like(y_mean)
    yield Ask("centre", (mean, y_mean))
    square: Matrix = yield Ask("target_scatter", ())
    return square


def _on_gram(gram: Any, problem: SparseProblem, y_square: Matrix, how: str) -> NormalSolution:
    """Solve with what the Gram matrix says; with its rounding noise where it is not definite without."""
    centred = Centred.of(gram, _wide(problem))
    a = centred.a
    if _is_indefinite(centred):
        a, how = a + np.diag(centred.noise), how + " (put back: not positive definite without)"
    quadratic = _repeated(Quadratic(a, centred.b, y_square), problem.repeat)
    tol, threads = problem.options.tol, problem.options.threads
    w, gap = minimize_quadratic(quadratic, problem.penalty, problem.start[centred.used], tol, threads)
    return _solution(centred, problem, w, how, 1, float(gap.max(initial=0.0)))


def _is_indefinite(centred: Centred) -> bool:
    return bool(centred.noise.any()) and Factor.of(centred.a + np.diag(1e-12 * np.diag(centred.a))) is None


def _repeated(problem: Quadratic, times: int) -> Quadratic:
    if times == 1:
        return problem
    return Quadratic(problem.a, np.tile(problem.b, times), np.tile(problem.y_square, times))


def _solution(
    centred: Centred, problem: SparseProblem, w: Matrix, how: str, passes: int, gap: float
) -> NormalSolution:
    y_mean = np.tile(centred.y_mean, problem.repeat)
    rank = len(centred.used)
    return NormalSolution(centred.widen(w), centred.mean, y_mean, centred.scatter(), how, passes, gap, rank)


def _solve_exactly(problem: SparseProblem) -> Questions:
    """Solve with the float64 Gram matrix about the exact means."""
    mean, _ = yield Ask("moments", ())
    gram = yield Ask("exact_gram", (mean,))
    y_square = yield from _centre(problem.options)
    return _on_gram(gram, problem, y_square, "float64 Gram, coordinate descent")


def _refined(
    centred: Centred, problem: SparseProblem, bits: int
) -> Generator[Ask, Any, NormalSolution | None]:
    """Let the quantized Gram propose and the rows judge; None if that does not get there."""
    penalty, options, used = problem.penalty, problem.options, centred.used
    curvature = centred.a + (np.diag(centred.noise) if _is_indefinite(centred) else 0.0)
    yield Ask("centre", (centred.mean, centred.y_mean))
    y_square = yield Ask("target_scatter", ())
    k = len(penalty.l1)
    b: Matrix = -(yield Ask("residual", (np.zeros((len(used), k)),)))[used]
    slope = b - (yield from _product(problem.start, used)) if problem.start.any() else b
    w, passes = problem.start[used], 2
    for _ in range(PROPOSALS):
        value, gap = objective_and_gap(w, slope, b, y_square, penalty)
        worst = float(relative_gap(value, gap, y_square).max(initial=0.0))
        if worst <= options.tol:
            how = f"slope of the rows, curvature of int{bits} codes, coordinate descent"
            return _solution(centred, problem, w, how, passes, worst)
        model = Quadratic(curvature, slope + curvature @ w, y_square)
        goal, _ = minimize_quadratic(model, penalty, w, INNER * options.tol, options.threads)
        change = centred.widen(goal - w)
        moved = (yield Ask("product", (change,)))[used]
        length = _best_length(w, goal - w, slope, moved, penalty)
        w, slope, passes = w + length * (goal - w), slope - length * moved, passes + 1
    return None


def _product(w: Matrix, used: Any) -> Generator[Ask, Any, Matrix]:
    answer = yield Ask("product", (w,))
    return np.asarray(answer[used])


def _best_length(w: Matrix, step: Matrix, slope: Matrix, moved: Matrix, penalty: Penalty) -> Matrix:
    """Return how far to go: all the way, unless the true curvature makes a shorter way lower."""
    lengths = 0.5 ** np.arange(8)
    linear, square = (slope * step).sum(axis=0), (moved * step).sum(axis=0)
    values = [0.5 * t * t * square - t * linear + penalty.cost(w + t * step) for t in lengths]
    return np.asarray(lengths[np.argmin(values, axis=0)])


def _solve_by_passes(problem: SparseProblem) -> Questions:
    """Accelerated proximal gradients in units of the columns' spread, for many columns (FISTA with restarts).

    The curvature along each step is known after the pass, so the step adapts without further passes: Beck and
    Teboulle, 2009; O'Donoghue and Candès, 2015, for the restarts.
    """
    penalty, options = problem.penalty, problem.options
    mean, y_mean = yield Ask("moments", ())
    if not options.fit_intercept:
        mean, y_mean = np.zeros_like(mean), np.zeros_like(y_mean)
    yield Ask("centre", (mean, y_mean))
    y_square = yield Ask("target_scatter", ())
    scatter = yield Ask("scatter", ())
    used = scatter > NOTHING**2 * mean**2
    spread = np.where(used, scatter, 1.0)[:, None]
    zero = np.zeros((len(mean), len(penalty.l1)))
    b: Matrix = -(yield Ask("residual", (zero,))) * used[:, None]
    start, product = problem.start * used[:, None], zero
    if start.any():
        product = (yield Ask("product", (start,))) * used[:, None]
    state = _Accelerated(start, product, penalty, spread)
    passes = 2
    while True:
        value, gap = objective_and_gap(state.w, b - state.product, b, y_square, penalty)
        error = float(relative_gap(value, gap, y_square).max(initial=0.0))
        if error <= options.tol or passes >= options.max_iter:
            break
        goal = state.propose(b)
        state.take(goal, (yield Ask("product", (goal,))) * used[:, None])
        passes += 1
    how = "accelerated proximal gradients"
    return NormalSolution(state.w, mean, y_mean, scatter, how, passes, error, len(mean))


class _Accelerated:
    """FISTA whose products with A come from outside, one a step."""

    def __init__(self, w: Matrix, product: Matrix, penalty: Penalty, spread: Matrix) -> None:
        self.w, self.product = w, product
        self._penalty, self._spread = penalty, spread
        self._ahead, self._ahead_product = w, self.product
        self._bend = np.ones(w.shape[1])
        self._momentum = np.ones(w.shape[1])

    def propose(self, b: Matrix) -> Matrix:
        """Return the proximal step from the point ahead."""
        bend = self._bend * self._spread
        slope = b - self._ahead_product
        return self._penalty.shrink(bend * self._ahead + slope, bend)

    def take(self, goal: Matrix, product: Matrix) -> None:
        """Go to `goal`, whose product with A is known now; stay where the step was too long for A."""
        step = goal - self._ahead
        square = (step * step * self._spread).sum(axis=0)
        bent = (step * (product - self._ahead_product)).sum(axis=0)
        bend = np.divide(bent, square, out=np.zeros_like(square), where=square > 0)
        fits = bend <= self._bend * (1 + 1e-12)
        self._bend = np.where(fits, self._bend, 1.2 * bend)
        went, went_product = goal - self.w, product - self.product
        turned = (step * went * self._spread).sum(axis=0) < 0
        grown = np.where(turned, 1.0, 0.5 * (1 + np.sqrt(1 + 4 * self._momentum**2)))
        factor = np.where(turned, 0.0, (self._momentum - 1) / grown)
        self._momentum = np.where(fits, grown, self._momentum)
        old, old_product = self.w, self.product
        self.w = np.where(fits, goal, old)
        self.product = np.where(fits, product, old_product)
        self._ahead = np.where(fits, goal + factor * went, self._ahead)
        self._ahead_product = np.where(fits, product + factor * went_product, self._ahead_product)
