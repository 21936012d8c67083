"""The six rungs: each adds one lever to the one below, so that a step in the table has one cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from scrimp.demo.results import RungResult
from scrimp.errors import InputError

NAMES = ("baseline", "sharded", "compressed", "quantized-data", "quantized-model", "distilled")


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung.

    Attributes
    ----------
    name, adds : str
        One of `NAMES`, and in a few words what it adds.
    settings : dict
        What it changes in the estimator's arguments; rungs above keep it.
    rows_in_int8 : bool
        Whether training reads int8 rows.
    soft_targets : bool
        Whether a teacher's predictions replace the labels.
    """

    name: str
    adds: str
    settings: dict[str, Any] = field(default_factory=dict)
    rows_in_int8: bool = False
    soft_targets: bool = False


class Task(Protocol):
    """What a dataset brings to the ladder. Steps run in processes of their own and meet in a folder."""

    metric: str
    ladder: tuple[Rung, ...]

    def prepare(self, folder: Path, max_rows: int | None) -> dict[str, Any]:
        """Write the arrays of all rungs; return `rows`, `test_rows`, `features`, `prepare_s`, …."""
        ...

    def run(self, folder: Path, rung: Rung) -> RungResult:
        """Train and measure one rung."""
        ...


TASKS = {"flights": "scrimp.demo.flights_task", "digits": "scrimp.demo.digits_task"}


def task_of(dataset: str) -> Task:
    """Return the task of a dataset.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    if dataset not in TASKS:
        raise InputError(f"unknown dataset {dataset!r}; known: {', '.join(TASKS)}")
    task: Task = import_module(TASKS[dataset]).task
    return task


def rung_of(ladder: Sequence[Rung], name: str) -> Rung:
    """Return the rung of a name."""
    for rung in ladder:
        if rung.name == name:
            return rung
    raise ValueError(f"unknown rung {name!r}; known: {', '.join(rung.name for rung in ladder)}")


def settings_up_to(ladder: Sequence[Rung], name: str) -> dict[str, Any]:
    """Return the estimator's arguments of a rung: those of all rungs below it, and its own.

    Examples
    --------
    >>> settings_up_to([Rung("a", "", {"x": 1}), Rung("b", "", {"y": 2}), Rung("c", "", {"x": 3})], "b")
    {'x': 1, 'y': 2}
    """
    last = rung_of(ladder, name)
    collected: dict[str, Any] = {}
    for rung in ladder:
        collected |= rung.settings
        if rung is last:
            break
    return collected
