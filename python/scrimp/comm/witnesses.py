"""Who is to blame when a wait fails: ranks tell one another what they saw, beside the network that failed.

A rank that waits for a stopped one looks to its peers as if it were stopped itself, and one that leaves after
an error looks as if it had died. A store (a few keys that all ranks can read and write) tells them apart:
whoever fails says so there; who is silent is the one.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

Evidence = Literal["sent", "gone", "stuck"]
"""It sent what is wrong (who only waits cannot do that); its connection is closed; a wait was too long."""

GRACE_S = 0.25
"""What others get to speak: those that wait for the same rank fail within milliseconds of each other."""
_PAUSE_S = 0.005


class Witnesses:
    """The statements of the ranks of one group.

    Parameters
    ----------
    store : torch.distributed.Store
        `set`, `get` and `check`; of this group alone.
    rank, size : int
        Who this is, and of how many.
    """

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self._store = store
        self._rank = rank
        self._others = set(range(size)) - {rank}

    def agree(self, suspect: int, evidence: Evidence, awaited: Sequence[int]) -> int:
        """Say whom this rank suspects; return whom to blame by what all say.

        Parameters
        ----------
        suspect : int
            The rank that did not send, or sent what is wrong.
        evidence : Evidence
            Why.
        awaited : sequence of int
            All ranks that this one still waits for.

        Notes
        -----
        Lasts `GRACE_S` at most. Without an answer of the store in that time the suspect is to blame.
        """
        found: list[int] = []

        def ask() -> None:
            with suppress(RuntimeError):  # the store went with the rank that had it: no answer
                found.append(self._ask(suspect, evidence, awaited))

        thread = threading.Thread(target=ask, daemon=True)  # the process of the store may be stopped
        thread.start()
        thread.join(2 * GRACE_S)
        return found[0] if found else suspect

    def _ask(self, suspect: int, evidence: Evidence, awaited: Sequence[int]) -> int:
        self._store.set(str(self._rank), json.dumps([suspect, evidence]))
        if evidence == "sent":
            return suspect
        deadline = time.monotonic() + GRACE_S
        while True:
            silent = {r for r in self._others if not self._store.check([str(r)])}
            if silent <= {suspect} or time.monotonic() > deadline:
                break
            time.sleep(_PAUSE_S)
        speakers = {*range(len(self._others) + 1)} - silent
        said = [json.loads(self._store.get(str(r))) for r in sorted(speakers)]
        return blame(self._rank, suspect, awaited, silent, said)


def blame(
    rank: int, suspect: int, awaited: Sequence[int], silent: set[int], said: Sequence[tuple[int, Evidence]]
) -> int:
    """Return the rank that is to blame, where the suspect of this one did not send what is wrong.

    A connection that is closed proves little: of a rank that this one waits for, it would know itself.

    Examples
    --------
    Rank 0 waits for rank 1, which says that it waits for rank 2, which is silent:

    >>> blame(0, suspect=1, awaited=[1], silent={2}, said=[(1, "stuck"), (2, "stuck")])
    2

    `said` is what this one and all others said that are not silent.
    """
    if suspect in silent:
        return suspect
    sent = [s for s, evidence in said if evidence == "sent" and s != rank]
    stuck = [s for s, evidence in said if evidence == "stuck" and s in silent]
    gone = [s for s, evidence in said if evidence == "gone" and s in silent and s not in awaited]
    if not (sent or stuck or gone) and any(evidence == "stuck" for _, evidence in said):
        stuck = [r for r in awaited if r in silent]
    return min(sent or stuck or gone, default=suspect)
