"""When a mini-batch run has converged.

A value that stopped falling proves nothing: momentum overshoots, and a step may be too long. So patience is
counted in steps, as the memory of the update rule is, and what ends a run is a look at the gradient over all
rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from scrimp.train.options import Options

PATIENCE_EPOCHS = 5
PATIENCE_MEMORIES = 5  # of 1/(1 - momentum) steps; what momentum did shrinks by e^(-1/2) in each
SETTLED_MEMORIES = 10  # before, momentum still swings
ENOUGH_MEMORIES = 50  # after, nothing is left of what it did at the start
ADAM_MEMORY = 10.0  # 1 / (1 - beta1)
LEAST_GRADIENT_TOL = 1e-3  # float32 gradients of a small residue are no better


def memory_of(solver: str, momentum: float, sync_every: int = 1) -> float:
    """Return over how many steps the update rule averages.

    Examples
    --------
    >>> round(memory_of("sgd", 0.9), 6), memory_of("adam", 0.0), memory_of("sgd", 0.0, 8)
    (10.0, 10.0, 8)
    """
    return max(ADAM_MEMORY if solver == "adam" else 1 / (1 - momentum), sync_every)


def enough_epochs(steps: int, memory: float, memories: int = ENOUGH_MEMORIES) -> int:
    """Return the epochs of so many steps after which what momentum did at the start is forgotten.

    Examples
    --------
    >>> enough_epochs(steps=1, memory=10.0), enough_epochs(steps=300, memory=10.0)
    (500, 2)
    """
    return math.ceil(round(memories * memory / steps, 6))  # 50 / (1 - 0.9) is 500 and a little


@dataclass(frozen=True, slots=True)
class StoppingRule:
    """Decide at the end of an epoch; the same decision on every rank, and after a restart.

    Parameters
    ----------
    max_iter : int
        Epochs.
    tol : float
        The value is quiet when the best one of the last `patience` epochs is not lower than the best one
        before by `tol` times itself. 0: all epochs are run.
    patience : int
        Epochs.
    decays : bool
        Whether steps get shorter, or what counts is the mean of the weights: then quiet values do not mean
        that the result stands still.
    """

    max_iter: int
    tol: float
    patience: int
    decays: bool

    @classmethod
    def of(cls, options: Options, steps: int) -> StoppingRule:
        """Make the rule for epochs of so many steps."""
        memory = memory_of(options.solver, options.momentum, options.sync_every)
        patience = max(PATIENCE_EPOCHS, enough_epochs(steps, memory, PATIENCE_MEMORIES))
        decays = options.schedule != "constant" or options.average > 0
        return cls(options.max_iter, options.tol, patience, decays)

    def verdict(self, history: list[float], is_flat: Callable[[float], bool]) -> str | None:
        """Say why to stop, or None.

        Parameters
        ----------
        history : list of float
            Value by epoch.
        is_flat : callable
            Whether the gradient over all rows has fallen to this fraction of the first one; it takes a pass
            over the rows, so it is asked rarely.
        """
        if len(history) >= self.max_iter:
            return "max_iter"
        if not self._is_quiet(history):
            return None
        if is_flat(max(math.sqrt(self.tol), LEAST_GRADIENT_TOL)):
            return "converged"
        return None if self.decays else "stalled"

    def _is_quiet(self, history: list[float]) -> bool:
        if not self.tol or len(history) <= self.patience or len(history) % self.patience:
            return False
        before, last = min(history[: -self.patience]), min(history[-self.patience :])
        return not last < before - self.tol * abs(before)
