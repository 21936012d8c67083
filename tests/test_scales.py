"""Columns and targets of huge and tiny scale: a fit is right, or says which values it cannot square."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from scrimp.errors import InputError
from scrimp.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeCV, SGDRegressor
from scrimp.train.dense import ridge_by_svd

TRUE = np.array([1.0, -2.0, 0.5])
SOLVERS = ["gram", "cg", "lbfgs", "sgd"]


def rows(n, scale, dtype=np.float64):
    x = np.random.default_rng(0).normal(size=(n, 3)) + 1
    return (x * scale).astype(dtype), x @ TRUE + 3


@pytest.mark.parametrize("scale", [(1e-30, 1.0, 1e30), (1e-18, 1e18, 1.0), (1e30, 1e30, 1e30)], ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("n", [60, 5000])
def test_columns_of_any_scale_are_fitted(n, solver, dtype, scale):
    X, y = rows(n, np.array(scale), dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = LinearRegression(solver=solver).fit(X, y)
    assert model.coef_.astype(np.float64) * scale == pytest.approx(TRUE, rel=2e-3)
    assert model.intercept_ == pytest.approx(3, abs=5e-3)


@pytest.mark.parametrize("size", [1e-300, 1e-140, 1e50, 1e300])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("n", [60, 5000])
def test_targets_of_any_scale_are_fitted(n, solver, size):
    X, y = rows(n, 1.0)
    model = LinearRegression(solver=solver).fit(X, y * size)
    assert model.coef_ / size == pytest.approx(TRUE, rel=2e-3)
    assert model.intercept_ / size == pytest.approx(3, abs=5e-3)


def test_outputs_of_different_scale_are_each_fitted():
    X, y = rows(60, 1.0)
    model = LinearRegression().fit(X, np.column_stack([y * 1e-250, y, y * 1e250]))
    for coef, size in zip(model.coef_, [1e-250, 1, 1e250], strict=True):
        assert coef / size == pytest.approx(TRUE, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 1e-20, 1.0, 1e20])
def test_a_penalty_counts_against_columns_of_unlike_scale_as_it_does_exactly(alpha):
    """Orthogonal columns have a closed form each: w = xᵀy / (xᵀx + α)."""
    x = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 3)))[0] * [1e-8, 1.0, 1e9]
    y = np.random.default_rng(1).normal(size=(20, 1))
    w, rank = ridge_by_svd(x, y, np.array([alpha]))
    exact = (x.T @ y)[:, 0] / ((x * x).sum(axis=0) + alpha)
    assert w[:, 0] == pytest.approx(exact, rel=1e-9)
    assert rank == 3


def test_equal_columns_of_huge_scale_beside_a_tiny_one_get_the_solution_of_least_norm():
    base = np.random.default_rng(0).normal(size=(20, 2))
    x = np.column_stack([base[:, 0] * 1e9, base[:, 0] * 1e9, base[:, 1] * 1e-9, np.zeros(20)])
    w, rank = ridge_by_svd(x, base @ [[2.0], [1.0]], np.zeros(1))
    assert w[:, 0] == pytest.approx([1e-9, 1e-9, 1e9, 0], rel=1e-6)
    assert rank == 2


TOO_LARGE = r"X\[:, 0\] spans .*e\+2\d\d: values must be within ±1e\+\d+; rescale the column"
TOO_SMALL = r"X\[:, 0\] spans .*: it must vary by 1e-\d+ or more, or not at all; rescale the column"


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("n", [60, 5000])
@pytest.mark.parametrize(("size", "match"), [(1e200, TOO_LARGE), (1e-200, TOO_SMALL)])
def test_columns_whose_squares_cannot_be_summed_are_refused_by_name(n, solver, size, match):
    X, y = rows(n, np.array([size, 1, 1]))
    with pytest.raises(InputError, match=match):
        Ridge(solver=solver).fit(X, y)


@pytest.mark.parametrize(
    "fit",
    [
        lambda X, y: Ridge().partial_fit(X, y),
        lambda X, y: RidgeCV().fit(X, y),
        lambda X, y: SGDRegressor().fit(X, y),
        lambda X, y: LogisticRegression().fit(X, y > 0),
        lambda X, y: Ridge().fit(X, y, np.ones(len(y))),
    ],
    ids=["partial_fit", "RidgeCV", "SGDRegressor", "LogisticRegression", "weighted"],
)
def test_every_estimator_refuses_values_whose_squares_overflow(fit):
    X, y = rows(5000, np.array([1e200, 1, 1]))
    with pytest.raises(InputError, match=TOO_LARGE):
        fit(X, y)


@pytest.mark.parametrize("model", [SGDRegressor(), RidgeCV()])
def test_targets_that_an_estimator_cannot_square_are_refused(model):
    X, y = rows(60, 1.0)
    with pytest.raises(InputError, match=r"y must be within ±1e\+\d+, .* got up to .*e\+300; rescale it"):
        model.fit(X, y * 1e300)


def test_coefficients_beyond_the_type_of_the_rows_are_refused():
    X, y = rows(60, 1.0, np.float32)
    with pytest.raises(InputError, match=r"coefficients of up to 2e\+300 do not fit float32, the type of X"):
        Ridge(0.0).fit(X, y * 1e300)


def test_a_constant_column_of_tiny_values_is_no_error():
    X, y = rows(60, 1.0)
    X[:, 0] = 1e-200
    assert Ridge().fit(X, y).coef_[0] == 0
