"""Tables in batches: files and folders that need not fit into memory, read a batch ahead of whoever works."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from scrimp.data.readers import not_whole, read_table
from scrimp.data.table import Table, as_table
from scrimp.errors import InputError

BATCH_BYTES = 16 << 20  # of float64 values
FOLDERS_HOLD = (".npy", ".parquet")

T = TypeVar("T")


class TableBatches:
    """The rows of a file, or of a folder's files in the order of their names; iterate as often as needed.

    Parameters
    ----------
    path : path
        A `.parquet` or 2-D `.npy` file, or a folder of such files with the same columns: read in batches.
        Other tables that `read_table` knows come as one batch.

    Raises
    ------
    InputError
        A folder without such files, or files of different columns.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/a.npy", np.zeros((3, 2)))
    ...     np.save(f"{folder}/b.npy", np.ones((2, 2)))
    ...     [batch.n_rows for batch in TableBatches(folder)]
    [3, 2]
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.files = [self.path]
        if self.path.is_dir():
            self.files = sorted(f for f in self.path.iterdir() if f.suffix.lower() in FOLDERS_HOLD)
            if not self.files:
                raise InputError(f"{path}: the folder holds no {' or '.join(FOLDERS_HOLD)} file")

    def __iter__(self) -> Iterator[Table]:
        names: tuple[str, ...] | None = None
        for batch in ahead(chain.from_iterable(map(_tables, self.files))):
            names = names or tuple(batch.names)
            if tuple(batch.names) != names:
                raise InputError(f"{batch.where}: has other columns than {self.files[0]}")
            yield batch


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield the items; a thread makes the next one while the caller works on this one."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1, "scrimp-read") as pool:
        coming = pool.submit(next, iterator, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, iterator, end)
            yield item  # type: ignore[misc]


def _tables(path: Path) -> Iterator[Table]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet_tables(path)
    return _slices(read_table(path))


def _slices(table: Table) -> Iterator[Table]:
    """Copy rows out of a table, which may be mapped, batch by batch."""
    step = _batch_rows(len(table.names))
    for begin in range(0, table.n_rows, step):
        where = f"{table.where}, from row {begin + 1:,} on" if begin else table.where
        columns = [np.array(column[begin : begin + step]) for column in table.columns]
        yield Table(table.names, columns, where)


def _parquet_tables(path: Path) -> Iterator[Table]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(f"{path}: reading Parquet needs pyarrow: pip install 'scrimp[parquet]'") from error
    row = 0
    try:
        with parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            step = _batch_rows(file.metadata.num_columns)
            for batch in file.iter_batches(batch_size=step, use_threads=False):
                where = f"{path}, from row {row + 1:,} on" if row else str(path)
                yield as_table(_arrow_table(pyarrow, batch), where)
                row += batch.num_rows
    except (pyarrow.ArrowException, OSError, UnicodeEncodeError) as error:
        raise not_whole(path, error) from error


def _arrow_table(pyarrow: Any, batch: Any) -> Any:
    return pyarrow.Table.from_batches([batch])


def _batch_rows(columns: int) -> int:
    return max(4096, BATCH_BYTES // (8 * max(columns, 1)))
