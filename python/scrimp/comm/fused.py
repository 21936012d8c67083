"""The native all-reduce of the local engine.

It equals the free functions of `collectives` byte for byte, but decodes out of the peers' memory instead of
moving messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrimp.comm.collectives import Key, Op, Residuals, Verdict
from scrimp.comm.shards import shard_bounds
from scrimp.comm.wire import STATUS_NBYTES, Call, leg_seed

if TYPE_CHECKING:
    from scrimp import _core
    from scrimp.codecs import Codec

CHUNK = 16384
"""Blocks must divide it: what the native loop handles at once."""

RAW_DTYPES = frozenset(np.dtype(t) for t in ("f4", "f8", "i4", "i8"))
_ROLES = {"none": (), "ef14": ("sent", "owned"), "ef21": ("sent", "owned", "estimate")}


def takes(codec: Codec | None, dtype: np.dtype[Any]) -> bool:
    """Whether the native loop handles this codec (None: raw) and dtype."""
    return dtype in RAW_DTYPES if codec is None else CHUNK % codec.block == 0


def all_reduce_raw(
    group: _core.LocalGroup, call: Call, flat: NDArray[Any], op: Op, write_nonfinite: bool
) -> Verdict:
    """Replace flat[n] by the sum (or mean) over ranks, unless the verdict says otherwise."""
    bounds = shard_bounds(flat.size, call.size)
    _count(
        call, [flat.itemsize * (e - b) for b, e in bounds], [flat.itemsize * (e - b) for b, e in bounds], 0
    )
    kind, *_ = group.all_reduce_raw(flat, op == "mean", write_nonfinite, call.tag(0), call.op)
    return Verdict(kind)


def all_reduce_encoded(
    group: _core.LocalGroup,
    call: Call,
    flat: NDArray[np.float32],
    codec: Codec,
    op: Op,
    key: Key,
    state: Residuals,
    write_nonfinite: bool,
) -> Verdict:
    """Replace flat[n] and the residuals by what follows, unless the verdict says otherwise."""
    bounds = shard_bounds(flat.size, call.size, codec.block)
    begin, end = bounds[call.rank]
    arrays = {
        role: state.get(role, end - begin if role == "owned" else flat.size) for role in _ROLES[state.kind]
    }
    seeds = (leg_seed(key.seed, call.rank, 1), leg_seed(key.seed, call.rank, 2), key.step, key.first_index)
    kind, rank, index = group.all_reduce_encoded(
        flat, codec.native, op == "mean", write_nonfinite, call.tag(0), call.op, seeds, state.kind, arrays
    )
    _count(call, [codec.nbytes(e - b) for b, e in bounds], [4 * (e - b) for b, e in bounds], STATUS_NBYTES)
    return Verdict(kind, (rank, index) if kind == "failed" else None)


def _count(call: Call, encoded: list[int], raw: list[int], status: int) -> None:
    peers = [p for p in range(call.size) if p != call.rank]
    for sizes, total in ((encoded, "wire_bytes"), (raw, "raw_bytes")):
        sent = sum(sizes[p] for p in peers) + len(peers) * sizes[call.rank]
        setattr(call.traffic, total, getattr(call.traffic, total) + sent)
    messages = sum(encoded[p] > 0 for p in peers) + len(peers) * (encoded[call.rank] > 0)
    call.traffic.header_bytes += status * messages
