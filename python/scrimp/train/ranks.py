"""Run a function on every rank and measure all of them: the one way in which training starts processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from scrimp.comm import Comm, run, single
from scrimp.cost import Meter
from scrimp.usage import Usage

Result = TypeVar("Result")
TIMEOUT_S = 600.0


_joined: ContextVar[Comm | None] = ContextVar("joined", default=None)


@contextmanager
def joining(comm: Comm) -> Iterator[None]:
    """Let every fit inside the block run on the ranks of `comm`, as if it were given to each.

    For programs that a launcher started many times (mpiexec, torchrun): all ranks make the same fits.
    """
    token = _joined.set(comm)
    try:
        yield
    finally:
        _joined.reset(token)


def on_ranks(
    fn: Callable[..., Result],
    args: tuple[Any, ...],
    *,
    workers: int = 1,
    comm: Comm | None = None,
    timeout: float = TIMEOUT_S,
) -> tuple[Result, Usage]:
    """Call `fn(comm, *args)` on every rank.

    Parameters
    ----------
    fn : callable
        Importable by name if `workers` > 1. All ranks return the same thing; rank 0's is kept.
    args : tuple
        Arrays in it are mapped by the workers, not copied.
    workers : int
        Processes to start on this machine; 1 calls `fn` here.
    comm : Comm, optional
        Join these ranks instead of starting any; every rank makes the same call. Default: those of `joining`.
    timeout : float
        Seconds that a rank waits for another.

    Returns
    -------
    result
        Of rank 0; with `comm`, of this rank.
    usage : Usage
        Of all ranks; seconds and peak memory of the calling process are in it.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers!r}")
    if comm is None:
        comm = _joined.get()
    if comm is not None and workers != 1:
        raise ValueError(
            f"give either comm or workers, got a comm of {comm.size} ranks and workers={workers}"
        )
    if comm is not None or workers == 1:
        return _here(fn, args, comm or single())
    with Meter() as meter:
        results = run(_rank, workers=workers, args=(fn, *args), timeout=timeout)
        for _, usage in results:
            meter.add(usage, worker=True)
    return results[0][0], meter.usage


def _here(fn: Callable[..., Result], args: tuple[Any, ...], comm: Comm) -> tuple[Result, Usage]:
    before = comm.usage
    with Meter() as meter:
        result = fn(comm, *args)
        meter.add(_since(before, comm.usage))
    return result, _of_all(comm, meter.usage)


def _rank(comm: Comm, fn: Callable[..., Result], *args: Any) -> tuple[Result | None, Usage]:
    with Meter(count_shared=False) as meter:
        result = fn(comm, *args)
        meter.add(comm.usage)
    return (result if comm.rank == 0 else None), meter.usage


def _since(before: Usage, now: Usage) -> Usage:
    return Usage(
        wire_bytes=now.wire_bytes - before.wire_bytes,
        raw_bytes=now.raw_bytes - before.raw_bytes,
        header_bytes=now.header_bytes - before.header_bytes,
    )


def _of_all(comm: Comm, own: Usage) -> Usage:
    if comm.size == 1:
        return own
    first, *others = (
        Usage(**json.loads(part)) for part in comm.all_gather_bytes(json.dumps(own.to_dict()).encode())
    )
    for other in others:
        first = first.alongside(other)
    return first
