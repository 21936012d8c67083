"""torch.distributed as a transport: point-to-point messages of gloo, also beside an NCCL group."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from queue import SimpleQueue
from typing import Any

from scrimp.comm.communicator import Comm
from scrimp.comm.framed import FramedTransport
from scrimp.comm.transport import Message


class TorchTransport(FramedTransport):
    """Messages over a gloo process group of its own, so that nobody else's messages mix with them."""

    def __init__(self, group: Any, timeout: float) -> None:
        import torch
        import torch.distributed as dist

        members = dist.get_process_group_ranks(group if group is not None else dist.group.WORLD)
        own = dist.new_group(
            members, timeout=timedelta(seconds=timeout), backend="gloo", use_local_synchronization=True
        )
        super().__init__(dist.get_rank(own), dist.get_world_size(own), timeout)
        self._torch, self._dist, self._group, self._members = torch, dist, own, members

    def move(self, sends: Sequence[Message], recvs: Sequence[Message], label: str) -> None:
        """Start everything, then wait for each peer in its own thread: gloo cannot wait for the first."""
        waits: dict[int, list[Callable[[], Any]]] = {}
        for start, messages in ((self._dist.irecv, recvs), (self._dist.isend, sends)):
            for peer, data in messages:
                try:
                    work = start(self._torch.from_numpy(data), self._members[peer], group=self._group)
                except RuntimeError as error:
                    raise self._translated(error, peer, label) from error
                waits.setdefault(peer, []).append(work.wait)
        self._wait(waits, label)

    def _wait(self, waits: dict[int, list[Callable[[], Any]]], label: str) -> None:
        ended: SimpleQueue[tuple[int, RuntimeError | None]] = SimpleQueue()

        def wait_for(peer: int) -> None:
            try:
                for wait in waits[peer]:
                    wait()
            except RuntimeError as error:
                ended.put((peer, error))
            else:
                ended.put((peer, None))

        peers = list(waits)
        if len(peers) == 1:
            wait_for(peers[0])
        else:
            for peer in peers:
                threading.Thread(target=wait_for, args=(peer,), daemon=True).start()
        for _ in peers:
            peer, error = ended.get()
            if error is not None:
                raise self._translated(error, peer, label) from error

    def _translated(self, error: RuntimeError, peer: int, label: str) -> Exception:
        text = str(error)
        if "imed out" in text:
            return self.stuck(peer, label)
        return self.lost(peer, label, text.rpartition("] ")[2].partition(". ")[0])


def from_torch(group: Any = None, *, timeout: float = 30.0, seed: int = 0) -> Comm:
    """Return a Comm over the ranks of a torch.distributed process group.

    Parameters
    ----------
    group : ProcessGroup, optional
        Whose ranks take part; the default group if absent. Its backend does not matter: messages travel
        through a gloo group of the same ranks that is made here (NCCL: through host memory; not run by the
        tests).
    timeout : float, default 30.0
        Seconds that a collective waits for a peer.
    seed : int, default 0
        Of stochastic rounding.

    Returns
    -------
    Comm
        All ranks of the group must call this at the same time.

    Raises
    ------
    ImportError
        PyTorch is not installed (`pip install "scrimp[torch]"`).
    """
    return Comm(TorchTransport(group, timeout), seed=seed)
