"""One collective call on its way over a transport: labels, tags, status headers, and what was sent."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from scrimp.usage import Usage

if TYPE_CHECKING:
    from scrimp.codecs import Codec
    from scrimp.comm.transport import Bytes, Message, Transport

_STATUS = struct.Struct("<IIQ")  # one of the states below, and for a failure its rank and index
_FINE, _FAILED, _NONFINITE = 0, 1, 2  # 2: what these bytes decode to is not finite
STATUS_NBYTES = _STATUS.size
_MASK64 = (1 << 64) - 1


@dataclass
class Traffic:
    """Bytes that this rank has sent."""

    wire_bytes: int = 0
    raw_bytes: int = 0
    header_bytes: int = 0

    def usage(self) -> Usage:
        """Return the counts as a value."""
        return Usage(wire_bytes=self.wire_bytes, raw_bytes=self.raw_bytes, header_bytes=self.header_bytes)


@lru_cache(maxsize=1024)  # small calls would spend a tenth of their time here
def leg_seed(seed: int, rank: int, leg: int) -> int:
    """Mix (seed, rank, leg): rounding errors of ranks and legs become independent (SplitMix64's finalizer).

    Examples
    --------
    >>> leg_seed(0, 0, 1) != leg_seed(0, 1, 0)
    True
    """
    z = (seed * 0x9E3779B97F4A7C15 + rank * 0xD1342543DE82EF95 + leg * 0x2545F4914F6CDD1D + 1) & _MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
    return z ^ (z >> 31)


class Encoded:
    """Room for one encoded slice and its status header: what a codec writes and a transport sends."""

    __slots__ = ("buffer", "codec", "n", "payload")

    def __init__(self, codec: Codec, n: int, buffer: Bytes | None = None) -> None:
        self.codec = codec
        self.n = n
        self.buffer = np.zeros(STATUS_NBYTES + codec.nbytes(n), np.uint8) if buffer is None else buffer
        self.payload = self.buffer[STATUS_NBYTES:]

    def fill(self, values: NDArray[np.float32], rank: int, begin: int, **key: Any) -> None:
        """Encode values[n] = x[begin:begin + n]; a value that cannot be encoded is told to the receivers."""
        _STATUS.pack_into(self.buffer.data, 0, _FINE, 0, 0)
        try:
            self.codec.encode(values, out=self.payload, nonfinite="propagate", **key)
        except ValueError:
            self.mark(rank, begin + _first_failure(self.codec, values))

    def mark(self, rank: int, index: int) -> None:
        """Say that value `index` of `rank` could not be encoded."""
        _STATUS.pack_into(self.buffer.data, 0, _FAILED, rank, index)

    def judge(self, finite: bool) -> None:
        """Say whether what was encoded is finite, once it is decoded."""
        _STATUS.pack_into(self.buffer.data, 0, _FINE if finite else _NONFINITE, 0, 0)

    @property
    def finite(self) -> bool:
        """What `judge` was told."""
        return bool(_STATUS.unpack_from(self.buffer.data)[0] != _NONFINITE)

    @property
    def failure(self) -> tuple[int, int] | None:
        """(rank, index) of the value that could not be encoded, or None."""
        state, rank, index = _STATUS.unpack_from(self.buffer.data)
        return (rank, index) if state == _FAILED else None

    def add_to(self, out: NDArray[np.float32]) -> None:
        """out[n] += decoded."""
        self.codec.decode(self.payload, self.n, out=out, add=True)

    def decode(self, out: NDArray[np.float32]) -> None:
        """out[n] = decoded."""
        self.codec.decode(self.payload, self.n, out=out)

    def decoded(self) -> NDArray[np.float32]:
        """Return the decoded values in a new array."""
        out = np.empty(self.n, np.float32)
        self.decode(out)
        return out


def _first_failure(codec: Codec, values: NDArray[np.float32]) -> int:
    scratch = np.empty(codec.nbytes(1), np.uint8)
    for i in range(values.size):
        try:
            codec.encode(values[i : i + 1], out=scratch, nonfinite="propagate")
        except ValueError:
            return i
    return 0


class Call:
    """One collective call: where it goes, what it is called in errors, what it counts."""

    def __init__(
        self,
        transport: Transport,
        traffic: Traffic,
        op: str,
        name: str | None = None,
        spec: str = "raw",
        detail: str = "",
    ) -> None:
        self.transport = transport
        self.traffic = traffic
        self.rank = transport.rank
        self.size = transport.size
        self.op = f"{op} of {name!r}" if name else op
        self.spec = spec
        self.detail = detail

    def exchange(self, leg: int, sends: list[Message], recvs: list[Message], where: str = "") -> None:
        """Move the messages of one leg. Empty payloads need no message: both sides know the lengths."""
        tag = self.tag(leg)
        sends = [(peer, data) for peer, data in sends if data.size]
        recvs = [(peer, data) for peer, data in recvs if data.size]
        self.traffic.header_bytes += len(sends) * self.transport.frame_nbytes
        self.transport.exchange(sends, recvs, tag, f"{self.op}{where}")

    def tag(self, leg: int) -> int:
        """Return 32 bits that are equal on all ranks that make this call."""
        return crc32(f"{self.op}|{self.detail}|{leg}".encode())

    def my_slice(self) -> str:
        """Name what a rank waits for in the first leg."""
        return f", slice {self.rank} of {self.size}"

    def their_slices(self) -> str:
        """Name what a rank waits for in the second leg; %p is the peer."""
        return f", slice %p of {self.size}"

    def swap_encoded(
        self, leg: int, sends: Mapping[int, Encoded], recvs: Mapping[int, Encoded], where: str
    ) -> None:
        """Exchange encoded slices with the peers that are their keys."""
        for encoded in sends.values():
            if encoded.n:
                self.count_encoded(encoded)
        self.exchange(leg, _buffers(sends), _buffers(recvs), where)

    def count_encoded(self, encoded: Encoded) -> None:
        """Count one encoded slice that is sent."""
        self.traffic.wire_bytes += encoded.payload.size
        self.traffic.raw_bytes += 4 * encoded.n
        self.traffic.header_bytes += STATUS_NBYTES

    def swap_raw(self, leg: int, sends: list[Message], recvs: list[Message], where: str) -> None:
        """Exchange arrays as they are."""
        nbytes = sum(data.size for _, data in sends)
        self.traffic.wire_bytes += nbytes
        self.traffic.raw_bytes += nbytes
        self.exchange(leg, sends, recvs, where)


def _buffers(slices: Mapping[int, Encoded]) -> list[Message]:
    return [(peer, encoded.buffer) for peer, encoded in slices.items() if encoded.n]


def as_bytes(x: NDArray[Any]) -> Bytes:
    """View a contiguous array as bytes.

    Examples
    --------
    >>> as_bytes(np.zeros(2, np.int32)).size
    8
    """
    return x.reshape(-1).view(np.uint8)
