"""Checkpoint of a solver that asks questions: the answers so far.

The solver is a function of the answers alone, so a fit that hears them again stands where it stood, bit for
bit, without reading a row.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrimp.matrix import Gram
from scrimp.train.checkpoint import Progress, fingerprint, load_progress, save_progress_of_one
from scrimp.train.refinement import Ask
from scrimp.usage import Usage

GRAM_ARRAYS = ("about", "moment", "drift", "mean", "cross", "y_mean", "noise")


class Replay:
    """Answers that were recorded, and those of a run before.

    Parameters
    ----------
    path : str or None
        The checkpoint; None keeps nothing.
    problem : mapping
        What a checkpoint must agree with.
    """

    def __init__(self, path: str | None, problem: Mapping[str, Any]) -> None:
        self._path, self._problem = path, problem
        found = None if path is None else load_progress(path, 0, problem)
        self._asked: list[str] = list(found.record.get("asked", ())) if found else []
        self._arrays: dict[str, NDArray[Any]] = dict(found.arrays) if found and self._asked else {}
        self._heard = 0
        self.spent_before = Usage(**found.record["spent"]) if found else Usage()

    def answers(self, ask: Ask) -> bool:
        """Whether the next answer is one to this question; if not, it is forgotten, and those behind it.

        Another `max_iter` makes a solver ask otherwise, for example.
        """
        if self._heard < len(self._asked) and self._asked[self._heard] != _name(ask):
            self._asked = self._asked[: self._heard]
            kept = {f"{i}" for i in range(self._heard)}
            self._arrays = {name: a for name, a in self._arrays.items() if name.split(".")[0] in kept}
        return self._heard < len(self._asked)

    def hear(self) -> Any:
        """Return the next answer."""
        mine = f"{self._heard}."
        parts = {name.removeprefix(mine): a for name, a in self._arrays.items() if name.startswith(mine)}
        self._heard += 1
        if "moment" in parts:
            n, y_square = (float(x) for x in parts.pop("scalars"))
            return Gram(**parts, n=n, y_square=y_square, y_ndim=2)
        values = tuple(parts[str(i)] for i in range(len(parts)))
        return values[0] if len(values) == 1 else values

    def record(self, ask: Ask, answer: Any, spent: Usage) -> None:
        """Add an answer and write the checkpoint."""
        if self._path is None:
            return
        mine = f"{self._heard}."
        self._arrays |= {mine + name: a for name, a in _parts(answer).items()}
        self._asked.append(_name(ask))
        self._heard = len(self._asked)
        record = {"asked": self._asked, "spent": spent.to_dict()}
        save_progress_of_one(os.fspath(self._path), self._problem, Progress(self._arrays, record))


def _name(ask: Ask) -> str:
    return f"{ask.what} {fingerprint(*ask.values)}"


def _parts(answer: Any) -> dict[str, NDArray[Any]]:
    if isinstance(answer, Gram):
        scalars = np.array([answer.n, answer.y_square])
        return {name: getattr(answer, name) for name in GRAM_ARRAYS} | {"scalars": scalars}
    values = answer if isinstance(answer, tuple) else (answer,)
    return {str(i): a for i, a in enumerate(values)}
