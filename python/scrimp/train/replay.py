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
from scrimp.train.checkpoint import Progress, load_progress, save_progress_of_one
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
        self._arrays: dict[str, NDArray[Any]] = dict(found.arrays) if found else {}
        self._recorded: int = found.record["answers"] if found else 0
        self._heard = 0
        self.spent_before = Usage(**found.record["spent"]) if found else Usage()

    def __bool__(self) -> bool:
        """Whether there are answers not heard yet."""
        return self._heard < self._recorded

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

    def record(self, answer: Any, spent: Usage) -> None:
        """Add an answer and write the checkpoint."""
        if self._path is None:
            return
        mine = f"{self._heard}."
        self._arrays |= {mine + name: a for name, a in _parts(answer).items()}
        self._heard = self._recorded = self._heard + 1
        record = {"answers": self._recorded, "spent": spent.to_dict()}
        save_progress_of_one(os.fspath(self._path), self._problem, Progress(self._arrays, record))


def _parts(answer: Any) -> dict[str, NDArray[Any]]:
    if isinstance(answer, Gram):
        scalars = np.array([answer.n, answer.y_square])
        return {name: getattr(answer, name) for name in GRAM_ARRAYS} | {"scalars": scalars}
    values = answer if isinstance(answer, tuple) else (answer,)
    return {str(i): a for i, a in enumerate(values)}
