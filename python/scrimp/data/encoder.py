"""Tables to float32 matrices, the same way in training and in prediction; JSON, for a model to store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrimp.data.table import Table
from scrimp.errors import InputError

SCHEMA = "scrimp.encoder/1"
CHUNK_ROWS = 16384


@dataclass(frozen=True, slots=True)
class NumericColumn:
    """`(x - mean) / scale`; raw numbers have mean 0 and scale 1."""

    name: str
    mean: float = 0.0
    scale: float = 1.0

    @property
    def width(self) -> int:
        """Columns of the matrix it fills."""
        return 1

    def features(self) -> list[str]:
        """Return the names of those columns."""
        return [self.name]

    def write(self, column: NDArray[Any], out: NDArray[np.float32]) -> None:
        """Fill `out[:, 0]` from raw values; computed in float64."""
        out[:, 0] = (column.astype(np.float64, copy=False) - self.mean) / self.scale

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict, for JSON."""
        return {"name": self.name, "kind": "numeric", "mean": self.mean, "scale": self.scale}


@dataclass(frozen=True, slots=True)
class CategoricalColumn:
    """One column a known value, 1 where the row has it. A value that was not there at fit gives zeros."""

    name: str
    values: tuple[str, ...]

    @property
    def width(self) -> int:
        """Columns of the matrix it fills."""
        return len(self.values)

    def features(self) -> list[str]:
        """Return the names of those columns."""
        return [f"{self.name}={value}" for value in self.values]

    def codes(self, column: NDArray[Any]) -> NDArray[np.intp]:
        """Return the index of each row's value, -1 where it is not known."""
        index = {value: i for i, value in enumerate(self.values)}
        return np.fromiter((index.get(key, -1) for key in keys(column)), np.intp, len(column))

    def write(self, column: NDArray[Any], out: NDArray[np.float32]) -> None:
        """Fill `out` with the one-hots of raw values."""
        out[:] = 0
        codes = self.codes(column)
        known = np.flatnonzero(codes >= 0)
        out[known, codes[known]] = 1

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict, for JSON."""
        return {"name": self.name, "kind": "categorical", "values": list(self.values)}


@dataclass(frozen=True)
class TableEncoder:
    """How the columns of a table become the columns of a float32 matrix.

    Examples
    --------
    >>> table = Table(("km", "by"), (np.array([1.0, 3.0]), np.array(["air", "sea"], object)))
    >>> encoder = TableEncoder.fit(table, categorical="auto")
    >>> encoder.features()
    ['km', 'by=air', 'by=sea']
    >>> encoder.transform(table).tolist()
    [[-1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]
    >>> TableEncoder.from_dict(encoder.to_dict()) == encoder
    True
    """

    columns: tuple[NumericColumn | CategoricalColumn, ...]

    @classmethod
    def fit(
        cls,
        table: Table,
        *,
        features: Sequence[str] | None = None,
        categorical: str | Sequence[str] = (),
        standardize: bool = True,
        max_categories: int = 256,
    ) -> TableEncoder:
        """Learn means, scales and categories from a table.

        Parameters
        ----------
        table : Table
            The training rows only.
        features : sequence of str, optional
            The columns to use; default all.
        categorical : "auto" or sequence of str
            Columns to one-hot encode; "auto": all that hold text. Numbers may be named, too.
        standardize : bool
            Bring numeric columns to mean 0 and standard deviation 1 (population). One-hots are never
            scaled: a rare one would become a huge row.
        max_categories : int
            A column with more distinct values is refused.

        Raises
        ------
        InputError
            Text that is not declared categorical, a missing value, too many categories.
        """
        names = list(table.names if features is None else features)
        chosen = _categorical_names(table, names, categorical)
        for name in names:
            if table.is_text(name) and name not in chosen:
                raise InputError(
                    f"{table.where}: column {name!r} holds text ({table.text_sample(name)});"
                    f" declare it categorical or leave it out"
                )
        table.require_complete(names)
        return cls(
            tuple(
                _fit_categorical(table, name, max_categories)
                if name in chosen
                else _fit_numeric(name, table.column(name), standardize)
                for name in names
            )
        )

    @property
    def width(self) -> int:
        """Number of columns of the matrix."""
        return sum(column.width for column in self.columns)

    def features(self) -> list[str]:
        """Return the names of the matrix's columns."""
        return [feature for column in self.columns for feature in column.features()]

    def transform(self, table: Table, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Encode a table.

        Parameters
        ----------
        table : Table
            Must hold every column of the encoder; others are ignored.
        out : float32[n, width], optional
            Where to write, for example rows of a mapped file.

        Raises
        ------
        InputError
            A missing column, text in a numeric column, a missing value, a number beyond float32.
        """
        raw = self._raw_columns(table)
        if out is None:
            out = np.empty((table.n_rows, self.width), np.float32)
        for rows in _row_chunks(table.n_rows):
            at = 0
            for column, values in zip(self.columns, raw, strict=True):
                with np.errstate(over="ignore"):
                    column.write(values[rows], out[rows, at : at + column.width])
                at += column.width
            if not np.isfinite(out[rows]).all():
                raise InputError(self._beyond_float32(out[rows], table, rows.start))
        return out

    def unseen(self, table: Table) -> dict[str, int]:
        """Count the rows whose category was not there at fit, for the columns that have such rows."""
        categorical = (c for c in self.columns if isinstance(c, CategoricalColumn))
        counts = ((c.name, int(np.count_nonzero(c.codes(table.column(c.name)) < 0))) for c in categorical)
        return {name: n for name, n in counts if n}

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict of schema `scrimp.encoder/1`, for JSON."""
        return {"schema": SCHEMA, "columns": [column.to_dict() for column in self.columns]}

    @classmethod
    def from_dict(cls, document: Any) -> TableEncoder:
        """Read what `to_dict` wrote; InputError if it is not that."""
        try:
            if document["schema"] != SCHEMA:
                raise InputError(f"encoder: schema must be {SCHEMA!r}, got {document['schema']!r}")
            return cls(tuple(_column_from_dict(column) for column in document["columns"]))
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"encoder: damaged description: {error!r}") from error

    def _raw_columns(self, table: Table) -> list[NDArray[Any]]:
        names = [column.name for column in self.columns]
        table.require_complete(names)
        for column in self.columns:
            if isinstance(column, NumericColumn) and table.is_text(column.name):
                sample = table.text_sample(column.name)
                raise InputError(
                    f"{table.where}: column {column.name!r} holds text ({sample}), expected numbers"
                )
        return [table.column(name) for name in names]

    def _beyond_float32(self, block: NDArray[np.float32], table: Table, first_row: int) -> str:
        row, at = np.argwhere(~np.isfinite(block))[0]
        name = self.features()[at]
        number = table.row_number(first_row + int(row))
        return f"{table.where}: {name!r} in row {number:,} is beyond the range of float32"


def _row_chunks(n: int) -> Iterator[slice]:
    """Chunks small enough that a strided column's cache lines are still there for its neighbours."""
    return (slice(start, min(start + CHUNK_ROWS, n)) for start in range(0, n, CHUNK_ROWS))


def _categorical_names(table: Table, names: list[str], categorical: str | Sequence[str]) -> set[str]:
    if categorical == "auto":
        return {name for name in names if table.is_text(name)}
    chosen = [categorical] if isinstance(categorical, str) else list(categorical)
    for name in chosen:
        table.column(name)
        if name not in names:
            raise InputError(f"{table.where}: {name!r} is declared categorical but is not a feature")
    return set(chosen)


def _fit_numeric(name: str, column: NDArray[Any], standardize: bool) -> NumericColumn:
    if not standardize:
        return NumericColumn(name)
    values = column.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        scale, mean = float(values.std()), float(values.mean())
    if not np.isfinite([scale, mean]).all():
        reach = float(np.abs(values).max())
        raise InputError(f"column {name!r} has values up to {reach:.3g}, too large to standardise: rescale")
    return NumericColumn(name, mean, scale if scale > 0 else 1.0)


def _fit_categorical(table: Table, name: str, max_categories: int) -> CategoricalColumn:
    values = sorted(set(keys(table.column(name))), key=numbers_first)
    if len(values) > max_categories:
        raise InputError(
            f"{table.where}: column {name!r} has {len(values):,} distinct values, more than {max_categories}"
            f" categories; leave it out or allow more"
        )
    return CategoricalColumn(name, tuple(values))


def keys(column: NDArray[Any]) -> list[str]:
    """Write values as text: 1, 1.0 and "1" are the same category, whatever file they came from."""
    if column.dtype == object:
        return list(column)
    distinct, inverse = np.unique(column, return_inverse=True)
    texts = np.array([str(int(v)) if float(v).is_integer() else repr(float(v)) for v in distinct], object)
    return list(texts[inverse])


def numbers_first(key: str) -> tuple[bool, float, str]:
    """Return what categories are sorted by."""
    try:
        return False, float(key), key
    except ValueError:
        return True, 0.0, key


def _column_from_dict(column: dict[str, Any]) -> NumericColumn | CategoricalColumn:
    if column["kind"] == "numeric":
        return NumericColumn(str(column["name"]), float(column["mean"]), float(column["scale"]))
    if column["kind"] == "categorical":
        return CategoricalColumn(str(column["name"]), tuple(map(str, column["values"])))
    raise InputError(f"encoder: unknown kind of column {column['kind']!r}")
