"""How gradients and weights travel between ranks: `shard="rows"` and `shard="zero"`.

Both keep the same promise to the loop: `reduce` turns a rank's gradient into its own part of the mean
gradient, `publish` turns its own part of the master weights into the weights that the next gradient is taken
at. With rows every rank owns all weights; with zero rank r owns slice r, so master, optimizer state and
residuals are 1/size each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scrimp.codecs import ErrorFeedback, codec
from scrimp.codecs.base import check_counts
from scrimp.comm import Comm, shard_bounds
from scrimp.train.structure import Vector

Residuals = dict[str, NDArray[Any]]
COUNTER = "collectives"
BLOCK = 1024  # slices of the weights begin on multiples of this, the largest block of any codec


@dataclass(frozen=True, slots=True)
class Wire:
    """What travels in which codec.

    Parameters
    ----------
    gradient, weight : str
        Codec specs of the two legs.
    raw_below : int
        Vectors of fewer bytes go raw.
    feedback : str
        `"none"`, `"ef14"` or `"ef21"`, for the gradient leg.
    """

    gradient: str = "raw"
    weight: str = "raw"
    raw_below: int = 65536
    feedback: str = "none"

    @classmethod
    def of(cls, compress: str | tuple[str, str], raw_below: int, feedback: str, full_batch: bool) -> Wire:
        """Read the user's options.

        One spec is for the gradients; the weights of `shard="zero"` then take the same codec.
        `feedback="auto"` is ef14 for mini-batches (noisy gradients) and ef21 for full batches, and none where
        the codec loses nothing or is not contractive.
        """
        if not isinstance(compress, str) and not (isinstance(compress, tuple | list) and len(compress) == 2):
            wish = "a codec, or one for gradients and one for weights"
            raise ValueError(f"compress must be {wish}, got {compress!r}")
        check_counts(raw_below=raw_below)
        gradient, weight = (compress, compress) if isinstance(compress, str) else compress
        chosen = codec(gradient)
        if feedback not in ("auto", "none", "ef14", "ef21"):
            raise ValueError(f"unknown feedback {feedback!r}; known: auto, none, ef14, ef21")
        if chosen.spec == "raw":
            feedback = "none"
        elif feedback == "auto":
            feedback = ("ef21" if full_batch else "ef14") if chosen.contractive else "none"
        return cls(chosen.spec, codec(weight).spec, raw_below, feedback)

    def spec(self, leg: str, nbytes: int) -> str:
        """Return the codec of a leg for a vector of so many bytes."""
        chosen: str = self.gradient if leg == "gradient" else self.weight
        return "raw" if nbytes < self.raw_below else chosen


class Exchange(Protocol):
    """What the loop needs from a way of sharding."""

    own: slice

    def reduce(self, gradient: Vector, exact: bool = False) -> Vector:
        """Return the own part of the mean of all ranks' gradients; the argument may be overwritten."""

    def forget(self) -> None:
        """Drop what error feedback kept of the gradients."""

    def publish(self, master: Vector) -> Vector:
        """Return all weights as every rank sees them, given each rank's own part."""

    def gather(self, master: Vector) -> Vector:
        """Return all master weights, exactly."""

    def state(self) -> Residuals:
        """Return what a later step depends on."""

    def load_state(self, state: Residuals) -> None:
        """Undo `state`."""


class RowExchange:
    """Every rank holds all weights; gradients meet in an all-reduce."""

    def __init__(self, comm: Comm, size: int, wire: Wire) -> None:
        self.own = slice(0, size)
        self._comm, self._wire = comm, wire
        self._feedback = _feedback(wire)

    def reduce(self, gradient: Vector, exact: bool = False) -> Vector:
        """All-reduce the mean."""
        spec = "raw" if exact else self._wire.spec("gradient", gradient.nbytes)
        values = _wire_values(gradient, spec)
        feedback = None if spec == "raw" else self._feedback
        self._comm.all_reduce(values, codec=spec, feedback=feedback, name="gradient", raw_below=0)
        return values.astype(gradient.dtype, copy=False)

    def forget(self) -> None:
        """Drop the residuals."""
        self._feedback = _feedback(self._wire)

    def publish(self, master: Vector) -> Vector:
        """Return the weights: everybody has them."""
        return master

    def gather(self, master: Vector) -> Vector:
        """Return the weights: everybody has them."""
        return master

    def state(self) -> Residuals:
        """Return the residuals."""
        return _residuals(self._comm, self._feedback)

    def load_state(self, state: Residuals) -> None:
        """Take the residuals."""
        _load_residuals(self._comm, self._feedback, state)


class ZeroExchange:
    """Rank r owns slice r of the master weights: reduce-scatter of gradients in, all-gather of weights out.

    A contractive weight codec carries the difference to the weights that all ranks share, so that what it
    lost is in the next difference (the downlink of EF21). Any other codec, and `feedback="none"`, carries the
    weights themselves: the gradient is then taken at w′ = D(C(w)) and applied to w.
    """

    def __init__(self, comm: Comm, size: int, wire: Wire) -> None:
        self.own = slice(*shard_bounds(size, comm.size, BLOCK)[comm.rank])
        self._comm, self._wire, self._size = comm, wire, size
        self._feedback = _feedback(wire)
        self._sends_difference = wire.feedback != "none" and codec(wire.weight).contractive
        self._shared: Vector | None = None

    def reduce(self, gradient: Vector, exact: bool = False) -> Vector:
        """Reduce-scatter the mean."""
        spec = "raw" if exact else self._wire.spec("gradient", gradient.nbytes)
        values = _wire_values(gradient, spec)
        out = np.empty(self.own.stop - self.own.start, values.dtype)
        feedback = None if spec == "raw" else self._feedback
        self._comm.reduce_scatter(values, out, codec=spec, feedback=feedback, name="gradient", block=BLOCK)
        return out.astype(gradient.dtype, copy=False)

    def forget(self) -> None:
        """Drop the residuals."""
        self._feedback = _feedback(self._wire)

    def publish(self, master: Vector) -> Vector:
        """All-gather encoded weights or differences; all ranks get the same bytes."""
        spec = self._wire.spec("weight", self._size * master.itemsize)
        if spec == "raw" or not self._sends_difference:
            return self._all_gather(master, spec)
        if self._shared is None:
            self._shared = self._all_gather(master, "raw")
            return self._shared.copy()
        self._shared += self._all_gather(master - self._shared[self.own], spec)
        return self._shared.copy()

    def gather(self, master: Vector) -> Vector:
        """All-gather raw."""
        return self._all_gather(master, "raw")

    def state(self) -> Residuals:
        """Return the residuals and the weights that all ranks share."""
        shared = {} if self._shared is None else {"shared": self._shared.copy()}
        return {**_residuals(self._comm, self._feedback), **shared}

    def load_state(self, state: Residuals) -> None:
        """Take the residuals and the shared weights."""
        state = dict(state)
        self._shared = state.pop("shared", None)
        _load_residuals(self._comm, self._feedback, state)

    def _all_gather(self, part: Vector, spec: str) -> Vector:
        values = _wire_values(part, spec)
        out = np.empty(self._size, values.dtype)
        self._comm.all_gather(values, out, codec=spec, name="weights", block=BLOCK)
        return out.astype(part.dtype, copy=False)


def exchange_for(shard: str, comm: Comm, size: int, wire: Wire) -> Exchange:
    """Return the exchange of a way of sharding."""
    if shard == "rows":
        return RowExchange(comm, size, wire)
    if shard == "zero":
        return ZeroExchange(comm, size, wire)
    raise ValueError(f"unknown shard {shard!r}; known: rows, zero")


def sum_over_ranks(comm: Comm, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of a small float64 array over all ranks, added in rank order."""
    if comm.size == 1:
        return values
    parts = comm.all_gather_bytes(np.ascontiguousarray(values, np.float64).tobytes())
    total = np.zeros(values.shape)
    for part in parts:
        total += np.frombuffer(part, np.float64).reshape(values.shape)
    return total


def from_root(comm: Comm, content: bytes) -> bytes:
    """Return the bytes of rank 0 on every rank."""
    return content if comm.size == 1 else comm.all_gather_bytes(content if comm.rank == 0 else b"")[0]


def _wire_values(values: Vector, spec: str) -> Vector:
    """Lossy codecs read float32; raw keeps the type."""
    return np.ascontiguousarray(values) if spec == "raw" else np.ascontiguousarray(values, np.float32)


def _feedback(wire: Wire) -> ErrorFeedback | None:
    return None if wire.feedback == "none" else ErrorFeedback(wire.feedback)  # type: ignore[arg-type]


def _residuals(comm: Comm, feedback: ErrorFeedback | None) -> Residuals:
    """Return residuals, and the count of collectives that keys stochastic rounding."""
    kept = {} if feedback is None else dict(feedback.state_dict()["residuals"])
    return {COUNTER: np.array([comm.step]), **kept}


def _load_residuals(comm: Comm, feedback: ErrorFeedback | None, state: Residuals) -> None:
    state = dict(state)
    comm.step = int(state.pop(COUNTER)[0])
    if feedback is not None:
        feedback.load_state_dict({"kind": feedback.kind, "residuals": state})
