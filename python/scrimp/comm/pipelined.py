"""All-reduce over a network, in chunks: one is encoded or added up while others are on the wire.

Byte for byte what `collectives` computes in one piece. All receives are posted at once and every chunk is
sent as soon as it is there: first to the owners what they add up, then to all what they have added. So the
link is busy both ways from the first chunk to the last.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrimp import _core
from scrimp.comm.collectives import Key, Op, Residuals, Verdict, all_finite
from scrimp.comm.flight import FRAME_NBYTES, Flight
from scrimp.comm.framed import FramedTransport
from scrimp.comm.fused import CHUNK, takes
from scrimp.comm.shards import shard_bounds
from scrimp.comm.transport import Bytes
from scrimp.comm.wire import STATUS_NBYTES, Call, Encoded, as_bytes, leg_seed

if TYPE_CHECKING:
    from scrimp.codecs import Codec

Floats = NDArray[np.float32]
Span = tuple[int, int]

_SHORTEST, _LONG, _LONGEST = 1 << 16, 1 << 20, 1 << 22
"""Values of a chunk; more than _LONG (35 ms at 1 Gbit/s raw) while they fit into _MESSAGE_NBYTES (9 ms)."""
_MESSAGE_NBYTES = 1 << 20
_CHUNKS = 8  # that a rank sends in each leg, at least, where they are long enough


def takes_encoded(codec: Codec, kind: str) -> bool:
    """Whether this codec and kind of feedback can be pipelined."""
    return kind in ("none", "ef14") and takes(codec, np.dtype(np.float32))


class Undo:
    """What arrays held before they were written, for the case that the call fails."""

    def __init__(self, memory: Floats) -> None:
        self._memory = memory
        self._used = 0
        self._kept: list[tuple[Floats, Floats]] = []

    def keep(self, live: Floats) -> None:
        """Remember what `live` holds now."""
        kept = self._memory[self._used : self._used + live.size]
        kept[...] = live
        self._used += live.size
        self._kept.append((live, kept))

    def __call__(self) -> None:
        """Write everything back."""
        for live, kept in self._kept:
            live[...] = kept


class _AllReduce(ABC):
    """The schedule that raw and encoded values share."""

    def __init__(self, call: Call, n: int, block: int, block_nbytes: int) -> None:
        self.call = call
        self.peers = [(call.rank + i) % call.size for i in range(1, call.size)]
        bounds = shard_bounds(n, call.size, block)
        chunk = _chunk(bounds, block, block_nbytes)
        self.chunks = [_cut(span, chunk) for span in bounds]
        self.own = self.chunks[call.rank]

    @abstractmethod
    def expect(self, flight: Flight, leg: int, peer: int, i: int) -> None:
        """Post the receive of chunk i."""

    @abstractmethod
    def scatter(self, flight: Flight, owner: int, i: int) -> None:
        """Send chunk i of the slice of `owner`."""

    @abstractmethod
    def combine(self, flight: Flight, i: int) -> None:
        """Add up chunk i of the own slice, which has arrived from all, and send the result to all."""

    @abstractmethod
    def take(self, owner: int, i: int) -> None:
        """Take chunk i of the result of `owner`."""

    @property
    def transport(self) -> FramedTransport:
        """Return what moves the messages."""
        assert isinstance(self.call.transport, FramedTransport)
        return self.call.transport

    def workspace(self, purpose: str, nbytes: int) -> Bytes:
        """Return memory that is kept from call to call: fresh pages cost more than what is done with them."""
        return self.transport.workspace(purpose, nbytes)

    def run(self) -> None:
        """Move everything."""
        with self.transport.flight() as flight:
            self._expect_all(flight)
            for i in range(max(map(len, self.chunks))):
                for owner in self.peers:
                    if i < len(self.chunks[owner]):
                        self.scatter(flight, owner, i)
            missing = [len(self.peers)] * len(self.own)
            for _ in range(sum(map(len, self.chunks)) - len(self.own) + sum(missing)):
                leg, peer, i = flight.next()
                if leg == 2:
                    self.take(peer, i)
                    continue
                missing[i] -= 1
                if not missing[i]:
                    self.combine(flight, i)
            flight.finish(f"{self.call.op}{self.call.their_slices()}")

    def _expect_all(self, flight: Flight) -> None:
        for peer in self.peers:
            for i in range(len(self.own)):
                self.expect(flight, 1, peer, i)
            for i in range(len(self.chunks[peer])):
                self.expect(flight, 2, peer, i)

    def label(self, leg: int) -> str:
        """Return what a receive of this leg is called in errors."""
        return self.call.op + (self.call.my_slice() if leg == 1 else self.call.their_slices())


def _chunk(bounds: list[Span], block: int, block_nbytes: int) -> int:
    """Values of a chunk: the same on all ranks, a multiple of the block."""
    longest = max(end - begin for begin, end in bounds)
    most = min(max(_MESSAGE_NBYTES * block // block_nbytes, _LONG), _LONGEST)
    wanted = min(max(longest * (len(bounds) - 1) // _CHUNKS, _SHORTEST), most)
    unit = math.lcm(CHUNK, block)
    return -(-wanted // unit) * unit


def _cut(span: Span, chunk: int) -> list[Span]:
    begin, end = span
    return [(i, min(i + chunk, end)) for i in range(begin, end, chunk)]


class _Encoded(_AllReduce):
    def __init__(
        self, call: Call, x: Floats, codec: Codec, op: Op, key: Key, state: Residuals, early: bool
    ) -> None:
        super().__init__(call, x.size, codec.block, codec.nbytes(codec.block))
        self.x, self.codec, self.op, self.key = x, codec, op, key
        self.early = early  # x may be written while an error could still come
        has_memory = state.kind == "ef14"
        own = self.own[-1][1] - self.own[0][0] if self.own else 0
        self.sent = state.get("sent", x.size) if has_memory else None
        self.owned = state.get("owned", own) if has_memory else None
        self.undo = Undo(self.workspace("undo", 4 * x.size if has_memory else 0).view(np.float32))
        self._room = _Room(self.workspace("messages", self._room_nbytes()))
        self.inbox = {(p, i): self._new(span) for p in self.peers for i, span in enumerate(self.own)}
        self.result = {
            (p, i): self._new(span) for p in range(call.size) for i, span in enumerate(self.chunks[p])
        }

    def expect(self, flight: Flight, leg: int, peer: int, i: int) -> None:
        encoded, whole = (self.inbox if leg == 1 else self.result)[peer, i]
        tag = self.call.tag(leg)
        flight.receive(peer, encoded.buffer, tag, self.label(leg), (leg, peer, i), whole)

    def scatter(self, flight: Flight, owner: int, i: int) -> None:
        begin, end = self.chunks[owner][i]
        encoded, whole = self._new((begin, end))
        key: dict[str, Any] = self.key.of(self.call.rank, 1, begin)
        if self.sent is not None:
            memory = self.sent[begin:end]
            self.undo.keep(memory)
            key |= {"feedback": "ef14", "state": memory}
        encoded.fill(self.x[begin:end], self.call.rank, begin, **key)
        self._send(flight, 1, [owner], encoded, whole)

    def combine(self, flight: Flight, i: int) -> None:
        (begin, end), (mine, whole) = self.own[i], self.result[self.call.rank, i]
        values = self.x[begin:end]
        owned = None
        if self.owned is not None:
            first = self.own[0][0]
            owned = self.owned[begin - first : end - first]
            self.undo.keep(owned)
        key = leg_seed(self.key.seed, self.call.rank, 2), self.key.step, self.key.first_index + begin
        received = [self.inbox[p, i][0] if p != self.call.rank else None for p in range(self.call.size)]
        payloads = [part.payload if part else None for part in received]
        failed, finite = _core.combine_chunk(
            self.codec.native, values, payloads, self.op == "mean", mine.payload, key, owned
        )
        mine.judge(finite)
        failures = [part.failure for part in received if part and part.failure]
        if failures or failed >= 0:
            mine.mark(*(failures[0] if failures else (self.call.rank, begin + failed)))
        self._send(flight, 2, self.peers, mine, whole)
        if self.early:
            mine.decode(values)

    def take(self, owner: int, i: int) -> None:
        """Decode it, if it is early; else x is written when all has arrived."""
        if self.early:
            self.result[owner, i][0].decode(self.x[slice(*self.chunks[owner][i])])

    def verdict(self) -> Verdict:
        """Return what all ranks see alike: the flags of all chunks of the result."""
        flags = [encoded for _, (encoded, _) in sorted(self.result.items())]
        failure = next((encoded.failure for encoded in flags if encoded.failure), None)
        if failure:
            return Verdict("failed", failure)
        return Verdict("finite" if all(encoded.finite for encoded in flags) else "nonfinite")

    def write(self) -> None:
        """Decode the result into x, if that is not done."""
        for (owner, i), (encoded, _) in self.result.items() if not self.early else ():
            encoded.decode(self.x[slice(*self.chunks[owner][i])])

    def _send(self, flight: Flight, leg: int, peers: list[int], encoded: Encoded, whole: Bytes) -> None:
        for _ in peers:
            self.call.count_encoded(encoded)
        self.call.traffic.header_bytes += len(peers) * FRAME_NBYTES
        flight.send(peers, encoded.buffer, self.call.tag(leg), whole)

    def _new(self, span: Span) -> tuple[Encoded, Bytes]:
        n = span[1] - span[0]
        whole = self._room.take(FRAME_NBYTES + STATUS_NBYTES + self.codec.nbytes(n))
        return Encoded(self.codec, n, whole[FRAME_NBYTES:]), whole

    def _room_nbytes(self) -> int:
        sizes = [[self.codec.nbytes(end - begin) for begin, end in spans] for spans in self.chunks]
        mine = sizes[self.call.rank]
        every = [n for spans in sizes for n in spans]
        sent = sum(every) - sum(mine)
        count = 2 * len(every) + len(self.peers) * len(mine)
        return sent + len(self.peers) * sum(mine) + sum(every) + count * (2 * _ALIGNMENT + STATUS_NBYTES)


_ALIGNMENT = 64


class _Room:
    """One piece of memory for all messages of a call."""

    def __init__(self, memory: Bytes) -> None:
        self._memory = memory
        self._used = 0

    def take(self, nbytes: int) -> Bytes:
        taken = self._memory[self._used : self._used + nbytes]
        self._used += -(-nbytes // _ALIGNMENT) * _ALIGNMENT
        return taken


def all_reduce_encoded(
    call: Call,
    x: Floats,
    codec: Codec,
    op: Op,
    key: Key,
    state: Residuals,
    write_nonfinite: bool,
    undo: bool = True,
) -> Verdict:
    """Replace x[n] and the residuals by what follows, unless the verdict or an error says otherwise.

    Without `undo`, and with `write_nonfinite`, chunks are decoded into x as they arrive: while the link is
    busy with the next ones, not after all of them. An error then leaves x half written.
    """
    reduce = _Encoded(call, x, codec, op, key, state, write_nonfinite and not undo)
    try:
        reduce.run()
    except BaseException:
        reduce.undo()
        raise
    judged = reduce.verdict()
    if judged.kind != "finite":
        reduce.undo()
    if judged.kind == "finite" or (judged.kind == "nonfinite" and write_nonfinite):
        reduce.write()
    return judged


class _Raw(_AllReduce):
    def __init__(self, call: Call, x: NDArray[Any], op: Op) -> None:
        super().__init__(call, x.size, 1, x.itemsize)
        self.x, self.op = x, op
        self.out = self.workspace("result", x.nbytes).view(x.dtype)
        self.finite = True
        n = sum(end - begin for begin, end in self.own)
        inboxes = self.workspace("inboxes", n * x.itemsize * len(self.peers)).view(x.dtype)
        self.inbox = dict(zip(self.peers, np.split(inboxes, len(self.peers)), strict=True))

    def expect(self, flight: Flight, leg: int, peer: int, i: int) -> None:
        into = self._arrived(peer, i) if leg == 1 else self.out[slice(*self.chunks[peer][i])]
        flight.receive(peer, as_bytes(into), self.call.tag(leg), self.label(leg), (leg, peer, i))

    def scatter(self, flight: Flight, owner: int, i: int) -> None:
        self._send(flight, 1, [owner], self.x[slice(*self.chunks[owner][i])])

    def combine(self, flight: Flight, i: int) -> None:
        begin, end = self.own[i]
        total = self.out[begin:end]
        with np.errstate(over="ignore", invalid="ignore"):
            for rank in range(self.call.size):
                part = self.x[begin:end] if rank == self.call.rank else self._arrived(rank, i)
                if rank:
                    total += part
                else:
                    total[...] = part
            if self.op == "mean":
                total /= self.call.size
        self.finite &= all_finite(total)
        self._send(flight, 2, self.peers, total)

    def take(self, owner: int, i: int) -> None:
        self.finite &= all_finite(self.out[slice(*self.chunks[owner][i])])

    def _arrived(self, peer: int, i: int) -> NDArray[Any]:
        begin, end = self.own[i]
        first = self.own[0][0]
        return self.inbox[peer][begin - first : end - first]

    def _send(self, flight: Flight, leg: int, peers: list[int], values: NDArray[Any]) -> None:
        traffic = self.call.traffic
        traffic.wire_bytes += len(peers) * values.nbytes
        traffic.raw_bytes += len(peers) * values.nbytes
        traffic.header_bytes += len(peers) * FRAME_NBYTES
        flight.send(peers, as_bytes(values), self.call.tag(leg))


def all_reduce_raw(call: Call, x: NDArray[Any], op: Op) -> tuple[NDArray[Any], Verdict]:
    """Return the exact sum (or mean) of x[n] over ranks."""
    reduce = _Raw(call, x, op)
    reduce.run()  # the caller copies what it returns before the next call
    return reduce.out, Verdict("finite" if reduce.finite else "nonfinite")
