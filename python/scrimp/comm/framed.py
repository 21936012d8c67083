"""What the transports of more than one machine have in common: a frame around each message.

A frame is 16 bytes before the message, little-endian: u64 length, u32 tag, u32 CRC-32C of the message. So a
flipped bit, a peer in another operation and an array of another length are errors that name the rank, on
every network.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from zlib import crc32

import numpy as np

from scrimp import _core
from scrimp.comm.transport import Bytes, Message
from scrimp.errors import CommError

_FRAME = struct.Struct("<QII")


class FramedTransport(ABC):
    """A `Transport` whose subclass only moves buffers.

    Parameters
    ----------
    rank, size : int
        Who this is, and of how many.
    timeout : float
        Seconds that a wait may last without progress.
    """

    frame_nbytes = _FRAME.size

    def __init__(self, rank: int, size: int, timeout: float) -> None:
        self.rank = rank
        self.size = size
        self.timeout = timeout
        self._broken: CommError | None = None

    @abstractmethod
    def move(self, sends: Sequence[Message], recvs: Sequence[Message], label: str) -> None:
        """Send and fill all buffers at once; at most one each way for each peer. Raise CommError."""

    def exchange(self, sends: Sequence[Message], recvs: Sequence[Message], tag: int, label: str) -> None:
        """Move the messages, framed, and check what came."""
        if self._broken:
            raise CommError(f"the group ended earlier: {self._broken}") from self._broken
        framed = [(peer, np.empty(_FRAME.size + data.size, np.uint8)) for peer, data in recvs]
        try:
            self.move([(peer, _with_frame(data, tag)) for peer, data in sends], framed, label)
            for (peer, data), (_, whole) in zip(recvs, framed, strict=True):
                self._unframe(whole, data, peer, tag, label)
        except CommError as error:
            self._broken = error
            raise

    def barrier(self, label: str) -> None:
        """Exchange one byte with everybody."""
        byte = np.zeros(1, np.uint8)
        peers = [p for p in range(self.size) if p != self.rank]
        into = [(p, np.empty(1, np.uint8)) for p in peers]
        self.exchange([(p, byte) for p in peers], into, crc32(label.encode()), label)

    def lost(self, peer: int, label: str, why: str) -> CommError:
        """Return the error for a peer that is gone."""
        return CommError(
            f"rank {peer} is gone ({why}); rank {self.rank} was in {label.replace('%p', str(peer))}"
        )

    def stuck(self, peer: int, label: str) -> CommError:
        """Return the error for a peer that shows no progress."""
        where = label.replace("%p", str(peer))
        return CommError(
            f"rank {self.rank} got nothing from rank {peer} within {self.timeout:g} s in {where}"
        )

    def _unframe(self, whole: Bytes, data: Bytes, peer: int, tag: int, label: str) -> None:
        nbytes, their_tag, crc = _FRAME.unpack_from(whole.data)
        where = f"rank {self.rank} was in {label.replace('%p', str(peer))}"
        if (nbytes, their_tag) != (data.size, tag):
            raise CommError(f"rank {peer} is in another collective, or in one of another length; {where}")
        body = whole[_FRAME.size :]
        if _core.crc32c(body) != crc:
            raise CommError(f"bytes from rank {peer} were damaged on their way; {where}")
        data.reshape(-1)[...] = body


def _with_frame(data: Bytes, tag: int) -> Bytes:
    whole = np.empty(_FRAME.size + data.size, np.uint8)
    _FRAME.pack_into(whole.data, 0, data.size, tag, _core.crc32c(data))
    whole[_FRAME.size :] = data.reshape(-1)
    return whole
