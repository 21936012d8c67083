"""Frames of pandas, polars and Arrow as rows of numbers, without importing the library they come from."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from scrimp.data import as_table
from scrimp.errors import InputError

UNCHECKED = "no_validation"  # scikit-learn's word for targets that there are none of
FEW_VALUES = 1 << 16  # of rows that are looked through for NaN and infinity in no time

# What the libraries call the types that rows may have, in small letters.
_TYPES = {
    "float16": np.float16,
    "halffloat": np.float16,
    "float32": np.float32,
    "float": np.float32,
    "float[pyarrow]": np.float32,
    "int8": np.int8,
    "int8[pyarrow]": np.int8,
}


def validated(estimator: Any, X: Any, y: Any = UNCHECKED, **options: Any) -> Any:
    """Check rows, and targets if there are any, as scikit-learn does; a column of text is named.

    It is asked only about what is not plainly right: a call takes it a tenth of a millisecond and more.
    """
    if _are_plain(estimator, X, y, **options):
        if options["reset"]:
            estimator.n_features_in_ = X.shape[1]
        return X if y is UNCHECKED else (X, y)
    library = _library(X)
    if library == "polars" and type(X).__name__ == "LazyFrame":
        raise TypeError("X must hold rows, got a polars LazyFrame, which is a plan: collect() it first")
    if library == "pyarrow" and type(X).__name__ == "RecordBatch":
        X = _as_arrow_table(X)
    alone = frame_type(X)
    if alone is not None:
        options["dtype"] = alone
    try:
        return validate_data(estimator, X, y, **options)
    except (TypeError, ValueError) as error:
        if "could not convert" in str(error) or (library and isinstance(error, TypeError)):
            _name_text(X)
        raise


def _are_plain(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    reset: bool,
    dtype: Any,
    ensure_all_finite: bool,
    **_: Any,
) -> bool:
    """Whether rows, and targets if there are any, are few finite floats in arrays of fitting shapes."""
    if not (type(X) is np.ndarray and X.ndim == 2 and X.dtype in dtype and 0 < X.size <= FEW_VALUES):
        return False
    if hasattr(estimator, "feature_names_in_") or not (ensure_all_finite and np.isfinite(X).all()):
        return False
    if not reset and X.shape[1] != getattr(estimator, "n_features_in_", X.shape[1]):
        return False
    if y is UNCHECKED:
        return True
    plain = type(y) is np.ndarray and y.dtype.kind in "fiub" and len(y.shape) == 1 and len(y) == len(X)
    return plain and bool(y.dtype.kind != "f" or np.isfinite(y).all())


def frame_type(X: Any) -> Any:
    """Return the type that all columns of a frame have, if kernels read rows of it; else None.

    Columns of int8 must have a value in every row: scikit-learn would make NaN of the others.
    """
    library = _library(X)
    if library in ("pandas", "polars") and getattr(X, "ndim", 2) == 2 and hasattr(X, "dtypes"):
        names = {str(kind) for kind in X.dtypes}
    elif library == "pyarrow" and hasattr(X, "schema"):
        names = {str(kind) for kind in X.schema.types}
    else:
        return None
    found = _TYPES.get(names.pop().lower()) if len(names) == 1 else None
    return None if found is np.int8 and _has_gaps(X, library) else found


def _has_gaps(X: Any, library: str) -> bool:
    if library == "pandas":
        return bool(X.isna().to_numpy().any())
    columns = X.get_columns() if library == "polars" else X.columns
    return any(column.null_count() if library == "polars" else column.null_count for column in columns)


def _library(X: Any) -> str:
    name = type(X).__module__.partition(".")[0]
    return name if name in ("pandas", "polars", "pyarrow") else ""


def _as_arrow_table(batch: Any) -> Any:
    from pyarrow import Table

    return Table.from_batches([batch])


def _name_text(X: Any) -> None:
    """Raise InputError if X is a table with a column that holds no numbers."""
    if not _library(X) and not isinstance(X, np.ndarray):
        return
    table = as_table(X, "X")
    for name in table.names:
        if table.is_text(name):
            sample = table.text_sample(name)
            raise InputError(f"X: column {name!r} holds text, {sample}, expected numbers; encode or drop it")
