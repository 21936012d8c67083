"""The loop of the mini-batch solvers on one rank: batches, exchange, update; then what ends an epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scrimp.comm import Comm
from scrimp.train.checkpoint import Progress, save_progress
from scrimp.train.exchange import Exchange, exchange_for, sum_over_ranks
from scrimp.train.optimizers import Optimizer, State
from scrimp.train.options import Options, Outcome, Report
from scrimp.train.rows import Batches, take_rows
from scrimp.train.stopping import StoppingRule
from scrimp.train.structure import Structure, Vector
from scrimp.train.watch import Watch

Gradient = Callable[[Vector, Any], tuple[float, Vector]]


class ManySteps(Protocol):
    """Takes steps of sgd on one rank, with the bits of one at a time; see `LinearSteps`."""

    most: int

    def __call__(self, *args: Any) -> tuple[int, int, float]:
        """Take them in place; fewer than asked for where the gradient of the next one is not finite."""


class Stepper:
    """One update of the weights from one gradient of each rank.

    With `sync_every=H > 1` a rank takes H steps of its own, then the ranks average how far they went (local
    SGD); what travels is the encoded difference. With `average_from=s` a mean of the weights begins with
    those after s steps; ranks that step alone take it where they meet.
    """

    def __init__(
        self, exchange: Exchange, rule: Optimizer, w: Vector, sync_every: int, average_from: float = math.inf
    ) -> None:
        self._exchange, self._rule, self._every = exchange, rule, sync_every
        self.master = w[exchange.own].copy()
        self.state: State = rule.init(self.master)
        self._anchor = self.master.copy() if sync_every > 1 else self.master[:0]
        self._average_from, self.n_averaged = average_from, 0
        self._mean = np.zeros(self.master.size if average_from < math.inf else 0)
        self.weights = exchange.publish(self.master)

    @property
    def result(self) -> Vector:
        """The own part of the mean of the weights, or of the weights where there is no mean."""
        return self._mean.astype(self.master.dtype) if self.n_averaged else self.master

    def step(self, gradient: Vector, share: float, count: int) -> None:
        """Take a step; `share` is this rank's part of the rows, times the number of ranks."""
        if self._every > 1:
            self._local_step(gradient, share, count)
            return
        own = self._exchange.reduce(gradient * gradient.dtype.type(share))
        change, self.state = self._rule.update(own, self.state, count)
        self.master = self.master + change
        self._take_in(count)
        self.weights = self._exchange.publish(self.master)

    def take_many(
        self,
        many: ManySteps,
        batches: tuple[NDArray[np.int64], int, int],
        rates: Vector,
        count: int,
        value: float,
    ) -> tuple[int, float]:
        """Take a step a rate if it can be taken; return how many were, and the sum of the objective so far.

        `batches` are the rows in order, the number of batches in them, and the first one.
        """
        averages = self._average_from < math.inf
        late = max(0, math.ceil(self._average_from) - 1 - count) if averages else 0
        mean = self._mean.copy() if averages else None
        state = {name: a.copy() for name, a in self.state.items()}
        own = self.master.copy(), state.get("momentum"), mean, self.n_averaged
        taken, self.n_averaged, value = many(*batches, rates, late, *own, value)
        self.master, self.state = own[0], state
        self._mean = self._mean if mean is None else mean
        self.weights = self._exchange.publish(self.master)
        return taken, value

    def _take_in(self, count: int) -> None:
        if count + 1 >= self._average_from:
            self.n_averaged += 1
            self._mean += (self.master - self._mean) / self.n_averaged

    def _local_step(self, gradient: Vector, share: float, count: int) -> None:
        if share > 0:
            change, self.state = self._rule.update(gradient, self.state, count)
            self.master = self.master + change
        if (count + 1) % self._every == 0:
            self.meet(share)
            self._take_in(count)
        self.weights = self.master

    def meet(self, share: float) -> None:
        """Average how far the ranks went since they last met."""
        if self._every > 1:
            went = (self.master - self._anchor) * self.master.dtype.type(share)
            self._anchor = self._anchor + self._exchange.reduce(went)
            self.master = self.weights = self._anchor.copy()

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all that the next step depends on."""
        arrays: dict[str, NDArray[Any]] = {
            "master": self.master,
            "anchor": self._anchor,
            "weights": self.weights,
        }
        if self._average_from < math.inf:
            arrays |= {"mean": self._mean, "n_averaged": np.array([self.n_averaged])}
        arrays |= {f"rule.{name}": a for name, a in self.state.items()}
        return arrays | {f"wire.{name}": a for name, a in self._exchange.state().items()}

    def from_arrays(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Undo `to_arrays`."""
        self.master, self._anchor, self.weights = arrays["master"], arrays["anchor"], arrays["weights"]
        if self._average_from < math.inf:
            self._mean, self.n_averaged = arrays["mean"], int(arrays["n_averaged"][0])
        self.state = _under("rule.", arrays)
        self._exchange.load_state(_under("wire.", arrays))


class StochasticLoop:
    """Epochs of mini-batches over the rows of one rank."""

    def __init__(
        self,
        comm: Comm,
        gradient: Gradient,
        w: Vector,
        shard: Any,
        rows_by_rank: tuple[int, ...],
        options: Options,
        many_steps: ManySteps | None,
        look_rows: int,
    ) -> None:
        self._comm, self._gradient, self._shard, self._options = comm, gradient, shard, options
        self._many_steps, self._look_rows = many_steps, look_rows
        self._batches = Batches(rows_by_rank, options.batch_size, options.seed)
        total_steps = self._batches.steps * options.max_iter
        rule, self._rate = options.rule(total_steps), options.rate(total_steps)
        self._exchange = exchange_for(options.shard, comm, w.size, options.wire)
        average_from = options.average / sum(rows_by_rank) * self._batches.steps or math.inf
        self._stepper = Stepper(self._exchange, rule, w, options.sync_every, average_from)
        self._stopping = StoppingRule.of(options, self._batches.steps)
        self._start, self._first_norm = w, math.nan
        self._epoch = self._step = 0
        self._epoch_sum = 0.0
        self._history: list[float] = []
        self._problem: dict[str, Any] = {}

    def resume(self, progress: Progress) -> None:
        """Continue where a checkpoint stopped."""
        self._epoch, self._step = progress.record["epoch"], progress.record["step"]
        self._history = list(progress.record["history"])
        arrays = dict(progress.arrays)
        self._epoch_sum = float(arrays.pop("epoch_sum")[0])
        self._stepper.from_arrays(arrays)

    def run(self, watch: Watch, problem: dict[str, Any], structure: Structure) -> Outcome:
        """Train until a rule says stop."""
        self._problem = problem
        stop = self._verdict() if self._step == 0 else None
        while stop is None:
            stop = self._run_epoch(watch)
            if stop is None:
                stop = self._between_epochs(watch, structure)
        vector, averaged = self._exchange.gather(self._stepper.result), self._stepper.n_averaged
        last = self._exchange.gather(self._stepper.master) if averaged else None
        value = self._history[-1] if self._history else math.nan
        return Outcome(vector, value, self._epoch, self._history, stop, watch.message, last, averaged)

    def _run_epoch(self, watch: Watch) -> str | None:
        order = self._batches.order(self._epoch, self._comm.rank)
        while self._step < self._batches.steps:
            count = self._epoch * self._batches.steps + self._step
            count += self._many(order, watch, count) or self._one_step(order)
            if watch.due(count) and watch.over_budget(count):
                self._save(watch)
                return "budget"
        return None

    def _many(self, order: NDArray[np.int64], watch: Watch, count: int) -> int:
        """Take steps until the next look is due, if many can be taken at once; return how many."""
        many, left = self._many_steps, self._batches.steps - self._step
        if many is None:
            return 0
        first, n = self._step, int(min(left, watch.free_steps(count), many.most))
        rates = np.array([self._rate(count + i) for i in range(n)], np.float32)
        batches = order, self._batches.steps, first
        taken, self._epoch_sum = self._stepper.take_many(many, batches, rates, count, self._epoch_sum)
        self._step += taken
        self._comm.step += taken  # as many collectives as the steps would have called one at a time
        return taken

    def _one_step(self, order: NDArray[np.int64]) -> int:
        step, batches = self._step, self._batches
        rows = order[batches.span(step, self._comm.rank)]
        gradient = np.zeros_like(self._stepper.weights)
        if rows.size:
            value, gradient = self._gradient(self._stepper.weights, take_rows(self._shard, rows))
            self._epoch_sum += value * rows.size
        share = rows.size * self._comm.size / max(batches.rows_in_step(step), 1)
        try:
            self._stepper.step(gradient, share, self._epoch * batches.steps + step)
        except ValueError as error:  # of the exchange, on all ranks alike: it sends finite numbers alone
            bad = not np.isfinite(gradient).all()
            if b"\1" not in self._comm.all_gather_bytes(bytes([bad])):
                raise
            raise self._diverged("a gradient that is not finite") from error
        self._step += 1
        return 1

    def _between_epochs(self, watch: Watch, structure: Structure) -> str | None:
        rows = sum(self._batches.rows_by_rank)
        own_rows = self._batches.rows_by_rank[self._comm.rank]
        self._stepper.meet(own_rows * self._comm.size / rows)
        mean = float(sum_over_ranks(self._comm, np.array([self._epoch_sum]))[0]) / rows
        if not math.isfinite(mean):
            raise self._diverged(f"mean value {mean}")
        self._history.append(mean)
        self._epoch, self._step, self._epoch_sum = self._epoch + 1, 0, 0.0
        stop = self._verdict() or self._ask(watch, structure, mean)
        self._save(watch)
        return stop

    def _diverged(self, what: str) -> FloatingPointError:
        return FloatingPointError(f"diverged in epoch {self._epoch}: {what}; lower the learning_rate")

    def _verdict(self) -> str | None:
        return self._stopping.verdict(self._history, self._is_flat) if self._history else None

    def _is_flat(self, fraction: float) -> bool:
        """Whether the gradient's norm over all rows is at most this fraction of the first one."""
        if math.isnan(self._first_norm):
            self._first_norm = max(self._gradient_norm(self._start), self._options.gradient_scale)
        weights = self._stepper.weights
        if self._stepper.n_averaged:
            step = self._comm.step
            weights, self._comm.step = self._exchange.gather(self._stepper.result), step
        return self._gradient_norm(weights) <= fraction * self._first_norm

    def _gradient_norm(self, weights: Vector) -> float:
        """Return the norm of the gradient over all rows of all ranks."""
        rows, total = self._batches.rows_by_rank[self._comm.rank], np.zeros(weights.size)
        for begin in range(0, rows, self._look_rows):
            taken = slice(begin, min(begin + self._look_rows, rows))
            total += self._gradient(weights, take_rows(self._shard, taken))[1] * float(taken.stop - begin)
        step = self._comm.step
        self._comm.all_reduce(total, op="sum", name="look", nonfinite="propagate")
        self._comm.step = step  # rounding is keyed by it: a look must not change what a later step sends
        return math.sqrt(float((total * total).sum())) / sum(self._batches.rows_by_rank)

    def _ask(self, watch: Watch, structure: Structure, mean: float) -> str | None:
        callback = self._options.callback
        if callback is None:
            return None
        report = Report(self._epoch, mean, lambda: structure.unflatten(self._stepper.weights.copy()))
        return "callback" if watch.agree(lambda: bool(callback(report))) else None

    def _save(self, watch: Watch) -> None:
        path = self._options.checkpoint
        if path is None:
            return
        record = {"epoch": self._epoch, "step": self._step, "history": self._history}
        record["spent"] = watch.spent().to_dict()
        arrays = self._stepper.to_arrays() | {"epoch_sum": np.array([self._epoch_sum])}
        save_progress(path, self._comm, self._problem, Progress(arrays, record))


def _under(prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
