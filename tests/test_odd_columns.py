"""Columns that real tables have: constant, repeated, all zero, one wild value, more columns than rows.

Every estimator finds the right answer, or says why not. Scales that cannot be squared: test_scales.py.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.linear_model as reference
from sklearn.base import clone
from sklearn.metrics import log_loss

from scrimp.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Ridge,
    RidgeCV,
    SGDClassifier,
    SGDRegressor,
)
from scrimp.matrix import QuantizedMatrix

N = 9000


@pytest.fixture(scope="module")
def odd():
    """Rows with every kind of column, a number and a label that depend on the plain ones."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 9))
    x[:, 3], x[:, 4], x[:, 5] = 0.0, 0.1, x[:, 0]  # nothing, constant, the same again
    x[:, 6] = x[:, 1] - 2 * x[:, 2]
    x[:, 7] *= 1e5
    x[4567, 8] = 1e7
    score = x[:, 0] + x[:, 1] - x[:, 2] + x[:, 7] / 1e5
    return x, score + rng.normal(size=N), (score + rng.logistic(size=N) > 0).astype(int)


def _constant(n: int, rows: str):
    """Return rows of two columns that vary and two that do not, whose sums are rounded; targets; weights."""
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, 4))
    y = 2 * x[:, 0] - x[:, 1] + 3 + rng.normal(size=n)
    x[:, 2], x[:, 3] = -5.5397768, 1e9 / 7
    weight = None if rows in ("plain", "codes") else rng.random(n)
    if rows == "masked":
        weight = (weight < 0.5) * 1.0
        x[weight == 0, 2] = rng.normal(size=int((weight == 0).sum()))
    codes = rows in ("codes", "weighted codes")
    return QuantizedMatrix.from_array(x, 8, sample_weight=weight) if codes else x, y, weight


@pytest.mark.parametrize("rows", ["plain", "weighted", "masked", "codes", "weighted codes"])
@pytest.mark.parametrize("n", [300, 3000, 20_000])
@pytest.mark.parametrize(
    "model",
    [
        LinearRegression(),
        LinearRegression(solver="cg"),
        LinearRegression(solver="lbfgs"),
        LinearRegression(data_bits=8, refine=False),
        Ridge(1e-6),
        RidgeCV([1e-6]),
        Lasso(1e-3),
        Lasso(1e-3, solver="proximal"),
        SGDRegressor(alpha=0),
        LogisticRegression(1e-6),
        LogisticRegression(1e-3, l1_ratio=0.5),
        SGDClassifier(alpha=0),
    ],
    ids=repr,
)
@pytest.mark.filterwarnings("ignore:the 4 columns have rank")
def test_a_constant_column_has_no_coefficient(model, n, rows):
    """Not even where its sum is rounded: what is left of it after its mean is 0, not a spread of 1e-13."""
    x, y, weight = _constant(n, rows)
    if isinstance(model, RidgeCV) and n < 5 * 4096 and "codes" in rows:
        pytest.skip("folds of codes are leaves")
    model = clone(model).fit(x, y > 3 if hasattr(model, "predict_proba") else y, sample_weight=weight)
    coef = model.coef_.ravel()
    assert abs(coef[3]) < 1e-6
    assert abs(coef[2]) < (0.5 if rows == "masked" else 1e-4)  # anything does, as rows of weight 0 vary
    assert 1.5 < coef[0] < 5
    intercept = float(np.ravel(model.intercept_)[0])
    assert abs(intercept) < 10


@pytest.mark.parametrize("n", [3000, 20_000])
@pytest.mark.parametrize("value", [0.0, -5.5397768])
@pytest.mark.parametrize(
    "model",
    [
        *(LinearRegression(solver=solver) for solver in ("gram", "cg", "lbfgs", "sgd")),
        *(Ridge(1000.0, solver=solver) for solver in ("gram", "cg", "lbfgs", "sgd")),
        Ridge(solver="lbfgs", data_bits=8),
        SGDRegressor(),
        LogisticRegression(),
        LogisticRegression(solver="sgd"),
        LogisticRegression(data_bits=8),
        LogisticRegression(weight_bits=8),
        SGDClassifier(),
    ],
    ids=repr,
)
@pytest.mark.filterwarnings("ignore:the 4 columns have rank")
def test_a_column_that_became_constant_does_not_keep_its_coefficient(model, value, n):
    """Its coefficient is 0, not nearly 0, wherever the fit starts; the others are those of a fit from 0."""
    x, y, _ = _constant(n, "plain")
    labels = np.digitize(y, [2.0, 4.0])
    first, after = x[:, [0, 1, 0, 1]] + np.random.default_rng(1).normal(size=(n, 4)), x.copy()
    after[:, 2:] = value
    for target in (labels > 0, labels) if hasattr(model, "predict_proba") else (y,):
        before = clone(model).fit(first, target)
        assert np.atleast_2d(before.coef_)[:, 2:].any(axis=0).all()
        for intercept in (True, False) if value == 0 else (True,):
            own = clone(model).set_params(fit_intercept=intercept)
            cold, warm = own.fit(after, target), clone(own).fit(after, target, init=before)
            assert not cold.coef_[..., 2:].any()
            assert not warm.coef_[..., 2:].any()
            size = np.abs(cold.coef_).max()
            np.testing.assert_allclose(warm.coef_, cold.coef_, atol=0.02 * size)


@pytest.mark.parametrize("alpha", [1e-3, 10.0])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_logistic_regression_agrees_with_newton(odd, alpha, kind):
    x, _, y = odd[0].astype(kind), *odd[1:]
    model = LogisticRegression(alpha, tol=1e-7).fit(x, y)
    best = reference.LogisticRegression(C=1 / alpha, solver="newton-cholesky", tol=1e-12, max_iter=500)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn falls back to another solver on some of these
        best.fit(x.astype(np.float64), y)
    mine, theirs = (log_loss(y, m.predict_proba(x.astype(np.float64))) for m in (model, best))
    assert mine == pytest.approx(theirs, abs=1e-4)
    np.testing.assert_allclose(model.coef_[:, [3, 4]], 0, atol=1e-6)


@pytest.mark.parametrize("solver", ["gram", "cg", "lbfgs"])
def test_ridge_agrees_with_the_closed_form(odd, solver):
    x, y, _ = odd
    scale = np.where(x.std(0) > 1e-12, x.std(0), 1.0)
    model = Ridge(1.0, solver=solver, tol=1e-9).fit(x, y)
    z = x - x.mean(0)
    best = np.linalg.solve(z.T @ z + np.eye(9), z.T @ (y - y.mean()))
    np.testing.assert_allclose(model.coef_ * scale, best * scale, atol=1e-5)


@pytest.mark.parametrize("bits", [8, 4])
def test_few_bits_are_no_worse_on_odd_columns(odd, bits):
    x, y, _ = (a[np.arange(N) != 4567] for a in odd)
    exact = Ridge().fit(x, y).score(x, y)
    few = Ridge(data_bits=bits, refine=False).fit(x, y)
    assert np.isfinite(few.coef_).all()
    assert exact - few.score(x, y) < {8: 1e-3, 4: 2e-2}[bits]


def test_a_wild_value_is_kept_from_the_other_columns_by_refinement(odd):
    x, y, _ = odd
    for bits in (8, 4):
        model = Ridge(data_bits=bits).fit(x, y)
        np.testing.assert_allclose(model.predict(x), Ridge().fit(x, y).predict(x), atol=1e-3)


@pytest.mark.parametrize("d", [1, 30])
def test_logistic_regression_on_fewer_rows_than_columns_and_on_one_column(d):
    rng = np.random.default_rng(d)
    x = rng.normal(size=(20, d))
    y = np.arange(20) % 2
    model = LogisticRegression(0.5).fit(x, y)
    best = reference.LogisticRegression(C=2.0, solver="newton-cholesky", tol=1e-12).fit(x, y)
    np.testing.assert_allclose(model.predict_proba(x), best.predict_proba(x), atol=1e-6)


def test_classes_that_can_be_told_apart_do_not_run_away():
    x = np.linspace(-1, 1, 10_000)[:, None]
    model = LogisticRegression(1.0).fit(x, x[:, 0] > 0)
    best = reference.LogisticRegression(C=1.0, tol=1e-10).fit(x, x[:, 0] > 0)
    np.testing.assert_allclose(model.coef_, best.coef_, rtol=1e-2)


@pytest.mark.parametrize("kind", [LinearRegression, Ridge, ElasticNet, SGDRegressor])
def test_a_constant_target_is_the_intercept(odd, kind):
    x = odd[0][:, :3]
    model = kind().fit(x, np.full(N, -7.25))
    np.testing.assert_allclose(model.predict(x), -7.25, rtol=1e-5)
    np.testing.assert_allclose(model.coef_, 0, atol=1e-5)


def test_integers_of_the_largest_size_do_not_overflow_the_gram_matrix():
    x = np.full((140_000, 3), 127, np.int8)
    x[::2, 0], x[::3, 1] = -127, -127
    y = x @ [1.0, 2.0, 0.0] + 5
    with pytest.warns(np.exceptions.RankWarning):
        model = LinearRegression().fit(x, y)
    np.testing.assert_allclose(model.coef_, [1, 2, 0], atol=1e-9)
    codes = QuantizedMatrix.from_array(x.astype(np.float32), bits=8)
    np.testing.assert_allclose(Ridge(1e-6).fit(codes, y).coef_[:2], [1, 2], atol=1e-5)


@pytest.mark.parametrize("kind", ["logistic", "softmax"])
def test_weights_of_classifiers_count_as_repeated_rows(odd, kind):
    x, y, labels = odd[0][:6000, :3], odd[1][:6000], odd[2][:6000]
    target = labels if kind == "logistic" else np.digitize(y, [-1.0, 1.0])
    weight = np.random.default_rng(1).integers(0, 4, len(x))
    weighted = LogisticRegression(tol=1e-9).fit(x, target, sample_weight=weight)
    repeated = LogisticRegression(tol=1e-9).fit(np.repeat(x, weight, axis=0), np.repeat(target, weight))
    np.testing.assert_allclose(weighted.predict_proba(x), repeated.predict_proba(x), atol=1e-6)


@pytest.mark.parametrize("alpha", [1e-8, 1e-6, 1e-2])
@pytest.mark.parametrize("n", [6000, 60_000])
def test_two_equal_columns_share_the_coefficient_however_small_the_penalty(n, alpha):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 6)).astype(np.float32)
    x[:, 3] = x[:, 2]
    y = x @ rng.normal(size=6) + rng.normal(size=n)
    one = np.delete(x.astype(np.float64), 3, axis=1) * [1, 1, 2**0.5, 1, 1]
    one -= one.mean(axis=0)
    best = np.linalg.solve(one.T @ one + alpha * np.eye(5), one.T @ (y - y.mean())) * [1, 1, 0.5**0.5, 1, 1]
    best = np.insert(best, 3, best[2])
    found = Ridge(alpha).fit(x, y).coef_
    assert np.linalg.norm(found - best) < 2e-6 * np.linalg.norm(best)
