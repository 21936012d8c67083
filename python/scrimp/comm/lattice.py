"""The reproducible all-reduce: the same bits for every order of ranks and every cut into buckets.

Ranks agree on a power of two for each block of 128 values (a maximum, which commutes), round what they have
to whole multiples of it, and add the multiples as integers (which commutes too). The owner's values are
rounded like all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scrimp.comm.collectives import Floats, Key, Op, Residuals, Verdict, gather, verdict
from scrimp.comm.shards import shard_bounds
from scrimp.comm.wire import Call, Encoded, as_bytes

if TYPE_CHECKING:
    from scrimp.codecs import Codec

BLOCK = 128
_POISON = np.int16(32767)  # the exponent of a block that holds a value that is not finite
_LOWEST = -126


def shared_exponents(call: Call, values: Floats, limit: int) -> NDArray[np.int16]:
    """Return for each block the smallest e with |x| <= limit * 2**e on every rank."""
    n_blocks = -(-values.size // BLOCK)
    padded = np.zeros(n_blocks * BLOCK, np.float32)
    padded[: values.size] = np.abs(values)
    top = padded.reshape(n_blocks, BLOCK).max(axis=1).astype(np.float64)
    mantissa, exponent = np.frexp(np.where(np.isfinite(top), top, 0) / limit)
    exponents: NDArray[np.int16] = np.maximum(exponent - (mantissa == 0.5), _LOWEST).astype(np.int16)
    exponents[top == 0] = _LOWEST
    exponents[~np.isfinite(top)] = _POISON
    peers = [p for p in range(call.size) if p != call.rank]
    theirs = {p: np.empty_like(exponents) for p in peers}
    nbytes = exponents.nbytes * len(peers)
    call.traffic.wire_bytes += nbytes
    call.exchange(
        0,
        [(p, as_bytes(exponents)) for p in peers],
        [(p, as_bytes(theirs[p])) for p in peers],
        call.my_slice(),
    )
    for other in theirs.values():
        np.maximum(exponents, other, out=exponents)
    return exponents


def _per_value(exponents: NDArray[np.int16], n: int) -> NDArray[np.int16]:
    return exponents[np.arange(n) // BLOCK]


def _width(codec: Codec) -> tuple[np.dtype[np.signedinteger], int]:
    """Return the type and the largest magnitude of the codes that travel to the owners."""
    if codec.bits > 16:
        return np.dtype(np.int32), 2**30
    return (np.dtype(np.int16), 2**15 - 1) if codec.bits > 8.5 else (np.dtype(np.int8), 2**7 - 1)


def all_reduce_lattice(
    call: Call, x: Floats, codec: Codec, op: Op, key: Key, state: Residuals
) -> tuple[Floats, Verdict]:
    """Return the reproducible sum (or mean) float32[n] of x[n]; residuals (ef14) wait for `commit`."""
    if key.first_index % BLOCK:
        raise ValueError(
            f"first_index must be a multiple of {BLOCK} when reproducible, got {key.first_index}"
        )
    if state.kind == "ef21":
        raise ValueError("feedback must be 'ef14' or absent when reproducible")
    bounds = shard_bounds(x.size, call.size, max(BLOCK, codec.block))
    begin, end = bounds[call.rank]
    kind, limit = _width(codec)
    values = x + state.get("sent", x.size) if state.kind == "ef14" else x
    exponents = _per_value(shared_exponents(call, values, limit), x.size)
    poison = exponents == _POISON
    powers = np.ldexp(1.0, np.where(poison, 0, exponents))
    codes = np.rint(np.where(poison, 0, values) / powers).astype(kind)
    if state.kind == "ef14":
        state.put(state.get("sent", x.size), (values - codes * powers).astype(np.float32))
    total = np.multiply(_sum_codes(call, codes, bounds), powers[begin:end], dtype=np.float64)
    if op == "mean":
        total = total / call.size
    total[poison[begin:end]] = np.nan
    with np.errstate(over="ignore"):
        result = total.astype(np.float32)
    if state.kind == "ef14":
        result += state.get("owned", end - begin)
    mine = Encoded(codec, end - begin)
    mine.fill(result, call.rank, begin, **key.of(0, 2, begin))
    if state.kind == "ef14":
        state.put(state.get("owned", end - begin), result - mine.decoded())
    out = np.empty_like(x)
    failure = gather(call, mine, out, bounds, mine.failure)
    return out, verdict(out, failure)


def _sum_codes(
    call: Call, codes: NDArray[np.signedinteger], bounds: list[tuple[int, int]]
) -> NDArray[np.int64]:
    begin, end = bounds[call.rank]
    peers = [p for p in range(call.size) if p != call.rank]
    inbox = {p: np.empty(end - begin, codes.dtype) for p in peers}
    sends = [(p, as_bytes(codes[slice(*bounds[p])])) for p in peers]
    call.traffic.wire_bytes += sum(data.size for _, data in sends)
    call.traffic.raw_bytes += sum(4 * (e - b) for p, (b, e) in enumerate(bounds) if p != call.rank)
    call.exchange(1, sends, [(p, as_bytes(inbox[p])) for p in peers], call.my_slice())
    total = codes[begin:end].astype(np.int64)
    for part in inbox.values():
        total += part
    return total
