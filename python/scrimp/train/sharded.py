"""`scrimp.minimize`: sharded training of any model that has a value and a gradient."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from scrimp.comm import Comm, shard_bounds
from scrimp.cost import Budget
from scrimp.errors import BudgetExceeded
from scrimp.matrix import LEAF_ROWS
from scrimp.train.checkpoint import fingerprint, load_progress, without_residuals
from scrimp.train.exchange import Wire
from scrimp.train.full_batch import FullBatchLoop, LeafBatchLoop, sums_by_leaves
from scrimp.train.options import Fit, Options, Outcome, Report, averaged_after
from scrimp.train.ranks import TIMEOUT_S, kept_state, on_ranks
from scrimp.train.rows import count_rows, take_rows
from scrimp.train.stochastic import ManySteps, StochasticLoop
from scrimp.train.structure import Structure, Vector
from scrimp.train.watch import Watch
from scrimp.usage import Usage

ValueAndGrad = Callable[[Any, Any], tuple[float, Any]]
LOOK_ROWS = 16 * LEAF_ROWS  # of the gradient over all rows, at once


def minimize(
    value_and_grad: ValueAndGrad,
    w0: Any,
    data: Any,
    *,
    workers: int = 1,
    comm: Comm | None = None,
    shard: str = "rows",
    solver: str = "sgd",
    learning_rate: float = 0.1,
    momentum: float = 0.0,
    nesterov: bool = False,
    schedule: str = "constant",
    average: bool | int = False,
    batch_size: int = 256,
    max_iter: int | None = None,
    tol: float = 1e-6,
    gradient_scale: float = 0.0,
    sync_every: int = 1,
    compress: str | tuple[str, str] = "raw",
    raw_below: int = 65536,
    feedback: str = "auto",
    seed: int = 0,
    budget: Budget | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    callback: Callable[[Report], bool | None] | None = None,
    timeout: float = TIMEOUT_S,
    on_failure: str = "raise",
) -> Fit:
    """Minimize the mean of a function over the rows of the data, on one process or several.

    Parameters
    ----------
    value_and_grad : callable
        `value_and_grad(w, rows) -> (value, gradient)`: mean of the objective over these rows, and its
        gradient in the structure of `w`. With `workers > 1` it must be importable (a function of a module).
        It may keep views of `w` only until it returns.
    w0 : array, or tuple, list or dict of arrays
        Initial weights; trained in float32, or float64 if any array is float64.
    data : array, or tuple, list or dict of arrays
        The same number of rows in each. Rank r of N holds a contiguous N-th part; workers map it, they do not
        copy it.
    workers : int
        Processes on this machine.
    comm : Comm, optional
        Join these ranks instead: every rank makes the same call and gets the same result.
    shard : {"rows", "zero"}
        `"rows"`: every rank holds all weights, gradients meet in an all-reduce. `"zero"`: rank r owns slice r
        of the weights and of the solver's state; encoded gradients go in, encoded weights come out.
    solver : {"sgd", "adam", "lbfgs"}
        Mini-batches with momentum, or adaptive steps, or full batches.
    learning_rate, momentum, nesterov, schedule
        Step size, heavy-ball factor, Nesterov's look-ahead, and `"constant"`, `"linear"` or `"cosine"` decay
        to 0.
    average : bool or int
        Return the mean of the weights over all steps (True), or over those after so many rows, in place of
        the last ones (Polyak and Juditsky, 1992). For "sgd" and "adam"; with `sync_every` it is taken over
        the weights on which the ranks agree, every H steps.
    batch_size : int
        Rows of all ranks together in a step.
    max_iter : int, optional
        Epochs (default 20), or L-BFGS iterations (default 200).
    tol : float
        sgd, adam: a look is taken when the best epoch value improved by less than `tol` times itself in five
        epochs (or more, where they are shorter than five times the memory of the momentum): converged if the
        gradient norm over all rows fell to √tol, or 1e-3, times the first; stalled if the learning rate is
        constant and it did not. 0: run all epochs. lbfgs: converged when the gradient norm fell to `tol`
        times the first. First norms below `gradient_scale` count as that.
    gradient_scale : float
        A typical gradient norm, for a start that is near the solution already.
    sync_every : int
        Steps that a rank takes alone before the ranks average how far they went.
    compress : str or pair of str
        Codec of what travels; a pair is gradient leg, weight leg (`shard="zero"`).
    raw_below : int
        Vectors of fewer bytes travel raw.
    feedback : {"auto", "none", "ef14", "ef21"}
        What becomes of what a codec dropped. Auto: ef14 for mini-batches, ef21 for full batches.
    seed : int
        Of the order of rows.
    budget : Budget, optional
        Stop before it is overspent.
    checkpoint : path, optional
        State is written here after each epoch or iteration and when the budget ends; a fit that finds the
        file continues from it and makes the same steps, bit for bit, as one that was not interrupted.
    callback : callable, optional
        Called on rank 0 with a `Report` after each epoch or iteration; returning True stops.
    timeout : float
        Seconds that a rank waits for another before it raises CommError.
    on_failure : {"raise", "continue"}
        What becomes of a fit that loses a worker. "continue": its rows move to the others, which go on from
        the last epoch or iteration, with a RuntimeWarning; residuals of error feedback begin anew. L-BFGS on
        a function with `leaf_sums` (linear models), uncompressed, then ends with the same bits as without
        the loss. Needs shard="rows"; state is kept in a temporary file where no `checkpoint` is named.

    Returns
    -------
    Fit

    Raises
    ------
    BudgetExceeded
        With the path of the checkpoint.
    CommError
        A worker died or got stuck.
    InputError
        The checkpoint is damaged or of another fit.
    FloatingPointError
        The value is no longer finite.

    Examples
    --------
    >>> def squared(w, rows):
    ...     x, y = rows
    ...     error = x @ w - y
    ...     return 0.5 * float(error @ error) / len(y), x.T @ error / len(y)
    >>> x = np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32)
    >>> fit = minimize(squared, np.zeros(2, np.float32), (x, x @ np.float32([1, -1])), solver="lbfgs")
    >>> fit.w.round(4)
    array([ 1., -1.], dtype=float32)
    """
    full_batch = solver == "lbfgs"
    options = Options(
        solver=solver,
        shard=shard,
        wire=Wire.of(compress, raw_below, feedback, full_batch),
        sync_every=sync_every,
        batch_size=batch_size,
        learning_rate=learning_rate,
        momentum=momentum,
        nesterov=nesterov,
        schedule=schedule,
        max_iter=max_iter if max_iter is not None else (200 if full_batch else 20),
        tol=tol,
        gradient_scale=gradient_scale,
        average=averaged_after(average),
        seed=seed,
        budget=budget,
        checkpoint=None if checkpoint is None else os.fspath(checkpoint),
        callback=callback,
        on_failure=on_failure,
    )
    if count_rows(data) == 0:
        raise ValueError("data has no rows")
    started = time.perf_counter()
    with kept_state(options.checkpoint, on_failure) as state:
        args = (value_and_grad, w0, data, replace(options, checkpoint=state), started)
        ranks = {"workers": workers, "comm": comm, "timeout": timeout, "on_failure": on_failure}
        outcome, usage = on_ranks(train, args, **ranks)  # type: ignore[arg-type]
    if outcome.stop == "budget":
        raise BudgetExceeded(outcome.message, options.checkpoint)
    structure = Structure.of(w0)
    w = structure.unflatten(outcome.vector)
    last = w if outcome.last is None else structure.unflatten(outcome.last)
    found = outcome.value, outcome.n_iter, outcome.history, outcome.stop
    return Fit(w, *found, usage, last, outcome.n_averaged)


def train(
    comm: Comm, value_and_grad: ValueAndGrad, w0: Any, data: Any, options: Options, started: float
) -> Outcome:
    """Train on one rank; all ranks must call it with the same arguments."""
    structure = Structure.of(w0)
    w = structure.flatten(w0)
    by_leaves = sums_by_leaves(value_and_grad, options, structure.size)
    bounds = shard_bounds(count_rows(data), comm.size, LEAF_ROWS if by_leaves else 1)
    shard = take_rows(data, slice(*bounds[comm.rank]))
    loop: FullBatchLoop | StochasticLoop
    if by_leaves:
        loop = LeafBatchLoop(comm, value_and_grad, w, shard, bounds, options, structure)  # type: ignore[arg-type]
    else:
        rows_by_rank = tuple(end - begin for begin, end in bounds)
        parts = comm, _flat(value_and_grad, structure), w, shard, rows_by_rank, options
        if options.solver == "lbfgs":
            loop = FullBatchLoop(*parts)
        else:
            many = _many_steps(comm, value_and_grad, w, shard, options)
            # A function is asked for no more rows than in a step, unless it takes all that L-BFGS has.
            look_rows = LOOK_ROWS if hasattr(value_and_grad, "leaf_sums") else options.batch_size
            loop = StochasticLoop(*parts, many, look_rows)
    problem, spent = _begin(comm, loop, value_and_grad, structure, w0, data, options)
    return loop.run(Watch(comm, options.budget, spent, started), problem, structure)


def _many_steps(comm: Comm, value_and_grad: Any, w: Vector, shard: Any, options: Options) -> ManySteps | None:
    """Return what takes many steps at once, where nothing travels and the objective offers it."""
    exchanged = comm.size > 1 or options.shard != "rows" or options.wire.gradient != "raw"
    plain = options.solver == "sgd" and options.sync_every == 1 and w.dtype == np.float32
    if exchanged or not plain or not hasattr(value_and_grad, "many_steps"):
        return None
    rows = min(options.batch_size, count_rows(shard))
    steps: ManySteps | None = value_and_grad.many_steps(shard, rows, options.momentum, options.nesterov)
    return steps


def _begin(
    comm: Comm,
    loop: FullBatchLoop | StochasticLoop,
    objective: Any,
    structure: Structure,
    w0: Any,
    data: Any,
    options: Options,
) -> tuple[dict[str, Any], Usage]:
    if options.checkpoint is None:
        return {}, Usage()
    arrays = data.values() if isinstance(data, dict) else data if isinstance(data, (tuple, list)) else [data]
    any_size = isinstance(loop, LeafBatchLoop) or options.on_failure == "continue"
    problem = options.identity(structure, None if any_size else comm.size)
    if hasattr(objective, "identity"):  # of linear models; of other functions nothing is known
        problem |= objective.identity()
    problem |= {
        "rows": count_rows(data),
        "data": fingerprint(*arrays),
        "w0": fingerprint(structure.flatten(w0)),
    }
    progress = load_progress(options.checkpoint, comm.rank, problem)
    if progress and progress.record.get("workers", comm.size) != comm.size:  # then all have the same state
        progress = load_progress(options.checkpoint, 0, problem)
        progress = progress and without_residuals(progress)
    comm.barrier()
    if progress is None:
        return problem, Usage()
    loop.resume(progress)
    return problem, Usage(**progress.record["spent"])


def _flat(
    value_and_grad: ValueAndGrad, structure: Structure
) -> Callable[[Vector, Any], tuple[float, Vector]]:
    def flat(vector: Vector, rows: Any) -> tuple[float, Vector]:
        value, gradient = value_and_grad(structure.unflatten(vector), rows)
        out = np.empty(structure.size, structure.dtype)
        return float(value), structure.flatten(gradient, out)

    return flat
