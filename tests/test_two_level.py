"""Two levels where the rank that waits for another host fails: those of its own host learn of it, and why."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

import scrimp
from scrimp.comm import Comm
from scrimp.comm.flight import Requests
from scrimp.comm.framed import FramedTransport
from scrimp.comm.transport import Bytes, Message
from scrimp.errors import CommError

TIMEOUT_S = 1.5


class Relayed(FramedTransport):
    """Messages through another transport; those that are waited for one by one never come."""

    def __init__(self, comm: Comm, failure: BaseException, after_s: float) -> None:
        super().__init__(comm.rank, comm.size, TIMEOUT_S)
        self._other, self._failing = comm.transport, Failing(failure, after_s)

    def exchange(self, sends: Sequence[Message], recvs: Sequence[Message], tag: int, label: str) -> None:
        with self.flight():
            self._other.exchange(sends, recvs, tag, label)

    def requests(self) -> Requests:
        return self._failing


class Failing(Requests):
    def __init__(self, failure: BaseException, after_s: float) -> None:
        self._failure, self._after_s = failure, after_s

    def send(self, peer: int, data: Bytes) -> None:
        pass

    def receive(self, peer: int, data: Bytes) -> None:
        pass

    def next(self, label: Callable[[int], str]) -> int:
        time.sleep(self._after_s)
        raise self._failure

    def finish(self, label: str) -> None:
        pass


def fail_between_hosts(comm: Comm, failure: BaseException, after_s: float) -> None:
    world = scrimp.comm.two_level(Comm(Relayed(comm, failure, after_s)), host="aab"[comm.rank])
    if comm.rank == 2:
        return
    x = np.ones(1000, np.float32)
    with pytest.raises((CommError, KeyboardInterrupt)) as caught:
        world.all_reduce(x)
    assert (x == 1).all()
    if comm.rank == 1:
        said = "on the host of the ranks 0, 1, counted from 0: rank 0 raised an error; rank 1 was in"
        assert str(caught.value).startswith(said), caught.value
        return
    assert str(caught.value) == str(failure)
    with pytest.raises(CommError, match="the group ended earlier: "):  # messages of all ranks are left behind
        world.barrier()


@pytest.mark.parametrize(
    ("failure", "after_s"),
    [(CommError("rank 2 is stuck", 2), TIMEOUT_S + 0.4), (KeyboardInterrupt(), 0.0)],
    ids=["after the timeout", "interrupted"],
)
def test_who_waits_for_another_host_is_waited_for(failure: BaseException, after_s: float) -> None:
    scrimp.run(fail_between_hosts, workers=3, args=(failure, after_s))
