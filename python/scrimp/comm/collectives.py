"""Collectives as free functions over any transport: they see codecs and arrays, the transport sees bytes.

All-reduce is scatter-reduce, then all-gather (as in CGX and ZeRO++): rank i sends Q(x_i[p]) to the owner of
slice p; the owner adds what it decodes to its own exact values, in the order of ranks, encodes the result
once and sends the same bytes to all, itself included. So every rank ends with the same bytes, with one
requantization, never a ring's N - 1. Caller's arrays and residuals change only after the last wait: an error
leaves them as they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrimp.comm.shards import shard_bounds
from scrimp.comm.wire import Call, Encoded, as_bytes, leg_seed

if TYPE_CHECKING:
    from scrimp.codecs import Codec, ErrorFeedback

Op = Literal["mean", "sum"]
Nonfinite = Literal["raise", "skip", "propagate"]
Array = NDArray[Any]
Floats = NDArray[np.float32]

_CHUNK = 1 << 16  # values that are checked at once: they stay in cache


class Verdict(NamedTuple):
    """What all ranks agree about the result of a call."""

    kind: Literal["finite", "nonfinite", "failed"]
    failure: tuple[int, int] | None = None
    """(rank, index) of the value that could not be encoded."""


def verdict(result: Array, failure: tuple[int, int] | None = None) -> Verdict:
    """Judge a result that is equal on all ranks."""
    if failure:
        return Verdict("failed", failure)
    return Verdict("finite" if all_finite(result) else "nonfinite")


def all_finite(x: Array) -> bool:
    """Whether x holds no NaN and no infinity; integers never do.

    Examples
    --------
    >>> all_finite(np.array([1.0, np.inf]))
    False
    """
    if x.dtype.kind != "f":
        return True
    return all(bool(np.isfinite(x[i : i + _CHUNK]).all()) for i in range(0, x.size, _CHUNK))


def agree(call: Call, verdict: int) -> int:
    """Return the largest verdict (0…255) of all ranks."""
    found = np.zeros(call.size, np.uint8)
    found[call.rank] = verdict
    peers = [p for p in range(call.size) if p != call.rank]
    mine = found[call.rank : call.rank + 1]
    call.exchange(3, [(p, mine) for p in peers], [(p, found[p : p + 1]) for p in peers])
    call.traffic.header_bytes += len(peers)
    return int(found.max())


def judge_narrowed(call: Call, judged: Verdict, result: Array, dtype: np.dtype[Any]) -> Verdict:
    """Judge again a finite result that is to be written as float16, where it may not be finite."""
    if judged.kind != "finite" or dtype != np.float16:
        return judged
    with np.errstate(over="ignore"):
        overflows = not all_finite(result.astype(np.float16))
    return Verdict("nonfinite") if agree(call, int(overflows)) else judged


def _finish(total: Array, op: Op, size: int) -> None:
    if op == "mean":
        total /= size


# Raw: any number type, exact in the order of ranks


def reduce_raw(call: Call, x: Array, bounds: list[tuple[int, int]], op: Op) -> Array:
    """Return this rank's slice of the sum (or mean) of x[n] over ranks."""
    begin, end = bounds[call.rank]
    peers = [p for p in range(call.size) if p != call.rank]
    inbox = {p: np.empty(end - begin, x.dtype) for p in peers}
    sends = [(p, as_bytes(x[slice(*bounds[p])])) for p in peers]
    call.swap_raw(1, sends, [(p, as_bytes(inbox[p])) for p in peers], call.my_slice())
    parts = [x[begin:end] if p == call.rank else inbox[p] for p in range(call.size)]
    total: Array = parts[0].copy()
    with np.errstate(over="ignore", invalid="ignore"):
        for part in parts[1:]:
            total += part
        _finish(total, op, call.size)
    return total


def gather_raw(call: Call, mine: Array, out: Array, bounds: list[tuple[int, int]]) -> None:
    """Fill out[n] with the slices of all ranks."""
    peers = [p for p in range(call.size) if p != call.rank]
    recvs = [(p, as_bytes(out[slice(*bounds[p])])) for p in peers]
    call.swap_raw(2, [(p, as_bytes(mine)) for p in peers], recvs, call.their_slices())
    out[slice(*bounds[call.rank])] = mine


def gather_bytes(call: Call, data: bytes) -> list[bytes]:
    """Return the bytes of all ranks, whose lengths may differ."""
    peers = [p for p in range(call.size) if p != call.rank]
    lengths = np.zeros(call.size, np.uint64)
    lengths[call.rank] = len(data)
    mine = as_bytes(lengths[call.rank : call.rank + 1])
    call.exchange(1, [(p, mine) for p in peers], [(p, as_bytes(lengths[p : p + 1])) for p in peers])
    call.traffic.header_bytes += 8 * len(peers)
    parts = {p: np.empty(int(lengths[p]), np.uint8) for p in peers}
    parts[call.rank] = np.frombuffer(data, np.uint8)
    call.swap_raw(2, [(p, parts[call.rank]) for p in peers], [(p, parts[p]) for p in peers], "")
    return [parts[p].tobytes() for p in range(call.size)]


# Encoded


class Key:
    """What stochastic rounding of one call draws from: (seed, rank, leg), step, absolute index."""

    def __init__(self, seed: int, step: int, first_index: int = 0) -> None:
        self.seed, self.step, self.first_index = seed, step, first_index

    def of(self, rank: int, leg: int, begin: int) -> dict[str, int]:
        """Return the arguments of `Codec.encode` for the slice that begins at `begin`."""
        return {
            "seed": leg_seed(self.seed, rank, leg),
            "step": self.step,
            "first_index": self.first_index + begin,
        }


class Residuals:
    """The state of error feedback for one tensor: read now, written only by `commit`."""

    def __init__(self, feedback: ErrorFeedback | None, name: str | None) -> None:
        self.feedback = feedback
        self.kind = feedback.kind if feedback else "none"
        self.name = name or ""
        self._new: list[tuple[Floats, Floats]] = []

    def get(self, role: str, n: int) -> Floats:
        """Return the live state float32[n] of a role of this tensor."""
        assert self.feedback is not None
        return self.feedback.residual(f"{self.name}/{role}", n)

    def put(self, live: Floats, value: Floats) -> None:
        """Remember what to write into the live state."""
        self._new.append((live, value))

    def commit(self) -> None:
        """Write what was put."""
        for live, value in self._new:
            live[...] = value


def scatter(
    call: Call, x: Floats, codec: Codec, bounds: list[tuple[int, int]], key: Key, state: Residuals
) -> dict[int, Encoded]:
    """Send each owner its encoded slice of x[n]; return what the peers sent for this rank's slice."""
    begin, end = bounds[call.rank]
    sent, got = {}, {}
    memory = state.get("sent", x.size) if state.kind != "none" else None
    after = np.zeros_like(x) if memory is not None else x
    for p in range(call.size):
        b, e = bounds[p]
        if p == call.rank:
            continue
        values = x[b:e]
        if memory is not None:
            values = values + memory[b:e] if state.kind == "ef14" else values - memory[b:e]
        sent[p] = Encoded(codec, e - b)
        sent[p].fill(values, call.rank, b, **key.of(call.rank, 1, b))
        got[p] = Encoded(codec, end - begin)
        if memory is not None:
            decoded = sent[p].decoded()
            after[b:e] = _difference(values, decoded) if state.kind == "ef14" else memory[b:e] + decoded
    if memory is not None:
        state.put(memory, after)
    call.swap_encoded(1, sent, got, call.my_slice())
    return got


def _difference(values: Floats, decoded: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        return values - decoded


def combine(call: Call, own: Floats, got: dict[int, Encoded], op: Op, state: Residuals) -> Floats:
    """Return the sum (or mean) of the own exact slice and the decoded ones, in the order of ranks."""
    with np.errstate(over="ignore", invalid="ignore"):
        if state.kind == "ef21":
            total = state.get("owned", own.size).copy()
            for p in sorted(got):
                got[p].add_to(total)
            state.put(state.get("owned", own.size), total.copy())
            total += own
        else:
            total = own.copy() if call.rank == 0 else np.empty_like(own)
            for p in range(call.size):
                if p == call.rank:
                    total = total + own if p else total
                elif p == 0:
                    got[p].decode(total)
                else:
                    got[p].add_to(total)
        _finish(total, op, call.size)
    return total


def first_failure(got: dict[int, Encoded]) -> tuple[int, int] | None:
    """Return (rank, index) of the first value that could not be encoded, by rank."""
    return next((f for p in sorted(got) if (f := got[p].failure)), None)


def gather(
    call: Call, mine: Encoded, out: Floats, bounds: list[tuple[int, int]], failure: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Send the encoded own slice to all, decode all slices into out[n]; return the first failure of all."""
    if failure:
        mine.mark(*failure)
    everyone = {p: Encoded(mine.codec, e - b) for p, (b, e) in enumerate(bounds) if p != call.rank}
    call.swap_encoded(2, dict.fromkeys(everyone, mine), everyone, call.their_slices())
    everyone[call.rank] = mine
    for p, (b, e) in enumerate(bounds):
        everyone[p].decode(out[b:e])
    return first_failure(everyone)


def root_bounds(n: int, size: int, root: int) -> list[tuple[int, int]]:
    """Return the bounds of an array that one rank owns as a whole.

    Examples
    --------
    >>> root_bounds(5, 3, root=1)
    [(0, 0), (0, 5), (5, 5)]
    """
    return [(0, 0)] * root + [(0, n)] + [(n, n)] * (size - root - 1)


def broadcast_raw(call: Call, x: Array, root: int) -> Array:
    """Return root's x[n]."""
    if call.rank == root:
        peers = [p for p in range(call.size) if p != root]
        call.swap_raw(1, [(p, as_bytes(x)) for p in peers], [], f" to rank %p of {call.size}")
        return x
    out = np.empty_like(x)
    call.swap_raw(1, [], [(root, as_bytes(out))], "")
    return out


def broadcast_encoded(
    call: Call, x: Floats, codec: Codec, root: int, key: Key
) -> tuple[Floats, tuple[int, int] | None]:
    """Return root's x[n], decoded, and the first value that could not be encoded."""
    bounds = root_bounds(x.size, call.size, root)
    begin, end = bounds[call.rank]
    mine = Encoded(codec, end - begin)
    mine.fill(x[begin:end], call.rank, begin, **key.of(call.rank, 2, begin))
    out = np.empty_like(x)
    return out, gather(call, mine, out, bounds, mine.failure)


def reduce_encoded(
    call: Call, x: Floats, codec: Codec, bounds: list[tuple[int, int]], op: Op, key: Key, state: Residuals
) -> tuple[Floats, tuple[int, int] | None]:
    """Return this rank's slice of the sum (or mean), and the first value that could not be encoded."""
    got = scatter(call, x, codec, bounds, key, state)
    own = x[slice(*bounds[call.rank])]
    return combine(call, own, got, op, state), first_failure(got)


def reduce_scatter(
    call: Call,
    x: Array,
    codec: Codec | None,
    bounds: list[tuple[int, int]],
    op: Op,
    key: Key,
    state: Residuals,
) -> tuple[Array, Verdict]:
    """Return this rank's shard. Its owner alone sees it: ranks must agree before anybody writes."""
    if codec is None:
        mine, failure = reduce_raw(call, x, bounds, op), None
    else:
        mine, failure = reduce_encoded(call, x, codec, bounds, op, key, state)
    worst = agree(call, 2 if failure else 0 if all_finite(mine) else 1)
    return mine, Verdict(("finite", "nonfinite", "failed")[worst], failure)


def all_reduce_raw(call: Call, x: Array, op: Op) -> tuple[Array, Verdict]:
    """Return the exact sum (or mean) of x[n] over ranks."""
    out = np.empty_like(x)
    bounds = shard_bounds(x.size, call.size)
    gather_raw(call, reduce_raw(call, x, bounds, op), out, bounds)
    return out, verdict(out)


def all_reduce_encoded(
    call: Call, x: Floats, codec: Codec, op: Op, key: Key, state: Residuals
) -> tuple[Floats, Verdict]:
    """Return the sum (or mean) float32[n] of x[n] over ranks, equal on all; residuals wait for `commit`."""
    bounds = shard_bounds(x.size, call.size, codec.block)
    begin, end = bounds[call.rank]
    total, failure = reduce_encoded(call, x, codec, bounds, op, key, state)
    estimate = state.get("estimate", x.size) if state.kind == "ef21" else None
    if estimate is not None:
        total -= estimate[begin:end]
    elif state.kind == "ef14":
        total += state.get("owned", end - begin)
    mine = Encoded(codec, end - begin)
    mine.fill(total, call.rank, begin, **key.of(call.rank, 2, begin))
    if state.kind == "ef14":
        state.put(state.get("owned", end - begin), _difference(total, mine.decoded()))
    out = np.empty_like(x)
    failure = gather(call, mine, out, bounds, failure or mine.failure)
    if estimate is not None:
        out += estimate
        state.put(estimate, out.copy())
    return out, verdict(out, failure)
