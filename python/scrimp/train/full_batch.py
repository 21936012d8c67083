"""The loop of L-BFGS on one rank: whole shards in, exact values, gradients through the exchange."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrimp.comm import Comm
from scrimp.train import lbfgs
from scrimp.train.checkpoint import Progress, save_progress
from scrimp.train.exchange import exchange_for, sum_over_ranks
from scrimp.train.options import Options, Outcome, Report
from scrimp.train.structure import Structure, Vector
from scrimp.train.watch import Watch


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
        self._weights = w
        self._state: lbfgs.LbfgsState | None = None
        self._history: list[float] = []
        self._n_iter = 0

    def resume(self, progress: Progress) -> None:
        """Continue where a checkpoint stopped."""
        self._n_iter, self._history = progress.record["iteration"], list(progress.record["history"])
        prefix = "wire."
        wire = {
            name.removeprefix(prefix): a for name, a in progress.arrays.items() if name.startswith(prefix)
        }
        self._exchange.load_state(wire)
        self._state = lbfgs.LbfgsState.from_arrays(progress.arrays)

    def run(self, watch: Watch, problem: dict[str, Any], structure: Structure) -> Outcome:
        """Train until a rule says stop."""
        state = self._state or lbfgs.start(
            self._oracle, self._weights[self._exchange.own].copy(), self._total
        )
        state = state._replace(first_norm=max(state.first_norm, self._options.gradient_scale))
        stop = None
        while stop is None and self._n_iter < self._options.max_iter:
            state, stop = lbfgs.iterate(self._oracle, state, self._total, self._options.tol)
            if stop is None:
                self._n_iter += 1
                self._history.append(state.point.value)
                stop = self._after_iteration(state, watch, problem, structure)
        vector = self._exchange.gather(state.point.w)
        return Outcome(
            vector, state.point.value, self._n_iter, self._history, stop or "max_iter", watch.message
        )

    def _oracle(self, own: Vector) -> tuple[float, Vector]:
        self._weights = self._exchange.publish(own)
        value, gradient = 0.0, np.zeros_like(self._weights)
        if self._part:
            value, gradient = self._gradient(self._weights, self._shard)
        mean = float(sum_over_ranks(self._comm, np.array([value * self._part]))[0])
        return mean, self._exchange.reduce(gradient * gradient.dtype.type(self._part * self._comm.size))

    def _total(self, own: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum over the ranks' own parts; with rows every rank owns everything already."""
        return sum_over_ranks(self._comm, own) if self._options.shard == "zero" else own

    def _after_iteration(
        self, state: lbfgs.LbfgsState, watch: Watch, problem: dict[str, Any], structure: Structure
    ) -> str | None:
        over = watch.due(self._n_iter) and watch.over_budget(self._n_iter)
        if self._options.checkpoint is not None:
            arrays = state.to_arrays() | {f"wire.{name}": a for name, a in self._exchange.state().items()}
            record = {"iteration": self._n_iter, "history": self._history, "spent": watch.spent().to_dict()}
            save_progress(self._options.checkpoint, self._comm, problem, Progress(arrays, record))
        callback = self._options.callback
        if over or callback is None:
            return "budget" if over else None
        report = Report(self._n_iter, state.point.value, lambda: structure.unflatten(self._weights.copy()))
        return "callback" if watch.agree(lambda: bool(callback(report))) else None
