"""`Comm`: what a worker holds. It checks arguments, counts bytes and leaves the work to the collectives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
from numpy.typing import DTypeLike, NDArray

from scrimp.codecs import codec as find_codec
from scrimp.comm import collectives as _c
from scrimp.comm import fused, pipelined
from scrimp.comm.arguments import (
    check_array,
    check_broadcast,
    check_numbers,
    check_reproducible,
    check_shard,
    check_travels,
    cut,
    describe_bad_value,
    extents_of,
    flattened,
    reducing_codec,
)
from scrimp.comm.framed import FramedTransport
from scrimp.comm.lattice import all_reduce_lattice
from scrimp.comm.shards import shard_bounds
from scrimp.comm.transport import LocalTransport, SingleTransport, Transport
from scrimp.comm.wire import Call, Encoded, Traffic
from scrimp.usage import Usage

if TYPE_CHECKING:
    from scrimp.codecs import Codec, ErrorFeedback

RAW_BELOW = 65536
Array = NDArray[Any]


class Comm:
    """A group of ranks that work together; this process is one of them.

    All ranks call the same operations in the same order with arrays of the same length and dtype. After an
    error of a peer (`CommError`) the group is of no use any more; the arrays given to the failed call are
    unchanged.

    Parameters
    ----------
    transport : Transport
        How bytes travel.
    seed : int, default 0
        Of stochastic rounding; equal on all ranks.
    native : bool, default True
        Use the transport's own all-reduce where it has one. The bytes are the same; tests compare both.

    Attributes
    ----------
    rank, size : int
        This process is rank `rank` of 0 … size - 1.
    step : int
        Collectives called so far; keys stochastic rounding. Goes into checkpoints.

    Examples
    --------
    >>> comm = single()
    >>> x = np.array([1.0, 2.0], np.float32)
    >>> comm.all_reduce(x)
    >>> x.tolist(), comm.size, comm.usage.wire_bytes
    ([1.0, 2.0], 1, 0)
    """

    def __init__(self, transport: Transport, *, seed: int = 0, native: bool = True) -> None:
        self.transport = transport
        self._group = transport.group if native and isinstance(transport, LocalTransport) else None
        self._framed = native and isinstance(transport, FramedTransport)
        self.seed = seed
        self.step = 0
        self._traffic = Traffic()

    @property
    def rank(self) -> int:
        """Number of this process."""
        return self.transport.rank

    @property
    def size(self) -> int:
        """Number of processes."""
        return self.transport.size

    @property
    def usage(self) -> Usage:
        """Bytes this rank has sent: payload and scales, their worth uncompressed, and headers apart."""
        return self._traffic.usage()

    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike = np.float32) -> Array:
        """Return an array that lives where the peers can read it: collectives need no copy of it.

        Where every rank gives an array of this kind (or a contiguous part of one), a raw `all_reduce` of
        32 MiB or more (512 KiB where ranks share cores) reads the peers' memory; else it is an array as any.

        Parameters
        ----------
        shape : int or tuple of int
            Shape in C order.
        dtype : dtype, default float32
            Any dtype without Python objects.

        Returns
        -------
        ndarray
            Zeros at first. Any rank may make any number of them, at any time; no call of the peers is
            needed. The pages go back when the last array on them does, and the memory outlives the group: it
            may be used after the workers have parted. Where ranks share no memory (MPI, torch, one rank): an
            ordinary array.

        Raises
        ------
        OSError
            The machine has not that much memory.

        Notes
        -----
        After a `CommError` the array is either as it was or holds the whole result, never a part of it.

        Examples
        --------
        >>> gradient = single().empty((3, 2))
        >>> gradient.shape, gradient.dtype.name, float(gradient.sum())
        ((3, 2), 'float32', 0.0)
        """
        kind = np.dtype(dtype)
        if kind.hasobject:
            raise TypeError(f"dtype must not hold Python objects, got {kind}")
        if not isinstance(self.transport, LocalTransport):
            return np.zeros(extents_of(shape), kind)
        array: Array = self.transport.group.empty(extents_of(shape), kind)
        return array

    def all_reduce(
        self,
        x: Array,
        *,
        codec: str | Codec = "raw",
        op: _c.Op = "mean",
        feedback: ErrorFeedback | None = None,
        name: str | None = None,
        raw_below: int = RAW_BELOW,
        nonfinite: _c.Nonfinite = "raise",
        step: int | None = None,
        first_index: int = 0,
        reproducible: bool = False,
        undo: bool = True,
    ) -> None:
        """Replace x on every rank by the mean (or sum) over ranks. Every rank ends with the same bytes.

        Parameters
        ----------
        x : array of any shape and strides
            float32 or float64 (float16 is summed in float32); any integers with `op="sum"` and `codec="raw"`.
        codec : str or Codec, default "raw"
            How values travel. "raw" is exact in x's dtype, summed in the order of ranks. Others work in
            float32; the own slice stays exact, and the result is encoded once.
        op : {"mean", "sum"}
            What to compute.
        feedback : ErrorFeedback, optional
            Residuals by `name`, at the sender and at the owner. Needs a contractive codec.
        name : str, optional
            Of the tensor, for residuals and errors.
        raw_below : int, default 65536
            Arrays of fewer bytes go raw; 0 compresses everything.
        nonfinite : {"raise", "skip", "propagate"}
            What all ranks do alike when the result holds NaN or infinities. "raise": ValueError, x
            unchanged. "skip": x becomes zero, a step of no effect. "propagate": x becomes the result (a
            block of NaN where a value of the block is not finite). Residuals stay as they were in all three.
        step : int, optional
            Keys stochastic rounding together with `name`; `Comm.step` if absent.
        first_index : int, default 0
            Absolute index of x[0] (of a bucket); keys stochastic rounding.
        reproducible : bool, default False
            The same bits for every order of ranks and every cut into buckets whose `first_index` are
            multiples of 128 and of the codec's block. Values travel to their owners as whole multiples of a
            shared power of two, in 8 bits for codecs of up to 8, in 16 for those of up to 16, in 32 for
            "raw" (then float32), and add as integers. Integers travel raw: any order gives the same.
        undo : bool, default True
            False allows a call with `nonfinite="propagate"` that raises to leave x half written: on one
            machine raw arrays need a third less memory traffic, on a wire decoding waits for no other chunk.

        Raises
        ------
        ValueError, TypeError
            Wrong arguments; a value that is not finite or that the codec cannot encode.
        CommError
            A peer died, is stuck, left, or calls something else.

        Notes
        -----
        A rank sends 2 (size - 1) / size of the encoded array.
        """
        check_numbers(raw_below, step, first_index)
        chosen = reducing_codec(codec, feedback, op, x, nonfinite)
        reproducible = reproducible and x.dtype.kind == "f"
        if reproducible:
            check_reproducible(chosen, feedback, first_index)
        call = self._call("all_reduce", name, x, chosen, f"{op},{reproducible}")
        if self.size == 1:
            if nonfinite != "propagate" and not _c.all_finite(x.reshape(-1)):
                self._refuse(call, x.reshape(-1), None, nonfinite)
                x[...] = 0
            return
        raw = (chosen.spec == "raw" or x.nbytes < raw_below) and not reproducible
        flat = flattened(x, np.float32 if x.dtype == np.float16 or not raw else None)
        state = _c.Residuals(None if raw else feedback, name)
        own_seed = self.seed + crc32((name or "").encode())
        key = _c.Key(own_seed, self.step if step is None else step, first_index)
        chosen = find_codec("raw") if raw else chosen
        bounds = shard_bounds(flat.size, self.size, chosen.block)
        native = self._native(call, bounds, chosen.block, flat, chosen, op, nonfinite, undo)
        if reproducible:
            counts = [1] * self.size
            result, judged = all_reduce_lattice(call, flat[np.newaxis], counts, chosen, op, key, state)
        elif native:
            judged = native.all_reduce_raw(flat) if raw else native.all_reduce(flat, chosen, key, state)
            result = flat
        elif self._framed and raw:
            result, judged = pipelined.all_reduce_raw(call, flat, op)
        elif self._framed and pipelined.takes_encoded(chosen, state.kind):
            writes = nonfinite == "propagate", undo
            judged = pipelined.all_reduce_encoded(call, flat, chosen, op, key, state, *writes)
            result = flat
        elif raw:
            result, judged = _c.all_reduce_raw(call, flat, op)
        else:
            result, judged = _c.all_reduce_encoded(call, flat, chosen, op, key, state)
        self._write(call, x, flat, result, judged, nonfinite, state)

    def _native(
        self,
        call: Call,
        bounds: list[tuple[int, int]],
        block: int,
        summed: Array | None,
        codec: Codec,
        op: _c.Op = "sum",
        nonfinite: _c.Nonfinite = "propagate",
        undo: bool = True,
    ) -> fused.Fused | None:
        """Return this call through the native group, if there is one that takes it."""
        if self._group is None or not fused.takes(codec, summed.dtype if summed is not None else None):
            return None
        return fused.Fused(self._group, call, bounds, block, op, nonfinite == "propagate", undo)

    def reduce_scatter(
        self,
        x: Array,
        out: Array,
        *,
        codec: str | Codec = "raw",
        op: _c.Op = "mean",
        feedback: ErrorFeedback | None = None,
        name: str | None = None,
        nonfinite: _c.Nonfinite = "raise",
        block: int | None = None,
    ) -> None:
        """Write this rank's shard of the mean (or sum) of x over ranks to out.

        Parameters
        ----------
        x : array of n values
            As in `all_reduce`; not changed.
        out : contiguous array of x's dtype
            The shard `shard_bounds(n, size, block)[rank]`.
        codec, op, feedback, name, nonfinite
            As in `all_reduce`. The result is not encoded again.
        block : int, optional
            Shard boundaries are its multiples; by default the larger of 128 and the codec's block.

        Raises
        ------
        ValueError, TypeError, CommError
            As in `all_reduce`.
        """
        chosen = reducing_codec(codec, feedback, op, x, nonfinite)
        call = self._call("reduce_scatter", name, x, chosen, op)
        bounds, block = cut(x.size, self.size, chosen, block)
        begin, end = bounds[self.rank]
        check_shard("out", out, x, (begin, end))
        raw = chosen.spec == "raw" or self.size == 1
        flat = flattened(x, np.float32 if x.dtype == np.float16 or not raw else None)
        state = _c.Residuals(None if raw else feedback, name)
        key = _c.Key(self.seed, self.step)
        native = self._native(call, bounds, block, flat, chosen, op, nonfinite)
        if native:
            mine = np.empty(end - begin, flat.dtype)
            judged = (
                native.reduce_scatter_raw(flat, mine)
                if raw
                else native.reduce_scatter(flat, mine, chosen, key, state)
            )
        else:
            mine, judged = _c.reduce_scatter(call, flat, None if raw else chosen, bounds, op, key, state)
        self._write(call, out, flat, mine, judged, nonfinite, state)

    def all_gather(
        self,
        x: Array,
        out: Array,
        *,
        codec: str | Codec = "raw",
        name: str | None = None,
        block: int | None = None,
    ) -> None:
        """Fill out on every rank with the shards of all; every rank ends with the same bytes, the owner too.

        Parameters
        ----------
        x : contiguous array
            This rank's shard: `shard_bounds(out.size, size, block)[rank]`. Any numbers with `codec="raw"`,
            else floats.
        out : array of n values and x's dtype
            Where to write.
        codec : str or Codec, default "raw"
            How values travel; with a lossy one the owner's part of `out` holds the decoded values too.
        name : str, optional
            For errors.
        block : int, optional
            As in `reduce_scatter`.

        Raises
        ------
        ValueError
            A value cannot be encoded, on any rank; `out` is unchanged.
        CommError
            As in `all_reduce`.
        """
        chosen = find_codec(codec)
        check_array("out", out)
        check_travels(x, chosen)
        call = self._call("all_gather", name, out, chosen)
        bounds, block = cut(out.size, self.size, chosen, block)
        begin, end = bounds[self.rank]
        check_shard("x", x, out, (begin, end))
        raw = chosen.spec == "raw"
        mine = np.ascontiguousarray(x, None if raw else np.float32).reshape(-1)
        in_place = out.flags.c_contiguous and out.dtype == mine.dtype
        result = out.reshape(-1) if in_place else np.empty(out.size, mine.dtype)
        native = self._native(call, bounds, block, None, chosen)
        failure = None
        key = _c.Key(self.seed, self.step)
        if native and raw:
            native.all_gather_raw(mine, result)
        elif native:
            failure = native.all_gather(mine, result, chosen, key).failure
        else:
            result = np.empty(out.size, mine.dtype)
            if raw:
                _c.gather_raw(call, mine, result, bounds)
            else:
                encoded = Encoded(chosen, end - begin)
                encoded.fill(mine, self.rank, begin, **key.of(self.rank, 2, begin))
                failure = _c.gather(call, encoded, result, bounds, encoded.failure)
        self._place(call, out, result, failure)

    def _place(self, call: Call, out: Array, result: Array, failure: tuple[int, int] | None) -> None:
        """Write what all ranks have alike, or raise what all ranks raise."""
        if failure:
            raise _refusal(call, self._describe_failure(call, failure))
        if not np.may_share_memory(out, result):
            out[...] = result.reshape(out.shape)

    def broadcast(
        self, x: Array, root: int = 0, *, codec: str | Codec = "raw", name: str | None = None
    ) -> None:
        """Replace x on every rank by root's x; every rank ends with the same bytes, root too.

        Parameters
        ----------
        x : array of any shape and strides
            Same shape on all ranks; of any dtype with `codec="raw"`, else of floats.
        root : int, default 0
            Whose values to send.
        codec : str or Codec, default "raw"
            How values travel: "raw" bit for bit; with a lossy one, root's x becomes the decoded values too.
        name : str, optional
            For errors.

        Raises
        ------
        ValueError
            No such rank; a value beyond the codes of `step` (then nothing was written on any rank). Other
            codecs make NaN of a block that holds one, or a value that is too large for them, on every rank.
        CommError
            As in `all_reduce`.
        """
        chosen = find_codec(codec)
        check_broadcast(x, root, self.size, chosen)
        raw = chosen.spec == "raw"
        call = self._call("broadcast", name, x, chosen, f"{root}")
        flat = np.ascontiguousarray(x, None if raw else np.float32).reshape(-1)
        native = self._native(call, _c.root_bounds(flat.size, self.size, root), chosen.block, None, chosen)
        key = _c.Key(self.seed, self.step)
        failure = None
        if native and raw:
            native.broadcast_raw(flat, root)
        elif native:
            failure = native.broadcast(flat, root, chosen, key).failure
        elif raw:
            flat = _c.broadcast_raw(call, flat, root)
        else:
            flat, failure = _c.broadcast_encoded(call, flat, chosen, root, key)
        self._place(call, x, flat, failure)

    def count_raw(self, n: int, sent: Usage) -> None:
        """Count what n float32 values would have sent raw, in place of what was since `sent`. Internal."""
        begin, end = shard_bounds(n, self.size)[self.rank]
        self._traffic.raw_bytes = sent.raw_bytes + 4 * (n + (self.size - 2) * (end - begin))

    def barrier(self) -> None:
        """Return once all ranks have called it."""
        self.transport.barrier("barrier")

    def all_gather_bytes(self, data: bytes) -> list[bytes]:
        """Return the bytes of every rank, by rank. They may differ in length.

        Parameters
        ----------
        data : bytes
            What this rank contributes.

        Examples
        --------
        >>> single().all_gather_bytes(b"abc")
        [b'abc']
        """
        return _c.gather_bytes(Call(self.transport, self._traffic, "all_gather_bytes"), data)

    def _call(self, op: str, name: str | None, x: Array, codec: Codec, detail: str = "") -> Call:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a str or None, got {name!r}")
        self.step += 1
        spec = codec.spec
        return Call(self.transport, self._traffic, op, name, spec, f"{x.size},{x.dtype.str},{spec},{detail}")

    def _write(
        self,
        call: Call,
        x: Array,
        flat: Array,
        result: Array,
        judged: _c.Verdict,
        nonfinite: _c.Nonfinite,
        state: _c.Residuals,
    ) -> None:
        """Write what all ranks have agreed on into x and the residuals."""
        judged = _c.judge_narrowed(call, judged, result, x.dtype)
        if judged.kind == "failed" or (judged.kind == "nonfinite" and nonfinite != "propagate"):
            self._refuse(call, flat, judged.failure, "raise" if judged.kind == "failed" else nonfinite)
            result = np.zeros_like(result)
        elif judged.kind == "finite":
            state.commit()
        if result.base is not x and not np.may_share_memory(x, result):
            with np.errstate(over="ignore"):
                x[...] = result.reshape(x.shape)

    def _refuse(self, call: Call, x: Array, failure: tuple[int, int] | None, nonfinite: str) -> None:
        """Raise the error that all ranks raise; return if the call is to be skipped."""
        if nonfinite == "skip" and failure is None:
            return
        text = self._describe_failure(call, failure) if failure else describe_bad_value(x, self.rank)
        found = [text.decode() for text in self.all_gather_bytes(text.encode())]
        raise _refusal(call, next(filter(None, found), "the result is too large for its type"))

    def _describe_failure(self, call: Call, failure: tuple[int, int]) -> str:
        return f"x[{failure[1]}] of {self._named(failure[0])} cannot be encoded by {call.spec}"

    def _named(self, rank: int) -> str:
        """Return what errors call a rank."""
        return f"rank {rank}"


def _refusal(call: Call, why: str) -> ValueError:
    return ValueError(f"{call.op}: {why}; nothing was written on any rank")


def single() -> Comm:
    """Return a Comm of one rank: every operation is trivial, nothing is sent.

    Examples
    --------
    >>> single().size
    1
    """
    return Comm(SingleTransport())
