"""The loop of L-BFGS on one rank: whole shards in, exact values, gradients through the exchange.

An objective that can add up over leaves of rows (`LeafSums`) skips the exchange where nothing is compressed:
its sums merge in the fixed tree of `scrimp.matrix.TreeSum`, so that a fit has the same bits for every number
of ranks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scrimp.comm import Comm
from scrimp.errors import InputError
from scrimp.matrix import TreeSum
from scrimp.train import lbfgs
from scrimp.train.anchor import AnchoredGradients
from scrimp.train.checkpoint import Progress, save_progress
from scrimp.train.exchange import exchange_for, sum_over_ranks
from scrimp.train.options import Options, Outcome, Report
from scrimp.train.structure import Structure, Vector
from scrimp.train.watch import Watch

LOSSY_TRIALS = 10  # of a line search, before it is the gradient that is doubted
EXACT_VALUES = 1 << 18  # parameters above which an all-reduce is cheaper than the nodes of the tree


class LeafSums(Protocol):
    """What a value-and-gradient function may offer beside being called."""

    def leaf_sums(self, w: Any, rows: Any, first_row: int) -> TreeSum:
        """Return sums over some rows; `first_row`, a multiple of `LEAF_ROWS`, is the number of the first."""

    def from_total(self, w: Any, total: NDArray[np.float64], n: int) -> tuple[float, Any]:
        """Return value and gradient, given the sums over all n rows."""


def sums_by_leaves(value_and_grad: Any, options: Options, size: int) -> bool:
    """Whether a fit of `size` parameters goes by leaves."""
    exchanged = options.shard != "rows" or options.wire.gradient != "raw"
    fits = hasattr(value_and_grad, "leaf_sums") and size <= EXACT_VALUES
    return options.solver == "lbfgs" and not exchanged and fits


class FullBatchLoop:
    """Iterations of L-BFGS over all rows of all ranks."""

    def __init__(
        self,
        comm: Comm,
        gradient: Callable[[Vector, Any], tuple[float, Vector]],
        w: Vector,
        shard: Any,
        rows_by_rank: tuple[int, ...],
        options: Options,
    ) -> None:
        self._comm, self._gradient, self._shard, self._options = comm, gradient, shard, options
        self._part = rows_by_rank[comm.rank] / sum(rows_by_rank)
        self._exchange = exchange_for(options.shard, comm, w.size, options.wire)
        self._gradients = AnchoredGradients(self._exchange, comm, options.wire, options.shard, w)
        self._weights = w
        self._state: lbfgs.LbfgsState | None = None
        self._history: list[float] = []
        self._n_iter = 0

    def resume(self, progress: Progress) -> None:
        """Continue where a checkpoint stopped."""
        needed = {*lbfgs.ARRAYS, *AnchoredGradients.ARRAYS}
        if missing := sorted(needed - set(progress.arrays)):
            raise InputError(
                f"{os.fspath(self._options.checkpoint or '')}: checkpoint of an older version of scrimp "
                f"(it has no {missing[0]!r}); remove it to begin anew, or finish the fit with that version"
            )
        self._n_iter, self._history = progress.record["iteration"], list(progress.record["history"])
        self._gradients.load_state(progress.arrays)
        self._state = lbfgs.LbfgsState.from_arrays(progress.arrays)

    def run(self, watch: Watch, problem: dict[str, Any], structure: Structure) -> Outcome:
        """Train until a rule says stop."""
        state = self._state or self._begin()
        stop = None
        while stop is None and self._n_iter < self._options.max_iter:
            state, stop = self._iterate(state)
            if stop is None:
                self._n_iter += 1
                self._history.append(state.point.value)
                stop = self._after_iteration(state, watch, problem, structure)
        vector = self._exchange.gather(state.point.w)
        return Outcome(
            vector, state.point.value, self._n_iter, self._history, stop or "max_iter", watch.message
        )

    def _begin(self) -> lbfgs.LbfgsState:
        own = self._weights[self._exchange.own].copy()
        is_near = self._options.gradient_scale > 0  # then a codec's error may be more than the gradient
        oracle = self._exactly if is_near and self._gradients.is_lossy else self._oracle
        state = lbfgs.start(oracle, own, self._total)
        if not (np.isfinite(state.point.value) and np.isfinite(state.first_norm)):
            raise FloatingPointError(
                f"the objective must be finite at the start, got the value {state.point.value} "
                f"and a gradient of norm {state.first_norm}"
            )
        return state._replace(first_norm=max(state.first_norm, self._options.gradient_scale))

    def _iterate(self, state: lbfgs.LbfgsState) -> tuple[lbfgs.LbfgsState, str | None]:
        """Make one iteration; a search that fails with lossy gradients is tried again from an exact one.

        If it fails there, too, all gradients are exact from then on.
        """
        lossy = self._gradients.is_lossy and not self._gradients.exact
        trials = LOSSY_TRIALS if lossy else lbfgs.MAX_TRIALS
        new, stop = lbfgs.iterate(self._oracle, state, self._total, self._options.tol, max_trials=trials)
        if stop != "stalled" or not lossy:
            return new, stop
        self._gradients.exact = self._gradients.is_at(state.point.w)
        return self._iterate(lbfgs.restart(self._exactly, state))

    def _oracle(self, own: Vector) -> tuple[float, Vector]:
        self._weights = self._gradients.weights(own)
        value, gradient = self._local()
        return value, self._gradients.reduce(gradient)

    def _exactly(self, own: Vector) -> tuple[float, Vector]:
        """Evaluate with everything sent as it is; gradients count from here."""
        self._weights = self._exchange.gather(own)
        value, gradient = self._local()
        return value, self._gradients.anchor(own, gradient)

    def _local(self) -> tuple[float, Vector]:
        """Return the mean value, and this rank's share of the gradient times the number of ranks."""
        value, gradient = 0.0, np.zeros_like(self._weights)
        if self._part:
            value, gradient = self._gradient(self._weights, self._shard)
        mean = float(sum_over_ranks(self._comm, np.array([value * self._part]))[0])
        return mean, gradient * gradient.dtype.type(self._part * self._comm.size)

    def _total(self, own: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum over the ranks' own parts; with rows every rank owns everything already."""
        return sum_over_ranks(self._comm, own) if self._options.shard == "zero" else own

    def _after_iteration(
        self, state: lbfgs.LbfgsState, watch: Watch, problem: dict[str, Any], structure: Structure
    ) -> str | None:
        over = watch.due(self._n_iter) and watch.over_budget(self._n_iter)
        if self._options.checkpoint is not None:
            arrays = state.to_arrays() | self._gradients.state()
            record = {"iteration": self._n_iter, "history": self._history, "spent": watch.spent().to_dict()}
            save_progress(self._options.checkpoint, self._comm, problem, Progress(arrays, record))
        callback = self._options.callback
        if over or callback is None:
            return "budget" if over else None
        report = Report(self._n_iter, state.point.value, lambda: structure.unflatten(self._weights.copy()))
        return "callback" if watch.agree(lambda: bool(callback(report))) else None


class LeafBatchLoop(FullBatchLoop):
    """Iterations of L-BFGS whose sums over rows do not depend on which rank holds which leaves."""

    def __init__(
        self,
        comm: Comm,
        objective: LeafSums,
        w: Vector,
        shard: Any,
        bounds: list[tuple[int, int]],
        options: Options,
        structure: Structure,
    ) -> None:
        rows = tuple(end - begin for begin, end in bounds)
        super().__init__(comm, self._unused, w, shard, rows, options)
        self._objective, self._structure = objective, structure
        self._first_row, self._n = bounds[comm.rank][0], bounds[-1][1]

    def _oracle(self, own: Vector) -> tuple[float, Vector]:
        self._weights = own
        w = self._structure.unflatten(own)
        part = self._objective.leaf_sums(w, self._shard, self._first_row)
        if self._comm.size > 1:
            parts = self._comm.all_gather_bytes(part.to_bytes())
            part = TreeSum.merge(TreeSum.from_bytes(data) for data in parts)
        value, gradient = self._objective.from_total(w, part.total(), self._n)
        return float(value), self._structure.flatten(gradient)

    @staticmethod
    def _unused(_w: Vector, _shard: Any) -> tuple[float, Vector]:
        raise AssertionError("leaves are summed by the objective")
