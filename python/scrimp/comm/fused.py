"""The native collectives of the local engine.

They equal the free functions of `collectives` byte for byte, but decode out of the peers' memory instead of
moving messages.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from scrimp.comm.collectives import Key, Op, Residuals, Verdict
from scrimp.comm.wire import STATUS_NBYTES, Call, as_bytes, leg_seed

if TYPE_CHECKING:
    from scrimp import _core
    from scrimp.codecs import Codec

CHUNK = 16384
"""Blocks must divide it: what the native loop handles at once."""

RAW_DTYPES = frozenset(np.dtype(t) for t in ("f4", "f8", "i4", "i8"))
_REDUCE_ROLES = {"none": (), "ef14": ("sent",), "ef21": ("sent", "owned")}
_ALL_REDUCE_ROLES = {"none": (), "ef14": ("sent", "owned"), "ef21": ("sent", "owned", "estimate")}

Floats = NDArray[np.float32]
Bounds = list[tuple[int, int]]


def takes(codec: Codec | None, summed: np.dtype[Any] | None) -> bool:
    """Whether the native loops handle this codec (None: raw), and sums of this dtype (None: no sums)."""
    if codec is None or codec.spec == "raw":
        return summed is None or summed in RAW_DTYPES
    return CHUNK % codec.block == 0


class Fused:
    """One call through a native group.

    Parameters
    ----------
    group : LocalGroup
        Where the ranks meet.
    call : Call
        Its name, its tag and what it counts.
    bounds : list of (int, int)
        Who owns which values, on multiples of `block`.
    op, write_nonfinite, undo
        What to compute, whether a result that is not finite is written, and whether a raw sum that fails
        leaves the array as it was.
    """

    def __init__(
        self,
        group: _core.LocalGroup,
        call: Call,
        bounds: Bounds,
        block: int,
        op: Op = "sum",
        write_nonfinite: bool = True,
        undo: bool = True,
    ) -> None:
        self._group = group
        self._call = call
        self._bounds = bounds
        self._args = (op == "mean", write_nonfinite, call.tag(0), call.op, block, undo)

    def all_reduce_raw(self, flat: NDArray[Any]) -> Verdict:
        """Replace flat[n] by the sum (or mean) over ranks, unless the verdict says otherwise."""
        kind, *_ = self._group.all_reduce_raw(flat, self._args)
        self._count_raw(flat.itemsize, (1, 2))
        return Verdict(kind)

    def reduce_scatter_raw(self, flat: NDArray[Any], out: NDArray[Any]) -> Verdict:
        """Write this rank's slice of the sum (or mean) to out, unless the verdict says otherwise."""
        kind, *_ = self._group.reduce_scatter_raw(flat, out, self._args)
        self._count_raw(flat.itemsize, (1,))
        return Verdict(kind)

    def all_gather_raw(self, mine: NDArray[Any], out: NDArray[Any]) -> None:
        """Fill out[n] with the slices of all ranks."""
        args = (*self._args[:4], self._args[4] * out.itemsize, True)
        self._group.all_gather_raw(as_bytes(mine), as_bytes(out), args)
        self._count_raw(out.itemsize, (2,))

    def broadcast_raw(self, flat: NDArray[Any], root: int) -> None:
        """Replace flat by root's."""
        self._group.broadcast_raw(as_bytes(flat), root, self._args)  # in bytes, whatever their type
        self._count_raw(flat.itemsize, (2,))

    def all_reduce(self, flat: Floats, codec: Codec, key: Key, state: Residuals) -> Verdict:
        """Replace flat[n] and the residuals by what follows, unless the verdict says otherwise."""
        arrays = self._state(state, _ALL_REDUCE_ROLES, flat.size)
        outcome = self._group.all_reduce_encoded(
            flat, codec.native, self._args, self._key(key), state.kind, arrays
        )
        self._count_encoded(codec, (1, 2))
        return _verdict(*outcome)

    def reduce_scatter(self, flat: Floats, out: Floats, codec: Codec, key: Key, state: Residuals) -> Verdict:
        """Write this rank's slice of the sum (or mean) to out, unless the verdict says otherwise."""
        arrays = self._state(state, _REDUCE_ROLES, flat.size)
        outcome = self._group.reduce_scatter_encoded(
            flat, out, codec.native, self._args, self._key(key), state.kind, arrays
        )
        self._count_encoded(codec, (1,))
        return _verdict(*outcome)

    def all_gather(self, mine: Floats, out: Floats, codec: Codec, key: Key) -> Verdict:
        """Fill out[n] with the decoded slices of all ranks, the own one too."""
        outcome = self._group.all_gather_encoded(mine, out, codec.native, self._args, self._key(key))
        self._count_encoded(codec, (2,))
        return _verdict(*outcome)

    def broadcast(self, flat: Floats, root: int, codec: Codec, key: Key) -> Verdict:
        """Replace flat by root's, decoded on root too."""
        outcome = self._group.broadcast_encoded(flat, root, codec.native, self._args, self._key(key))
        self._count_encoded(codec, (2,))
        return _verdict(*outcome)

    def _key(self, key: Key) -> tuple[int, int, int, int]:
        first, second = (leg_seed(key.seed, self._call.rank, leg) for leg in (1, 2))
        return first, second, key.step, key.first_index

    def _state(self, state: Residuals, roles: dict[str, tuple[str, ...]], n: int) -> dict[str, Floats]:
        begin, end = self._bounds[self._call.rank]
        return {role: state.get(role, end - begin if role == "owned" else n) for role in roles[state.kind]}

    def _count_raw(self, itemsize: int, legs: tuple[int, ...]) -> None:
        begin, end = self._bounds[self._call.rank]
        others, own = self._bounds[-1][1] - (end - begin), (self._call.size - 1) * (end - begin)
        nbytes = itemsize * ((1 in legs) * others + (2 in legs) * own)
        self._call.traffic.wire_bytes += nbytes
        self._call.traffic.raw_bytes += nbytes

    def _count_encoded(self, codec: Codec, legs: tuple[int, ...]) -> None:
        traffic = self._call.traffic
        wire, raw, header = _sent(codec.native, tuple(self._bounds), self._call.rank, legs)
        traffic.wire_bytes += wire
        traffic.raw_bytes += raw
        traffic.header_bytes += header


@lru_cache(maxsize=1024)  # small calls would spend a tenth of their time here
def _sent(
    codec: _core.NativeCodec, bounds: tuple[tuple[int, int], ...], rank: int, legs: tuple[int, ...]
) -> tuple[int, int, int]:
    """Return the bytes of slices that go to their owners (leg 1) and of the own one that goes to all (leg 2).

    Encoded, raw, and of headers.
    """
    sizes = [end - begin for begin, end in bounds]
    encoded = [codec.nbytes(n) for n in sizes]
    filled = [n > 0 for n in sizes]
    owners, readers = int(1 in legs), (len(bounds) - 1) * (2 in legs)
    wire, values, messages = (
        owners * (sum(each) - each[rank]) + readers * each[rank] for each in (encoded, sizes, filled)
    )
    return wire, 4 * values, STATUS_NBYTES * messages


_FINITE = Verdict("finite")


def _verdict(kind: Literal["finite", "nonfinite", "failed"], rank: int, index: int) -> Verdict:
    return _FINITE if kind == "finite" else Verdict(kind, (rank, index) if kind == "failed" else None)
