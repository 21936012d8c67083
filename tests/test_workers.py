"""Workers start, get their arguments, return or fail; nothing is left behind whatever is killed."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import scrimp
from scrimp.comm import Comm, worker

_spec = importlib.util.spec_from_file_location("scrimp_faults", Path(__file__).with_name("faults.py"))
assert _spec is not None
assert _spec.loader is not None
faults = sys.modules["scrimp_faults"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(faults)


def echo(comm: Comm, *args: object) -> tuple[int, int, tuple[object, ...]]:
    return comm.rank, comm.size, args


def test_results_come_back_by_rank() -> None:
    assert scrimp.run(echo, workers=3, args=("a", {"b": 1})) == [(r, 3, ("a", {"b": 1})) for r in range(3)]
    assert scrimp.run(echo, workers=1, args=("a",)) == [(0, 1, ("a",))]


def look_at(comm: Comm, big: np.ndarray, nested: dict, shared: np.ndarray) -> tuple[float, bool, int]:
    first = float(big[0, 0] + nested["f"][1, 0] + nested["rows"][0])
    big[0, 0] = -1  # copy-on-write: nobody else sees it
    shared[1 + comm.rank] = comm.rank + 1
    comm.barrier()
    return first, bool(nested["f"].flags.f_contiguous), int(shared[:3].sum())


def test_arrays_are_mapped_and_shared_arrays_are_one_memory() -> None:
    big = np.arange(250000.0).reshape(500, 500)
    nested = {"f": np.asfortranarray(big), "rows": np.array([(1, 2.0)], dtype="i4,f8")["f0"]}
    shared = scrimp.shared_array(100000, np.int64)
    shared[0] = 10
    results = scrimp.run(look_at, workers=2, args=(big, nested, shared))
    assert results == [(501.0, True, 13)] * 2
    assert shared[:3].tolist() == [10, 1, 2]
    assert big[0, 0] == 0


def fail_on_one(comm: Comm) -> None:
    if comm.rank == 1:
        raise KeyError("the reason")
    comm.barrier()


def test_the_first_error_comes_back_with_its_traceback() -> None:
    with pytest.raises(KeyError, match="the reason") as caught:
        scrimp.run(fail_on_one, workers=3)
    assert "fail_on_one" in str(caught.value.__cause__)


def kill_one(comm: Comm, code: int) -> None:
    x = np.ones(100000, np.float32)
    comm.all_reduce(x)
    if comm.rank == 1:
        os.kill(os.getpid(), code)
    while True:
        comm.all_reduce(x, codec="int4", name="w")


def test_a_killed_worker_is_named_within_a_second() -> None:
    with pytest.raises(
        scrimp.CommError, match=r"rank 1 \(pid \d+\) was killed by SIGKILL; rank \d was in all_reduce of 'w'"
    ):
        scrimp.run(kill_one, workers=3, args=(signal.SIGKILL,))
    assert not children()


def test_a_stopped_worker_is_named_after_the_timeout() -> None:
    with pytest.raises(
        scrimp.CommError, match=r"rank \d got nothing from rank 1 within 2 s in all_reduce of 'w'"
    ):
        scrimp.run(kill_one, workers=2, args=(signal.SIGSTOP,), timeout=2)
    assert not children()


def test_nobody_waits_for_a_stopped_worker_when_all_others_have_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrimp.comm.launch._GRACE_S", 100.0)
    before = time.monotonic()
    with pytest.raises(scrimp.CommError, match=r"from rank 1 within 2 s"):
        scrimp.run(kill_one, workers=2, args=(signal.SIGSTOP,), timeout=2)
    assert time.monotonic() - before < 90


def tell_late(comm: Comm) -> None:
    """Rank 0 is long about writing down what it has waited for, as on a machine with too much to do."""
    describe = worker._error

    def describe_late(error: BaseException) -> bytes:
        time.sleep(1.2)
        return describe(error)

    worker._error = describe_late
    if comm.rank == 1:
        time.sleep(60)
    comm.barrier()


def test_who_alone_can_tell_what_was_stuck_gets_to_tell_it() -> None:
    with pytest.raises(scrimp.CommError, match=r"^rank 0 got nothing from rank 1 within 0.3 s in barrier"):
        scrimp.run(tell_late, workers=2, timeout=0.3)


def die_while_leaving(comm: Comm) -> np.ndarray:
    def leave_a_part(fd: int, result: bytes) -> None:
        os.write(fd, result[:-1000])
        os.kill(os.getpid(), signal.SIGKILL)

    if comm.rank == 1:
        worker._leave = leave_a_part
    return np.zeros(10_000)


def test_a_worker_that_is_killed_while_it_leaves_its_result_is_named() -> None:
    with pytest.raises(scrimp.CommError, match=r"rank 1 \(pid \d+\) was killed by SIGKILL"):
        scrimp.run(die_while_leaving, workers=2)


def leave_early(comm: Comm) -> None:
    if comm.rank:
        comm.barrier()


def other_collective(comm: Comm) -> None:
    if comm.rank:
        comm.all_reduce(np.zeros(4))
    else:
        comm.all_reduce(np.zeros(5))


def exit_hard(comm: Comm) -> None:
    if comm.rank:
        os._exit(7)
    comm.barrier()


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (leave_early, "rank 0 has returned and takes no part"),
        (other_collective, "another collective, or in one of another length"),
        (exit_hard, r"rank 1 \(pid \d+\) exited with code 7"),
    ],
)
def test_peers_out_of_step_are_an_error_not_a_hang(fn: object, message: str) -> None:
    with pytest.raises(scrimp.CommError, match=message):
        scrimp.run(fn, workers=2)


def unpicklable(comm: Comm) -> object:
    return lambda: None


def test_what_cannot_be_sent_is_a_clear_error() -> None:
    def local(comm: Comm) -> None: ...

    for fn in (lambda comm: None, local):
        with pytest.raises(TypeError, match="top level of a module"):
            scrimp.run(fn, workers=2)
    with pytest.raises(TypeError, match="picklable"):
        scrimp.run(echo, workers=2, args=(lambda: 1,))
    with pytest.raises(TypeError, match="cannot be sent back"):
        scrimp.run(unpicklable, workers=2)
    with pytest.raises(ValueError, match="workers must be"):
        scrimp.run(echo, workers=0)
    with pytest.raises(ValueError, match="timeout must be"):
        scrimp.run(echo, workers=2, timeout=0)
    for workers in (2.5, "2", None):
        with pytest.raises(TypeError, match=f"workers must be an integer, got {workers!r}"):
            scrimp.run(echo, workers=workers)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="timeout must be a number of seconds, got '3'"):
        scrimp.run(echo, workers=2, timeout="3")  # type: ignore[arg-type]


def fork_and(comm: Comm, end: str) -> int:
    pid = os.fork()
    if pid == 0:
        if end == "exit":
            sys.exit(0)
        return -1
    os.waitpid(pid, 0)
    comm.barrier()
    return comm.rank


@pytest.mark.parametrize("end", ["exit", "return"])
def test_the_end_of_a_forked_child_is_not_that_of_the_worker(end: str) -> None:
    assert scrimp.run(fork_and, workers=2, args=(end,)) == [0, 1]


SCRIPT = """
import scrimp, sys, time

def work(comm, wait):
    with open(sys.argv[1] + str(comm.rank), "w") as f:
        f.write(str(__import__("os").getpid()))
    comm.barrier()
    time.sleep(wait)
    return comm.rank * 2

if __name__ == "__main__":
    print(scrimp.run(work, workers=2, args=(float(sys.argv[2]),)))
"""


def test_a_script_with_a_guard_runs(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script, tmp_path / "pid", "0"], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("[0, 2]\n", "")


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text(SCRIPT.replace('if __name__ == "__main__":', "if True:"))
    done = subprocess.run(
        [sys.executable, script, tmp_path / "pid", "0"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "put it under `if __name__ == '__main__':`" in done.stderr


def test_workers_end_with_their_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text(SCRIPT)
    with subprocess.Popen([sys.executable, script, tmp_path / "pid", "600"]) as parent:
        files = [tmp_path / "pid0", tmp_path / "pid1"]
        wait_until(lambda: all(f.exists() and f.read_text() for f in files))
        parent.kill()
    pids = [int(f.read_text()) for f in files]
    wait_until(lambda: not any(is_running(pid) for pid in pids))


def wait_until(true: object, limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def open_files() -> set[tuple[str, str]]:
    folder = Path("/proc/self/fd")
    return {(link.name, os.readlink(link)) for link in folder.iterdir() if link.exists()}


@pytest.mark.parametrize("trial", range(10))
def test_a_fault_anywhere_leaves_whole_arrays_and_no_process(trial: int) -> None:
    faults.strike_local("kill" if trial % 2 else "stop", trial)


def test_nothing_stays_in_shared_memory() -> None:
    before, names = open_files(), set(os.listdir("/dev/shm"))
    with pytest.raises(scrimp.CommError):
        scrimp.run(kill_one, workers=2, args=(signal.SIGKILL,))
    assert open_files() == before
    assert set(os.listdir("/dev/shm")) == names


def caught(comm: Comm) -> str:
    x = np.ones(10 + comm.rank, np.float32)
    try:
        comm.all_reduce(x)
    except scrimp.CommError as error:
        return str(error)
    return ""


def test_a_lost_peer_whose_error_is_caught_is_told_in_words():
    said = r"rank [01] and a peer were in different collectives, or in ones of different lengths; whoever"
    with pytest.raises(scrimp.CommError, match=said):
        scrimp.run(caught, workers=2)
