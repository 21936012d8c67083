"""Mini-batches choose their own step, also where columns say nothing and where the first rows said little."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import scrimp
from scrimp.errors import InputError
from scrimp.linear_model import SGDClassifier, SGDRegressor


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 5))
    return x, x @ rng.normal(size=5) + 1 + rng.normal(size=4000) * 0.1


@pytest.mark.parametrize("columns", [np.zeros((1000, 3)), np.ones((1000, 3))])
@pytest.mark.parametrize("fit", ["fit", "partial_fit"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_constant_columns_leave_the_mean(columns, fit):
    y = np.random.default_rng(0).normal(size=1000) + 3
    model = getattr(SGDRegressor(), fit)(columns, y)
    assert np.abs(model.coef_).max() < 1e-4
    assert abs(model.intercept_[0] - y.mean()) < 0.05


@pytest.mark.parametrize("first", [1, 2, 3, 6, 30])
def test_few_first_rows_do_not_make_later_steps_too_long(rows, first):
    x, y = rows
    model, labels = SGDRegressor(), (y > 1).astype(int)
    classifier = SGDClassifier().partial_fit(x[:first], labels[:first], classes=[0, 1])
    model.partial_fit(x[:first], y[:first])
    for begin in range(first, len(y), 32):
        model.partial_fit(x[begin : begin + 32], y[begin : begin + 32])
        classifier.partial_fit(x[begin : begin + 32], labels[begin : begin + 32])
    assert model.score(x, y) > 0.4
    assert classifier.score(x, labels) > 0.75


@pytest.mark.parametrize("quiet", [500, 12_000])
def test_a_column_may_begin_to_vary_later(rows, quiet):
    x, y = np.tile(rows[0], (4, 1)), np.tile(rows[1], 4)
    x[:, 2] *= 100
    x[:quiet, 2] = 0
    model = SGDRegressor()
    for begin in range(0, len(y), 500):
        model.partial_fit(x[begin : begin + 500], y[begin : begin + 500])
    assert np.isfinite(model.coef_).all()
    assert model.score(x[:500], y[:500]) > 0


def test_targets_whose_squares_are_too_large_are_refused():
    with pytest.raises(InputError, match=r"y must be within ±1e\+18.*got up to 3e\+20"):
        SGDRegressor().fit(np.eye(3), [1e20, 2e20, 3e20])


@pytest.mark.parametrize("kept", ["as it is", "pickled", "saved"])
def test_a_column_that_was_constant_in_fit_is_learnt_from_later_rows(kept, tmp_path):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(20_000, 5)), np.array([1, -2, 3, 0.5, 4])
    labels = (x @ w + rng.logistic(size=len(x)) > 0).astype(int)
    first = x[:4000] * [1, 1, 1, 1, 0]
    model = SGDRegressor(alpha=0).fit(first, first @ w)
    classifier = SGDClassifier(alpha=0).fit(first, labels[:4000])
    assert model.coef_[4] == classifier.coef_[0, 4] == 0
    if kept == "pickled":
        model, classifier = pickle.loads(pickle.dumps((model, classifier)))
    elif kept == "saved":
        model.save(tmp_path / "model")
        classifier.save(tmp_path / "classifier")
        model, classifier = scrimp.load(tmp_path / "model"), scrimp.load(tmp_path / "classifier")
    for begin in 5 * list(range(4000, 20_000, 2000)):
        rows = slice(begin, begin + 2000)
        model.partial_fit(x[rows], x[rows] @ w)
        classifier.partial_fit(x[rows], labels[rows])
    np.testing.assert_allclose(model.coef_, w, atol=1e-3)
    np.testing.assert_allclose(classifier.coef_[0], w, atol=0.3)
