"""A model with the table encoder that feeds it: how `train` stores them and the other commands find them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrimp.cli.options import check_solver
from scrimp.codecs.base import LARGEST_FLOAT32
from scrimp.data import Table, TableEncoder, held_out_split, labels_of, read_table
from scrimp.errors import InputError

SCHEMA = "scrimp.tabular/1"
TASKS = ("regression", "classification")


@dataclass(frozen=True)
class TabularModel:
    """A fitted estimator and what turns a table into its input.

    Attributes
    ----------
    model : estimator
    encoder : TableEncoder
    target : str
        Name of the column that it predicts.
    task : {"regression", "classification"}
    """

    model: Any
    encoder: TableEncoder
    target: str
    task: str

    def save(self, path: Path) -> int:
        """Write one model file; return its size in bytes."""
        from scrimp.model_file import save

        extra = {
            "schema": SCHEMA,
            "encoder": self.encoder.to_dict(),
            "target": self.target,
            "task": self.task,
        }
        return save(self.model, path, extra)

    @classmethod
    def load(cls, path: Path) -> TabularModel:
        """Read what `save` wrote; InputError if it is not that."""
        from scrimp.model_file import load, load_parts

        extra = load_parts(path).extra
        if extra.get("schema") != SCHEMA:
            raise InputError(f"{path}: holds no table encoder; only models of `scrimp train` read data files")
        target, task = str(extra.get("target")), extra.get("task")
        if task not in TASKS:
            raise InputError(f"{path}: damaged: unknown task {task!r}")
        return cls(load(path), TableEncoder.from_dict(extra.get("encoder")), target, str(task))

    def predict(self, table: Table) -> NDArray[Any]:
        """Predict the target of every row."""
        return np.asarray(self.model.predict(self.encoder.transform(table)))

    def complete_rows(self, table: Table) -> Table:
        """Return the rows in which the target and every feature have a value; InputError if none."""
        complete = table.without_missing([*(column.name for column in self.encoder.columns), self.target])
        if complete.n_rows == 0:
            raise InputError(f"{table.where}: every row has a missing value")
        return complete

    def scores(self, table: Table) -> dict[str, float]:
        """Compare predictions with the target column: r2 and rmse, or accuracy."""
        truth = target_column(table, self.target, self.task)
        return score(self.task, truth, self.predict(table))


@dataclass(frozen=True)
class Split:
    """Training and held-out rows of a data file.

    Attributes
    ----------
    train, test : Table
    features : tuple of str
        Columns that are neither the target nor left out.
    target, task : str
    """

    train: Table
    test: Table
    features: tuple[str, ...]
    target: str
    task: str

    @classmethod
    def read(
        cls,
        path: Path,
        target: str,
        task: str | None,
        drop: list[str],
        missing: str,
        test_size: float,
        seed: int,
        max_rows: int | None = None,
    ) -> Split:
        """Read a file and hold out rows.

        `missing="drop"` leaves out rows without a value; `max_rows` samples the training rows.
        """
        table = read_table(path)
        for name in (target, *drop):
            table.column(name)
        if target in drop:
            raise InputError(f"{path}: column {target!r} is the target; --drop cannot leave it out")
        features = tuple(name for name in table.names if name not in (target, *drop))
        if not features:
            raise InputError(f"{path}: there is no column beside the target {target!r}")
        table = table.select((*features, target))
        if missing == "drop":
            table = table.without_missing(table.names)
            if table.n_rows == 0:
                raise InputError(f"{path}: every row has a missing value")
        elif found := table.missing():
            counts = ", ".join(f"{name} {n:,}" for name, n in found.items())
            raise InputError(
                f"{path}: rows without a value: {counts}; leave such rows out with --missing drop"
            )
        train, test = held_out_split(table.n_rows, test_size, seed)
        if max_rows is not None and max_rows < len(train):
            train = np.sort(np.random.default_rng(seed).choice(train, max_rows, replace=False))
        task = task or ("classification" if table.is_text(target) else "regression")
        return cls(table.take(train), table.take(test), features, target, task)

    def fit_encoder(self, categorical: list[str], *, standardize: bool, max_categories: int) -> TableEncoder:
        """Learn the encoder from the training rows."""
        text = [name for name in self.features if self.train.is_text(name) and name not in categorical]
        if text and categorical != ["auto"]:
            sample = self.train.text_sample(text[0])
            raise InputError(
                f"{self.train.where}: column {text[0]!r} holds text, {sample};"
                f" use --categorical {','.join(text)} (or auto), or --drop it"
            )
        return TableEncoder.fit(
            self.train,
            features=self.features,
            categorical="auto" if categorical == ["auto"] else categorical,
            standardize=standardize,
            max_categories=max_categories,
        )


def estimator(task: str, alpha: float, settings: dict[str, Any]) -> Any:
    """Make the estimator; settings that are None keep its own defaults."""
    from scrimp import linear_model

    check_solver(task, settings)
    name = "LogisticRegression" if task == "classification" else "Ridge"
    given = {key: value for key, value in settings.items() if value is not None}
    return getattr(linear_model, name)(alpha=alpha, **given)


def target_column(table: Table, target: str, task: str) -> NDArray[Any]:
    """Return the target as float64 numbers, or as class labels: text or whole numbers."""
    table.require_complete([target])
    if task == "classification":
        return labels_of(table, target)
    if table.is_text(target):
        raise InputError(f"{table.where}: target {target!r} holds text; use --task classification")
    truth = table.column(target).astype(np.float64)
    if (row := beyond_float32(truth)) is not None:
        raise InputError(
            f"{table.where}: target {target!r} holds {truth[row]:.6g} in row"
            f" {table.row_number(row):,}, beyond the range of float32: rescale it"
        )
    return truth


def beyond_float32(truth: NDArray[np.float64]) -> int | None:
    """Return the first row that no prediction could equal, if there is one."""
    large = np.abs(truth) > LARGEST_FLOAT32
    return int(large.argmax()) if large.any() else None


def score(task: str, truth: NDArray[Any], predicted: NDArray[Any]) -> dict[str, float]:
    """Score predictions: r2 and rmse of numbers, accuracy of classes."""
    if task == "classification":
        return {"accuracy": float(np.mean(truth.astype(str) == predicted.astype(str)))}
    squared = (truth - predicted.astype(np.float64)) ** 2
    spread = float(np.var(truth))
    r2 = 1 - float(squared.mean()) / spread if spread else float(not squared.any())
    return {"r2": r2, "rmse": float(np.sqrt(squared.mean()))}
