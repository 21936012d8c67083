"""What the user gave, checked, as the solvers take it: rows, float64 targets of two dimensions, weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import _check_sample_weight, check_array, validate_data

from scrimp.matrix import QuantizedMatrix

FLOATS = [np.float64, np.float32, np.float16]


class Inputs(NamedTuple):
    """Training data.

    Attributes
    ----------
    X : float array[n, d], int8 array[n, d] or QuantizedMatrix
    y : float64[n, k]
    weight : float64[n] or None
    vector : bool
        Whether y came as a vector.
    """

    X: Any
    y: NDArray[np.float64]
    weight: NDArray[np.float64] | None
    vector: bool


def training_rows(estimator: Any, X: Any, y: Any, sample_weight: Any, *, reset: bool = True) -> Inputs:
    """Check and convert what `fit` was given; int8 rows and a QuantizedMatrix stay as they are."""
    if is_codes(X):
        rows = code_rows(estimator, X, reset=reset)
        targets = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y")
        if len(targets) != rows.shape[0]:
            raise ValueError(f"y must have {rows.shape[0]} rows like X, got {len(targets)}")
    else:
        rows, targets = validate_data(
            estimator, X, y, reset=reset, dtype=FLOATS, multi_output=True, y_numeric=True
        )
    targets = np.asarray(targets, np.float64)
    weight = None
    if sample_weight is not None:
        like = np.empty((rows.shape[0], 0))
        weight = _check_sample_weight(sample_weight, like, dtype=np.float64, ensure_non_negative=True)
        if not weight.sum() > 0:
            raise ValueError("sample_weight must hold at least one weight above 0")
    return Inputs(rows, targets.reshape(len(targets), -1), weight, targets.ndim == 1)


def prediction_rows(estimator: Any, X: Any) -> Any:
    """Check and convert what `predict` was given."""
    if is_codes(X):
        return code_rows(estimator, X, reset=False)
    return validate_data(estimator, X, reset=False, dtype=FLOATS)


def is_codes(X: Any) -> bool:
    """Whether rows are integers that the kernels read as they are."""
    return isinstance(X, QuantizedMatrix) or (
        isinstance(X, np.ndarray) and X.dtype == np.int8 and X.ndim == 2
    )


def code_rows(estimator: Any, X: Any, *, reset: bool) -> Any:
    """Check the shape of rows of codes."""
    n, d = X.shape
    if n < 1 or d < 1:
        raise ValueError(f"X must have at least one row and one column, got shape ({n}, {d})")
    if reset:
        estimator.n_features_in_ = d
    elif d != estimator.n_features_in_:
        name = type(estimator).__name__
        raise ValueError(
            f"X has {d} features, but {name} is expecting {estimator.n_features_in_} features as input"
        )
    return X
