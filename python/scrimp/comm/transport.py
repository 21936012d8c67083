"""What a transport is: ranks, and bytes that go between them. It never sees a codec or an array of numbers.

A new transport is one file that implements `Transport` and one row in the tests' list of transports; all
collectives are free functions above this protocol (`collectives`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Message = tuple[int, Bytes]  # (peer, contiguous uint8 array)


class Transport(Protocol):
    """Moves bytes between `size` ranks, of which this process is number `rank`.

    Contract
    --------
    - `exchange` sends and receives all its messages at once: it never deadlocks when both sides name the same
      messages, whatever their sizes and order of peers. Messages of one ordered pair of ranks arrive in
      order.
    - All ranks call the same operations in the same order. A peer that died, is stuck beyond the timeout, has
      returned or is in another operation raises `CommError` that names the rank and the label; so does
      everything after it.
    - A wait does not burn a core.
    """

    rank: int
    size: int
    frame_nbytes: int
    """Bytes that the transport adds to a message, as far as it knows."""

    def exchange(self, sends: Sequence[Message], recvs: Sequence[Message], tag: int, label: str) -> None:
        """Send every (peer, bytes) of `sends` and fill every (peer, buffer) of `recvs`.

        Parameters
        ----------
        sends, recvs : sequence of (int, uint8[...])
            Peers other than this rank; contiguous arrays. Lengths agree on both sides.
        tag : int
            32 bits that must agree on both sides.
        label : str
            What is going on, for errors; `%p` stands for the peer.
        """

    def barrier(self, label: str) -> None:
        """Return once all ranks have called it."""


class SingleTransport:
    """The transport of a world of one: there is nobody to talk to."""

    rank = 0
    size = 1
    frame_nbytes = 0

    def exchange(self, sends: Sequence[Message], recvs: Sequence[Message], tag: int, label: str) -> None:
        """Do nothing; there are no peers."""
        assert not sends
        assert not recvs

    def barrier(self, label: str) -> None:
        """Return at once."""


class LocalTransport:
    """Processes of one machine, through the shared memory of a native group (csrc/engine)."""

    def __init__(self, group: Any) -> None:
        self.group = group
        self.rank: int = group.rank
        self.size: int = group.size
        self.frame_nbytes: int = group.FRAME_NBYTES

    def exchange(self, sends: Sequence[Message], recvs: Sequence[Message], tag: int, label: str) -> None:
        """Move the bytes through one ring of shared memory for each ordered pair of ranks."""
        self.group.exchange(sends, recvs, tag, label)

    def barrier(self, label: str) -> None:
        """Wait in shared memory: spin, then yield, then sleep."""
        self.group.barrier(label)
