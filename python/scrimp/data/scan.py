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

TASKS = ("regression", "classification")


@dataclass
class NumberScan:
    """Count, mean, spread and range of the numbers of a column, merged batch by batch."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0  # Σ(x − mean)²
    low: float = np.inf
    high: float = -np.inf
    integral: bool = True
    largest: float = -1.0  # |x|
    place: str = ""  # of the largest, for errors

    def add(self, name: str, table: Table) -> None:
        """Take the next rows of the column `name`."""
        values = table.column(name).astype(np.float64)
        self._note_largest(name, table, values)
        n, total = len(values), self.n + len(values)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(values.mean())
            shift = mean - self.mean
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
        if not np.isfinite([self.mean, scale]).all():
            raise InputError(f"{self.place}, too large to standardise: rescale the column or leave it out")
        return NumericColumn(name, self.mean, scale if scale > 0 else 1.0)

    def _note_largest(self, name: str, table: Table, values: NDArray[np.float64]) -> None:
        at = int(np.abs(values).argmax())
        if abs(values[at]) > self.largest:
            self.largest = abs(float(values[at]))
            number = table.row_number(at)
            self.place = f"{table.where}: column {name!r} has {values[at]:.3g} in row {number:,}"


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
    text_target: bool | None = None

    @classmethod
    def of(
        cls,
        batches: Iterable[Table],
        *,
        target: str,
        task: str | None = None,
        categorical: str | Sequence[str] = (),
        drop: str | Sequence[str] = (),
        missing: str = "error",
        max_categories: int = 256,
    ) -> Scan:
        """Read all batches; the arguments are those of `quantize_table`."""
        _require("task", task, (None, *TASKS))
        _require("missing", missing, ("error", "drop"))
        categorical, drop = _names(categorical), _names(drop)
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
        if target in drop:
            raise InputError(f"{table.where}: column {target!r} is the target; drop cannot leave it out")
        features = tuple(name for name in table.names if name not in (target, *drop))
        if not features:
            raise InputError(f"{table.where}: there is no column beside the target {target!r}")
        text = {name for name in features if table.is_text(name)}
        chosen = text if list(categorical) == ["auto"] else set(categorical)
        for name in sorted(chosen):
            table.column(name)
            if name not in features:
                raise InputError(f"{table.where}: {name!r} is declared categorical but is not a feature")
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
                self._add_numbers(name, table)
        if self.task == "classification":
            self._add_classes(table)
        elif table.is_text(self.target):
            raise InputError(f"{table.where}: target {self.target!r} holds text; it needs classification")

    def _add_numbers(self, name: str, table: Table) -> None:
        if table.is_text(name):
            raise InputError(
                f"{table.where}: column {name!r} holds text, before it held numbers;"
                f" declare it categorical, or leave it out"
            )
        self.numbers.setdefault(name, NumberScan()).add(name, table)

    def _add_classes(self, table: Table) -> None:
        text = table.is_text(self.target)
        if self.text_target is None:
            self.text_target = text
        if text != self.text_target:
            now, before = ("text", "numbers") if text else ("numbers", "text")
            raise InputError(f"{table.where}: target {self.target!r} holds {now}, before it held {before}")
        self.classes |= set(labels_of(table, self.target).tolist())

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
                if not np.isfinite(ends).all():
                    raise InputError(
                        f"{found.place}, beyond the range of float32: rescale the column or leave it out"
                    )
                whole = found.integral and (column.mean, column.scale) == (0.0, 1.0)
            low += ends[0].tolist()
            high += ends[1].tolist()
            integral += [whole] * column.width
        return Ranges(np.array(low), np.array(high), np.array(integral))

    def class_list(self) -> list[Any]:
        """Return the classes of the target, sorted."""
        return sorted(self.classes)


def labels_of(table: Table, target: str) -> NDArray[Any]:
    """Return the class labels of a column without missing values: text, or whole numbers.

    Raises
    ------
    InputError
        Numbers that are not whole, or beyond ±2⁶³: they are no classes.
    """
    column = table.column(target)
    if column.dtype == object:
        return column.astype(str)
    if column.dtype.kind != "f":
        return np.asarray(column)
    column = column.astype(np.float64)
    odd = (column != np.round(column)) | (np.abs(column) >= 2.0**63)
    if odd.any():
        raise InputError(
            f"{table.where}: target {target!r} holds {column[odd.argmax()]:.9g} in row"
            f" {table.row_number(int(odd.argmax())):,}; classes are text or whole numbers, other numbers need"
            f" the task regression"
        )
    return column.astype(np.int64)


def _names(names: str | Sequence[str]) -> list[str]:
    """Take one name for a list of one."""
    return [names] if isinstance(names, str) else list(names)


def _require(name: str, value: Any, known: tuple[Any, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, got {value!r}")
