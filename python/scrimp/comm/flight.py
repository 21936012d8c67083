"""Framed messages on their way: posted without waiting, checked when they arrive.

Here are the frame, its checks and the order of messages; how buffers move is `Requests`, which each network
implements. A frame is 16 bytes, little-endian: u64 length, u32 tag, u32 CRC-32C of the message. So a flipped
bit, a peer in another operation and an array of another length are errors that name the rank.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scrimp import _core
from scrimp.comm.transport import Bytes
from scrimp.errors import CommError

_FRAME = struct.Struct("<QII")
FRAME_NBYTES = _FRAME.size
_LEFT = 2**64 - 1  # no length: the sender takes no part any more
_COPIED_BELOW = 65536
"""Shorter messages are copied behind their frame; longer ones travel from and to where they lie, after it."""


class Requests(ABC):
    """Buffers between this rank and its peers, in order for each pair of ranks. One object a collective."""

    @abstractmethod
    def send(self, peer: int, data: Bytes) -> None:
        """Start to send; `data` stays as it is until `finish`."""

    @abstractmethod
    def receive(self, peer: int, data: Bytes) -> None:
        """Start to fill `data` with the next message of the peer."""

    @abstractmethod
    def next(self, label: Callable[[int], str]) -> int:
        """Wait without burning a core; return a peer whose oldest receive has completed.

        Raise CommError for a peer that is gone or shows no progress; `label(peer)` is what it should send.
        """

    @abstractmethod
    def finish(self, label: str) -> None:
        """Wait until everything is sent."""

    def close(self) -> None:  # noqa: B027 - most have nothing to let go
        """Let go of what waits; nothing is waited for any more."""


class Flight:
    """The messages of one collective.

    Parameters
    ----------
    requests : Requests
        How buffers move.
    rank : int
        Of this process, for errors.
    shown : callable
        The number that errors give a peer; that of the transport if absent.
    """

    def __init__(self, requests: Requests, rank: int, shown: Callable[[int], int] = int) -> None:
        self._requests = requests
        self._rank = shown(rank)
        self._shown = shown
        self._expected: dict[int, deque[_Expected]] = {}

    def send(self, peers: Sequence[int], data: Bytes, tag: int, room: Bytes | None = None) -> None:
        """Start to send a message.

        The frame is written once, before the first peer may read it: peers on this machine read out of this
        process's memory while the message to the next one is posted.

        Parameters
        ----------
        peers : sequence of int
            To whom.
        data : contiguous uint8[n]
            What; stays as it is until `finish`.
        tag : int
            32 bits that must agree on both sides.
        room : uint8[16 + n], optional
            Memory whose end is `data`: saves a message. The receiver must give room as well.
        """
        whole = room if room is not None else _new_room(data.size)
        _FRAME.pack_into(whole.data, 0, data.size, tag, _core.crc32c(data))
        if room is None and whole.size > FRAME_NBYTES:
            whole[FRAME_NBYTES:] = data.reshape(-1)
        for peer in peers:
            self._requests.send(peer, whole)
            if whole.size == FRAME_NBYTES:
                self._requests.send(peer, data)

    def receive(
        self, peer: int, data: Bytes, tag: int, label: str, key: Any = None, room: Bytes | None = None
    ) -> None:
        """Expect a message after those already expected of the peer; `next` returns its key."""
        whole = room if room is not None else _new_room(data.size)
        expected = _Expected(data, whole, tag, label.replace("%p", str(peer)), key)
        parts = self._expected.setdefault(peer, deque())
        self._requests.receive(peer, whole)
        parts.append(expected)
        if whole.size == FRAME_NBYTES:
            self._requests.receive(peer, data)
            parts.append(expected)

    def next(self) -> Any:
        """Wait for a message, check it, and return its key. Those of one peer come in their order."""
        while True:
            peer = self._requests.next(lambda p: self._expected[p][0].label)
            parts = self._expected[peer]
            arrived = parts.popleft()
            first = not arrived.checked
            if first:
                arrived.check_frame(self._shown(peer), self._rank)
            if arrived.whole.size > FRAME_NBYTES or not first:
                arrived.check_message(self._shown(peer), self._rank)
                return arrived.key

    def finish(self, label: str) -> None:
        """Wait until everything is sent."""
        self._requests.finish(label)

    def awaited(self) -> list[int]:
        """Return the peers of which something is to come."""
        return [peer for peer, parts in self._expected.items() if parts]

    def close(self) -> None:
        """Wait for nothing any more."""
        self._requests.close()


def last_words(to_blame: int | None) -> Bytes:
    """Return what a rank sends as it leaves (because of another?) to those that may wait for it.

    It fits into any room.
    """
    return np.frombuffer(_FRAME.pack(_LEFT, 0 if to_blame is None else to_blame + 1, 0), np.uint8)


def _new_room(nbytes: int) -> Bytes:
    """Memory for a frame, and for its message if that is copied."""
    return np.empty(FRAME_NBYTES + (nbytes if nbytes < _COPIED_BELOW else 0), np.uint8)


class _Expected:
    """One message that is to come."""

    __slots__ = ("checked", "crc", "data", "key", "label", "tag", "whole")

    def __init__(self, data: Bytes, whole: Bytes, tag: int, label: str, key: Any) -> None:
        self.data, self.whole, self.tag, self.label, self.key = data, whole, tag, label, key
        self.checked, self.crc = False, 0

    def check_frame(self, peer: int, rank: int) -> None:
        nbytes, tag, self.crc = _FRAME.unpack_from(self.whole.data)
        self.checked = True
        if nbytes == _LEFT:
            raise self._left(peer, rank, tag - 1 if tag and tag - 1 != rank else peer)
        if (nbytes, tag) != (self.data.size, self.tag):
            text = f"rank {peer} is in another collective, or in one of another length"
            sizes = f"{nbytes:,} bytes came, {self.data.size:,} were expected"
            raise CommError(f"{text}: {sizes}; {self._where(rank)}", peer)

    def _left(self, peer: int, rank: int, to_blame: int) -> CommError:
        told = "" if to_blame == peer else f"rank {to_blame} is to blame, says rank {peer}: "
        where = self._where(rank)
        return CommError(f"{told}rank {peer} has returned and takes no part; {where}", to_blame)

    def check_message(self, peer: int, rank: int) -> None:
        body = self.whole[FRAME_NBYTES:]
        if body.size and not np.may_share_memory(body, self.data):
            self.data.reshape(-1)[...] = body
        if _core.crc32c(self.data) != self.crc:
            where = self._where(rank)
            raise CommError(f"bytes from rank {peer} were damaged on their way; {where}", peer)

    def _where(self, rank: int) -> str:
        return f"rank {rank} was in {self.label}"
