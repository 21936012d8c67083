"""Ranks that stay alive between timings: a contestant asks, all ranks call, the slowest one counts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Client, Connection, Listener
from weakref import finalize

import scrimp
from scrimp.comm import Comm


class Ranks:
    """`size` processes that have called make(comm, **arguments) and wait to time what it returned."""

    def __init__(self, size: int, make: Callable, arguments: dict) -> None:
        listener = Listener(family="AF_UNIX")
        args = (listener.address, make, arguments)
        threading.Thread(target=scrimp.run, args=(_serve, size, args, 600.0), daemon=True).start()
        self._connection = listener.accept()
        listener.close()
        finalize(self, _stop, self._connection)

    def __call__(self) -> dict:
        """Return {"seconds": …} of one call of every rank."""
        self._connection.send_bytes(b"time")
        return json.loads(self._connection.recv_bytes())


def _stop(connection: Connection) -> None:
    connection.send_bytes(b"stop")
    connection.close()


def _serve(comm: Comm, address: str, make: Callable, arguments: dict) -> None:
    call = make(comm, **arguments)
    connection = Client(address) if comm.rank == 0 else None
    while comm.all_gather_bytes(connection.recv_bytes() if connection else b"")[0] == b"time":
        call()
        comm.barrier()
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        slowest = max(float(text) for text in comm.all_gather_bytes(str(seconds).encode()))
        if connection:
            connection.send_bytes(json.dumps({"seconds": slowest}).encode())
