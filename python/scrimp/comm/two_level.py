"""Two levels: exact sums through shared memory inside a host, compressed sums between hosts.

Two ranks are on one host when one of them can map memory that the other has made: both say the same boot id,
and a token that came over the network stands in a file that was opened through /proc. A host's name proves
nothing: containers and network namespaces share it, or give one machine several.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from scrimp import _core
from scrimp.comm import collectives as _c
from scrimp.comm.arguments import check_numbers, flattened, reducing_codec
from scrimp.comm.communicator import RAW_BELOW, Comm, single
from scrimp.comm.flight import Requests
from scrimp.comm.framed import FramedTransport
from scrimp.comm.transport import Bytes, LocalTransport
from scrimp.errors import CommError
from scrimp.usage import Usage

if TYPE_CHECKING:
    from scrimp.codecs import Codec, ErrorFeedback

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_TOKEN_NBYTES = 32
_PATIENCE = 2
"""Ranks wait for the one that waits for another host: after its timeout it must get to tell them."""


def two_level(comm: Comm, *, host: str | None = None) -> Comm:
    """Return a Comm of the same ranks that keeps inside a host what need not leave it.

    Parameters
    ----------
    comm : Comm
        From `from_mpi` or `from_torch`. All its ranks call this together.
    host : str, optional
        Ranks that give different names count as different hosts, whatever memory they share (to try out two
        levels on one machine). Equal names prove nothing: memory must be shared as well.

    Returns
    -------
    Comm
        Where all hosts hold one rank (or nothing can be shared), `comm`. Where one host holds all, a Comm in
        shared memory, with the same bytes as `comm`. Else one whose `all_reduce` adds exactly inside each
        host, sends the hosts' sums with the codec from one rank a host to the others', and hands the result
        on through shared memory; hosts may hold different numbers of ranks. All other operations, and
        reproducible ones, are those of `comm`. Its `usage` counts what leaves the host's memory.

    Notes
    -----
    Residuals of error feedback lie with the first rank of each host. Ranks of a host wait twice the timeout
    of `comm` for each other: the first one may be waiting for another host, and tells them what it saw.

    Examples
    --------
    >>> two_level(single()).size
    1
    """
    transport = comm.transport
    if not isinstance(transport, FramedTransport) or not _core.engine_supported():
        return comm
    hosts = _find_hosts(comm, host or "")
    if all(len(ranks) == 1 for ranks in hosts):
        return comm
    mine = next(ranks for ranks in hosts if comm.rank in ranks)
    group = _join(comm, mine, _PATIENCE * transport.timeout)
    local = single()
    if group is not None:
        local = Comm(LocalTransport(group), seed=comm.seed)
        finalize(local, group.leave, False)  # an exit is no death
    if len(hosts) == 1:
        return local
    return TwoLevelComm(comm, hosts, local)


class TwoLevelComm(Comm):
    """What `two_level` returns for several hosts with several ranks.

    Attributes
    ----------
    hosts : list of list of int
        The ranks of each host.
    local : Comm
        The ranks of this host.
    """

    def __init__(self, flat: Comm, hosts: list[list[int]], local: Comm) -> None:
        super().__init__(flat.transport, seed=flat.seed)
        assert isinstance(flat.transport, FramedTransport)
        self.hosts = hosts
        self.local = local
        first = [ranks[0] for ranks in hosts]
        self._between = Between(flat, first) if self.rank in first else None

    @property
    def usage(self) -> Usage:
        """Bytes that this rank has sent to other hosts, and over the network inside its own."""
        between = self._between.usage if self._between else Usage()
        return super().usage + between

    def all_reduce(
        self,
        x: NDArray[Any],
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
        """As `Comm.all_reduce`; sums inside a host are exact in x's dtype (float16: float32)."""
        how: dict[str, Any] = {"codec": codec, "feedback": feedback, "name": name, "raw_below": raw_below}
        how |= {"first_index": first_index}
        if reproducible or not isinstance(x, np.ndarray) or x.dtype.kind != "f":
            super().all_reduce(x, op=op, nonfinite=nonfinite, step=step, reproducible=reproducible, **how)
            return
        check_numbers(raw_below, step, first_index)
        chosen = reducing_codec(codec, feedback, op, x, nonfinite)
        call = self._call("all_reduce", name, x, chosen, f"{op},two levels")
        wide = chosen.spec == "raw" and x.dtype == np.float64
        total = flattened(x, np.float64 if wide else np.float32)
        total = total.copy() if np.may_share_memory(total, x) else total
        self._sum(total, op, {**how, "step": self.step if step is None else step})
        self._write(call, x, x.reshape(-1), total, _c.verdict(total), nonfinite, _c.Residuals(None, None))

    def _sum(self, total: NDArray[Any], op: _c.Op, how: dict[str, Any]) -> None:
        """Replace total[n] by the sum (or mean) over all ranks; what is not finite stays so."""
        how |= {"op": "sum", "nonfinite": "propagate", "undo": False}  # `total` is nobody else's
        with self._inside():
            self.local.all_reduce(total, **{key: how[key] for key in ("op", "nonfinite", "undo", "name")})
        if op == "mean":
            total /= self.size
        failure = b""
        if self._between is not None:
            try:
                self._between.all_reduce(total, **how)
            except ValueError as error:
                failure = str(error).encode()
            except BaseException:
                self._end_local()
                raise
        with self._inside():
            failure = self.local.all_gather_bytes(failure)[0]
            if failure:
                raise ValueError(failure.decode())
            self.local.broadcast(total)

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """Errors of the ranks of this host say whose numbers they are."""
        try:
            yield
        except CommError as error:
            ranks = ", ".join(map(str, next(ranks for ranks in self.hosts if self.rank in ranks)))
            raise CommError(f"on the host of the ranks {ranks}, counted from 0: {error}") from error

    def _end_local(self) -> None:
        """Tell this host's ranks that nothing comes from the others."""
        if isinstance(self.local.transport, LocalTransport):
            self.local.transport.group.leave(True)


class Between(Comm):
    """The first ranks of all hosts; errors name the ranks of all."""

    def __init__(self, flat: Comm, first: list[int]) -> None:
        assert isinstance(flat.transport, FramedTransport)
        super().__init__(Subset(flat.transport, first), seed=flat.seed)
        self._first = first

    def _named(self, rank: int) -> str:
        return f"the host of rank {self._first[rank]}"


class Subset(FramedTransport):
    """Some ranks of a transport, numbered in their own order.

    Parameters
    ----------
    transport : FramedTransport
        Of all ranks.
    members : list of int
        This rank and the others that take part, in the same order everywhere.
    """

    def __init__(self, transport: FramedTransport, members: list[int]) -> None:
        super().__init__(members.index(transport.rank), len(members), transport.timeout)
        self._transport = transport
        self._members = members
        self._turn, self._ended = transport._turn, transport._ended  # its messages are those of all ranks

    def requests(self) -> Requests:
        """Return those of all ranks, renumbered."""
        return _Renumbered(self._transport.requests(), self._members)

    def shown(self, peer: int) -> int:
        """Return its number among all ranks."""
        return self._members[peer]

    def explained(self, error: CommError, awaited: list[int]) -> CommError:
        """Return what the transport of all ranks makes of it: errors carry its numbers."""
        return self._transport.explained(error, [self._members[peer] for peer in awaited])


class _Renumbered(Requests):
    def __init__(self, inner: Requests, members: list[int]) -> None:
        self._inner = inner
        self._members = members
        self._number = {rank: i for i, rank in enumerate(members)}

    def send(self, peer: int, data: Bytes) -> None:
        self._inner.send(self._members[peer], data)

    def receive(self, peer: int, data: Bytes) -> None:
        self._inner.receive(self._members[peer], data)

    def next(self, label: Callable[[int], str]) -> int:
        return self._number[self._inner.next(lambda rank: label(self._number[rank]))]

    def finish(self, label: str) -> None:
        self._inner.finish(label)

    def close(self) -> None:
        self._inner.close()


def _find_hosts(comm: Comm, host: str) -> list[list[int]]:
    """Return the ranks of each host, in the order of their first rank; the same on all ranks."""
    token = secrets.token_bytes(_TOKEN_NBYTES)
    fd = os.memfd_create("scrimp-host")
    os.write(fd, token)
    card = {"host": host, "boot": _boot_id(), "pid": os.getpid(), "fd": fd, "token": token.hex()}
    cards = [json.loads(text) for text in comm.all_gather_bytes(json.dumps(card).encode())]
    same = [r for r, other in enumerate(cards) if all(other[key] == card[key] for key in ("host", "boot"))]
    shares = same[0] == comm.rank or _can_read(cards[same[0]])
    firsts = [int(text) for text in comm.all_gather_bytes(str(same[0] if shares else comm.rank).encode())]
    os.close(fd)  # all have looked
    return [[r for r, f in enumerate(firsts) if f == first] for first in sorted(set(firsts))]


def _boot_id() -> str:
    with open(_BOOT_ID) as stream:
        return stream.read().strip()


def _open_memory(pid: int, fd: int) -> int:
    return os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)


def _can_read(card: dict[str, Any]) -> bool:
    """Whether the file that the card names holds the token that came with it."""
    with suppress(OSError):
        fd = _open_memory(card["pid"], card["fd"])
        try:
            found: str = os.pread(fd, _TOKEN_NBYTES, 0).hex()
            return found == str(card["token"])
        finally:
            os.close(fd)
    return False


def _join(comm: Comm, ranks: list[int], timeout: float) -> _core.LocalGroup | None:
    """Make (first rank) or join the shared memory of a host; all ranks of all hosts call this together."""
    leads = comm.rank == ranks[0] and len(ranks) > 1
    made = _core.LocalGroup.create(len(ranks)) if leads else None
    card = [os.getpid(), made.fd] if made else []
    cards = [json.loads(text) for text in comm.all_gather_bytes(json.dumps(card).encode())]
    group = None
    if len(ranks) > 1:
        fd = _open_memory(*cards[ranks[0]])
        group = _core.LocalGroup.join(fd, ranks.index(comm.rank), timeout)
        group.start(timeout)
    return group
