"""torch.distributed as a transport: point-to-point messages of gloo, also beside an NCCL group."""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from queue import SimpleQueue
from typing import Any

from scrimp.comm.communicator import Comm
from scrimp.comm.flight import Requests
from scrimp.comm.framed import FramedTransport
from scrimp.comm.transport import Bytes
from scrimp.comm.witnesses import Evidence, Witnesses
from scrimp.errors import CommError

Wait = Callable[..., Any]  # for one message; with a timedelta, no longer than that
_END_S = 10.0  # what a thread gets to end with the program; it takes milliseconds
_AT_ONCE = timedelta(milliseconds=1)


class TorchTransport(FramedTransport):
    """Messages over a gloo process group of its own, so that nobody else's messages mix with them."""

    def __init__(self, group: Any, timeout: float) -> None:
        import torch
        import torch.distributed as dist

        parent = dist.group.WORLD if group is None else group
        if not isinstance(parent, dist.ProcessGroup):
            what = "there is none: call init_process_group()" if group is None else f"got {group!r}"
            raise TypeError(f"group must be a ProcessGroup that this rank is in, {what}")
        super().__init__(parent.rank(), parent.size(), timeout)
        # Not dist.new_group: it names a group by how many others a rank is in, which ranks may differ in.
        shared = parent.get_group_store()
        store = dist.PrefixStore(f"scrimp/{shared.add(f'scrimp/{self.rank}', 1)}", shared)
        self._group = dist.ProcessGroupGloo(store, self.rank, self.size, timedelta(seconds=timeout))
        self._torch = torch
        self._witnesses = Witnesses(dist.PrefixStore("witnesses", store), self.rank, self.size)

    def explained(self, error: CommError, awaited: list[int]) -> CommError:
        """Return the error, or one that names whom the other ranks blame."""
        if error.lost is None:
            return error
        evidence: Evidence = "stuck" if _timed_out(error.__cause__) else "gone"
        if error.__cause__ is None:  # not an error of gloo
            evidence = "sent"
        to_blame = self._witnesses.agree(error.lost, evidence, awaited)
        if to_blame == error.lost:
            return error
        return CommError(f"rank {to_blame} is to blame, by what all ranks have seen; {error}", to_blame)

    def requests(self) -> Requests:
        """Return non-blocking messages."""
        return _GlooRequests(self)

    def start(self, receives: bool, peer: int, data: Bytes) -> Wait:
        """Start one message; return what waits for it."""
        start = self._group.recv if receives else self._group.send
        if not data.flags.writeable:
            data = data.copy()  # a tensor of memory that is read-only comes with a warning
        try:
            work = start([self._torch.from_numpy(data)], peer, 0)
        except RuntimeError as error:
            raise self.translated(error, peer, "a message of %p") from error
        wait: Wait = work.wait
        return wait

    def translated(self, error: RuntimeError, peer: int, label: str) -> CommError:
        """Return what an error of gloo means."""
        text = str(error)
        if "imed out" in text:
            return self.stuck(peer, label)
        return self.lost(peer, label, text.rpartition("] ")[2].partition(". ")[0])


def _timed_out(error: BaseException | None) -> bool:
    """Whether gloo gave up, here or at the other end of the connection."""
    return "imed out" in str(error) or "timeout caused" in str(error)


class _GlooRequests(Requests):
    """Waits for each of several peers in a thread of its own: gloo cannot wait for whoever is first."""

    def __init__(self, transport: TorchTransport) -> None:
        self._transport = transport
        self._sends: list[tuple[int, Wait]] = []
        self._receives: dict[int, deque[Wait]] = {}
        self._waiters: dict[int, _Waiter] = {}
        self._n_awaited = 0
        self._ended: SimpleQueue[tuple[int, RuntimeError | None]] = SimpleQueue()

    def send(self, peer: int, data: Bytes) -> None:
        self._sends.append((peer, self._transport.start(False, peer, data)))

    def receive(self, peer: int, data: Bytes) -> None:
        wait = self._transport.start(True, peer, data)
        self._n_awaited += 1
        if peer in self._waiters:
            self._waiters[peer].waits.put(wait)
        else:
            self._receives.setdefault(peer, deque()).append(wait)

    def next(self, label: Callable[[int], str]) -> int:
        if not self._waiters and len(self._receives) == 1:
            peer, error = self._wait_here()
        else:
            self._start_threads()
            peer, error = self._ended.get()
        self._n_awaited -= 1
        if error is not None:
            raise self._transport.translated(error, peer, label(peer)) from error
        return peer

    def finish(self, label: str) -> None:
        for peer, wait in self._sends:
            try:
                wait()
            except RuntimeError as error:
                raise self._transport.translated(error, peer, label) from error
        self._sends.clear()

    def close(self) -> None:
        for waiter in self._waiters.values():
            waiter.waits.put(None)
            if self._n_awaited:
                atexit.register(waiter.end)

    def _wait_here(self) -> tuple[int, RuntimeError | None]:
        (peer, waits) = next(iter(self._receives.items()))
        wait = waits.popleft()
        if not waits:
            del self._receives[peer]
        try:
            wait()
        except RuntimeError as error:
            return peer, error
        return peer, None

    def _start_threads(self) -> None:
        for peer, waits in self._receives.items():
            waiter = self._waiters[peer] = _Waiter(peer, self._ended)
            for wait in waits:
                waiter.waits.put(wait)
            waiter.start()
        self._receives.clear()


class _Waiter(threading.Thread):
    """Waits for the messages of one peer, in their order, until there is None or an error."""

    def __init__(self, peer: int, ended: SimpleQueue[tuple[int, RuntimeError | None]]) -> None:
        super().__init__(daemon=True)
        self.waits: SimpleQueue[Wait | None] = SimpleQueue()
        self._peer, self._ended = peer, ended
        self._wait: Wait | None = None

    def run(self) -> None:
        """Say of each message that it came, or what came instead."""
        while (wait := self.waits.get()) is not None:
            self._wait = wait
            try:
                wait()
            except RuntimeError as error:
                self._ended.put((self._peer, error))
                return
            self._ended.put((self._peer, None))

    def end(self) -> None:
        """End with the program: nothing that is awaited comes any more.

        A thread that came back from gloo while the interpreter ends would abort the process. A wait that is
        over at once closes the connections of the group, and so ends all others.
        """
        deadline = time.monotonic() + _END_S
        while self.is_alive() and time.monotonic() < deadline:
            if (wait := self._wait) is not None:
                with suppress(RuntimeError):
                    wait(_AT_ONCE)
            self.join(0.01)


def from_torch(group: Any = None, *, timeout: float = 30.0, seed: int = 0) -> Comm:
    """Return a Comm over a process group of torch.distributed. All its ranks must call this together.

    Parameters
    ----------
    group : ProcessGroup, optional
        Whose ranks take part; the default group if absent. Its backend does not matter: messages travel
        through a gloo group of the same ranks that is made here (NCCL: through host memory; not run by the
        tests).
    timeout, seed
        As in `from_mpi`.

    Returns
    -------
    Comm
        Of the ranks of the group.

    Raises
    ------
    ImportError
        PyTorch is not installed (`pip install "scrimp[torch]"`).
    """
    return Comm(TorchTransport(group, timeout), seed=seed)
