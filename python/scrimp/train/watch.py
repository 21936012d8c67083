"""Decisions that all ranks must take alike: what was spent, whether the budget allows a step, when to stop.

Clocks differ between ranks, so rank 0 decides and tells the others.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from scrimp.comm import Comm
from scrimp.cost import Budget
from scrimp.cost.energy import estimated_joules
from scrimp.cost.meter import cpu_seconds
from scrimp.errors import BudgetExceeded
from scrimp.train.exchange import from_root, sum_over_ranks
from scrimp.usage import Usage

CHECK_EVERY_S = 0.1  # how often a budget is looked at, in the middle of an epoch
SAFETY = 2  # a step may take this many times the mean of the last ones


class Watch:
    """Keep the books of a running fit, on every rank.

    Parameters
    ----------
    comm : Comm
        The ranks.
    budget : Budget or None
        Limits on the whole fit, interrupted runs before this one included.
    spent_before : Usage
        Of the runs before, from the checkpoint.
    started : float
        `time.perf_counter()` at the start of the fit, before any process was started.
    """

    def __init__(self, comm: Comm, budget: Budget | None, spent_before: Usage, started: float) -> None:
        self._comm, self._budget, self._before, self._started = comm, budget, spent_before, started
        self._cpu_start = cpu_seconds()
        self._last = Usage()
        self._last_step = self._next_step = 0
        self.message = ""

    def due(self, step: int) -> bool:
        """Whether all ranks should call `over_budget` after this step of theirs."""
        return self._budget is not None and step >= self._next_step

    def free_steps(self, step: int) -> float:
        """How many steps may be taken from here until a look is due."""
        return math.inf if self._budget is None else max(1, self._next_step - step)

    def spent(self) -> Usage:
        """Return what all ranks spent, runs before included; every rank must call it."""
        own = self._comm.usage
        counts = [cpu_seconds() - self._cpu_start, own.wire_bytes, own.raw_bytes, own.header_bytes]
        cpu_s, wire, raw, header = sum_over_ranks(self._comm, np.array(counts, np.float64))
        wall_s = time.perf_counter() - self._started
        now = Usage(wall_s, float(cpu_s), 0, int(wire), int(raw), int(header))
        return self._before + replace(now, joules=estimated_joules(now), joules_estimated=True)

    def over_budget(self, step: int) -> bool:
        """Whether the next step would overspend; every rank must call it and gets the same answer.

        Parameters
        ----------
        step : int
            Counter of steps, the same on every rank.
        """
        if self._budget is None:
            return False
        spent = self.spent()
        stride, message = self._plan(spent, step)
        verdict = json.loads(from_root(self._comm, json.dumps([stride, message]).encode()))
        self._last, self._last_step = spent, step
        self._next_step, self.message = step + verdict[0], verdict[1]
        return bool(self.message)

    def agree(self, question: Callable[[], bool]) -> bool:
        """Return rank 0's answer on every rank; only rank 0 is asked."""
        answer = b"1" if self._comm.rank == 0 and question() else b"0"
        return from_root(self._comm, answer) == b"1"

    def _plan(self, spent: Usage, step: int) -> tuple[int, str]:
        """Return how many steps may be taken before the next look, and why none may if so."""
        since = _minus(spent, self._last if self._last.wall_s else self._before)
        done = max(1, step - self._last_step)
        stride = min(2 * done, int(done * CHECK_EVERY_S / max(since.wall_s, 1e-9)))
        while stride > 1 and self._refusal(spent, _times(since, SAFETY * stride / done)):
            stride //= 2
        stride = max(1, stride)
        return stride, self._refusal(spent, _times(since, SAFETY * stride / done))

    def _refusal(self, spent: Usage, need: Usage) -> str:
        assert self._budget is not None
        try:
            self._budget.check(spent, need)
        except BudgetExceeded as error:
            return str(error)
        return ""


def _minus(a: Usage, b: Usage) -> Usage:
    return _times(a, 1) + _times(b, -1)


def _times(a: Usage, factor: float) -> Usage:
    return Usage(
        wall_s=a.wall_s * factor,
        cpu_s=a.cpu_s * factor,
        wire_bytes=round(a.wire_bytes * factor),
        raw_bytes=round(a.raw_bytes * factor),
        header_bytes=round(a.header_bytes * factor),
        joules=a.joules * factor,
    )
