"""Update rules as pure functions: `init(w) -> state`, `update(gradient, state, step) -> (change, state)`.

State is a dict of arrays, so that a checkpoint can hold it and a shard of the parameters carries its own part
of it. Ranks that give equal bytes in get equal bytes out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scrimp.train.structure import Vector

State = dict[str, Vector]
Schedule = Callable[[int], float]


class Optimizer(NamedTuple):
    """A pair of pure functions, after optax's GradientTransformation."""

    init: Callable[[Vector], State]
    update: Callable[[Vector, State, int], tuple[Vector, State]]


def sgd(learning_rate: float | Schedule, momentum: float = 0.0, nesterov: bool = False) -> Optimizer:
    """Stochastic gradient descent with momentum.

    `m ← μ·m + g`, then `w ← w − η·m`, or with Nesterov `w ← w − η·(g + μ·m)`.

    Parameters
    ----------
    learning_rate : float or callable
        η, or η of the step counter.
    momentum : float
        μ in [0, 1).
    nesterov : bool
        Look ahead by one momentum step.

    Examples
    --------
    >>> rule = sgd(0.5, momentum=0.9)
    >>> w = np.zeros(1, np.float32)
    >>> change, state = rule.update(np.ones(1, np.float32), rule.init(w), 0)
    >>> change
    array([-0.5], dtype=float32)
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum!r}")
    rate = _schedule(learning_rate)

    def init(w: Vector) -> State:
        return {"momentum": np.zeros_like(w)} if momentum else {}

    def update(gradient: Vector, state: State, step: int) -> tuple[Vector, State]:
        eta = gradient.dtype.type(rate(step))
        if not momentum:
            return -eta * gradient, state
        mu = gradient.dtype.type(momentum)
        m = mu * state["momentum"] + gradient
        return -eta * (gradient + mu * m if nesterov else m), {"momentum": m}

    return Optimizer(init, update)


def adam(
    learning_rate: float | Schedule, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
) -> Optimizer:
    """Adam: steps scaled by running means of gradient and square (Kingma and Ba, 2015, algorithm 1).

    Examples
    --------
    >>> rule = adam(0.1)
    >>> change, _ = rule.update(np.full(1, 7, np.float32), rule.init(np.zeros(1, np.float32)), 0)
    >>> change.round(4)
    array([-0.1], dtype=float32)
    """
    rate = _schedule(learning_rate)

    def init(w: Vector) -> State:
        return {"mean": np.zeros_like(w), "square": np.zeros_like(w)}

    def update(gradient: Vector, state: State, step: int) -> tuple[Vector, State]:
        real = gradient.dtype.type
        mean = real(beta1) * state["mean"] + real(1 - beta1) * gradient
        square = real(beta2) * state["square"] + real(1 - beta2) * gradient * gradient
        eta = real(rate(step) * math.sqrt(1 - beta2 ** (step + 1)) / (1 - beta1 ** (step + 1)))
        return -eta * mean / (np.sqrt(square) + real(epsilon)), {"mean": mean, "square": square}

    return Optimizer(init, update)


def decayed(learning_rate: float, schedule: str, total_steps: int) -> Schedule:
    """Return a learning rate that is `"constant"`, or falls to 0 as `"linear"` or `"cosine"`.

    Examples
    --------
    >>> [decayed(1.0, "linear", 4)(step) for step in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be above 0, got {learning_rate!r}")
    if schedule == "constant":
        return lambda _step: learning_rate
    if schedule == "linear":
        return lambda step: learning_rate * max(0.0, 1 - step / total_steps)
    if schedule == "cosine":
        return lambda step: learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total_steps)))
    raise ValueError(f"unknown schedule {schedule!r}; known: constant, linear, cosine")


def _schedule(learning_rate: float | Schedule) -> Schedule:
    return learning_rate if callable(learning_rate) else decayed(learning_rate, "constant", 1)
