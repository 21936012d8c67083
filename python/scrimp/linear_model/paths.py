"""Whole paths of penalties: coefficients for every alpha from one Gram matrix."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from scrimp.comm import single
from scrimp.linear_model.elastic_net import near_one, total_weight
from scrimp.linear_model.inputs import training_rows
from scrimp.train.equations import NormalOptions
from scrimp.train.lasso import Penalty
from scrimp.train.paths import largest_useful_penalty, solve_ridge_path
from scrimp.train.ranks import on_ranks
from scrimp.train.sparse import SparseProblem, solve_sparse


class PenaltyPath(NamedTuple):
    """Fits for many penalties.

    Attributes
    ----------
    alphas : float64[m]
    coefs : float64[d, m] or float64[k, d, m]
        As scikit-learn orders them.
    intercepts : float64[m] or float64[k, m]
    dual_gap : float
        The largest of all fits, relative to its objective; 0 for ridge.
    """

    alphas: NDArray[np.float64]
    coefs: NDArray[np.float64]
    intercepts: NDArray[np.float64]
    dual_gap: float


def ridge_path(
    X: Any,
    y: ArrayLike,
    alphas: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    fit_intercept: bool = True,
    workers: int = 1,
    threads: int = 0,
) -> PenaltyPath:
    """Fit ridge regressions, Σ s(y − x·w − b)² + α‖w‖², for all alphas from one Gram matrix.

    Parameters
    ----------
    X, y, sample_weight
        As `Ridge.fit` takes them.
    alphas : array[m]
        In any order.
    fit_intercept, workers, threads
        As in `Ridge`.

    Examples
    --------
    >>> path = ridge_path([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0], [0.0, 2.0])
    >>> path.coefs.round(12).tolist(), path.intercepts.round(12).tolist()
    ([[2.0, 1.0]], [1.0, 2.0])
    """
    inputs = training_rows(BaseEstimator(), X, y, sample_weight)
    penalties = _alphas(alphas)
    options = NormalOptions(penalties, fit_intercept, threads=threads)
    args = (inputs.X, inputs.y, inputs.weight, penalties, options)
    solution, _ = on_ranks(solve_ridge_path, args, workers=workers)
    return _path(penalties, solution, inputs.y.shape[1], inputs.vector)


def enet_path(
    X: Any,
    y: ArrayLike,
    *,
    l1_ratio: float = 0.5,
    eps: float = 1e-3,
    n_alphas: int = 100,
    alphas: ArrayLike | int | None = None,
    sample_weight: ArrayLike | None = None,
    fit_intercept: bool = True,
    positive: bool = False,
    workers: int = 1,
    threads: int = 0,
    tol: float = 1e-6,
) -> PenaltyPath:
    """Fit elastic nets for all alphas from one Gram matrix.

    Parameters
    ----------
    X, y, sample_weight
        As `ElasticNet.fit` takes them.
    l1_ratio : float
        In 0 … 1; 1 is the lasso.
    eps : float
        Above 0 and below 1.
    n_alphas : int
        Without `alphas`: so many, evenly spaced in logarithm, from the one above which all coefficients are 0
        down to `eps` times it.
    alphas : array[m] or int, optional
        Above 0, in any order; or how many, as `n_alphas`.
    fit_intercept, positive, workers, threads, tol
        As in `ElasticNet`.

    Examples
    --------
    >>> X = np.eye(3)[[0, 1, 2] * 4]
    >>> path = enet_path(X, X @ [3.0, 1.0, 0.0], l1_ratio=1.0, alphas=[0.5, 0.1], fit_intercept=False)
    >>> path.coefs.round(3).tolist()
    [[1.5, 2.7], [0.0, 0.7], [0.0, 0.0]]
    """
    inputs = near_one(training_rows(BaseEstimator(), X, y, sample_weight))
    if not (isinstance(l1_ratio, Real) and 0 <= l1_ratio <= 1):
        raise ValueError(f"l1_ratio must be a number in 0 … 1, got {l1_ratio!r}")
    total, k = total_weight(inputs), inputs.y.shape[1]
    options = NormalOptions(np.zeros(0), fit_intercept, threads=threads, tol=tol)
    if alphas is None or isinstance(alphas, Integral):
        name, count = ("n_alphas", n_alphas) if alphas is None else ("alphas", alphas)
        _check_spacing(eps, name, count, l1_ratio)
        top = largest_useful_penalty(single(), inputs.X, inputs.y, inputs.weight, options) / total / l1_ratio
        alphas = np.geomspace(max(top, 1e-300), max(top, 1e-300) * eps, int(count))
    penalties = _alphas(alphas, zero=False)
    scaled = np.repeat(penalties * total, k)
    start = np.zeros((inputs.X.shape[1], len(scaled)))
    penalty = Penalty(scaled * l1_ratio, scaled * (1 - l1_ratio), positive)
    problem = SparseProblem(penalty, options, start, repeat=len(penalties))
    solution, _ = on_ranks(solve_sparse, (inputs.X, inputs.y, inputs.weight, problem), workers=workers)
    return _path(penalties, solution, k, inputs.vector)


def lasso_path(X: Any, y: ArrayLike, **options: Any) -> PenaltyPath:
    """Fit lassos for all alphas from one Gram matrix; as `enet_path` with `l1_ratio=1`.

    Examples
    --------
    >>> path = lasso_path([[0.0], [1.0], [2.0], [3.0]], [0.0, 1.0, 2.0, 3.0], n_alphas=3)
    >>> path.coefs.round(3).tolist()
    [[0.0, 0.968, 0.999]]
    """
    return enet_path(X, y, l1_ratio=1.0, **options)


def _alphas(alphas: ArrayLike, *, zero: bool = True) -> NDArray[np.float64]:
    """Check a list of penalties; `zero`: whether one may be 0."""
    bound = ">= 0" if zero else "above 0"
    values = np.asarray(alphas)
    good = values.ndim == 1 and len(values) > 0 and values.dtype.kind in "fiu"
    if not good or not (np.isfinite(values) & ((values >= 0) if zero else (values > 0))).all():
        raise ValueError(f"alphas must be a list of numbers {bound}, got {alphas!r}")
    return values.astype(np.float64)


def _check_spacing(eps: float, name: str, count: Any, l1_ratio: float) -> None:
    if not (isinstance(eps, Real) and 0 < eps < 1):
        raise ValueError(f"eps must be a number above 0 and below 1, got {eps!r}")
    if not isinstance(count, Integral) or isinstance(count, bool) or count < 1:
        raise ValueError(f"{name} must be a whole number >= 1, got {count!r}")
    if l1_ratio == 0:
        raise ValueError("alphas must be given when l1_ratio is 0: no alpha makes all coefficients 0")


def _path(alphas: NDArray[np.float64], solution: Any, k: int, vector: bool) -> PenaltyPath:
    coefs = solution.w.reshape(-1, len(alphas), k).transpose(2, 0, 1)
    intercepts = (solution.y_mean - solution.mean @ solution.w).reshape(len(alphas), k).T
    if vector:
        return PenaltyPath(alphas, coefs[0], intercepts[0], solution.error)
    return PenaltyPath(alphas, coefs, intercepts, solution.error)
