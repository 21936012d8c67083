"""`run`: start workers on this machine, hand them a function, and bring back results or the first error.

Workers are fresh interpreters (no fork: it copies locks of other threads). They inherit a few descriptors
and nothing else is shared by name, so that whatever is killed, no process and no memory stays behind.
"""

from __future__ import annotations

import io
import json
import mmap
import os
import pickle
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from scrimp import _core
from scrimp.comm.communicator import single
from scrimp.comm.shared import ArgumentPickler
from scrimp.errors import CommError

importing_main = False
"""True in a worker while it imports the parent's script. Internal."""

_GRACE_S = 0.6  # what survivors get to leave by themselves after one has failed
_TELL_S = 10.0  # what they get if only they can tell what has failed
_LEAVE_S = 10.0  # what a worker gets to exit after its function has returned
_START_S = 120.0  # what workers get to start and import
_COMMAND = "import sys; sys.path[:] = sys.argv[2:]; from scrimp.comm.worker import main; main(sys.argv[1])"
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


_UNSAID = {
    "mismatch": "and a peer were in different collectives, or in ones of different lengths",
    "stuck": "got stuck",
    "finished": "had returned while others waited for it",
    "interrupted": "was interrupted",
}


class _WorkerTraceback(Exception):  # noqa: N818 - it is shown as the cause of the real error
    """Carries a worker's traceback as text."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


@dataclass
class _Worker:
    rank: int
    popen: subprocess.Popen[bytes]
    pidfd: int
    result_fd: int


def run(
    fn: Callable[..., Any], workers: int = 2, args: Sequence[Any] = (), timeout: float = 30.0
) -> list[Any]:
    """Call fn(comm, *args) in `workers` processes of this machine.

    Parameters
    ----------
    fn : callable
        Importable: defined at the top level of a module or of a script whose own calls stand under
        `if __name__ == "__main__":`. Its first argument is the worker's `Comm`.
    workers : int, default 2
        Number of processes. With 1, fn runs in this process and its arguments are passed as they are.
    args : sequence
        Further arguments, equal for all. Arrays (also inside other objects) are written once to memory that
        all workers map copy-on-write; those of `shared_array` are mapped as they are.
    timeout : float, default 30.0
        Seconds that a collective waits for a peer that shows no progress. Computing between collectives is
        not limited, but makes peers wait.

    Returns
    -------
    list
        What fn returned, by rank.

    Raises
    ------
    CommError
        A worker died (noticed within a second) or was stuck for `timeout`. Names rank and operation.
    TypeError
        fn or an argument cannot be sent to another process.
    Exception
        The first error that fn raised in a worker, with the worker's traceback as its cause.

    Notes
    -----
    More than one worker needs Linux >= 5.3. A worker uses cores // workers threads. Workers end with their
    parent, even if that is killed; nothing stays in /dev/shm.

    Examples
    --------
    >>> run(lambda comm, x: x + comm.rank, workers=1, args=(1,))
    [1]
    """
    if not isinstance(workers, (int, np.integer)):
        raise TypeError(f"workers must be an integer, got {workers!r}")
    if workers < 1:
        raise ValueError(f"workers must be >= 1, got {workers}")
    if not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be a number of seconds, got {timeout!r}")
    if not timeout > 0:
        raise ValueError(f"timeout must be positive, got {timeout}")
    if workers == 1:
        return [fn(single(), *args)]
    if not _core.engine_supported():
        raise CommError("several workers on one machine need Linux >= 5.3; use workers=1 here")
    if importing_main:
        raise RuntimeError(
            "scrimp.run was called at the top level of a script; put it under `if __name__ == '__main__':`"
        )
    pickler, job = _pickle_job(fn, args)
    try:
        with _Crew(workers, timeout, job, pickler.fds) as crew:
            crew.wait()
            return crew.results()
    finally:
        pickler.close()


def _pickle_job(fn: Callable[..., Any], args: Sequence[Any]) -> tuple[ArgumentPickler, bytes]:
    name = getattr(fn, "__qualname__", repr(fn))
    if "<lambda>" in name or "<locals>" in name:
        raise TypeError(f"fn must be importable by the workers: define {name} at the top level of a module")
    stream = io.BytesIO()
    pickler = ArgumentPickler(stream)
    try:
        pickler.dump((fn, tuple(args)))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        pickler.close()
        raise TypeError(f"fn and its arguments must be picklable to reach the workers: {error}") from error
    main = (
        _main_location()
        if "__main__" in pickler.modules or getattr(fn, "__module__", "") == "__main__"
        else None
    )
    head = json.dumps({"main": main, "modules": pickler.modules, "argv": sys.argv}).encode()
    return pickler, len(head).to_bytes(8, "little") + head + stream.getvalue()


def _main_location() -> dict[str, str]:
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return {"module": spec.name}
    path = getattr(main, "__file__", None)
    if path is None or not os.path.exists(path):
        raise TypeError(
            "fn must be importable by the workers: move it from the interactive session into a file"
        )
    return {"path": os.path.abspath(path)}


def _memory_file(data: bytes = b"") -> int:
    fd = os.memfd_create("scrimp-job")
    with os.fdopen(os.dup(fd), "wb") as stream:
        stream.write(data)
    return fd


class _Crew:
    """The workers of one `run`, from start to the last of them."""

    def __init__(self, size: int, timeout: float, job: bytes, argument_fds: set[int]) -> None:
        self.size = size
        self.timeout = timeout
        self.argument_fds = argument_fds
        self.group = _core.LocalGroup.create(size)
        self.job_fd = _memory_file(job)
        self.workers: list[_Worker] = []

    def __enter__(self) -> _Crew:
        try:
            for rank in range(self.size):
                self.workers.append(self._start(rank))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            with suppress(ProcessLookupError):
                worker.popen.kill()
            worker.popen.wait()
            os.close(worker.pidfd)
            os.close(worker.result_fd)
        self.workers.clear()
        os.close(self.job_fd)
        del self.group  # an error's traceback may keep this object; the segment must go now

    def _start(self, rank: int) -> _Worker:
        result_fd = _memory_file()
        fds = {"group": self.group.fd, "job": self.job_fd, "result": result_fd}
        ticket = {**fds, "rank": rank, "parent": os.getpid(), "timeout": self.timeout, "start": _START_S}
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        threads = str(max(1, _core.usable_cores() // self.size))
        popen = subprocess.Popen(
            [sys.executable, *flags, "-c", _COMMAND, json.dumps(ticket), *sys.path],
            pass_fds=[*fds.values(), *self.argument_fds],
            env={**dict.fromkeys(_THREADS, threads), **os.environ},
            stdin=subprocess.DEVNULL,
        )
        return _Worker(rank, popen, os.pidfd_open(popen.pid), result_fd)

    def wait(self) -> None:
        """Return when all workers have ended; after a first failure the others get a moment to leave."""
        poll = select.poll()
        alive = {worker.pidfd: worker for worker in self.workers}
        for fd in alive:
            poll.register(fd, select.POLLIN)
        deadline = None
        while alive:
            left_s = 0.1 if deadline is None else deadline - time.monotonic()
            ready = poll.poll(int(1000 * min(max(left_s, 0.001), 0.1)))
            for fd, _ in ready:
                poll.unregister(fd)
                self._note_end(alive.pop(fd))
            cause, culprit = self.group.ending()
            if cause == "stuck" and all(worker.rank == culprit for worker in alive.values()):
                return
            if deadline is None and cause:
                deadline = time.monotonic() + _GRACE_S
            if deadline is None and all(self.group.is_done(w.rank) for w in alive.values()):
                deadline = time.monotonic() + _LEAVE_S
            over_s = 0.0 if deadline is None else time.monotonic() - deadline
            if deadline is not None and over_s >= (_TELL_S if self._is_untold(alive.values()) else 0):
                return

    def _is_untold(self, alive: Iterable[_Worker]) -> bool:
        """Whether a worker that lives may yet say what no other has said: what it has waited for in vain."""
        cause, culprit = self.group.ending()
        if cause in ("", "died", "failed") or any(self.group.has_failed(w.rank) for w in self.workers):
            return False
        return any(w.rank != culprit and not self.group.is_done(w.rank) for w in alive)

    def _note_end(self, worker: _Worker) -> None:
        if not (self.group.is_done(worker.rank) or self.group.has_failed(worker.rank)):
            self.group.end_died(worker.rank)

    def results(self) -> list[Any]:
        """Return the results by rank, or raise the first error."""
        cause, culprit = self.group.ending()
        found = {worker.rank: self._result_of(worker) for worker in self.workers}
        if cause == "died":
            raise CommError(self._obituary(culprit, found), culprit)
        errors = [rank for rank, result in found.items() if result and result[0] == "error"]
        if culprit in errors and cause == "failed":
            errors = [culprit]
        if errors:
            _, error, text = found[errors[0]]  # type: ignore[misc]
            if cause == "stuck" and isinstance(error, CommError):
                error = _lost(error, culprit)
            try:
                raise error from _WorkerTraceback(text)
            finally:  # a cycle through this frame would keep the arguments, and their memory, for long
                del error, found
        if cause:
            what = _UNSAID.get(cause, "is lost")
            lost = culprit if cause == "stuck" else None
            raise CommError(f"rank {culprit} {what}; whoever got the CommError caught it and returned", lost)
        return [found[rank][1] for rank in range(self.size)]  # type: ignore[index]

    def _result_of(self, worker: _Worker) -> tuple[Any, ...] | None:
        """Return what a worker left, or None if it did not come to that, or not to the end of it."""
        if not (self.group.is_done(worker.rank) or self.group.has_failed(worker.rank)):
            return None
        with mmap.mmap(worker.result_fd, 0, prot=mmap.PROT_READ) as memory:
            result: tuple[Any, ...] = pickle.loads(memory)
        return result

    def _obituary(self, rank: int, found: dict[int, Any]) -> str:
        popen = self.workers[rank].popen
        code = popen.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        # A survivor's own message says what it was doing when it noticed.
        told = next(
            (str(r[1]) for r in found.values() if r and r[0] == "error" and isinstance(r[1], CommError)), ""
        )
        doing = told.partition("; ")[2]
        return f"rank {rank} (pid {popen.pid}) {how}" + (f"; {doing}" if doing else "")


def _lost(error: CommError, rank: int) -> CommError:
    error.lost = rank
    return error
