"""Whom ranks of a network blame: by what they tell one another, and by the last words of MPI ranks."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from scrimp.comm.witnesses import Evidence, Witnesses


class Board:
    """What of a torch.distributed.Store is needed."""

    def __init__(self) -> None:
        self.cards: dict[str, str] = {}

    def set(self, key: str, value: str) -> None:
        self.cards[key] = value

    def get(self, key: str) -> bytes:
        return self.cards[key].encode()

    def check(self, keys: list[str]) -> bool:
        return all(key in self.cards for key in keys)


def blamed(*suspicions: tuple[int, int, Evidence], awaited: Sequence[int] = ()) -> list[int]:
    """(rank, suspect, evidence) of those of four ranks that fail together; whom each blames."""
    board = Board()
    with ThreadPoolExecutor(4) as pool:
        asked = [
            pool.submit(Witnesses(board, rank, 4).agree, suspect, evidence, awaited or [suspect])
            for rank, suspect, evidence in suspicions
        ]
        return [each.result() for each in asked]


def test_all_blame_the_silent_rank_or_the_one_whose_bytes_were_damaged() -> None:
    assert blamed((0, 1, "stuck"), (1, 3, "stuck"), (2, 0, "gone")) == [3, 3, 3]  # 3 is stopped
    assert blamed((0, 1, "gone"), (1, 3, "gone"), (2, 0, "gone")) == [3, 3, 3]  # 3 was killed, then 1 ended
    assert blamed((0, 1, "stuck"), (1, 0, "stuck"), awaited=[0, 1, 3]) == [3, 3]  # 2 is at work
    assert blamed((0, 3, "sent"), (1, 0, "gone"), (2, 0, "gone"), (3, 0, "gone")) == [3, 3, 3, 0]
    assert blamed((0, 3, "gone"), (3, 0, "gone")) == [3, 0]  # each sees the other go


class SilentStore(Board):
    """A store in the process that is stopped."""

    def set(self, key: str, value: str) -> None:
        time.sleep(3600)


class LostStore(Board):
    """A store in the process that has died."""

    def set(self, key: str, value: str) -> None:
        raise RuntimeError("connection reset by peer")


def test_a_store_that_does_not_answer_keeps_nobody_waiting() -> None:
    assert Witnesses(LostStore(), 0, 3).agree(2, "gone", [2]) == 2
    assert Witnesses(SilentStore(), 0, 3).agree(2, "stuck", [2]) == 2


MPI_ENDS = """
import os, sys, time, numpy as np, scrimp
world = scrimp.comm.from_mpi(timeout=60)
x = np.ones(1000, np.float32)
world.all_reduce(x)
if world.rank == 1:
    {end}
try:
    while True:
        world.all_reduce(x, codec="int4", name="w", raw_below=0)
except scrimp.CommError as error:
    sys.stdout.write(f"{{error}}\\n")
    sys.stdout.flush()  # the job may be aborted before Python does it
    raise
"""


@pytest.mark.peers
@pytest.mark.parametrize("end", ["raise ValueError('mine')", "sys.exit(5)", "sys.exit(0)"])
def test_an_mpi_rank_that_ends_is_named_and_the_job_ends(mpi: list[str], end: str) -> None:
    command = [*mpi, "-n", "3", sys.executable, "-c", MPI_ENDS.format(end=end)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode
    told = done.stdout.splitlines()
    assert len(told) == 2, done.stderr
    named = r"rank 1 (is to blame|has returned).*rank [02] was in all_reduce of 'w', slice"
    assert all(re.match(named, text) for text in told)


@pytest.mark.peers
def test_an_mpi_job_with_a_stopped_rank_ends_at_the_timeout(mpi: list[str]) -> None:
    end = "os.kill(os.getpid(), 19)"
    script = MPI_ENDS.format(end=end).replace("timeout=60", "timeout=0.5")
    command = [*mpi, "-n", "3", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode
    assert re.search(r"rank [02] got nothing from rank \d within 0\.5 s in all_reduce of 'w'", done.stdout)
