"""Steps of mini-batch descent on a linear model, many in one native call: the same bits as one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrimp import _core
from scrimp.matrix.gradients import Source

CALL_WORK = 1 << 26  # of a call, about a nanosecond or a few each: an interrupt waits for its end
STEP_WORK = 1 << 12  # of a step on nothing
FEW = 8  # what a row takes beside its values and a weight beside those of the rows, in values


def steps_of_call(batch_rows: int, d: int, k: int, solved: int) -> int:
    """Return how many steps may be one call: as many as take some tenths of a second at most.

    Parameters
    ----------
    batch_rows, d, k : int
        Rows of a step, their columns, and outputs.
    solved : int
        Values of the triangles that a step solves with, times outputs.
    """
    return max(1, CALL_WORK // ((batch_rows + FEW) * (d + FEW) * k + solved + STEP_WORK))


@dataclass(frozen=True, slots=True)
class LinearSteps:
    """What a step needs to know of rows and objective; see `_core.take_steps`.

    Attributes
    ----------
    units : Units
    source : Source
    noise : float64[d] or None
        Of the codes of one row.
    y, weight : arrays
    loss, delta, precise, threads
        As in `scrimp.gradient`.
    momentum, nesterov
        Of the update.
    most : int
        Steps of a call.
    """

    units: _core.Units
    source: Source
    noise: NDArray[np.float64] | None
    y: NDArray[Any]
    weight: NDArray[np.float64] | None
    loss: str
    delta: float
    precise: bool
    threads: int
    momentum: float
    nesterov: bool
    most: int

    def __call__(
        self,
        order: NDArray[np.int64],
        n_batches: int,
        first_batch: int,
        rates: NDArray[np.float32],
        n_unaveraged: int,
        u: NDArray[np.float32],
        velocity: NDArray[np.float32] | None,
        mean: NDArray[np.float64] | None,
        n_averaged: int,
        value: float,
    ) -> tuple[int, int, float]:
        """Take one step a rate, in place; return how many could be, and the new `n_averaged` and `value`.

        Parameters
        ----------
        order : int64[n]
            Rows as the epoch visits them.
        n_batches, first_batch : int
            Batches of the epoch, and where to begin.
        rates : float32[n_steps]
        n_unaveraged : int
            Steps before `mean` takes in the first u.
        u, velocity, mean : arrays
            Weights, state of the momentum, mean of the weights over `n_averaged` steps.
        value : float
            Sum of the objective over the rows of the epoch.
        """
        scale, offset = self.source.grid
        return _core.take_steps(
            self.units,
            self.source.array,
            self.source.bits,
            scale,
            offset,
            self.noise,
            self.y,
            self.weight,
            self.loss,
            self.delta,
            self.precise,
            self.threads,
            order,
            n_batches,
            first_batch,
            rates,
            self.momentum,
            self.nesterov,
            min(n_unaveraged, len(rates)),
            u,
            velocity,
            mean,
            n_averaged,
            value,
        )
