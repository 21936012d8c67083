"""What the user gave, checked, as the solvers take it: rows, float64 targets of two dimensions, weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_array, column_or_1d

from scrimp.errors import InputError
from scrimp.linear_model.frames import validated
from scrimp.matrix import QuantizedMatrix, Ranges, column_ranges
from scrimp.matrix.ranges import LARGEST

FLOATS = [np.float64, np.float32, np.float16]
MANY_BYTES = 32 << 20


class Inputs(NamedTuple):
    """Training data.

    Attributes
    ----------
    X : float array[n, d], int8 array[n, d] or QuantizedMatrix
    y : float64[n, k]
        Or float32, where `training_rows` was told to leave them so.
    weight : float64[n] or None
    vector : bool
        Whether y came as a vector.
    """

    X: Any
    y: NDArray[np.float64]
    weight: NDArray[np.float64] | None
    vector: bool


class Labels(NamedTuple):
    """Training data of a classifier.

    Attributes
    ----------
    inputs : Inputs
        `y` holds 0 and 1 or soft targets [n, 1] for two classes; class numbers [n, 1] or soft targets [n, k]
        for more.
    classes : array[k]
    loss : {"logistic", "softmax"}
    """

    inputs: Inputs
    classes: NDArray[Any]
    loss: str


def training_rows(
    estimator: Any,
    X: Any,
    y: Any,
    sample_weight: Any,
    *,
    reset: bool = True,
    one_output: bool = False,
    as_they_are: bool = False,
) -> Inputs:
    """Check and convert what `fit` was given; int8 rows and a QuantizedMatrix stay as they are.

    With `as_they_are` targets in float32 do too, and rows that `is_unseen` names are not looked through for
    NaN and infinity: the caller does that, with `check_unseen` or on its way.
    """
    if is_codes(X):
        rows = code_rows(estimator, X, reset=reset)
        if y is None:
            raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None")
        targets = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y")
        targets = column_or_1d(targets, warn=True) if one_output else targets
        if len(targets) != rows.shape[0]:
            raise ValueError(f"y must have {rows.shape[0]} rows like X, got {len(targets)}")
    else:
        rows, targets = validated(
            estimator,
            X,
            y,
            reset=reset,
            dtype=_kept_types(X),
            multi_output=not one_output,
            y_numeric=True,
            ensure_all_finite=not is_unseen(X),
        )
        if not as_they_are:
            check_unseen(rows)
    narrow = as_they_are and getattr(targets, "dtype", None) == np.float32
    dtype = np.float32 if narrow else np.float64
    targets = np.asarray(targets, dtype)
    weight = row_weights(sample_weight, rows.shape[0])
    return Inputs(rows, targets.reshape(len(targets), -1), weight, targets.ndim == 1)


def training_labels(
    estimator: Any,
    X: Any,
    y: Any,
    sample_weight: Any,
    class_weight: Any,
    *,
    classes: Any = None,
    reset: bool = True,
) -> Labels:
    """Check and convert what the `fit` of a classifier was given.

    Parameters
    ----------
    y : labels [n], or soft targets float[n, k] whose rows sum to 1
    classes : array, optional
        All classes, sorted; by default those in y, of soft targets 0 … k − 1.
    """
    soft = soft_targets(y, classes)
    if soft is not None:
        rows = prediction_rows(estimator, X, reset=reset)
        classes = np.arange(soft.shape[1]) if classes is None else np.asarray(classes)
        codes = soft[:, 1:] if soft.shape[1] == 2 else soft
    else:
        rows, labels = _labelled(estimator, X, y, reset)
        if classes is None or labels.dtype.kind not in "biuSU":  # else what is none of them is refused
            check_classification_targets(labels)
        classes, codes = _class_numbers(labels, classes)
    if len(codes) != rows.shape[0]:
        raise ValueError(f"y must have {rows.shape[0]} rows like X, got {len(codes)}")
    weight = row_weights(sample_weight, rows.shape[0])
    if class_weight is not None and soft is None:
        each = compute_class_weight(class_weight, classes=classes, y=labels)
        if not (np.isfinite(each) & (each >= 0)).all():
            raise ValueError(f"class_weight must hold finite numbers >= 0, got {class_weight!r}")
        own = each[codes[:, 0].astype(np.intp)]
        weight = own if weight is None else own * weight
        if not weight.sum() > 0:
            raise ValueError(f"class_weight={class_weight!r} leaves no row a weight above 0")
    loss = "logistic" if len(classes) == 2 else "softmax"
    return Labels(Inputs(rows, np.ascontiguousarray(codes, np.float64), weight, False), classes, loss)


def soft_targets(y: Any, classes: Any = None) -> NDArray[np.float64] | None:
    """Return y as probabilities float64[n, k] if it is of two dimensions with k ≥ 2, else None.

    Where `classes` are given there must be a column for each.
    """
    if len(getattr(y, "shape", ())) != 2 and not (
        isinstance(y, list) and y and isinstance(y[0], (list, tuple))
    ):
        return None
    values = np.asarray(y)
    if values.ndim != 2 or values.shape[1] < 2 or values.dtype.kind not in "fiub":
        return None
    soft = check_array(values, dtype=np.float64, input_name="y")
    if (soft < 0).any() or not np.allclose(soft.sum(axis=1), 1, atol=1e-3):
        raise ValueError("y of two dimensions must hold probabilities: rows of numbers >= 0 that sum to 1")
    if classes is not None and soft.shape[1] != len(classes):
        known = np.asarray(classes).tolist()
        raise ValueError(f"y must hold a probability for each of the classes {known}, got {soft.shape[1]}")
    return np.asarray(soft / soft.sum(axis=1, keepdims=True))


def _labelled(estimator: Any, X: Any, y: Any, reset: bool) -> tuple[Any, NDArray[Any]]:
    if is_codes(X):
        rows, labels = code_rows(estimator, X, reset=reset), column_or_1d(y, warn=True)
    else:
        finite = not is_unseen(X)
        types = _kept_types(X)
        rows, labels = validated(estimator, X, y, reset=reset, dtype=types, ensure_all_finite=finite)
        check_unseen(rows)
    return rows, labels


def _class_numbers(labels: NDArray[Any], known: Any) -> tuple[NDArray[Any], NDArray[np.float64]]:
    found, codes = np.unique(labels, return_inverse=True)
    classes = found if known is None else np.asarray(known)
    if len(classes) < 2:
        raise InputError(f"y must hold at least two classes, got one class: {classes.tolist()}")
    numbers = np.searchsorted(classes, found)
    strange = classes[np.minimum(numbers, len(classes) - 1)] != found
    if strange.any():
        names = found[strange].tolist()
        raise ValueError(f"y holds classes that are not known: {names}; known: {classes.tolist()}")
    return classes, numbers[codes].astype(np.float64)[:, None]


def row_weights(sample_weight: Any, n: int) -> NDArray[np.float64] | None:
    """Check and convert the weights of n rows; their sum must be above 0."""
    if sample_weight is None:
        return None
    like = np.empty((n, 0))
    weight: NDArray[np.float64] = _check_sample_weight(
        sample_weight, like, dtype=np.float64, ensure_non_negative=True
    )
    if not weight.sum() > 0:
        raise ValueError("sample_weight must hold at least one weight above 0")
    return weight


class Sizes(NamedTuple):
    """What can be squared and summed: values within ±largest, columns that vary by `least` or not at all."""

    least: float
    largest: float


DOUBLE_SIZES = Sizes(1 / LARGEST, LARGEST)
SINGLE_SIZES = Sizes(1e-36, 1e32)  # where kernels work in float32
SQUARED_SIZES = Sizes(1e-36, 1e18)  # of targets whose squares are float32, too


def check_columns(X: Any, sizes: Sizes) -> Ranges | None:
    """Raise InputError, naming the column, if rows hold values beyond `sizes`; return ranges if it looked."""
    if is_codes(X) or not (X.dtype == np.float64 or sizes is SINGLE_SIZES):
        return None
    ranges = column_ranges(X)
    ranges.check_size(sizes.largest, sizes.least)
    return ranges


def check_targets(y: NDArray[np.float64], sizes: Sizes) -> None:
    """Raise InputError if targets are beyond `sizes`."""
    reach = np.abs(y).max(initial=0.0)
    if reach > sizes.largest or 0 < reach < sizes.least:
        wish = f"within ±{sizes.largest:g}, and the largest at least {sizes.least:g}"
        raise InputError(f"y must be {wish}, got up to {reach:.6g}; rescale it")


def prediction_rows(estimator: Any, X: Any, *, reset: bool = False) -> Any:
    """Check and convert what `predict` was given."""
    if is_codes(X):
        return code_rows(estimator, X, reset=reset)
    known = not _is_bfloat16(X)
    rows = validated(estimator, X, reset=reset, dtype=_kept_types(X), ensure_all_finite=known)
    if not known:
        check_unseen(rows)
    return rows


def is_unseen(X: Any) -> bool:
    """Whether scikit-learn does not look for NaN and infinity: rows in a file, in bfloat16, and many floats.

    It reads them once more on one thread; the Gram matrix looks on its way.
    """
    many = isinstance(X, np.ndarray) and X.dtype in FLOATS and X.nbytes > MANY_BYTES
    return many or isinstance(X, np.memmap) or _is_bfloat16(X)


def check_unseen(X: Any) -> None:
    """Raise InputError, naming the first, if such rows hold NaN or infinity; those of a file in batches."""
    if is_unseen(X):
        column_ranges(X)


def _is_bfloat16(X: Any) -> bool:
    return isinstance(X, np.ndarray) and X.dtype.name == "bfloat16"


def _kept_types(X: Any) -> list[Any]:
    """Return the types of rows that stay as they are; others become the first of them."""
    return [*FLOATS, X.dtype] if _is_bfloat16(X) else FLOATS


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
        if hasattr(estimator, "feature_names_in_"):  # of another fit: codes have no names
            del estimator.feature_names_in_
    elif d != estimator.n_features_in_:
        name = type(estimator).__name__
        raise ValueError(
            f"X has {d} features, but {name} is expecting {estimator.n_features_in_} features as input"
        )
    return X
