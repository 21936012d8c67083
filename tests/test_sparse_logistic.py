"""Logistic regression and softmax with an l1 penalty: scikit-learn's minimum, few passes, the same bits."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.linear_model as reference
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale
from sklearn.utils.estimator_checks import parametrize_with_checks

import scrimp
from scrimp.linear_model import LogisticRegression
from scrimp.matrix import LEAF_ROWS, QuantizedMatrix
from scrimp.train import metrics
from scrimp.train.linear import pilot_rows


@parametrize_with_checks([LogisticRegression(l1_ratio=0.5), LogisticRegression(l1_ratio=1, C=0.3)])
def test_scikit_learns_checks_pass(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)


def objective(x, y, model, alpha, ratio, weight=1.0):
    z = x @ np.asarray(model.coef_, np.float64).T + model.intercept_
    if z.shape[1] == 1:
        losses = np.logaddexp(0, z[:, 0]) - y * z[:, 0]
    else:
        losses = np.logaddexp.reduce(z, axis=1) - z[np.arange(len(y)), y]
    w = model.coef_
    return (weight * losses).sum() + alpha * (
        ratio * np.abs(w).sum() + 0.5 * (1 - ratio) * np.square(w).sum()
    )


def off_optimum(x, y, model, alpha, ratio, weight=1.0):
    """How far the slope is from what a minimum has, relative to alpha: 0 there."""
    w, p = model.coef_, model.predict_proba(x)
    target = np.eye(p.shape[1])[y]
    p, target = (p, target) if len(w) > 1 else (p[:, 1:], target[:, 1:])
    error = (p - target) * np.broadcast_to(weight, len(y))[:, None]
    slope = error.T @ x + alpha * (1 - ratio) * w
    zero = np.maximum(np.abs(slope) - alpha * ratio, 0.0)
    off = np.where(w == 0, zero, np.abs(slope + alpha * ratio * np.sign(w)))
    return max(off.max() / alpha, np.abs(error.sum(axis=0)).max() / alpha)


@pytest.fixture(scope="module")
def cancer():
    x, y = load_breast_cancer(return_X_y=True)
    return scale(x), y


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return scale(x), y


@pytest.fixture(scope="module")
def many():
    """More rows than a sample."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5 * LEAF_ROWS + 123, 30)).astype(np.float32)
    w = rng.normal(size=(30, 3)) * (rng.random(size=(30, 1)) < 0.4)
    return x, (x @ w + rng.gumbel(size=(len(x), 3))).argmax(axis=1)


@pytest.mark.parametrize("ratio", [1.0, 0.5])
@pytest.mark.parametrize("alpha", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("data", ["cancer", "digits"])
def test_objectives_are_those_of_scikit_learn(data, alpha, ratio, request):
    x, y = request.getfixturevalue(data)
    model = LogisticRegression(alpha, l1_ratio=ratio).fit(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # saga needs very many passes for alpha=0.1
        other = reference.LogisticRegression(C=1 / alpha, l1_ratio=ratio, solver="saga", max_iter=300)
        other.fit(x, y)
    ours, theirs = (objective(x, y, m, alpha, ratio) for m in (model, other))
    assert ours <= theirs * (1 + 1e-6)
    assert off_optimum(x, y, model, alpha, ratio) < 1e-4


def test_zeros_are_those_of_liblinear(cancer):
    """Without an intercept, which liblinear penalizes."""
    x, y = cancer
    ours = LogisticRegression(C=0.2, l1_ratio=1.0, fit_intercept=False).fit(x, y)
    theirs = reference.LogisticRegression(
        C=0.2, l1_ratio=1.0, fit_intercept=False, solver="liblinear", tol=1e-9, max_iter=10_000
    ).fit(x, y)
    np.testing.assert_array_equal(ours.coef_ == 0, theirs.coef_ == 0)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_rows_beyond_the_sample_decide(many, binary, weighted):
    x, y = many[0], np.minimum(many[1], 1) if binary else many[1]
    weight = np.random.default_rng(1).random(len(y)) if weighted else np.ones(len(y))
    model = LogisticRegression(50.0, l1_ratio=0.9, tol=1e-6)
    model.fit(x, y, weight if weighted else None)
    assert "proximal Newton" in model.solver_
    assert model.n_iter_[0] <= 20
    assert (model.coef_ == 0).any()
    assert off_optimum(x, y, model, 50.0, 0.9, weight) < 1e-4


def test_many_coefficients_are_found_by_proximal_gradients():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 1500)) * np.exp(rng.normal(size=1500))
    y = (x[:, :5] @ [1.0, -1, 1, -1, 1] + rng.logistic(size=3000) > 0).astype(int)
    model = LogisticRegression(30.0, l1_ratio=1.0, tol=1e-5).fit(x, y)
    assert "proximal gradients" in model.solver_
    assert off_optimum(x, y, model, 30.0, 1.0) < 1e-3


def test_a_large_penalty_leaves_the_shares_of_the_classes(digits):
    x, y = digits
    model = LogisticRegression(1e6, l1_ratio=1.0).fit(x, y)
    assert not model.coef_.any()
    np.testing.assert_allclose(model.predict_proba(x[:1])[0], np.bincount(y) / len(y), rtol=1e-6)


def test_soft_targets_of_zero_and_one_are_labels(digits):
    x, y = digits
    hard, soft = (LogisticRegression(5.0, l1_ratio=1.0).fit(x, target) for target in (y, np.eye(10)[y]))
    np.testing.assert_allclose(hard.coef_, soft.coef_, atol=1e-6)


def test_weights_count_as_repeated_rows(many):
    x, y = many[0][:6000], many[1][:6000]
    times = np.random.default_rng(0).integers(0, 4, len(y))
    weighted = LogisticRegression(10.0, l1_ratio=0.7, tol=1e-7).fit(x, y, times)
    repeated = LogisticRegression(10.0, l1_ratio=0.7, tol=1e-7).fit(
        np.repeat(x, times, 0), np.repeat(y, times)
    )
    assert np.linalg.norm(weighted.coef_ - repeated.coef_) < 1e-6 * np.linalg.norm(repeated.coef_)
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, atol=1e-6)


def test_columns_need_no_scaling(cancer):
    """A column's unit changes its coefficient, and the penalty on it; here that is told the penalty."""
    x, y = cancer
    plain = LogisticRegression(1.0, l1_ratio=1.0).fit(x, y)
    tiny = LogisticRegression(1e-6, l1_ratio=1.0).fit(x * 1e-6, y)
    huge = LogisticRegression(1e6, l1_ratio=1.0).fit(x * 1e6 + 1e7, y)
    np.testing.assert_allclose(tiny.coef_ * 1e-6, plain.coef_, atol=1e-6)
    np.testing.assert_allclose(huge.coef_ * 1e6, plain.coef_, atol=1e-6)


def test_columns_that_a_sample_misses_are_found(many):
    x, y = many[0].copy(), (many[1] == 0).astype(int)
    rare = np.setdiff1d(np.flatnonzero(y), pilot_rows(len(y)))[::97]
    x[:, 4], x[:, 5] = 0.0, 7.0
    x[rare, 4] = 1.0
    model = LogisticRegression(1.0, l1_ratio=1.0, tol=1e-6).fit(x, y)
    assert model.coef_[0, 4] > 1.0
    assert model.coef_[0, 5] == 0.0
    assert off_optimum(x, y, model, 1.0, 1.0) < 1e-2


def test_fits_have_the_same_bits_for_any_number_of_workers_and_threads(many):
    found = [
        LogisticRegression(20.0, l1_ratio=1.0, **way).fit(*many)
        for way in ({"threads": 1}, {"threads": 2}, {"workers": 2}, {"workers": 3})
    ]
    assert all(m.coef_.tobytes() == found[0].coef_.tobytes() for m in found)
    assert all(m.intercept_.tobytes() == found[0].intercept_.tobytes() for m in found)


@pytest.mark.parametrize("bits", [8, 4])
def test_quantized_rows_come_first_and_the_rows_themselves_decide(many, bits):
    exact, refined, coarse = (
        LogisticRegression(20.0, l1_ratio=1.0, tol=1e-6, **way).fit(*many)
        for way in ({}, {"data_bits": bits}, {"data_bits": bits, "refine": False})
    )
    assert "passes over quantized rows" in refined.solver_
    off = [np.abs(m.coef_ - exact.coef_).max() for m in (refined, coarse)]
    assert off[0] < 1e-4 < 1e-3 < off[1] + 1e-3 * (bits == 8)


def test_codes_are_read_as_they_are(many):
    Q = QuantizedMatrix.from_array(many[0], rounding="nearest")
    own, decoded = (LogisticRegression(20.0, l1_ratio=1.0).fit(x, many[1]) for x in (Q, Q.dequantize()))
    np.testing.assert_allclose(own.coef_, decoded.coef_, atol=1e-4)


def test_a_fit_resumes_bit_for_bit(many, tmp_path, monkeypatch):
    whole = LogisticRegression(20.0, l1_ratio=1.0).fit(*many)
    asked = iter(range(3))
    monkeypatch.setattr("scrimp.train.watch.Watch.due", lambda self, step: True)
    monkeypatch.setattr("scrimp.train.watch.Watch.over_budget", lambda self, step: next(asked, None) is None)
    path = tmp_path / "state"
    with pytest.raises(scrimp.BudgetExceeded):
        LogisticRegression(20.0, l1_ratio=1.0, checkpoint=path, budget=scrimp.Budget(seconds=1e4)).fit(*many)
    monkeypatch.undo()
    again = LogisticRegression(20.0, l1_ratio=1.0, checkpoint=path).fit(*many)
    assert again.coef_.tobytes() == whole.coef_.tobytes()
    with pytest.raises(scrimp.InputError, match="l1"):
        LogisticRegression(30.0, l1_ratio=1.0, checkpoint=path).fit(*many)


def test_a_warm_start_begins_at_the_last_coefficients(many):
    model = LogisticRegression(20.0, l1_ratio=1.0, warm_start=True, tol=1e-5).fit(*many)
    first, coef = model.n_iter_[0], model.coef_
    model.fit(*many)
    assert model.n_iter_[0] < first
    np.testing.assert_allclose(model.coef_, coef, atol=1e-4)


def test_a_saved_model_keeps_its_zeros(cancer, tmp_path):
    model = LogisticRegression(5.0, l1_ratio=1.0, weight_bits=8).fit(*cancer)
    model.save(tmp_path / "m")
    again = scrimp.load(tmp_path / "m")
    assert again.get_params() == model.get_params()
    assert (again.coef_ == 0).sum() == (model.coef_ == 0).sum() > 0
    assert again.predict_proba(cancer[0]).tobytes() == model.predict_proba(cancer[0]).tobytes()


def test_too_few_passes_warn_with_what_is_left(many):
    with pytest.warns(ConvergenceWarning, match="proximal gradient"):
        LogisticRegression(1.0, l1_ratio=0.5, max_iter=3, tol=1e-7).fit(*many)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"l1_ratio": 1.5}, "l1_ratio must be a number in 0 … 1"),
        ({"l1_ratio": "a"}, "l1_ratio"),
        ({"l1_ratio": 1.0, "solver": "lbfgs"}, "solver='proximal'; got solver='lbfgs'"),
        ({"l1_ratio": 1.0, "compress": "int4"}, "compress='int4' is for gradients"),
        ({"l1_ratio": 1.0, "shard": "zero"}, "shard='zero'"),
        ({"solver": "proximal"}, "l1_ratio above 0"),
    ],
)
def test_wrong_options_are_named(cancer, change, message):
    with pytest.raises(ValueError, match=message):
        LogisticRegression(**change).fit(*cancer)


def test_a_dense_metric_learns_the_curvature_along_a_step():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    true, metric = root @ root.T + np.eye(6), metrics.DenseMetric(np.eye(6), 1)
    step = rng.normal(size=6)
    metric.learn(step, true @ step)
    assert metric.square(step) == pytest.approx(step @ true @ step)


@pytest.mark.parametrize("free", [0, 2])
def test_a_proposal_is_where_the_model_is_lowest(free):
    rng = np.random.default_rng(0)
    root = rng.normal(size=(7, 7))
    hessian, theta, slope = root @ root.T + np.eye(7), rng.normal(size=7), 3 * rng.normal(size=7)
    there = metrics.DenseMetric(hessian, free).propose(theta, slope, 1.0, 1e-12)
    pull = slope + hessian @ (there - theta)
    size = 7 - free
    np.testing.assert_allclose(pull[size:], 0, atol=1e-8)
    own = there[:size]
    assert (np.abs(pull[:size][own == 0]) <= 1 + 1e-8).all()
    np.testing.assert_allclose(pull[:size][own != 0], -np.sign(own[own != 0]), atol=1e-6)
