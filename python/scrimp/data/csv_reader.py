"""CSV into columns, strictly: every line has as many fields as the header, or the line is named.

A column is numeric if all its values are; empty fields and the usual words for nothing are missing. pyarrow
reads big files faster where it is installed; both ways give the same columns.
"""

from __future__ import annotations

import csv
import importlib.util
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrimp.data.table import Table, is_number
from scrimp.errors import InputError

MISSING = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL", "None")
CHUNK_ROWS = 65536
LONGEST_HEADER = 1 << 24  # characters; where a quote is not closed the file is not read to its end

_DELIMITERS = ",;\t|"
_BREAK = re.compile(r"\s*[\r\n]+\s*")


def read_csv(path: Path) -> Table:
    """Read a CSV file with a header line; the delimiter (`,` `;` tab or `|`) is taken from the header.

    Raises
    ------
    InputError
        Empty, no header, ragged (with the line), or not UTF-8 text.
    """
    try:
        header = _header(path)
        columns = None
        if importlib.util.find_spec("pyarrow") is not None:
            columns = _read_with_arrow(path, header)
        if columns is None:
            columns = _read_with_csv(path, header.names, header.delimiter)
        return Table(header.names, columns, str(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except csv.Error as error:
        raise InputError(f"{path}: not CSV: {error}") from error


class Header(NamedTuple):
    """Names of the columns, what separates them, and the lines that they take."""

    names: tuple[str, ...]
    delimiter: str
    n_lines: int


def _header(path: Path) -> Header:
    lines = _first_record(path)
    text = "".join(lines)
    if not text.strip():
        raise InputError(f"{path}: the file is empty" if not text else f"{path}: the first line is empty")
    bare = re.sub('"[^"]*"', "", text)
    delimiter = max(_DELIMITERS, key=bare.count)
    fields = next(csv.reader(lines, delimiter=delimiter, strict=True))
    names = tuple(_BREAK.sub(" ", name.strip()) for name in fields)
    if all(is_number(name) for name in names):
        raise InputError(
            f"{path}: the first line holds only numbers; a line with the column names must come first"
        )
    if "" in names:
        raise InputError(
            f"{path}: column {names.index('') + 1} of {len(names)} has no name in the first line"
        )
    return Header(names, delimiter, len(lines))


def _first_record(path: Path) -> list[str]:
    """Return the lines of the header: more than one where a quoted name holds line breaks."""
    lines: list[str] = []
    length = quotes = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        while length <= LONGEST_HEADER and (line := file.readline(LONGEST_HEADER + 1)):
            lines.append(line)
            length, quotes = length + len(line), quotes + line.count('"')
            if quotes % 2 == 0:
                return lines
    if lines:
        raise InputError(f"{path}: a quote in the first line is never closed")
    return [""]


def _read_with_csv(path: Path, names: tuple[str, ...], delimiter: str) -> list[NDArray[Any]]:
    """Read in chunks. A column that turns out to be text late costs one more pass over the file."""
    text: set[int] = set()
    while True:
        parts: list[list[NDArray[Any]]] = [[] for _ in names]
        found = set(text)
        for fields in _chunks(path, len(names), delimiter):
            for i, values in enumerate(fields):
                column = None if i in found else _numbers(values)
                if column is None:
                    found.add(i)
                    column = _texts(values)
                parts[i].append(column)
        if found == text or not any(len({c.dtype for c in part}) > 1 for part in parts):
            if not parts[0]:
                raise InputError(f"{path}: there is no row below the header")
            return [np.concatenate(part) for part in parts]
        text = found


def _chunks(path: Path, width: int, delimiter: str) -> Iterator[list[tuple[str, ...]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = _checked_rows(path, csv.reader(file, delimiter=delimiter, strict=True), width)
        next(rows)
        while chunk := list(islice(rows, CHUNK_ROWS)):
            yield list(zip(*chunk, strict=True))


def _checked_rows(path: Path, reader: Any, width: int) -> Iterator[list[str]]:
    for row in reader:
        if len(row) == width:
            yield row
        elif len(row) > 1 or "".join(row).strip():
            fields = "1 field" if len(row) == 1 else f"{len(row)} fields"
            raise InputError(f"{path}: line {reader.line_num:,} has {fields}, the header has {width}")


def _numbers(values: tuple[str, ...]) -> NDArray[np.float64] | None:
    text = "".join(values)
    if "_" in text or not text.isascii():  # Python's numbers may hold _ and digits of any script
        values = tuple(value.strip() for value in values)
        if not all(value.isascii() and "_" not in value for value in values):
            return None
    try:
        return np.array(values, np.float64)
    except ValueError:
        pass
    try:
        return np.array([np.nan if value.strip() in MISSING else value for value in values], np.float64)
    except ValueError:
        return None


def _texts(values: tuple[str, ...]) -> NDArray[Any]:
    stripped = (value.strip() for value in values)
    return np.array([None if value in MISSING else value for value in stripped], object)


def _read_with_arrow(path: Path, header: Header) -> list[NDArray[Any]] | None:
    """Read as text with pyarrow, then make numbers; None where it objects: the plain way names the line."""
    import pyarrow
    from pyarrow import csv as arrow_csv

    convert = arrow_csv.ConvertOptions(
        column_types=dict.fromkeys(header.names, pyarrow.string()),
        null_values=list(MISSING),
        strings_can_be_null=True,
    )
    parse = arrow_csv.ParseOptions(delimiter=header.delimiter, newlines_in_values=True)
    read = arrow_csv.ReadOptions(column_names=list(header.names), skip_rows=header.n_lines)
    try:
        table = arrow_csv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert)
    except (pyarrow.ArrowInvalid, OSError, UnicodeEncodeError):  # the last: a name that is no UTF-8
        return None
    if table.num_rows == 0:
        return None
    return [_from_arrow(table.column(i)) for i in range(len(header.names))]


def _from_arrow(column: Any) -> NDArray[Any]:
    import pyarrow
    from pyarrow import compute

    column = compute.utf8_trim_whitespace(column)
    missing = compute.is_in(column, value_set=pyarrow.array(MISSING))
    column = compute.if_else(missing, pyarrow.scalar(None, pyarrow.string()), column)
    try:
        return np.asarray(column.cast(pyarrow.float64()).to_numpy(zero_copy_only=False))
    except pyarrow.ArrowInvalid:
        return np.asarray(column.to_numpy(zero_copy_only=False))
