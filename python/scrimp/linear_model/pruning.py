"""Pruning: keep the columns that matter, fit again with those alone, and say what was saved."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone, is_classifier
from sklearn.utils.validation import check_is_fitted

from scrimp.linear_model.inputs import prediction_rows, row_weights, soft_targets
from scrimp.linear_model.paths import lasso_path
from scrimp.linear_model.weights import Coefficients
from scrimp.matrix import QuantizedMatrix

Weights = NDArray[np.float64] | None
METHODS = ("magnitude", "l1")
PATH = 60  # penalties that "l1" looks at


class Pruned(NamedTuple):
    """A pruned model.

    Attributes
    ----------
    model : estimator
        Of the same class and parameters, for the same columns; coefficients of dropped columns are 0, and
        neither stored nor counted in its size.
    kept : bool[d]
    columns_before, columns_after : int
        With a coefficient other than 0.
    nbytes_before, nbytes_after : int
        Of the stored coefficients.
    score_before, score_after : float
        `score` on the rows given; where y holds probabilities, of their most probable class.
    """

    model: Any
    kept: NDArray[np.bool_]
    columns_before: int
    columns_after: int
    nbytes_before: int
    nbytes_after: int
    score_before: float
    score_after: float

    def __str__(self) -> str:
        return (
            f"{self.columns_after} of {self.columns_before} columns, {self.nbytes_after} of "
            f"{self.nbytes_before} bytes, score {self.score_after:.4f} (was {self.score_before:.4f})"
        )


def prune(
    model: Any,
    X: Any,
    y: ArrayLike,
    *,
    keep: float,
    method: str = "magnitude",
    sample_weight: ArrayLike | None = None,
    refit: bool = True,
) -> Pruned:
    """Keep some columns of a fitted model.

    Parameters
    ----------
    model : fitted estimator of scrimp.linear_model
        It stays as it is.
    X, y, sample_weight
        Rows to judge by and to fit again on, as `fit` takes them; no QuantizedMatrix. Probabilities are those
        of the classes of the model.
    keep : int, or float in 0 … 1
        How many of the columns, or which part of them; at least one.
    method : {"magnitude", "l1"}
        "magnitude": the largest √Σ coef²·Var(x), which is how much a column moves predictions. "l1": the
        columns that the lasso keeps, of y, or of a classifier's own logits; better where columns are
        correlated, and never more than `keep`.
    refit : bool
        Fit the kept columns again; else their coefficients stay, and the intercept takes over the means of
        the dropped columns.

    Returns
    -------
    Pruned

    Examples
    --------
    >>> from scrimp.linear_model import Ridge
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(1000, 40))
    >>> found = prune(Ridge().fit(X, X[:, 3] - X[:, 7]), X, X[:, 3] - X[:, 7], keep=2)
    >>> np.flatnonzero(found.kept).tolist(), found.nbytes_after < found.nbytes_before / 4
    ([3, 7], True)
    """
    check_is_fitted(model)
    if isinstance(X, QuantizedMatrix):
        raise TypeError("prune takes arrays of rows, not a QuantizedMatrix")
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    rows = prediction_rows(model, X)
    count = _count(keep, rows.shape[1])
    sample_weight = row_weights(sample_weight, len(rows))
    soft = soft_targets(y, model.classes_) if is_classifier(model) else None
    mean = _mean(rows, sample_weight)
    spread = _spread(rows, mean, sample_weight)
    kept = _by_magnitude(model, spread, count)
    if method == "l1":
        kept = _by_lasso(model, rows, y, sample_weight, spread, count)
    if refit:
        small, values, intercept = _refitted(model, rows, y, sample_weight, kept)
        if soft is not None:
            small.classes_ = model.classes_
    else:
        small, values, intercept = _cut(model, mean, kept)
    _store(small, model, values, intercept, mean, spread)
    before, after = (int((np.atleast_2d(m.coef_) != 0).any(axis=0).sum()) for m in (model, small))
    sizes = (m._current().nbytes for m in (model, small))
    labels = y if soft is None else model.classes_[soft.argmax(axis=1)]
    scores = (float(m.score(X, labels, sample_weight)) for m in (model, small))
    return Pruned(small, kept, before, after, *sizes, *scores)


def _count(keep: float, d: int) -> int:
    if isinstance(keep, int | np.integer) and not isinstance(keep, bool) and keep >= 1:
        if keep > d:
            raise ValueError(f"keep must be at most the number of columns, {d}, got {keep!r}")
        return int(keep)
    if isinstance(keep, float | np.floating) and 0 < keep <= 1:
        return max(1, round(float(keep) * d))
    raise ValueError(f"keep must be a whole number of columns, or a part above 0 and at most 1, got {keep!r}")


def _spread(rows: Any, mean: NDArray[np.float64], sample_weight: Weights) -> NDArray[np.float64]:
    """Return the standard deviation of each column."""
    total = np.zeros(rows.shape[1])
    for begin in range(0, len(rows), 4096):
        part = slice(begin, begin + 4096)
        square = (rows[part].astype(np.float64) - mean) ** 2
        total += square.sum(axis=0) if sample_weight is None else sample_weight[part] @ square
    return np.sqrt(total / (len(rows) if sample_weight is None else sample_weight.sum()))


def _mean(rows: Any, sample_weight: Weights) -> NDArray[np.float64]:
    if sample_weight is None:
        return np.asarray(rows.mean(axis=0, dtype=np.float64))
    return np.asarray(sample_weight @ rows / sample_weight.sum(), np.float64)


def _by_magnitude(model: Any, spread: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    size = np.sqrt((np.atleast_2d(model.coef_).astype(np.float64) ** 2).sum(axis=0)) * spread
    return _largest(size, count)


def _largest(size: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    kept = np.zeros(len(size), bool)
    kept[np.argsort(-size, kind="stable")[:count]] = True
    return kept


def _by_lasso(
    model: Any, rows: Any, y: Any, sample_weight: Any, spread: NDArray[np.float64], count: int
) -> NDArray[np.bool_]:
    """Return the largest support on a path of lassos, in units of the spread, that is not above `count`."""
    target = model.decision_function(rows) if is_classifier(model) else np.asarray(y)
    target = np.asarray(target, np.float64).reshape(len(rows), -1)
    units = np.where(spread > 0, spread, 1.0)
    scaled = (rows / units).astype(rows.dtype if rows.dtype.kind == "f" else np.float32)
    path = lasso_path(scaled, target, n_alphas=PATH, sample_weight=sample_weight)
    size = np.sqrt((path.coefs**2).sum(axis=0))  # [d, alphas]
    counts = (size > 0).sum(axis=0)
    fits = np.flatnonzero((counts <= count) & (counts > 0))
    if not len(fits):
        return _largest(size[:, int(np.argmax(counts > 0))], count)
    return np.asarray(size[:, fits[np.argmax(counts[fits])]] > 0)


def _refitted(
    model: Any, rows: Any, y: Any, sample_weight: Any, kept: NDArray[np.bool_]
) -> tuple[Any, NDArray[Any], NDArray[np.float64]]:
    small = clone(model).set_params(checkpoint=None)  # that of the model is of other columns
    small.fit(np.ascontiguousarray(rows[:, kept]), y, sample_weight)
    small.set_params(checkpoint=model.checkpoint)
    values = np.atleast_2d(small.coef_)
    wide = np.zeros((len(values), len(kept)), values.dtype)
    wide[:, kept] = values
    return small, wide, np.atleast_1d(small.intercept_)


def _cut(
    model: Any, mean: NDArray[np.float64], kept: NDArray[np.bool_]
) -> tuple[Any, NDArray[Any], NDArray[np.float64]]:
    values = np.atleast_2d(model.coef_)
    moved = values[:, ~kept].astype(np.float64) @ mean[~kept]
    small = clone(model)
    small.__dict__.update({name: value for name, value in vars(model).items() if name.endswith("_")})
    return small, np.where(kept, values, 0).astype(values.dtype), np.atleast_1d(model.intercept_) + moved


def _store(
    small: Any,
    model: Any,
    values: NDArray[Any],
    intercept: NDArray[np.float64],
    mean: NDArray[np.float64],
    spread: NDArray[np.float64],
) -> None:
    """Make `small` a model of all columns; the intercept makes up for what rounding did to the mean."""
    small._online = None
    small.n_features_in_ = values.shape[1]
    if hasattr(model, "feature_names_in_"):
        small.feature_names_in_ = model.feature_names_in_
    small._coefficients = Coefficients.of(values, model.weight_bits, spread**2)
    stored = small._coefficients.values
    intercept = intercept + (values.astype(np.float64) - stored) @ mean
    small._set_shape(stored, intercept, model.coef_.ndim == 1)
