"""A table of named columns, numeric or text, whatever file or frame it came from. Missing is NaN or None."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrimp.errors import InputError

Column = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Table:
    """Named columns of equal length.

    Parameters
    ----------
    names : sequence of str
        Unique.
    columns : sequence of ndarray
        1-D: integers, floats and bools are numbers (NaN = missing), objects are text (None = missing).
    where : str
        What to call the table in errors, as a rule its path.
    origin : ndarray of int, optional
        Where each row was in what `where` names, from 0; absent: in this order from its begin.

    Examples
    --------
    >>> table = Table(("a", "b"), (np.arange(3.0), np.array(["x", None, "y"], object)), "example")
    >>> table.n_rows, table.is_text("b"), table.missing()
    (3, True, {'b': 1})
    """

    names: Sequence[str]
    columns: Sequence[Column]
    where: str = "the data"
    origin: NDArray[np.intp] | None = None

    def __post_init__(self) -> None:
        if not self.names:
            raise InputError(f"{self.where}: there are no columns")
        repeated = [name for i, name in enumerate(self.names) if name in self.names[:i]]
        if repeated:
            raise InputError(f"{self.where}: column name {repeated[0]!r} occurs more than once")
        for name, column in zip(self.names, self.columns, strict=True):
            if len(column) != self.n_rows:
                raise InputError(
                    f"{self.where}: column {name!r} has {len(column):,} rows,"
                    f" {self.names[0]!r} has {self.n_rows:,}"
                )

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.columns[0])

    def row_number(self, row: int) -> int:
        """Return the number of a row for errors: from 1, where it was before any rows were taken.

        Examples
        --------
        >>> Table(("a",), (np.arange(5),)).take(np.array([1, 4])).row_number(1)
        5
        """
        return int(row if self.origin is None else self.origin[row]) + 1

    def column(self, name: str) -> Column:
        """Return one column; an InputError lists the names there are."""
        if name not in self.names:
            shown = ", ".join(self.names[:12]) + (", …" if len(self.names) > 12 else "")
            raise InputError(f"{self.where}: no column {name!r}; columns: {shown}")
        return self.columns[self.names.index(name)]

    def is_text(self, name: str) -> bool:
        """Whether a column holds text."""
        return self.column(name).dtype == object

    def text_sample(self, name: str) -> str:
        """Show what makes a column text, for messages: the first value that is no number, if there is one."""
        values = [str(value) for value in self.column(name) if value is not None]
        if not values:
            return "only empty values"
        return f"such as {next((v for v in values if not is_number(v)), values[0])[:24]!r}"

    def missing(self, names: Iterable[str] | None = None) -> dict[str, int]:
        """Count the rows without a value, for the columns that have such rows."""
        masks = ((name, missing_mask(self.column(name))) for name in (names or self.names))
        return {name: n for name, mask in masks if (n := int(np.count_nonzero(mask)))}

    def require_complete(self, names: Iterable[str]) -> None:
        """Raise InputError, with column, count and first row, if a value is missing or infinite."""
        for name in names:
            column = self.column(name)
            mask, what = missing_mask(column), "no value (NaN or empty)"
            if not mask.any() and column.dtype.kind == "f":
                mask, what = np.isinf(column), "an infinite value"
            if mask.any():
                raise InputError(
                    f"{self.where}: column {name!r} has {what} in {np.count_nonzero(mask):,} of"
                    f" {self.n_rows:,} rows, first in row {self.row_number(int(mask.argmax())):,}"
                )

    def without_missing(self, names: Iterable[str]) -> Table:
        """Return the rows in which all the named columns have a value."""
        keep = np.ones(self.n_rows, bool)
        for name in names:
            keep &= ~missing_mask(self.column(name))
        return self if keep.all() else self.take(np.flatnonzero(keep))

    def take(self, rows: NDArray[np.intp]) -> Table:
        """Return some rows, copied."""
        origin = np.asarray(rows) if self.origin is None else self.origin[rows]
        return Table(self.names, [column[rows] for column in self.columns], self.where, origin)

    def rows(self, rows: slice) -> Table:
        """Return consecutive rows, not copied."""
        origin = np.arange(*rows.indices(self.n_rows)) if self.origin is None else self.origin[rows]
        return Table(self.names, [column[rows] for column in self.columns], self.where, origin)

    def select(self, names: Sequence[str]) -> Table:
        """Return some columns, not copied."""
        return Table(tuple(names), [self.column(name) for name in names], self.where, self.origin)


def is_number(text: str) -> bool:
    """Whether a file's text is a number; Python's own may hold _ and digits of any script."""
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and "_" not in text


def missing_mask(column: Column) -> NDArray[np.bool_]:
    """Return where a column has no value."""
    if column.dtype == object:
        return np.fromiter((value is None for value in column), bool, len(column))
    return np.isnan(column) if column.dtype.kind == "f" else np.zeros(len(column), bool)


def as_table(data: Any, where: str = "the data") -> Table:
    """Take a frame or arrays as a table, without importing the library they come from.

    Parameters
    ----------
    data : Table, ndarray[n, d], mapping of 1-D arrays, pandas or polars DataFrame, or Arrow table
        Columns of a plain array are named "0", "1", …
    where : str
        What to call it in errors.

    Raises
    ------
    InputError
        Dates, nested or complex values, sparse matrices, columns of unequal length.

    Examples
    --------
    >>> as_table(np.zeros((2, 3))).names
    ('0', '1', '2')
    >>> as_table({"a": [1, 2], "b": ["x", "y"]}).is_text("b")
    True
    """
    if isinstance(data, Table):
        return data
    if isinstance(data, np.ndarray):
        return _from_array(data, where)
    if isinstance(data, Mapping):
        return _from_columns({str(k): np.asarray(v) for k, v in data.items()}, where)
    library = type(data).__module__.partition(".")[0]
    if library == "scipy":
        raise InputError(f"{where}: sparse matrices are not supported; give a dense array")
    if library == "pandas" and data.ndim == 2:
        return _from_columns(
            _unique_keys(map(str, data.columns), map(_pandas_values, _series(data)), where), where
        )
    if library == "polars" and hasattr(data, "get_columns"):
        return _from_columns({s.name: s.to_numpy() for s in data.get_columns()}, where)
    if library == "pyarrow" and hasattr(data, "column_names"):
        values = (column.to_numpy(zero_copy_only=False) for column in data.columns)
        return _from_columns(_unique_keys(data.column_names, values, where), where)
    raise InputError(
        f"{where}: expected a 2-D array, a mapping of columns or a DataFrame, got {type(data).__name__}"
    )


def _series(frame: Any) -> list[Any]:
    return [frame.iloc[:, i] for i in range(frame.shape[1])]


def _pandas_values(series: Any) -> Column:
    """Bring nullable, categorical and string columns to plain numbers or objects."""
    if series.dtype.kind in "fiub" and isinstance(series.dtype, np.dtype):
        return np.asarray(series)
    if series.dtype.kind in "fiub":  # pandas' nullable numbers: NA becomes NaN
        return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))
    values = np.asarray(series, dtype=None if series.dtype.kind in "mM" else object)
    if values.dtype == object:
        values[np.asarray(series.isna())] = None
    return values


def _unique_keys(names: Iterable[str], values: Iterable[Column], where: str) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    for name, value in zip(names, values, strict=True):
        if name in columns:
            raise InputError(f"{where}: column name {name!r} occurs more than once")
        columns[name] = value
    return columns


def _from_array(array: Column, where: str) -> Table:
    if array.dtype.names:
        return _from_columns({name: array[name] for name in array.dtype.names}, where)
    if array.ndim != 2:
        raise InputError(f"{where}: expected a 2-D array (rows x columns), got shape {array.shape}")
    names = tuple(str(i) for i in range(array.shape[1]))
    return Table(names, [plain(array[:, i], name, where) for i, name in enumerate(names)], where)


def _from_columns(columns: Mapping[str, Column], where: str) -> Table:
    return Table(tuple(columns), [plain(values, name, where) for name, values in columns.items()], where)


def plain(values: Column, name: str, where: str) -> Column:
    """Bring a column to numbers or to objects that are str or None; refuse everything else."""
    if values.ndim != 1:
        raise InputError(f"{where}: column {name!r} has shape {values.shape}, expected one value a row")
    if values.dtype.kind in "fiub":
        return values
    if values.dtype.kind in "US":
        return values.astype(str).astype(object)
    if values.dtype.kind in "mM":
        raise InputError(f"{where}: column {name!r} holds dates; derive numbers from them or leave it out")
    if values.dtype == object:
        return _plain_objects(values, name, where)
    raise InputError(f"{where}: column {name!r} holds {values.dtype}, expected numbers or text")


def _plain_objects(values: Column, name: str, where: str) -> Column:
    missing = np.fromiter(map(_is_missing, values), bool, len(values))
    present = values[~missing]
    if all(isinstance(v, str) for v in present):
        out = values.copy()
        out[missing] = None
        return out
    if all(isinstance(v, int | float | np.number | np.bool_) for v in present):
        return np.array([np.nan if gone else v for v, gone in zip(values, missing, strict=True)], np.float64)
    kinds = sorted({type(v).__name__ for v in present})
    wish = "one number or text a row" if len(kinds) == 1 else "numbers or text, not both"
    raise InputError(f"{where}: column {name!r} holds {' and '.join(kinds)}, expected {wish}")


def _is_missing(value: Any) -> bool:
    """Whether a value is None or NaN; a list, which may hold some, is neither."""
    differs = value != value
    return value is None or (isinstance(differs, bool | np.bool_) and bool(differs))
