"""The reproducible all-reduce: the same bits for every order of ranks and every cut into buckets.

Ranks agree on a power of two for each block of 128 values (a maximum, which commutes), round what they have
to whole multiples of it, and add the multiples as integers (which commutes too). The owner's values are
rounded like all others. Where each rank submits what it has leaf by leaf, nothing depends on the number of
ranks either (`all_reduce_leaves`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from scrimp.comm.arguments import SHARD_BLOCK as BLOCK
from scrimp.comm.arguments import check_array, check_numbers, check_reproducible, flattened, reducing_codec
from scrimp.comm.collectives import Floats, Key, Nonfinite, Op, Residuals, Verdict, gather, verdict
from scrimp.comm.shards import shard_bounds
from scrimp.comm.wire import Call, Encoded, as_bytes

if TYPE_CHECKING:
    from scrimp.codecs import Codec
    from scrimp.comm.communicator import Comm

_POISON = np.int16(32767)  # the exponent of a block that holds a value that is not finite
_LOWEST = -126


def shared_exponents(call: Call, values: Floats, limit: int) -> NDArray[np.int16]:
    """Return for each block of values[k, n] the smallest e with |x| <= limit * 2**e on every rank."""
    n = values.shape[1]
    n_blocks = -(-n // BLOCK)
    padded = np.zeros(n_blocks * BLOCK, np.float32)
    for leaf in values:
        np.maximum(padded[:n], np.abs(leaf), out=padded[:n])
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


def _limit(codec: Codec) -> int:
    """Return the largest magnitude of the code of one leaf."""
    return 2**30 if codec.bits > 16 else 2**15 - 1 if codec.bits > 8.5 else 2**7 - 1


def _width(largest: int) -> np.dtype[np.signedinteger]:
    """Return the type that codes travel in: the narrowest that holds them."""
    return next(t for t in map(np.dtype, ("i1", "i2", "i4", "i8")) if largest <= np.iinfo(t).max)


def all_reduce_lattice(
    call: Call, leaves: Floats, counts: list[int], codec: Codec, op: Op, key: Key, state: Residuals
) -> tuple[Floats, Verdict]:
    """Return the reproducible sum (or mean) float32[n] over all leaves[k, n] of all ranks.

    `counts` says how many each rank has. Residuals (ef14, of one leaf a rank) wait for `commit`.
    """
    n = leaves.shape[1]
    bounds = shard_bounds(n, call.size, max(BLOCK, codec.block))
    begin, end = bounds[call.rank]
    limit = _limit(codec)
    values = leaves + state.get("sent", n) if state.kind == "ef14" else leaves
    exponents = _per_value(shared_exponents(call, values, limit), n)
    poison = exponents == _POISON
    powers = np.ldexp(1.0, np.where(poison, 0, exponents))
    codes = np.zeros(n, np.int64)
    for leaf in values:
        codes += np.rint(np.where(poison, 0, leaf) / powers).astype(np.int64)
    if state.kind == "ef14":
        state.put(state.get("sent", n), (values[0] - codes * powers).astype(np.float32))
    sums = _sum_codes(call, codes.astype(_width(limit * max(counts))), bounds)
    total = np.multiply(sums, powers[begin:end], dtype=np.float64)
    if op == "mean":
        total = total / sum(counts)
    total[poison[begin:end]] = np.nan
    with np.errstate(over="ignore"):
        result = total.astype(np.float32)
    if state.kind == "ef14":
        result += state.get("owned", end - begin)
    mine = Encoded(codec, end - begin)
    mine.fill(result, call.rank, begin, **key.of(0, 2, begin))
    if state.kind == "ef14":
        state.put(state.get("owned", end - begin), result - mine.decoded())
    out = np.empty(n, np.float32)
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


def all_reduce_leaves(
    comm: Comm,
    leaves: NDArray[np.floating],
    out: NDArray[np.floating],
    *,
    codec: str | Codec = "raw",
    op: Op = "mean",
    name: str | None = None,
    nonfinite: Nonfinite = "raise",
    step: int | None = None,
    first_index: int = 0,
) -> None:
    """Write the sum (or mean) of the leaves of all ranks to out: the same bits for every number of ranks.

    A leaf is what one fixed part of the data contributes (the gradient of 4,096 rows, say). Each rank gives
    those that it has; which rank has which, and how many ranks there are, changes no bit of the result.

    Parameters
    ----------
    comm : Comm
        Whose ranks take part; all call this together. One rank alone gets the same bits.
    leaves : floats[k, …]
        The k leaves of this rank; k may be 0 and differ between ranks.
    out : floats[…]
        Where to write.
    codec, op, name, nonfinite, step, first_index
        As in `Comm.all_reduce` with `reproducible=True`; the mean is over leaves.

    Raises
    ------
    ValueError, TypeError, CommError
        As in `Comm.all_reduce`.

    Notes
    -----
    Between ranks travels one array of integers, however many leaves a rank has: the sum of its codes, in as
    many bytes as it needs.

    Examples
    --------
    >>> from scrimp.comm import single
    >>> out = np.empty(2, np.float32)
    >>> all_reduce_leaves(single(), np.array([[1, 2], [3, 6]], np.float32), out)
    >>> out.tolist()
    [2.0, 4.0]
    """
    check_array("out", out)
    chosen = reducing_codec(codec, None, op, leaves, nonfinite)
    check_numbers(0, step, first_index)
    check_reproducible(chosen, None, first_index)
    if leaves.dtype.kind != "f" or out.dtype.kind != "f" or leaves.shape[1:] != out.shape:
        raise ValueError(
            f"leaves must be floats of shape (k, *{out.shape}), as out, got {leaves.dtype}{leaves.shape}"
        )
    call = comm._call("all_reduce_leaves", name, out, chosen, op)
    counts = [int(text) for text in comm.all_gather_bytes(str(len(leaves)).encode())]
    if not any(counts):
        raise ValueError("leaves must not be empty on all ranks")
    parts = flattened(leaves, np.float32).reshape(len(leaves), out.size)
    key = Key(comm.seed + crc32((name or "").encode()), comm.step if step is None else step, first_index)
    state = Residuals(None, name)
    result, judged = all_reduce_lattice(call, parts, counts, chosen, op, key, state)
    with np.errstate(invalid="ignore", over="ignore"):
        given = result if judged.kind == "finite" else parts.sum(axis=0)  # where errors look for the value
    comm._write(call, out, given, result, judged, nonfinite, state)
