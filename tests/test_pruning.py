"""Pruning: the columns that matter stay, the model gets smaller, and its file too."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import scrimp
from scrimp.linear_model import Lasso, LogisticRegression, Ridge, SGDRegressor, prune
from scrimp.linear_model.weights import Coefficients
from scrimp.matrix import QuantizedMatrix


@pytest.fixture(scope="module")
def rows():
    """6,000 rows, 60 columns of scales 0.01 to 100, of which five matter."""
    rng = np.random.default_rng(0)
    scale = np.logspace(-2, 2, 60)
    x = (rng.normal(size=(6000, 60)) * scale + 3).astype(np.float32)
    w = np.zeros(60)
    w[[0, 10, 30, 40, 59]] = [3, -2, 2, 1, -1]
    y = x @ (w / scale) + 0.5 * rng.normal(size=6000)
    return x, y, np.flatnonzero(w)


@pytest.mark.parametrize("method", ["magnitude", "l1"])
@pytest.mark.parametrize("kind", ["ridge", "sgd", "logistic", "two targets"])
def test_the_columns_that_matter_stay_and_the_score_with_them(rows, method, kind):
    x, y, matter = rows
    target = {"logistic": y > np.median(y), "two targets": np.column_stack([y, -y])}.get(kind, y)
    model = {"sgd": SGDRegressor(), "logistic": LogisticRegression()}.get(kind, Ridge()).fit(x, target)
    found = prune(model, x, target, keep=5, method=method)
    assert np.flatnonzero(found.kept).tolist() == matter.tolist()
    assert found.columns_before == 60
    assert found.columns_after == 5
    assert found.score_after > found.score_before - 2e-3
    assert not np.atleast_2d(found.model.coef_)[:, ~found.kept].any()
    assert found.nbytes_after < found.nbytes_before / 2
    assert f"5 of 60 columns, {found.nbytes_after} of {found.nbytes_before} bytes" in str(found)
    assert (np.atleast_2d(model.coef_) != 0).sum() >= 60  # the model itself is as it was


def test_a_refitted_model_is_the_fit_of_the_kept_columns(rows):
    x, y, matter = rows
    found = prune(Ridge(3.0).fit(x, y), x, y, keep=5)
    alone = Ridge(3.0).fit(x[:, matter], y)
    assert found.model.coef_[matter].tobytes() == alone.coef_.tobytes()
    assert found.model.intercept_ == alone.intercept_
    np.testing.assert_allclose(found.model.predict(x), alone.predict(x[:, matter]), rtol=1e-4, atol=1e-4)


def test_without_a_refit_the_intercept_takes_over_the_means(rows):
    x, y, _ = rows
    model = Ridge().fit(x, y)
    found = prune(model, x, y, keep=0.25, refit=False)
    assert found.kept.sum() == 15
    assert found.model.coef_[found.kept].tobytes() == model.coef_[found.kept].tobytes()
    np.testing.assert_allclose(found.model.predict(x).mean(), y.mean(), atol=1e-3)
    assert found.model.bill_ is model.bill_


def test_weights_reach_the_ranking_and_the_fit(rows):
    x, y, _ = rows
    half = (np.arange(len(y)) % 2).astype(np.float64)
    far = x.copy()
    far[::2, 5] *= 1e6  # only in rows without weight
    found = prune(Ridge().fit(far, y, sample_weight=half), far, y, keep=5, sample_weight=half)
    alone = prune(Ridge().fit(x[1::2], y[1::2]), x[1::2], y[1::2], keep=5)
    assert (found.kept == alone.kept).all()
    np.testing.assert_allclose(found.model.coef_, alone.model.coef_, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_a_pruned_model_is_saved_without_its_zeros_and_keeps_its_names(rows, tmp_path, bits):
    x, y, _ = rows
    frame = pd.DataFrame(x, columns=[f"c{i}" for i in range(60)])
    model = Ridge(weight_bits=bits).fit(frame, y)
    found = prune(model, frame, y, keep=5)
    sizes = [m.save(tmp_path / name) for m, name in ((model, "all"), (found.model, "few"))]
    assert sizes[1] < sizes[0] or bits < 32
    again = scrimp.load(tmp_path / "few")
    assert again.coef_.tobytes() == found.model.coef_.tobytes()
    assert again.feature_names_in_.tolist() == list(frame.columns)
    assert again.predict(frame).tobytes() == found.model.predict(frame).tobytes()


@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("bits", [8, 4])
def test_few_bits_keep_the_small_coefficients_of_large_columns(bits, refit):
    """One scale for all would round those of all but the smallest column to 0."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6)) * np.logspace(-4, 4, 6) + 1
    y = x @ (np.array([2, -2, 2, -2, 2, 0.1]) / np.logspace(-4, 4, 6)) + 0.1 * rng.normal(size=400)
    model = Ridge(1e-9, weight_bits=bits).fit(x, y)
    found = prune(model, x, y, keep=5, refit=refit)
    assert found.columns_after == 5
    assert found.score_after > found.score_before - 0.01
    np.testing.assert_allclose(found.model.predict(x).mean(), y.mean(), atol=1e-6)


def test_lasso_stores_only_what_is_not_0():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 1000))
    model = Lasso(0.1).fit(x, 3 * x[:, 7] + rng.normal(size=500))
    assert model._current().nbytes < 8 * (model.coef_ != 0).sum() + 8 * 60


@pytest.mark.parametrize("d", [1, 7, 8, 9, 300])
@pytest.mark.parametrize("bits", [32, 8])
def test_columns_of_zeros_come_back_as_zeros(d, bits):
    rng = np.random.default_rng(d)
    w = rng.normal(size=(2, d)).astype(np.float32)
    w[:, rng.random(d) < 0.7] = 0
    stored = Coefficients.of(w, bits, np.ones(d))
    again = Coefficients.read(stored.tensors())
    assert again.values.tobytes() == stored.values.tobytes()
    assert ((again.values == 0) >= (w == 0)).all()
    assert again.nbytes == stored.nbytes
    if bits == 32:
        assert again.values.tobytes() == w.tobytes()


def test_damaged_columns_are_refused(rows):
    w = np.zeros((1, 300), np.float32)
    w[0, 5] = 1
    tensors = Coefficients.of(w, 32, np.ones(300)).tensors()
    for wrong in (tensors["coef.columns"][:-1], tensors["coef.columns"][:4], 0 * tensors["coef.columns"]):
        with pytest.raises(ValueError, match="columns"):
            Coefficients.read(tensors | {"coef.columns": wrong})
    more = tensors["coef.columns"].copy()
    more[-1] |= 1
    with pytest.raises(ValueError, match="1 columns are stored, 2 are named"):
        Coefficients.read(tensors | {"coef.columns": more})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keep": 0}, "keep"),
        ({"keep": 1.5}, "keep"),
        ({"keep": True}, "keep"),
        ({"keep": 3, "method": "luck"}, "known: magnitude, l1"),
    ],
)
def test_wrong_options_are_named(rows, change, message):
    x, y, _ = rows
    with pytest.raises(ValueError, match=message):
        prune(Ridge().fit(x, y), x, y, **change)


@pytest.mark.parametrize("weight", [[1.0], [-1.0] * 6000, [0.0] * 6000])
@pytest.mark.parametrize("refit", [True, False])
def test_wrong_weights_are_refused(rows, weight, refit):
    x, y, _ = rows
    with pytest.raises(ValueError, match=r"sample_weight|weights"):
        prune(Ridge().fit(x, y), x, y, keep=3, sample_weight=weight, refit=refit)


def test_a_refit_leaves_the_checkpoint_of_the_model_alone(rows, tmp_path):
    x, y, _ = rows
    model = Ridge(solver="lbfgs", checkpoint=tmp_path / "c").fit(x, y)
    before = (tmp_path / "c").read_bytes()
    assert prune(model, x, y, keep=3).model.checkpoint == tmp_path / "c"
    assert (tmp_path / "c").read_bytes() == before


def test_a_model_of_probabilities_is_scored_by_the_most_probable_class(rows):
    x, y, matter = rows
    p = 1 / (1 + np.exp(-(y - y.mean())))
    soft = np.column_stack([1 - p, p])
    found = prune(LogisticRegression(1e-6).fit(x, soft), x, soft, keep=5)
    assert np.flatnonzero(found.kept).tolist() == matter.tolist()
    assert found.score_after > 0.94


@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("names", [["no", "yes"], ["a", "b", "c"]])
def test_probabilities_are_those_of_the_classes_of_the_model(rows, names, refit):
    x, y, _ = rows
    labels = np.array(names)[np.digitize(y, np.quantile(y, np.arange(1, len(names)) / len(names)))]
    model = LogisticRegression(1e-3).fit(x, labels)
    soft = model.predict_proba(x)
    found = prune(model, x, soft, keep=6, refit=refit)
    assert found.model.classes_.tolist() == names
    assert found.score_before == 1
    assert found.score_after == np.mean(found.model.predict(x) == model.predict(x)) > 0.9
    wide = np.column_stack([soft, np.zeros(len(soft))])
    with pytest.raises(ValueError, match=rf"each of the classes \['{names[0]}', .*\], got {len(names) + 1}"):
        prune(model, x, wide, keep=6, refit=refit)


@pytest.mark.parametrize("value", [1e-6, 200.0])
def test_a_coefficient_set_by_hand_in_a_column_that_was_left_out_is_stored(rows, tmp_path, value):
    x, y, matter = rows
    model = prune(Ridge(weight_bits=8).fit(x, y), x, y, keep=5).model
    assert 1 not in matter
    assert model._coefficients.used is not None
    assert model._coefficients.exponents is not None
    coef = model.coef_.copy()
    coef[1] = value  # a column of a spread of 0.01
    model.coef_ = coef
    model.save(tmp_path / "m")
    again = scrimp.load(tmp_path / "m")
    np.testing.assert_allclose(again.coef_[matter], coef[matter], rtol=0.03)
    np.testing.assert_allclose(again.coef_[1], value, rtol=0.01, atol=1e-3)
    assert np.corrcoef(again.predict(x), model.predict(x))[0, 1] > 0.999


def test_quantized_rows_are_refused(rows):
    x, y, _ = rows
    with pytest.raises(TypeError, match="QuantizedMatrix"):
        prune(Ridge().fit(x, y), QuantizedMatrix.from_array(x, bits=8), y, keep=3)
