"""A table in few bits on disk, with target and encoder: training data that need not fit into memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrimp.atomic import replacing
from scrimp.data.batches import TableBatches, ahead
from scrimp.data.encoder import TableEncoder
from scrimp.data.scan import TASKS, Scan, labels_of
from scrimp.data.table import Table
from scrimp.errors import CodecError
from scrimp.matrix import LEAF_ROWS, QuantizedMatrix, Ranges
from scrimp.matrix.storage import Writer, load_targets

SCHEMA = "scrimp.quantized_table/1"
CHUNK_BYTES = 16 << 20  # of float32 rows that become codes at once


@dataclass(frozen=True)
class QuantizedTable:
    """Rows and target of a file that `quantize_table` wrote, both mapped.

    Attributes
    ----------
    X : QuantizedMatrix
    y : float64[n]
        Numbers, or indices into `classes`.
    encoder : TableEncoder
        Makes rows of further tables like those of X.
    target, task : str
    classes : tuple
        Labels of a classification, sorted; empty for a regression.
    """

    X: QuantizedMatrix
    y: NDArray[np.float64]
    encoder: TableEncoder
    target: str
    task: str
    classes: tuple[Any, ...] = ()

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, verify: bool = False) -> QuantizedTable:
        """Map a file.

        Parameters
        ----------
        path : path
        verify : bool
            Also read all codes and check their crc32c.

        Raises
        ------
        CodecError
            If the file is damaged or of another format.
        InputError
            If it holds rows alone.
        """
        y, about = load_targets(path)
        if about.get("schema") != SCHEMA or not isinstance(about.get("classes"), list):
            raise CodecError(f"{path}: the description of the table is damaged")
        target, task = about.get("target"), about.get("task")
        if task not in TASKS or not isinstance(target, str):
            known = " or ".join(map(repr, TASKS))
            raise CodecError(f"{path}: task must be {known} and target a name, got {task!r} and {target!r}")
        X = QuantizedMatrix.open(path, verify=verify)
        encoder = TableEncoder.from_dict(about.get("encoder"))
        return cls(X, y, encoder, target, task, tuple(about["classes"]))

    def labels(self, rows: slice = slice(None)) -> NDArray[Any]:
        """Return the target of some rows: numbers, or class labels."""
        if self.task == "regression":
            return self.y[rows]
        return np.array(self.classes)[self.y[rows].astype(np.intp)]


def quantize_table(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    target: str,
    task: str | None = None,
    bits: int = 8,
    categorical: str | Sequence[str] = (),
    drop: str | Sequence[str] = (),
    missing: str = "error",
    max_categories: int = 256,
    standardize: bool = True,
    seed: int = 0,
    threads: int = 0,
    show: Callable[[str], None] = lambda text: None,
) -> QuantizedTable:
    """Write a table as rows of few bits, in two passes that hold a batch at a time.

    Parameters
    ----------
    source : path
        A `.parquet` or `.npy` file, or a folder of such files; other tables are read whole.
    out : path
        Replaced only when whole.
    target : str
        Column to predict; stored as it is, in float64.
    task : {"regression", "classification"}, optional
        By default classification if the target is text.
    bits : {8, 4, 2, 1}
        Of a value; rounding is stochastic.
    categorical : str or sequence of str
        Columns to one-hot encode; "auto": all that hold text.
    drop : str or sequence of str
        Columns to leave out; not the target.
    missing : {"error", "drop"}
        Rows with a missing value.
    max_categories : int
        A column with more distinct values is refused.
    standardize : bool
        Bring numbers to mean 0 and standard deviation 1.
    seed, threads : int
    show : callable
        Told now and then what is being done.

    Returns
    -------
    QuantizedTable
        The file, opened.

    Raises
    ------
    InputError
        Names file and column: a missing value, text that is not declared categorical, a column that is text
        in one file and numbers in another, a number too large for float32 or to standardise.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/x.npy", np.arange(12.0).reshape(4, 3))
    ...     table = quantize_table(f"{folder}/x.npy", f"{folder}/x.scrimp", target="2")
    >>> table.X.shape, table.y.tolist(), table.encoder.features()
    ((4, 2), [2.0, 5.0, 8.0, 11.0], ['0', '1'])
    """
    batches = TableBatches(Path(source))
    scan = Scan.of(
        _shown(batches, "scanning", show),
        target=target,
        task=task,
        categorical=categorical,
        drop=drop,
        missing=missing,
        max_categories=max_categories,
    )
    encoder = scan.encoder(standardize)
    about = {"schema": SCHEMA, "encoder": encoder.to_dict(), "target": target, "task": scan.task}
    about["classes"] = scan.class_list()
    facts = {"bits": bits, "rounding": "stochastic", "seed": seed, "first_row": 0}
    usable = (scan.usable(table, missing) for table in _shown(batches, "quantizing", show, scan.n))
    with replacing(out) as file:
        writer = Writer(file, (scan.n, encoder.width), facts, has_targets=True, about=about)
        _write(writer, ahead(_encoded(usable, encoder, scan)), scan.ranges(encoder), facts, threads)
        writer.finish()
    return QuantizedTable.open(out)


def _shown(
    batches: Iterable[Table], what: str, show: Callable[[str], None], of: int | None = None
) -> Iterable[Table]:
    n = 0
    for table in batches:
        yield table
        n += table.n_rows
        show(f"{what}: {n:,} rows" + (f" of {of:,}" if of else ""))


def _encoded(
    tables: Iterable[Table], encoder: TableEncoder, scan: Scan
) -> Iterable[tuple[NDArray[np.float32], NDArray[np.float64]]]:
    """Yield rows and targets in pieces of whole leaves, but for the last."""
    step = max(1, CHUNK_BYTES // (4 * encoder.width * LEAF_ROWS)) * LEAF_ROWS
    X, y, filled = np.empty((step, encoder.width), np.float32), np.empty(step), 0
    for table in tables:
        targets = _targets(table, scan)
        for begin in _cuts(table.n_rows, step - filled, step):
            part = table.rows(slice(begin.start, begin.stop))
            encoder.transform(part, X[filled : filled + part.n_rows])
            y[filled : filled + part.n_rows] = targets[begin]
            filled += part.n_rows
            if filled == step:
                yield X, y
                X, y, filled = np.empty_like(X), np.empty_like(y), 0
    if filled:
        yield X[:filled], y[:filled]


def _cuts(n: int, first: int, step: int) -> Iterable[slice]:
    """Cut n rows where pieces of `step` rows end, of which the first has `first` rows to go."""
    ends = [*range(min(first, n), n, step), n] if n else []
    return (slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True) if b > a)


def _targets(table: Table, scan: Scan) -> NDArray[np.float64]:
    if scan.task == "regression":
        return table.column(scan.target).astype(np.float64)
    labels = labels_of(table, scan.target)
    return np.searchsorted(np.array(scan.class_list()), labels).astype(np.float64)


def _write(
    writer: Writer,
    pieces: Iterable[tuple[NDArray[np.float32], NDArray[np.float64]]],
    ranges: Ranges,
    facts: dict[str, Any],
    threads: int,
) -> None:
    at = 0
    for X, y in pieces:
        Q = QuantizedMatrix.from_array(
            X, facts["bits"], seed=facts["seed"], first_row=at, ranges=ranges, threads=threads
        )
        writer.add(Q, y)
        at += len(X)
