"""Ridge regression whose columns are spread over the ranks, for more coefficients than one rank should hold.

Rank r owns a block of columns: its coefficients, residual and direction of the conjugate gradients, its means
and spreads. What travels in a pass is the prediction of every row, summed over the ranks chunk by chunk; each
chunk is then still in the cache for its product with the residuals. The sums over ranks depend on how the
columns are cut, so fits agree to rounding, not to the bit, for different numbers of ranks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from scrimp.comm import Comm, shard_bounds, single
from scrimp.errors import BudgetExceeded
from scrimp.matrix.blas import one_thread
from scrimp.train.checkpoint import Progress, load_progress, save_progress, written
from scrimp.train.dense import Matrix
from scrimp.train.equations import NOTHING, NormalOptions, NormalSolution
from scrimp.train.exchange import sum_over_ranks
from scrimp.train.normal import RunOptions, identity
from scrimp.train.refinement import Ask, Lanczos
from scrimp.train.shared_rows import SharedRows
from scrimp.train.watch import Watch
from scrimp.usage import Usage

BLOCK = 16  # columns: blocks begin on multiples
CHUNK_VALUES = 1 << 21  # of a block, as float64, at once


class _Descent(NamedTuple):
    """Conjugate gradients of one rank's columns."""

    w: Matrix
    r: Matrix
    p: Matrix
    rz: Matrix  # [k], of all ranks


class ColumnBlock:
    """The columns of one rank, centred, and their products with all rows.

    Parameters
    ----------
    comm : Comm
    X : float array[n, d] or int8 array[n, d]
        All columns; this rank reads its own.
    y : float64[n, k]
    sample_weight : float64[n] or None
    options : NormalOptions
    """

    def __init__(
        self, comm: Comm, X: Any, y: Matrix, sample_weight: Matrix | None, options: NormalOptions
    ) -> None:
        bounds = shard_bounds(X.shape[1], comm.size, BLOCK)
        self.comm, self.columns = comm, slice(*bounds[comm.rank])
        widest = max(end - begin for begin, end in bounds)
        self._chunk = max(256, CHUNK_VALUES // max(widest, 1))  # rows that meet at once: on all ranks alike
        self.x, self.y, self.weight = X[:, self.columns], y, sample_weight
        d, k = self.x.shape[1], y.shape[1]
        self.mean, self.y_mean, self.scatter = np.zeros(d), np.zeros(k), np.zeros(d)
        own = SharedRows(single(), self.x if d else X[:, :1], y, sample_weight, 0, options.threads)
        mean, y_mean = own.moments()
        if options.fit_intercept:
            self.mean, self.y_mean = mean[:d], y_mean
            own.answer(Ask("centre", (mean, y_mean)))
        self.scatter = own.scatter()[:d]
        self.used = self.scatter > (NOTHING * self.mean) ** 2

    def product(self, v: Matrix, target: Matrix | None = None) -> Matrix:
        """Return Xᵀs(X·v), or Xᵀs(y − X·v) where a target is given, of the own columns: float64[d, k]."""
        n = len(self.x)
        out = np.zeros(v.shape)
        for begin in range(0, n, self._chunk):
            rows = slice(begin, min(n, begin + self._chunk))
            x = self.x[rows].astype(np.float64) - self.mean
            z = x @ v
            self.comm.all_reduce(z.reshape(-1), op="sum", raw_below=0)
            z = z if target is None else target[rows] - z
            out += x.T @ (z if self.weight is None else z * self.weight[rows, None])
        return out * self.used[:, None]

    def inner(self, a: Matrix, b: Matrix) -> Matrix:
        """Return the inner products over all columns, float64[k]."""
        return sum_over_ranks(self.comm, (a * b).sum(axis=0))


def solve_by_columns(
    comm: Comm,
    X: Any,
    y: Matrix,
    sample_weight: Matrix | None,
    options: NormalOptions,
    run: RunOptions | None = None,
) -> NormalSolution:
    """Fit on all ranks by conjugate gradients; all must call it, each with all rows and columns mapped.

    Parameters and errors are those of `solve_normal`; the solution is whole on every rank.
    """
    run = run or RunOptions()
    with one_thread():
        block = ColumnBlock(comm, X, y, sample_weight, options)
        problem: dict[str, Any] = {}
        progress = None
        if run.checkpoint is not None:
            problem = identity(X, y, sample_weight, options) | {"shard": "features", "workers": comm.size}
            progress = load_progress(run.checkpoint, comm.rank, problem)
            comm.barrier()
        before = Usage() if progress is None else Usage(**progress.record["spent"])
        watch = Watch(comm, run.budget, before, run.started)
        state, lanczos, passes = _begin(block, options) if progress is None else _resumed(progress)
        while (error := lanczos.worst(_errors(block, state, options))) > options.tol:
            if passes >= options.max_iter:
                break
            if watch.due(passes) and watch.over_budget(passes):
                raise BudgetExceeded(watch.message, written(run.checkpoint))
            state, passes = _step(block, state, options, lanczos), passes + 1
            if run.checkpoint is not None:
                record = {"passes": passes, "spent": watch.spent().to_dict()}
                arrays = state._asdict() | lanczos.to_arrays()
                save_progress(run.checkpoint, comm, problem, Progress(arrays, record))
        return _whole(block, state, passes, error)


def _begin(block: ColumnBlock, options: NormalOptions) -> tuple[_Descent, Lanczos, int]:
    w = np.zeros((len(block.mean), len(options.alpha)))
    if options.start is not None:
        w = options.start[block.columns] * block.used[:, None]
    r = block.product(w, block.y - block.y_mean) - options.alpha * w
    z = _solve(block, r, options)
    return _Descent(w, r, z, block.inner(r, z)), Lanczos(), 1


def _resumed(progress: Progress) -> tuple[_Descent, Lanczos, int]:
    arrays = dict(progress.arrays)
    lanczos = Lanczos(list(arrays.pop("steps")), list(arrays.pop("ratios")))
    return _Descent(**arrays), lanczos, int(progress.record["passes"])


def _step(block: ColumnBlock, state: _Descent, options: NormalOptions, lanczos: Lanczos) -> _Descent:
    q = block.product(state.p) + options.alpha * state.p
    length = _ratio(state.rz, block.inner(state.p, q))
    w, r = state.w + length * state.p, state.r - length * q
    z = _solve(block, r, options)
    rz = block.inner(r, z)
    ratio = _ratio(rz, state.rz)
    lanczos.add(length, ratio)
    return _Descent(w, r, z + ratio * state.p, rz)


def _solve(block: ColumnBlock, r: Matrix, options: NormalOptions) -> Matrix:
    """Precondition by the spread of the columns."""
    safe = np.where(block.used, block.scatter, 1.0)[:, None] + options.alpha
    return np.asarray(block.used[:, None] * r / safe)


def _errors(block: ColumnBlock, state: _Descent, options: NormalOptions) -> Matrix:
    """Return ‖M⁻¹r‖ / ‖w‖ of each output, plain or in units of the columns' spread."""
    z, w, spread = _solve(block, state.r, options), state.w, np.sqrt(block.scatter)[:, None]
    pairs = [(z, w), (z * spread, w * spread)]
    changes, sizes = (np.sqrt([block.inner(pair[i], pair[i]) for pair in pairs]) for i in (0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(changes > 0, changes / sizes, 0.0).max(axis=0))


def _ratio(a: Matrix, b: Matrix) -> Matrix:
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


def _whole(block: ColumnBlock, state: _Descent, passes: int, error: float) -> NormalSolution:
    own = np.column_stack([state.w, block.mean, block.scatter])
    parts = block.comm.all_gather_bytes(own.tobytes()) if block.comm.size > 1 else [own.tobytes()]
    every = np.concatenate([np.frombuffer(part).reshape(-1, own.shape[1]) for part in parts])
    w, mean, scatter = every[:, :-2].copy(), every[:, -2].copy(), every[:, -1].copy()
    how = f"conjugate gradients on {block.comm.size} blocks of columns"
    return NormalSolution(w, mean, block.y_mean, scatter, how, passes, error, len(w))
