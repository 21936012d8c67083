"""Ridge regression by its normal equations: quantized Gram matrix, one factor, refinement on the rows.

Rank 0 alone solves, with one LAPACK thread, and tells the others its next question about the rows; each rank
answers for its own leaves. So the coefficients have the same bits for every number of ranks and threads, on
every rank.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from scrimp.comm import Comm
from scrimp.cost import Budget
from scrimp.errors import BudgetExceeded
from scrimp.matrix import LEAF_ROWS, Gram, QuantizedMatrix
from scrimp.matrix.blas import one_thread
from scrimp.train.checkpoint import fingerprint, written
from scrimp.train.dense import Matrix, ridge_by_svd
from scrimp.train.equations import NOTHING, Centred, NormalOptions, NormalSolution, Solver
from scrimp.train.exchange import from_root
from scrimp.train.refinement import Ask, Refined, System, refine, refine_by_sample
from scrimp.train.replay import Replay
from scrimp.train.sampling import choose_step, passes_of, rate_of
from scrimp.train.shared_rows import SharedRows
from scrimp.train.watch import Watch

SURELY_REGULAR = (
    1e-3  # least pivot of the quantized Gram above which its rounding cannot hide a singular matrix
)
MADE_UP = 100.0  # times the spread that rounding makes up: what is larger is there
SAMPLE_PASSES = 4  # more than expected, in which a sample that is like the rest has solved the rest
EVEN = 50.0  # values as far from the mean as the farthest that the sample of a column is worth at least
NEAR = 1e3  # standard deviations from 0 within which columns lose little to rounding to float32


Questions = Generator[Ask, Any, NormalSolution]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What may end a fit early, and where its state is kept.

    Parameters
    ----------
    budget : Budget, optional
    checkpoint : str, optional
        Written after every pass over the rows; a fit that finds it begins there.
    started : float
        `time.perf_counter()` at the start.
    """

    budget: Budget | None = None
    checkpoint: str | None = None
    started: float = field(default_factory=time.perf_counter)


def solve_normal(
    comm: Comm,
    X: Any,
    y: Matrix,
    sample_weight: Matrix | None,
    options: NormalOptions,
    run: RunOptions | None = None,
) -> NormalSolution:
    """Fit on all ranks; each is given all rows and reads its own leaves.

    Parameters
    ----------
    X : float array[n, d], int8 array[n, d] or QuantizedMatrix
    y : float64[n, k]
    sample_weight : float64[n], optional
    options : NormalOptions
    run : RunOptions, optional
        Budget and checkpoint.

    Returns
    -------
    NormalSolution
        The same bits on every rank, for every number of ranks and threads.

    Raises
    ------
    BudgetExceeded
        Before the pass over the rows that would overspend.
    """
    run = run or RunOptions()
    with one_thread():
        if fits_one_leaf(X, options):
            return _in_one_leaf(X, y, sample_weight, options)
        rows = SharedRows(comm, X, y, sample_weight, options.seed, options.threads)
        path = run.checkpoint if comm.rank == 0 else None  # nobody else solves
        replay = Replay(path, identity(X, y, sample_weight, options) if path is not None else {})
        watch = Watch(comm, run.budget, replay.spent_before, run.started)
        questions = _solve(rows, options) if comm.rank == 0 else None
        return converse(rows, questions, replay, watch, run)


def identity(X: Any, y: Matrix, sample_weight: Matrix | None, options: NormalOptions) -> dict[str, Any]:
    """Return what a checkpoint must agree with."""
    codes = X.codes if isinstance(X, QuantizedMatrix) else X
    weight = np.ones(0) if sample_weight is None else sample_weight
    facts = {"rows": len(y), "data": fingerprint(codes, y, weight), "alpha": options.alpha.tolist()}
    if options.start is not None:
        facts["start"] = fingerprint(options.start)
    names = ("fit_intercept", "data_bits", "refine", "seed", "gram")
    return facts | {name: getattr(options, name) for name in names}


def solve_gram(gram: Gram, options: NormalOptions) -> NormalSolution:
    """Solve with a Gram matrix alone, on this process."""
    with one_thread():
        return _directly(Centred.of(gram, options), "float64 Gram, row by row as they came")


def fits_one_leaf(X: Any, options: NormalOptions) -> bool:
    """Whether the rows are so few that they are solved directly, in float64, by one process."""
    return X.shape[0] <= LEAF_ROWS and not isinstance(X, QuantizedMatrix) and options.refine


def _in_one_leaf(X: Any, y: Matrix, sample_weight: Matrix | None, options: NormalOptions) -> NormalSolution:
    weight = np.ones(len(y)) if sample_weight is None else sample_weight
    x = np.asarray(X, np.float64)
    mean, y_mean = np.zeros(x.shape[1]), np.zeros(y.shape[1])
    if options.fit_intercept:
        weighed = x if sample_weight is None or weight.all() else x[weight > 0]
        low, high = weighed.min(axis=0), weighed.max(axis=0)
        mean = np.clip(weight @ x / weight.sum(), low, high)  # of a constant column: to the bit
        y_mean = weight @ y / weight.sum()
        x = x - mean
        x[:, np.maximum(high - mean, mean - low) <= NOTHING * np.abs(mean)] = 0.0
    root = np.sqrt(weight)[:, None]
    w, rank = ridge_by_svd(x * root, (y - y_mean) * root, options.alpha)
    scatter = weight @ (x * x)
    rank += int((scatter == 0).sum())
    return NormalSolution(w, mean, y_mean, scatter, "singular values: few rows", 1, 0.0, rank)


def converse(
    rows: SharedRows, questions: Questions | None, replay: Replay, watch: Watch, run: RunOptions
) -> NormalSolution:
    """Let rank 0 ask and all ranks answer, until there is a solution."""
    answer: Any = None
    for step in itertools.count(1):
        said = _next(questions, answer)
        while isinstance(said, Ask) and said.what != "centre" and replay.answers(said):
            said = _next(questions, replay.hear())
        said = _read(from_root(rows.comm, b"" if said is None else _write(said)))
        if isinstance(said, NormalSolution):
            return said
        if watch.due(step) and watch.over_budget(step):
            raise BudgetExceeded(watch.message, written(run.checkpoint))
        answer = rows.answer(said)
        if run.checkpoint is not None and said.what != "centre":
            replay.record(said, answer, watch.spent())
    raise AssertionError("unreachable")


def _next(questions: Questions | None, answer: Any) -> Ask | NormalSolution | None:
    """Return what rank 0 says next; None on the others."""
    if questions is None:
        return None
    try:
        return questions.send(answer)
    except StopIteration as end:
        solution: NormalSolution = end.value
        return solution


def _solve(rows: SharedRows, options: NormalOptions) -> Questions:
    """Choose the way: codes first, float64 where codes cannot do it."""
    if not options.gram:
        return (yield from _solve_without_gram(options, rows.d))
    if rows.has_codes:
        gram = yield Ask("quantized_gram", (np.array(8.0),))
        return _directly(Centred.of(gram, options), "Gram of integer rows")
    if rows.weighted and options.refine:
        return (yield from _solve_exactly(options))
    step, wasted = _sample_step(rows, options), 0
    if step > 1:
        found = yield from _solve_by_sample(options, step)
        if found.error <= options.tol:
            return found
        wasted = found.n_iter
    found = yield from _solve_by_codes(options)
    return found._replace(n_iter=wasted + found.n_iter)


def _sample_step(rows: SharedRows, options: NormalOptions) -> int:
    """Return how many rows stand for one in the Gram matrix: 1 where a sample would not pay."""
    if not options.refine or options.data_bits < 32 or rows.is_file:
        return 1
    step = choose_step(rows.n, rows.d, rows.k, options.tol)
    enough = options.max_iter >= SAMPLE_PASSES + passes_of(step, rows.n, rows.d, options.tol)
    return step if enough else 1


def _solve_by_sample(options: NormalOptions, step: int) -> Questions:
    """Let the Gram matrix of a sample of the rows be the preconditioner for all of them.

    The means are the sample's, so the intercept is one more unknown. The error of the solution is infinite
    where the sample tells too little, as of a rare one-hot: the caller then takes all rows.
    """
    often = np.array(float(step))
    low, high, integral = yield Ask("sample_ranges", (often,))
    d, span = len(low), high - low
    how = f"Gram of one row in {step}, in int8, as preconditioner"
    nothing = NormalSolution(np.zeros((d, 0)), low, np.zeros(0), span, how, 0, np.inf, d)
    if not (low < high).all():
        return nothing
    gram = yield Ask("sampled_gram", (np.array(8.0), often, low, high, integral))
    problem = Centred.of(gram, options)
    scatter, nothing = problem.scatter(), nothing._replace(n_iter=1)
    if (scatter < step * EVEN * span**2).any() or not problem.used.all():
        return nothing
    solver = Solver.of(problem)
    if solver is None or _is_unsure(problem, solver, gram.n / step):
        return nothing
    yield Ask("centre", (problem.mean, np.zeros_like(problem.y_mean)))
    w, units, alpha = solver(problem.b), 1 / np.sqrt(scatter), options.alpha[None, :]
    system = System(alpha, solver, units)
    if options.fit_intercept:
        w = np.vstack([w, problem.y_mean])
        alpha = np.vstack([np.broadcast_to(alpha, (d, len(options.alpha))), np.zeros_like(alpha)])
        units = np.append(units, 1 / np.sqrt(gram.n))
        system = System(alpha, lambda r: np.vstack([solver(r[:d]), r[d:] / gram.n]), units, intercept=True)
    most = SAMPLE_PASSES + passes_of(step, gram.n, d, options.tol)
    reach = np.maximum(np.abs(low), np.abs(high))
    if (reach**2 * gram.n > NEAR**2 * scatter).any():
        refined = yield from refine(w, *system[:3], options.tol, most, intercept=system.intercept)
    else:
        rate = rate_of(step, gram.n, d)
        refined = yield from refine_by_sample(w, system, options.tol, most, rate)
    if not options.fit_intercept:
        return problem.solution(refined.w, how, refined)
    return replace(problem, y_mean=refined.w[d]).solution(refined.w[:d], how, refined)


def _solve_by_codes(options: NormalOptions) -> Questions:
    """Let the Gram matrix of the rows in few bits be the preconditioner, or without refinement the answer."""
    bits = 8 if options.data_bits == 32 else options.data_bits
    gram = yield Ask("quantized_gram", (np.array(float(bits)),))
    problem = Centred.of(gram, options)
    if not options.refine:
        return _directly(problem, f"Gram of int{bits} codes, its noise removed")
    solver = Solver.of(problem)
    how = f"Gram of int{bits} codes as preconditioner"
    if solver is None:
        solver, how = (
            Solver.of(problem, with_noise=True),
            how + " (with its noise: else not positive definite)",
        )
    if solver is None or _is_unsure(problem, solver, gram.n):
        return (yield from _solve_exactly(options))
    refined = yield from _refined(problem, solver)
    if refined.error > options.tol:
        return (yield from _solve_exactly(options))
    return problem.solution(refined.w[problem.used], how, refined)


def _is_unsure(problem: Centred, solver: Solver, n: float) -> bool:
    """Whether the rounding of n rows may hide that they do not vary in some direction.

    Codes of variance v along a direction without spread, relative to the columns', say that it has about
    v·√(2/n): next to that a penalty must be large, or conjugate gradients take the direction for solved.
    """
    if solver.smallest_pivot() >= SURELY_REGULAR:
        return False
    alpha = float(problem.options.alpha.min())
    if not alpha:
        return True
    full = np.diag(problem.a) + alpha
    unit = 1 / np.sqrt(full)
    values, vectors = np.linalg.eigh((problem.a + alpha * np.eye(len(full))) * unit[:, None] * unit)
    noise = (problem.noise / full) @ vectors**2
    small = values < SURELY_REGULAR
    return bool((values[small] < MADE_UP * noise[small] * np.sqrt(2 / n)).any())


def _directly(problem: Centred, how: str) -> NormalSolution:
    """Solve with what the Gram matrix says."""
    solver = Solver.of(problem)
    if solver is None or solver.smallest_pivot() < 1e-12:
        pseudo = Solver.pseudo(problem)
        rank = pseudo.rank() + int((~problem.used).sum())
        return problem.solution(pseudo(problem.b), how, rank=rank)
    return problem.solution(solver(problem.b), how)


def _solve_exactly(options: NormalOptions) -> Questions:
    """Solve with the float64 Gram matrix about the exact means, refined; of least norm if it is singular."""
    mean, _ = yield Ask("moments", ())
    gram = yield Ask("exact_gram", (mean,))
    problem = Centred.of(gram, options)
    solver, rank = Solver.of(problem), None
    if solver is None or solver.smallest_pivot() < 1e-12:
        solver = Solver.pseudo(problem)
        rank = solver.rank()
    refined = yield from _refined(problem, solver)
    rank = None if rank is None else rank + int((~problem.used).sum())
    return problem.solution(refined.w[problem.used], "float64 Gram", refined, rank)


def _solve_without_gram(options: NormalOptions, d: int) -> Questions:
    """Solve by conjugate gradients; the spread of the columns is the preconditioner."""
    (mean, y_mean), scatter = (yield Ask("moments", ())), None
    if not options.fit_intercept:
        mean, y_mean = np.zeros_like(mean), np.zeros_like(y_mean)
    yield Ask("centre", (mean, y_mean))
    scatter = yield Ask("scatter", ())
    used = scatter > NOTHING**2 * mean**2
    safe = np.where(used, scatter, 1.0)[:, None] + options.alpha
    start = np.zeros((d, len(options.alpha))) if options.start is None else options.start * used[:, None]
    units = 1 / np.sqrt(np.where(used, scatter, 1.0))
    refined = yield from refine(
        start, options.alpha, lambda r: used[:, None] * r / safe, units, options.tol, options.max_iter
    )
    return NormalSolution(
        refined.w, mean, y_mean, scatter, "conjugate gradients", refined.n_iter, refined.error, d
    )


def _refined(problem: Centred, solver: Solver) -> Generator[Ask, Any, Refined]:
    options, used = problem.options, problem.used
    yield Ask("centre", (problem.mean, problem.y_mean))
    scatter = np.diag(problem.a)
    units = np.ones(len(used))
    units[used] = 1 / np.sqrt(np.where(scatter > 0, scatter, 1.0))
    start = problem.widen(solver(problem.b))
    return (
        yield from refine(
            start,
            options.alpha,
            lambda r: problem.widen(solver(r[used])),
            units,
            options.tol,
            options.max_iter,
        )
    )


def _write(said: Ask | NormalSolution) -> bytes:
    """Encode a question or the solution: a line of JSON, then float64 values."""
    if isinstance(said, Ask):
        head: dict[str, Any] = {"ask": said.what}
        arrays = said.values
    else:
        head = {"how": said.how, "n_iter": said.n_iter, "error": said.error, "rank": said.rank}
        arrays = (said.w, said.mean, said.y_mean, said.scatter)
    head["shapes"] = [a.shape for a in arrays]
    return (
        json.dumps(head).encode()
        + b"\n"
        + b"".join(np.ascontiguousarray(a, np.float64).tobytes() for a in arrays)
    )


def _read(message: bytes) -> Ask | NormalSolution:
    line, _, rest = message.partition(b"\n")
    head = json.loads(line)
    values, start, arrays = np.frombuffer(rest, np.float64), 0, []
    for shape in head["shapes"]:
        size = int(np.prod(shape))
        arrays.append(values[start : start + size].reshape(shape))
        start += size
    if "ask" in head:
        return Ask(head["ask"], tuple(arrays))
    w, mean, y_mean, scatter = arrays
    return NormalSolution(w, mean, y_mean, scatter, head["how"], head["n_iter"], head["error"], head["rank"])
