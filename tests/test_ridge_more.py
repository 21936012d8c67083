"""RidgeCV, and Ridge on rows that come bit by bit."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.linear_model as reference
from sklearn.model_selection import KFold, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import scrimp
from scrimp.linear_model import Ridge, RidgeCV
from scrimp.matrix import QuantizedMatrix

CHECK = "check_sample_weight_equivalence_on_dense_data"


@parametrize_with_checks(
    [RidgeCV()], expected_failed_checks=lambda _: {CHECK: "removed or repeated rows move the folds"}
)
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(9000, 23)) * np.logspace(-1, 1, 23) + 5).astype(np.float32)
    return x, x @ rng.normal(size=(23, 2)) + 30 * rng.normal(size=(9000, 2))


CUTS = {
    "one": [9000],
    "halves": [4500, 9000],
    "odd": [1, 2, 4096, 4097, 8191, 9000],
    "many": range(500, 9001, 500),
}


def fit_in_pieces(x, y, cuts, weight=None):
    model, begin = Ridge(2.0), 0
    for end in cuts:
        piece = slice(begin, end)
        model.partial_fit(x[piece], y[piece], None if weight is None else weight[piece])
        begin = end
    return model


@pytest.mark.parametrize("weighted", [False, True])
def test_partial_fit_has_the_same_bits_however_rows_are_cut(rows, weighted):
    x, y = rows
    weight = np.random.default_rng(1).random(9000) if weighted else None
    models = [fit_in_pieces(x, y, cuts, weight) for cuts in CUTS.values()]
    assert len({model.coef_.tobytes() + model.intercept_.tobytes() for model in models}) == 1
    whole = Ridge(2.0).fit(x, y, sample_weight=weight)
    np.testing.assert_allclose(models[0].coef_, whole.coef_, rtol=1e-5, atol=1e-6 * np.abs(whole.coef_).max())


def test_fit_forgets_the_pieces(rows):
    x, y = rows
    model = fit_in_pieces(x, y, [100, 200])
    model.fit(x[:50], y[:50])
    model.partial_fit(x[:300], y[:300])
    assert model.coef_.tobytes() == fit_in_pieces(x, y, [300]).coef_.tobytes()


def test_pieces_must_look_alike(rows):
    x, y = rows
    model = Ridge().partial_fit(x, y)
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(x[:, 1:], y)
    with pytest.raises(ValueError, match="2 columns"):
        model.partial_fit(x, y[:, 0])
    with pytest.raises(TypeError, match="QuantizedMatrix"):
        Ridge().partial_fit(QuantizedMatrix.from_array(x, bits=8), y)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("n", [60, 9000])
def test_errors_of_cross_validation_are_those_of_refitting(rows, n, intercept):
    x, y = rows[0][:n], rows[1][:n, 0]
    alphas = (0.1, 30.0, 1e4)
    model = RidgeCV(alphas, fit_intercept=intercept).fit(x, y)
    for alpha, error in zip(alphas, model.cv_errors_, strict=True):
        refit = reference.Ridge(alpha, fit_intercept=intercept)
        scores = cross_val_score(
            refit, x.astype(np.float64), y, cv=KFold(5), scoring="neg_mean_squared_error"
        )
        assert error == pytest.approx(-scores.mean(), rel=1e-6 if n == 60 else 1e-4)
    assert model.alpha_ == alphas[int(np.argmin(model.cv_errors_))]
    again = Ridge(model.alpha_, fit_intercept=intercept).fit(x, y)
    assert again.coef_.tobytes() == model.coef_.tobytes()


def test_cross_validation_on_shards_and_on_quantized_rows(rows):
    x, y = rows
    one, two = (RidgeCV(workers=workers).fit(x, y) for workers in (1, 2))
    assert one.cv_errors_.tobytes() == two.cv_errors_.tobytes()
    codes = RidgeCV(cv=3).fit(QuantizedMatrix.from_array(x, bits=8), y)
    np.testing.assert_allclose(codes.cv_errors_, one.cv_errors_, rtol=0.02)


def test_a_saved_model_keeps_its_penalties(rows, tmp_path):
    model = RidgeCV(weight_bits=8).fit(*rows)
    model.save(tmp_path / "m")
    again = scrimp.load(tmp_path / "m")
    assert again.get_params() == model.get_params()
    assert again.predict(rows[0]).tobytes() == model.predict(rows[0]).tobytes()


def test_weight_in_one_fold_is_refused_in_words():
    x = np.random.default_rng(0).normal(size=(50, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="above 0 in at least 2 folds of cross-validation, is in 1"):
            RidgeCV().fit(x, x[:, 0], np.arange(50) == 7)
        assert RidgeCV().fit(x, x[:, 0], np.arange(50) < 20).alpha_ == 0.1
