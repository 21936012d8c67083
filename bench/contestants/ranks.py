"""Ranks that stay alive between timings: each waits at a socket, all call at once, the slowest counts.

A rank that waits uses no core, so that ranks of other peers (those of MPI spin when they wait in MPI) do not
disturb who is measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Client, Listener
from pathlib import Path

import scrimp
from scrimp.comm import Comm

Calls = dict[str, Callable[[], None]]
BENCH = Path(__file__).resolve().parent.parent


class Ranks:
    """`size` processes that make the calls of a case and time them together.

    Parameters
    ----------
    size : int
        How many.
    start : callable
        start(address, size) has them started; each then runs `serve`.
    """

    def __init__(self, size: int, start: Callable[[str, int], object]) -> None:
        self.size = size
        listener = Listener(family="AF_UNIX", backlog=size)
        self.started = start(listener.address, size)
        self._connections = [listener.accept() for _ in range(size)]
        listener.close()

    def ask(self, *request: object) -> list:
        """Send a request to every rank; return their answers, or raise the first error."""
        for connection in self._connections:
            connection.send(request)
        answers = [connection.recv() for connection in self._connections]
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def variants(self, n: int) -> dict[str, Callable[[], dict]]:
        """Return {name: a call that times itself} for arrays of n values."""
        return {name: self._timed(name, n) for name in self.ask("prepare", n)[0]}

    def _timed(self, name: str, n: int) -> Callable[[], dict]:
        repeats = max(1, min(200, (1 << 20) // n))

        def call() -> dict:
            seconds, cpu = zip(*self.ask("time", name, repeats), strict=True)
            return {"seconds": max(seconds), "cpu_ms": 1e3 * max(cpu)}

        return call

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


def serve(address: str, make: Callable[[int], Calls], barrier: Callable[[], None]) -> None:
    """Answer the requests of `Ranks` until it hangs up."""
    calls: Calls = {}
    with Client(address) as connection:
        while True:
            try:
                do, *arguments = connection.recv()
            except EOFError:
                return
            try:
                if do == "prepare":
                    calls = {}
                    calls = make(*arguments)
                    connection.send(list(calls))
                else:
                    connection.send(timed(calls[arguments[0]], arguments[1], barrier))
            except Exception as error:
                connection.send(RuntimeError(f"{type(error).__name__}: {error}"))


def timed(call: Callable[[], None], repeats: int, barrier: Callable[[], None]) -> tuple[float, float]:
    """Return seconds and CPU-seconds of one call."""
    barrier()
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats, (time.process_time() - cpu) / repeats


def workers(job: Callable[[Comm, str, str], None], argument: str = "") -> Callable[[str, int], object]:
    """Start ranks by scrimp.run; job(comm, address, argument) serves."""

    def start(address: str, size: int) -> threading.Thread:
        run = (job, size, (address, argument), 600.0)
        thread = threading.Thread(target=scrimp.run, args=run, daemon=True)
        thread.start()
        return thread

    return start


def launched(mpiexec: list[str], library: Path, module: str) -> Callable[[str, int], object]:
    """Start ranks by mpiexec with an MPI library; each runs `python -m module address`."""

    def start(address: str, size: int) -> subprocess.Popen[bytes]:
        command = [*mpiexec, "-n", str(size), sys.executable, "-m", module, address]
        environment = os.environ | {"MPI4PY_LIBMPI": str(library), "PYTHONPATH": str(BENCH)}
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr)

    return start


class Cases:
    """Ranks of one kind, kept from case to case while their number stays."""

    def __init__(self, start: Callable[[str, int], object]) -> None:
        self._start = start
        self._ranks: Ranks | None = None

    def all_reduce(self, n: int, ranks: int, threads: int) -> dict:
        del threads
        if self._ranks is None or self._ranks.size != ranks:
            if self._ranks:
                self._ranks.close()
            self._ranks = Ranks(ranks, self._start)
        return self._ranks.variants(n)
