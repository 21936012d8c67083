"""Full-batch gradients in few bits, as differences to exact ones.

At a minimum the gradients of the ranks cancel, but each is as long as ever, and what a codec drops of each
does not cancel: a line search then sees nothing but noise. So where a search fails the gradients are sent
once as they are, and from there on the codec carries how far each rank's gradient has moved since: its error
shrinks with the distance (Mishchenko et al., "Distributed learning with compressed gradient differences",
2019; an exact gradient at a reference point is the idea of SVRG, Johnson and Zhang, 2013).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrimp.comm import Comm
from scrimp.train.exchange import Exchange, Wire, sum_over_ranks
from scrimp.train.structure import Vector


class AnchoredGradients:
    """The exchange of full-batch gradients, exact at the anchor.

    Parameters
    ----------
    exchange : Exchange
    comm, wire, shard, size
        What the exchange was made of, and the number of weights.

    Attributes
    ----------
    is_lossy : bool
        Whether gradients, or the weights they are taken at, are less than exact.
    exact : bool
        Set it, and all goes as it is.
    """

    ARRAYS = ("anchor.at", "anchor.own", "anchor.mean", "anchor.exact")  # of `state`, always there

    def __init__(self, exchange: Exchange, comm: Comm, wire: Wire, shard: str, w: Vector) -> None:
        self._exchange = exchange
        legs = ("gradient", "weight") if shard == "zero" else ("gradient",)
        self.is_lossy = comm.size > 1 and any(wire.spec(leg, w.nbytes) != "raw" for leg in legs)
        self.exact = False
        self._comm = comm
        self._at: Vector = w[:0]  # own part of the weights at the anchor
        self._own: Vector = w[:0]  # this rank's gradient there
        self._mean: Vector = w[:0]  # own part of the mean there

    def weights(self, own: Vector) -> Vector:
        """Return all weights as every rank sees them."""
        return self._exchange.gather(own) if self.exact else self._exchange.publish(own)

    def reduce(self, gradient: Vector) -> Vector:
        """Return the own part of the mean gradient."""
        if self.exact:
            return self._exchange.reduce(gradient, exact=True)
        if not self._own.size:
            return self._exchange.reduce(gradient)
        return self._mean + self._exchange.reduce(gradient - self._own)

    def is_at(self, own: Vector) -> bool:
        """Whether the anchor is at these weights, on all ranks."""
        differs = np.array([float(not np.array_equal(self._at, own))])
        return not sum_over_ranks(self._comm, differs)[0]

    def anchor(self, own: Vector, gradient: Vector) -> Vector:
        """Send the gradient at these weights as it is, and count from here."""
        self._at, self._own = own.copy(), gradient.copy()
        self._mean = self._exchange.reduce(gradient, exact=True)
        self._exchange.forget()
        return self._mean

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what a later step depends on."""
        arrays = {f"wire.{name}": a for name, a in self._exchange.state().items()}
        anchor = {"at": self._at, "own": self._own, "mean": self._mean, "exact": np.array([self.exact], "u1")}
        return arrays | {f"anchor.{name}": a for name, a in anchor.items()}

    def load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Undo `state`."""
        prefix = "wire."
        wire = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
        self._exchange.load_state(wire)
        self._at, self._own, self._mean = (arrays[f"anchor.{name}"] for name in ("at", "own", "mean"))
        self.exact = bool(arrays["anchor.exact"][0])
