"""One pass over the batches of a table: what an encoder, a grid of codes and a target need to know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrimp.data.encoder import CategoricalColumn, NumericColumn, TableEncoder, keys, numbers_first
from scrimp.data.table import Table
from scrimp.errors import InputError
from scrimp.matrix import Ranges


@dataclass
class NumberScan:
    """Count, mean, spread and range of the numbers of a column, merged batch by batch."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0  # Σ(x − mean)²
    low: float = np.inf
    high: float = -np.inf
    integral: bool = True

    def add(self, column: NDArray[Any]) -> None:
        """Take the next rows."""
        values = column.astype(np.float64)
        n, mean = len(values), float(values.mean())
        shift, total = mean - self.mean, self.n + n
        self.squares += float(((values - mean) ** 2).sum()) + shift * shift * self.n * n / total
        self.mean += shift * n / total
        self.n = total
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        self.integral = self.integral and bool((values == np.rint(values)).all())

    def column(self, name: str, standardize: bool) -> NumericColumn:
        """Return how the column is encoded."""
        if not standardize:
            return NumericColumn(name)
        scale = float(np.sqrt(self.squares / self.n))
        return NumericColumn(name, self.mean, scale if scale > 0 else 1.0)


@dataclass
class Scan:
    """What one pass found.

    Attributes
    ----------
    n : int
        Rows, without those that are left out.
    numbers, categories : dict
        By column.
    """

    target: str
    features: tuple[str, ...]
    categorical: frozenset[str]
    max_categories: int
    task: str
    n: int = 0
    numbers: dict[str, NumberScan] = field(default_factory=dict)
    categories: dict[str, set[str]] = field(default_factory=dict)
    classes: set[Any] = field(default_factory=set)

    @classmethod
    def of(
        cls,
        batches: Iterable[Table],
        *,
        target: str,
        task: str | None = None,
        categorical: Sequence[str] = (),
        drop: Sequence[str] = (),
        missing: str = "error",
        max_categories: int = 256,
    ) -> Scan:
        """Read all batches; the arguments are those of `quantize_table`."""
        scan: Scan | None = None
        for table in batches:
            if scan is None:
                scan = cls._begin(table, target, task, categorical, drop, max_categories)
            scan.add(scan.usable(table, missing))
        if scan is None or scan.n == 0:
            raise InputError("there are no rows, or every row has a missing value")
        return scan

    @classmethod
    def _begin(
        cls,
        table: Table,
        target: str,
        task: str | None,
        categorical: Sequence[str],
        drop: Sequence[str],
        max_categories: int,
    ) -> Scan:
        for name in (target, *drop):
            table.column(name)
        features = tuple(name for name in table.names if name not in (target, *drop))
        if not features:
            raise InputError(f"{table.where}: there is no column beside the target {target!r}")
        text = {name for name in features if table.is_text(name)}
        chosen = text if list(categorical) == ["auto"] else set(categorical)
        for name in chosen:
            table.column(name)
        if text - chosen:
            raise InputError(
                f"{table.where}: column {min(text - chosen)!r} holds text;"
                f" declare it categorical (or auto), or leave it out"
            )
        task = task or ("classification" if table.is_text(target) else "regression")
        return cls(target, features, frozenset(chosen), max_categories, task)

    def usable(self, table: Table, missing: str) -> Table:
        """Return the columns that are used, and with `missing="drop"` only rows without a gap."""
        table = table.select((*self.features, self.target))
        if missing == "drop":
            return table.without_missing(table.names)
        table.require_complete(table.names)
        return table

    def add(self, table: Table) -> None:
        """Take the next rows."""
        if table.n_rows == 0:
            return
        self.n += table.n_rows
        for name in self.features:
            if name in self.categorical:
                self._add_categories(name, table)
            else:
                self.numbers.setdefault(name, NumberScan()).add(table.column(name))
        if self.task == "classification":
            self.classes |= set(labels_of(table.column(self.target)).tolist())
        elif table.is_text(self.target):
            raise InputError(f"{table.where}: target {self.target!r} holds text; it needs classification")

    def _add_categories(self, name: str, table: Table) -> None:
        found = self.categories.setdefault(name, set())
        found |= set(keys(table.column(name)))
        if len(found) > self.max_categories:
            raise InputError(
                f"{table.where}: column {name!r} has more than {self.max_categories} distinct values;"
                f" leave it out or allow more"
            )

    def encoder(self, standardize: bool) -> TableEncoder:
        """Return the encoder of the columns, as `TableEncoder.fit` would on all rows."""
        columns: list[NumericColumn | CategoricalColumn] = []
        for name in self.features:
            if name in self.categorical:
                values = sorted(self.categories[name], key=numbers_first)
                columns.append(CategoricalColumn(name, tuple(values)))
            else:
                columns.append(self.numbers[name].column(name, standardize))
        return TableEncoder(tuple(columns))

    def ranges(self, encoder: TableEncoder) -> Ranges:
        """Return the ranges of the encoded columns."""
        low, high, integral = [], [], []
        for column in encoder.columns:
            ends, whole = np.tile(np.array([[0.0], [1.0]], np.float32), (1, column.width)), True
            if isinstance(column, NumericColumn):
                found = self.numbers[column.name]
                with np.errstate(over="ignore"):
                    column.write(np.array([found.low, found.high]), ends)
                whole = found.integral and (column.mean, column.scale) == (0.0, 1.0)
            low += ends[0].tolist()
            high += ends[1].tolist()
            integral += [whole] * column.width
        if not np.isfinite([low, high]).all():
            raise InputError("a number is beyond the range of float32")
        return Ranges(np.array(low), np.array(high), np.array(integral))

    def class_list(self) -> list[Any]:
        """Return the classes of the target, sorted."""
        return sorted(self.classes)


def labels_of(column: NDArray[Any]) -> NDArray[Any]:
    """Return class labels: text, or integers where all are."""
    if column.dtype == object:
        return column.astype(str)
    whole = column.dtype.kind == "f" and bool((column == np.round(column)).all())
    return column.astype(np.int64) if whole else np.asarray(column)
