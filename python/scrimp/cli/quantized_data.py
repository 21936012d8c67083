"""Data files in few bits on the command line: how `quantize` writes them and `train` reads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrimp.cli.launched import joined
from scrimp.cli.outcome import console, format_bytes, hint, progress, write_json
from scrimp.errors import CodecError, InputError

if TYPE_CHECKING:
    from scrimp.cli.tabular import TabularModel
    from scrimp.data import QuantizedTable

SUFFIX = ".scrimp"
DATA_SUFFIXES = (".parquet", ".npy", ".npz", ".csv", ".tsv")
SCORED_LEAVES = 16  # of held-out rows at once


def is_data(path: Path) -> bool:
    """Whether `quantize` is given a table, not a checkpoint."""
    return path.is_dir() or path.suffix.lower() in DATA_SUFFIXES


def quantize_data(source: Path, out: Path, json_file: Path | None, **options: Any) -> None:
    """Write a table as rows of few bits, and say what came of it."""
    from rich.table import Table

    from scrimp.data import quantize_table

    if out.suffix != SUFFIX:
        raise InputError(f"{out}: data in few bits has the ending {SUFFIX}, by which `scrimp train` knows it")
    with progress("quantizing:") as show:
        table = quantize_table(source, out, show=show, **options)
    n, d = table.X.shape
    file_bytes = out.stat().st_size
    result = {
        "data": str(source),
        "out": str(out),
        "rows": n,
        "features": d,
        "bits": table.X.bits,
        "target": table.target,
        "task": table.task,
        "float32_bytes": 4 * n * d,
        "file_bytes": file_bytes,
    }
    write_json(json_file, "quantize", result)
    shown = Table(title=f"{source} → {out}", title_justify="left", show_header=False)
    shown.add_row("rows", f"{n:,} of {d:,} columns in {table.X.bits} bits")
    shown.add_row("target", f"{table.target} ({table.task})")
    shown.add_row("file", f"{format_bytes(file_bytes)}, {format_bytes(4 * n * d)} as float32")
    console().print(shown)


def fit_quantized(
    path: Path, target: str, task: str | None, test_size: float, alpha: float, settings: dict[str, Any]
) -> tuple[TabularModel, dict[str, Any]]:
    """Fit to the first leaves of a file; the last ones, about `test_size` of them, are held out."""
    from scrimp.cli.tabular import TabularModel, beyond_float32, estimator
    from scrimp.matrix import LEAF_ROWS

    table = open_data(path)
    bits = settings["data_bits"]
    if bits not in (32, table.X.bits):
        raise InputError(
            f"{path}: its rows have {table.X.bits} bits, --data-bits {bits} has no effect;"
            f" quantize with --bits {bits} for that"
        )
    if target != table.target or task not in (None, table.task):
        raise InputError(f"{path}: was quantized with target {table.target!r} for {table.task}")
    n, leaves = table.X.shape[0], len(table.X.weight_blocks)
    kept = leaves - min(round(leaves * test_size), leaves - 1)
    n_train = min(n, kept * LEAF_ROWS)
    if test_size > 0 and kept == leaves:
        hint(f"no rows are held out: {n:,} rows are too few to hold out whole runs of {LEAF_ROWS:,}")
    model = estimator(table.task, alpha, settings)
    if table.task == "regression" and (row := beyond_float32(table.y)) is not None:
        raise InputError(
            f"{path}: target {target!r} holds {table.y[row]:.6g} in its row {row + 1:,}, beyond the range of"
            f" float32: rescale it"
        )
    with joined():
        model.fit(table.X.leaves(0, kept), table.labels(slice(0, n_train)))
    fitted = TabularModel(model, table.encoder, table.target, table.task)
    facts = {
        "target": table.target,
        "task": table.task,
        "estimator": type(model).__name__,
        "n_train": n_train,
        "n_test": n - n_train,
        "n_features": table.encoder.width,
        "solver": str(model.solver_),
    }
    return fitted, facts | (_scores(model, table, kept) if kept < leaves else {})


def open_data(path: Path) -> QuantizedTable:
    """Map a `.scrimp` file; what is wrong with it is bad input."""
    from scrimp.data import QuantizedTable

    try:
        return QuantizedTable.open(path)
    except CodecError as error:
        raise InputError(str(error)) from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def predict_data(fitted: TabularModel, path: Path) -> tuple[NDArray[Any], QuantizedTable]:
    """Predict the rows of a file, which must be encoded as the model's were."""
    table = open_data(path)
    if table.encoder != fitted.encoder:
        raise InputError(
            f"{path}: its columns are encoded otherwise than those that the model was trained on;"
            f" give the data that it was quantized from"
        )
    if not len(table.y):
        raise InputError(f"{path}: there are no rows")
    return _predicted(fitted.model, table, 0), table


def evaluate_data(fitted: TabularModel, path: Path) -> tuple[dict[str, float], int]:
    """Score a model on the rows of a file; return how many there are, too."""
    from scrimp.cli.tabular import score

    predicted, table = predict_data(fitted, path)
    if (table.target, table.task) != (fitted.target, fitted.task):
        raise InputError(
            f"{path}: was quantized with target {table.target!r} for {table.task},"
            f" the model predicts {fitted.target!r} ({fitted.task})"
        )
    return score(table.task, table.labels(), predicted), len(predicted)


def _scores(model: Any, table: QuantizedTable, first_leaf: int) -> dict[str, float]:
    """Score the held-out leaves."""
    from scrimp.cli.tabular import score
    from scrimp.matrix import LEAF_ROWS

    truth = table.labels(slice(first_leaf * LEAF_ROWS, None))
    return score(table.task, truth, _predicted(model, table, first_leaf))


def _predicted(model: Any, table: QuantizedTable, first_leaf: int) -> NDArray[Any]:
    """Predict the leaves from one on, a few at a time."""
    leaves = len(table.X.weight_blocks)
    parts = [
        model.predict(table.X.leaves(i, min(i + SCORED_LEAVES, leaves)))
        for i in range(first_leaf, leaves, SCORED_LEAVES)
    ]
    return np.concatenate(parts)
