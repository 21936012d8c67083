"""Kill or stop a rank at a random point of random collectives, again and again; check what is left.

Run as a script for a long series: `python tests/faults.py 200`. The suite runs a short one (test_workers.py).
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np

import scrimp
from scrimp.comm import Comm

TIMEOUT_S = 0.5


def fault_after(delay_s: float, code: int) -> None:
    """Send this process a signal a little later, wherever it is then."""

    def strike() -> None:
        time.sleep(delay_s)
        os.kill(os.getpid(), code)

    threading.Thread(target=strike, daemon=True).start()


def victim_and_witnesses(comm: Comm, victim: int, delay_s: float, code: int, seed: int) -> None:
    """All kinds of collectives until the fault; then every witness must see whole arrays and a CommError."""
    rng = np.random.default_rng(seed)
    if comm.rank == victim:
        fault_after(delay_s, code)
    native = Comm(comm.transport)
    generic = Comm(comm.transport, native=False)
    while True:
        n = int(rng.integers(1, 200_000))
        world = native if rng.random() < 0.5 else generic
        before = np.full(n, float(comm.rank + 1), np.float32)
        x = before.copy()
        codec = str(rng.choice(["raw", "int8", "int4"]))
        try:
            world.all_reduce(x, codec=codec, op="sum", raw_below=0, name="w", feedback=scrimp.ErrorFeedback())
        except scrimp.CommError as error:
            text = str(error)
            assert x.tobytes() == before.tobytes(), "the buffer was half written"
            assert re.search(rf"rank {victim}\b.*of 'w'", text), text
            raise
        assert (x == comm.size * (comm.size + 1) / 2).all()


def strike_once(trial: int) -> float:
    """Return the seconds from the fault's earliest time to the error in the parent."""
    rng = np.random.default_rng(trial)
    size = int(rng.integers(2, 5))
    victim = int(rng.integers(size))
    code = signal.SIGKILL if trial % 2 == 0 else signal.SIGSTOP
    start = time.monotonic()
    try:
        scrimp.run(
            victim_and_witnesses,
            workers=size,
            args=(victim, float(rng.uniform(0, 0.02)), code, trial),
            timeout=TIMEOUT_S,
        )
    except scrimp.CommError as error:
        text = str(error)
    else:
        text = "no error"
    assert f"rank {victim} " in text, text
    assert not Path(f"/proc/self/task/{os.getpid()}/children").read_text().split(), "a process was left"
    return time.monotonic() - start


if __name__ == "__main__":
    shared, files = set(os.listdir("/dev/shm")), len(os.listdir("/proc/self/fd"))
    seconds = [strike_once(trial) for trial in range(int(sys.argv[1]))]
    assert set(os.listdir("/dev/shm")) == shared
    assert len(os.listdir("/proc/self/fd")) == files
    summary = f"median {np.median(seconds):.2f} s, max {max(seconds):.2f} s"
    sys.stdout.write(f"{len(seconds)} faults, from start-up to the error: {summary}\n")
