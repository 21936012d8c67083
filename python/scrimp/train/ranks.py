"""Run a function on every rank and measure all of them: the one way in which training starts processes."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from scrimp.comm import Comm, run, single
from scrimp.cost import Meter
from scrimp.errors import CommError
from scrimp.train.options import check_count, is_number
from scrimp.usage import Usage

Result = TypeVar("Result")
TIMEOUT_S = 600.0
ON_FAILURE = ("raise", "continue")


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
    on_failure: str = "raise",
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
    on_failure : {"raise", "continue"}
        "continue": where a rank that was started here is lost, warn and call `fn` again on one rank less; it
        should find its state in a file (`kept_state`).

    Returns
    -------
    result
        Of rank 0; with `comm`, of this rank.
    usage : Usage
        Of all ranks; seconds and peak memory of the calling process are in it.
    """
    check_count("workers", workers, 1)
    if not ((is_number(timeout) or timeout == math.inf) and timeout > 0):
        raise ValueError(f"timeout must be a number of seconds above 0, got {timeout!r}")
    if on_failure not in ON_FAILURE:
        raise ValueError(f"unknown on_failure {on_failure!r}; known: {', '.join(ON_FAILURE)}")
    if comm is None:
        comm = _joined.get()
    if comm is not None and workers != 1:
        raise ValueError(
            f"give either comm or workers, got a comm of {comm.size} ranks and workers={workers}"
        )
    if comm is not None or workers == 1:
        return _here(fn, args, comm or single())
    with Meter() as meter:
        results = _run(fn, args, workers, timeout, on_failure)
        for _, usage in results:
            meter.add(usage, worker=True)
    return results[0][0], meter.usage


@contextmanager
def kept_state(checkpoint: str | None, on_failure: str) -> Iterator[str | None]:
    """Give the path of the state of a fit: a temporary one where it may be needed and none was named."""
    if checkpoint is not None or on_failure != "continue":
        yield checkpoint
        return
    with TemporaryDirectory(prefix="scrimp-") as folder:
        yield os.path.join(folder, "state")


def _run(
    fn: Callable[..., Any], args: tuple[Any, ...], workers: int, timeout: float, on_failure: str
) -> list[Any]:
    """Run on `workers` ranks; on request on those that are left when one is lost."""
    while True:
        try:
            return run(_rank, workers=workers, args=(fn, *args), timeout=timeout)
        except CommError as error:
            if on_failure != "continue" or error.lost is None or workers == 1:
                raise
            workers -= 1
            left = "1 worker goes" if workers == 1 else f"{workers} workers go"
            text = f"lost a worker: {error}; its rows move to the others, {left} on from the last checkpoint"
            warnings.warn(text, RuntimeWarning, stacklevel=5)


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
