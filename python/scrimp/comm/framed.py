"""What transports of more than one machine have in common: framed messages; what a lost peer means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from zlib import crc32

import numpy as np

from scrimp.comm.flight import FRAME_NBYTES, Flight, Requests
from scrimp.comm.transport import Bytes, Message
from scrimp.errors import CommError


class FramedTransport(ABC):
    """A `Transport` whose subclass only moves buffers.

    Parameters
    ----------
    rank, size : int
        Who this is, and of how many.
    timeout : float
        Seconds that a wait may last without progress.
    """

    frame_nbytes = FRAME_NBYTES

    def __init__(self, rank: int, size: int, timeout: float) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout must be positive, got {timeout}")
        self.rank = rank
        self.size = size
        self.timeout = timeout
        self._ended: list[CommError] = []  # by what
        self._turn = Lock()
        self._workspaces: dict[str, Bytes] = {}

    def workspace(self, purpose: str, nbytes: int) -> Bytes:
        """Return uint8[nbytes]: the same memory in every call for this purpose, if it is large enough."""
        kept = self._workspaces.get(purpose)
        if kept is None or kept.size < nbytes:
            kept = self._workspaces[purpose] = np.empty(nbytes, np.uint8)
        return kept[:nbytes]

    @abstractmethod
    def requests(self) -> Requests:
        """Return what moves the buffers of one collective."""

    @contextmanager
    def flight(self) -> Iterator[Flight]:
        """Give out messages that may be posted before others have arrived. Any error ends the group.

        Also one that is no CommError, such as KeyboardInterrupt: messages are left behind that the next
        collective would take for its own.
        """
        if self._ended:
            raise CommError(f"the group ended earlier: {self._ended[0]}") from self._ended[0]
        flight = Flight(self.requests(), self.rank, self.shown)
        if not self._turn.acquire(blocking=False):
            raise RuntimeError("another thread of this process is in a collective of the same group")
        try:
            yield flight
        except CommError as error:
            explained = self.explained(error, flight.awaited())
            self._ended.append(explained)
            if explained is error:
                raise
            raise explained from error
        except BaseException as error:
            me = self.shown(self.rank)
            self._ended.append(CommError(f"{type(error).__name__} on rank {me} in a collective"))
            raise
        finally:
            flight.close()
            self._turn.release()

    def exchange(self, sends: Sequence[Message], recvs: Sequence[Message], tag: int, label: str) -> None:
        """Move the messages, framed, and check what came."""
        with self.flight() as flight:
            for peer, data in recvs:
                flight.receive(peer, data, tag, label)
            for peer, data in sends:
                flight.send([peer], data, tag)
            for _ in recvs:
                flight.next()
            flight.finish(label)

    def shown(self, peer: int) -> int:
        """Return the number that errors give a rank."""
        return peer

    def explained(self, error: CommError, awaited: list[int]) -> CommError:
        """Return the error, or one that knows better whose fault it is. `awaited` did not send all."""
        return error

    def barrier(self, label: str) -> None:
        """Exchange one byte with everybody."""
        byte = np.zeros(1, np.uint8)
        peers = [p for p in range(self.size) if p != self.rank]
        into = [(p, np.empty(1, np.uint8)) for p in peers]
        self.exchange([(p, byte) for p in peers], into, crc32(label.encode()), label)

    def lost(self, peer: int, label: str, why: str) -> CommError:
        """Return the error for a peer that is gone."""
        return CommError(
            f"rank {peer} is gone ({why}); rank {self.rank} was in {label.replace('%p', str(peer))}", peer
        )

    def stuck(self, peer: int, label: str) -> CommError:
        """Return the error for a peer that shows no progress."""
        where = label.replace("%p", str(peer))
        return CommError(
            f"rank {self.rank} got nothing from rank {peer} within {self.timeout:g} s in {where}", peer
        )
