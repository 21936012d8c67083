"""Models in files: what comes back predicts the same bits; nothing that is not a model becomes one."""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import scrimp
from scrimp.linear_model import (
    Lasso,
    LinearRegression,
    LogisticRegression,
    Ridge,
    SGDClassifier,
    SGDRegressor,
)
from scrimp.matrix import product
from scrimp.model_file import load_parts, save
from scrimp.train.storage import CHECKSUM, DOCUMENT, checksum


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(500, 300)) * np.logspace(-2, 2, 300)).astype(np.float32)
    return x, x @ (rng.normal(size=(300, 2)) / np.logspace(-2, 2, 300)[:, None])


@pytest.mark.parametrize("bits", [32, 8, 4])
@pytest.mark.parametrize("vector", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_loaded_model_predicts_the_same_bits(rows, bits, vector, dtype, tmp_path):
    x, y = rows[0].astype(dtype), rows[1]
    model = Ridge(0.5, weight_bits=bits).fit(x, y[:, 0] if vector else y)
    model.save(tmp_path / "m")
    again = scrimp.load(tmp_path / "m")
    assert type(again) is Ridge
    assert again.get_params() == model.get_params()
    assert again.predict(x).tobytes() == model.predict(x).tobytes()
    assert again.coef_.shape == model.coef_.shape
    assert again.solver_ == model.solver_
    assert again.bill_.usage == model.bill_.usage


def test_few_bits_make_small_files_and_small_errors(rows, tmp_path):
    x, y = rows
    scores, sizes = {}, {}
    for bits in (32, 8, 4):
        model = Ridge(0.5, weight_bits=bits).fit(x, y)
        scores[bits], sizes[bits] = model.score(x, y), model.save(tmp_path / "m")
        assert sizes[bits] == os.path.getsize(tmp_path / "m")
    weights = 300 * 2
    assert sizes[32] - sizes[8] > 1.9 * weights
    assert sizes[8] - sizes[4] > 0.4 * weights
    assert scores[32] - scores[8] < 1e-3
    assert scores[32] - scores[4] < 0.05


@pytest.mark.parametrize("bits", [8, 4])
def test_coefficients_set_by_hand_are_stored_in_the_units_of_their_columns(rows, bits, tmp_path):
    x, y = rows
    model = Ridge(0.5, weight_bits=bits).fit(x, y)
    model.coef_, model.intercept_ = -model.coef_, -model.intercept_
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(scrimp.load(tmp_path / "m").coef_, model.coef_)


def test_columns_of_different_size_keep_their_small_coefficients():
    """One scale for 128 coefficients would round those of the large column to 0."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 5)) * np.array([1e4, 1, 1, 1, 1])
    y = x @ np.array([1e-4, 1, -1, 2, 0.5])
    model = LinearRegression(weight_bits=8).fit(x, y)
    assert model.coef_[0] == pytest.approx(1e-4, rel=0.02)
    assert model.score(x, y) > 0.999


def test_names_of_features_and_what_the_caller_adds_come_back(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"a": [0.0, 1.0, 2.0], "b": [1.0, 0.0, 1.0]})
    model = Ridge().fit(frame, [1.0, 2.0, 3.0])
    save(model, tmp_path / "m", {"encoder": [1, 2]})
    assert scrimp.load(tmp_path / "m").feature_names_in_.tolist() == ["a", "b"]
    assert load_parts(tmp_path / "m").extra == {"encoder": [1, 2]}
    with pytest.raises(ValueError, match="feature names"):
        scrimp.load(tmp_path / "m").predict(frame[["b", "a"]])


def test_a_changed_coefficient_is_saved(rows, tmp_path):
    model = Ridge(weight_bits=8).fit(*rows)
    model.coef_ = np.zeros_like(model.coef_)
    model.save(tmp_path / "m")
    assert not scrimp.load(tmp_path / "m").coef_.any()


@pytest.mark.parametrize(("kind", "bits"), [(Ridge, 32), (Lasso, 32), (Lasso, 8)])
def test_a_coefficient_changed_in_place_is_saved(kind, bits, tmp_path):
    x = np.random.default_rng(0).normal(size=(300, 40)).astype(np.float32)
    model = kind(1.0, weight_bits=bits).fit(x, x @ (np.arange(40) > 30) * 3.0)
    model.coef_[-1] = 42.0
    expected = model.coef_.copy()
    model.save(tmp_path / "m")
    np.testing.assert_allclose(scrimp.load(tmp_path / "m").coef_, expected, atol=0.5 * (bits == 8))


@pytest.mark.parametrize("kind", [Ridge, LogisticRegression])
def test_a_pickle_predicts_with_the_coefficients_it_shows(kind, monkeypatch):
    x = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    model = kind(weight_bits=8).fit(x, (x[:, 0] > 0) * 1)
    again = pickle.loads(pickle.dumps(model))
    with pytest.raises(ValueError, match="read-only"):
        again.coef_[..., 0] = 1.0
    monkeypatch.setattr("scrimp.linear_model.gradient_fit.product", None)  # it predicts from packed weights
    assert np.array_equal(again.predict(x), model.predict(x))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("kind", [Ridge, LogisticRegression, SGDRegressor, SGDClassifier])
def test_a_loaded_model_predicts_from_its_packed_weights(kind, bits, tmp_path, monkeypatch):
    """The bits are those of the product with decoded weights, which is not called."""
    x = np.random.default_rng(1).normal(size=(400, 130)).astype(np.float32)
    y = x[:, :3].sum(axis=1) if kind in (Ridge, SGDRegressor) else np.digitize(x[:, 0], [-0.5, 0.5])
    kind(weight_bits=bits).fit(x, y if kind is not SGDClassifier else y > 0).save(tmp_path / "m")
    model = scrimp.load(tmp_path / "m")
    predict = getattr(model, "decision_function", model.predict)
    expected = product(x, model.coef_.T, model.intercept_)
    monkeypatch.setattr("scrimp.linear_model.gradient_fit.product", None)
    assert np.array_equal(predict(x).reshape(len(x), -1), expected.reshape(len(x), -1))
    assert predict(x).dtype == np.float32


def test_coefficients_set_by_hand_are_those_that_predict(rows):
    x, y = rows
    model = Ridge(weight_bits=8).fit(x[:, :50] / np.logspace(-2, 2, 300)[:50].astype(np.float32), y)
    with pytest.raises(ValueError, match="read-only"):
        model.coef_[0, 0] = 1.0
    model.coef_ = np.ones_like(model.coef_)
    model.intercept_ = np.zeros(2)
    assert model.predict(np.ones((3, 50), np.float32)).tolist() == [[50.0, 50.0]] * 3


def test_it_is_a_safetensors_file_that_others_read(rows, tmp_path):
    Ridge().fit(*rows).save(tmp_path / "m")
    tensors = load_file(tmp_path / "m")
    assert scrimp.unpack(tensors["coef.packed"].tobytes()).shape == (2, 300)


@pytest.fixture
def saved(rows, tmp_path):
    path = tmp_path / "model"
    Ridge(weight_bits=8).fit(*rows).save(path)
    return path


def test_damage_at_any_byte_is_an_input_error(saved):
    """Cut anywhere, or flip bits anywhere, in the intercept and the encoder's numbers too."""
    whole = saved.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1]:
        saved.write_bytes(whole[:length])
        with pytest.raises(scrimp.InputError):
            scrimp.load(saved)
    for at in range(0, len(whole), 13):
        saved.write_bytes(whole[:at] + bytes([whole[at] ^ 0x15]) + whole[at + 1 :])
        with pytest.raises(scrimp.InputError):
            scrimp.load(saved)


def test_damaged_weights_are_noticed(saved):
    whole = saved.read_bytes()
    at = whole.index(b"scrp") + 60
    saved.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(scrimp.InputError, match="checksum"):
        scrimp.load(saved)


def documents():
    good = {"schema": "scrimp.model/1", "kind": "Ridge", "fields": {}, "extra": {}}
    yield "other program", None, "other program"
    yield "not JSON", "{", "damaged"
    yield "a list", "[]", "other program"
    yield "nested without end", "[" * 100_000, "damaged"
    yield "another schema", json.dumps(good | {"schema": "scrimp.model/99"}), "scrimp.model/99"
    yield "unknown kind", json.dumps(good | {"kind": "os.system"}), "known: LinearRegression"
    yield "no fields", json.dumps({"schema": "scrimp.model/1", "kind": "Ridge"}), "fields"
    yield "empty fields", json.dumps(good), "damaged Ridge model"


@pytest.mark.parametrize(
    ("document", "message"), [d[1:] for d in documents()], ids=[d[0] for d in documents()]
)
def test_files_that_are_not_models_are_refused(document, message, tmp_path):
    path = tmp_path / "m"
    tensors = {"coef": np.zeros(2)}
    metadata = None if document is None else {DOCUMENT: document, CHECKSUM: checksum(document, tensors)}
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(scrimp.InputError, match=message):
        scrimp.load(path)


def test_a_failed_save_leaves_the_old_file(saved, rows, tmp_path):
    before = saved.read_bytes()
    with pytest.raises(TypeError):
        save(Ridge().fit(*rows), saved, {"not JSON": object()})
    assert saved.read_bytes() == before
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("intercept", [True, False])
def test_partial_fit_goes_on_from_a_loaded_model(tmp_path, intercept):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(2000, 5)) + intercept
    y = x @ np.arange(5.0) + 3 * intercept
    model = SGDRegressor(alpha=0.0, fit_intercept=intercept, max_iter=30).fit(x, y)
    model.save(tmp_path / "m")
    loaded = scrimp.load(tmp_path / "m").partial_fit(x[:3], y[:3])
    np.testing.assert_allclose(loaded.coef_, np.arange(5.0), atol=0.05)
    np.testing.assert_allclose(loaded.intercept_, 3 * intercept, atol=0.05)
    with pytest.raises(ValueError, match="4 features"):
        scrimp.load(tmp_path / "m").partial_fit(x[:, :4], y)


@pytest.mark.parametrize("classes", [2, 3])
def test_partial_fit_goes_on_from_a_loaded_classifier(tmp_path, classes):
    rng = np.random.default_rng(6)
    x = rng.normal(size=(3000, 4))
    y = np.array(["a", "b", "c"])[(x @ rng.normal(size=(4, classes))).argmax(axis=1)]
    model = SGDClassifier().fit(x, y)
    model.save(tmp_path / "m")
    loaded = scrimp.load(tmp_path / "m").partial_fit(x[:4], y[:4])
    assert loaded.score(x, y) > 0.95
    with pytest.raises(ValueError, match="not those of the first call"):
        loaded.partial_fit(x, y, classes=["a", "z"])
