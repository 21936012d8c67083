"""Starting from another model: by name, with more or fewer columns, classes and outputs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn.linear_model as reference
from sklearn.base import clone

import scrimp
from scrimp.linear_model import ElasticNet, Lasso, LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from scrimp.linear_model.transfer import Known


@pytest.fixture(scope="module")
def frames():
    """12,000 rows of named columns, a number to predict and three classes."""
    rng = np.random.default_rng(0)
    x = pd.DataFrame(rng.normal(size=(12_000, 6)) + 2, columns=list("abcdef"))
    score = x.to_numpy() @ np.array([3.0, -2.0, 1.0, 0.5, 0.0, -1.0])
    labels = np.digitize(score + rng.normal(size=12_000), [0.0, 4.0])
    return x, score + rng.normal(size=12_000), labels


QUIETLY = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
STILL = {"learning_rate": 1e-12, "max_iter": 1, "momentum": 0.0}  # steps too small to see: the start itself


@QUIETLY
def test_a_fit_begins_at_the_coefficients_of_the_same_names(frames):
    x, y, _ = frames
    first = Ridge().fit(x[["a", "b", "c", "d"]], y)
    second = SGDRegressor(**STILL).fit(x[["d", "e", "a"]], y, init=first)
    by_name = dict(zip("abcd", first.coef_, strict=True))
    np.testing.assert_allclose(second.coef_, [by_name["d"], 0.0, by_name["a"]], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(second.intercept_, first.intercept_, rtol=1e-3)


@QUIETLY
def test_columns_without_names_are_matched_by_place_if_there_are_as_many(frames):
    x, y, _ = frames
    first = reference.Ridge().fit(x.to_numpy(), y)
    second = SGDRegressor(**STILL).fit(x.to_numpy(), y, init=first)
    np.testing.assert_allclose(second.coef_, first.coef_, rtol=1e-4, atol=1e-4)
    for columns, init in ((x.to_numpy()[:, :3], first), (x.to_numpy()[:, :3], Ridge().fit(x, y))):
        with pytest.raises(ValueError, match="init has 6 columns and X has 3: they are matched by name, but"):
            SGDRegressor().fit(columns, y, init=init)


def test_what_cannot_be_a_start_is_named(frames, tmp_path):
    x, y, labels = frames
    with pytest.raises(ValueError, match="share no column: init has a, b, …; X has c, d, …"):
        Lasso().fit(x[["c", "d"]], y, init=Ridge().fit(x[["a", "b"]], y))
    with pytest.raises(ValueError, match="Ridge that is not fitted"):
        Ridge().fit(x, y, init=Ridge())
    with pytest.raises(ValueError, match="init has 2 outputs and y has 1"):
        Ridge().fit(x, y, init=Ridge().fit(x, np.column_stack([y, y])))
    with pytest.raises(ValueError, match="must be a classifier"):
        LogisticRegression().fit(x, labels, init=Ridge().fit(x, y))
    with pytest.raises(ValueError, match="share no class"):
        LogisticRegression().fit(x, labels + 10, init=LogisticRegression().fit(x, labels))
    with pytest.raises(scrimp.InputError, match="no such file"):
        Ridge().fit(x, y, init=tmp_path / "none")


def test_a_saved_model_can_be_a_start(frames, tmp_path):
    x, y, _ = frames
    model = ElasticNet(0.1).fit(x, y)
    model.save(tmp_path / "m")
    again = ElasticNet(0.1, solver="proximal").fit(x, y, init=tmp_path / "m")
    assert again.n_iter_ <= 3 < ElasticNet(0.1, solver="proximal").fit(x, y).n_iter_
    np.testing.assert_allclose(again.coef_, model.coef_, rtol=1e-4, atol=1e-5)


def test_a_start_does_not_change_the_minimum(frames):
    x, y, labels = frames
    far = Ridge(1e9).fit(x, 5 - y)
    for model in (Ridge(solver="cg"), Ridge(solver="lbfgs"), Ridge(), ElasticNet(0.05, tol=1e-10)):
        cold, warm = clone(model).fit(x, y), clone(model).fit(x, y, init=far)
        np.testing.assert_allclose(warm.coef_, cold.coef_, rtol=1e-4, atol=1e-5)
    near = LogisticRegression(tol=1e-6).fit(x, labels)
    warm = LogisticRegression(tol=1e-6).fit(x, labels, init=LogisticRegression(1e3).fit(x, labels))
    np.testing.assert_allclose(warm.predict_proba(x), near.predict_proba(x), atol=1e-4)


def test_a_start_near_the_solution_saves_passes(frames):
    x, y, labels = frames
    cold = Ridge(solver="cg").fit(x, y)
    assert Ridge(solver="cg").fit(x, y, init=cold).n_iter_ < cold.n_iter_
    model = LogisticRegression(warm_start=True).fit(x, labels)
    before = model.n_iter_[0]
    assert model.fit(x, labels).n_iter_[0] <= min(before, 2)


@QUIETLY
def test_warm_start_goes_on_from_the_last_fit(frames):
    x, y, labels = frames
    for cold, target in ((SGDRegressor(max_iter=1), y), (SGDClassifier(max_iter=1), labels)):
        warm = clone(cold).set_params(warm_start=True)
        for model in (cold, warm):
            for _ in range(2):
                model.fit(x, target)
        assert cold.coef_.tobytes() != warm.coef_.tobytes()
        assert clone(warm).get_params()["warm_start"] is True


def test_classes_are_matched_by_label(frames):
    x, _, labels = frames
    known = Known.of(LogisticRegression(tol=1e-6).fit(x, labels))
    turned = known.for_classes([2, 0, 7])
    assert turned.coef.tobytes() == np.array([known.coef[2], known.coef[0], np.zeros(6)]).tobytes()
    two = known.for_classes([0, 2])
    np.testing.assert_allclose(two.coef, known.coef[2:] - known.coef[:1])
    pair = Known.of(LogisticRegression().fit(x[labels < 2], labels[labels < 2]))
    three = pair.for_classes([0, 1, 2])
    np.testing.assert_allclose(three.coef[1] - three.coef[0], pair.coef[0])
    assert not three.coef[2].any()


def test_more_classes_can_be_learnt_from_a_model_of_fewer(frames):
    x, _, labels = frames
    pair = LogisticRegression().fit(x[labels < 2], labels[labels < 2])
    model = LogisticRegression().fit(x, labels, init=pair)
    assert model.score(x, labels) > LogisticRegression().fit(x, labels).score(x, labels) - 0.002


@pytest.mark.parametrize("workers", [1, 2])
def test_a_resumed_fit_from_a_start_has_the_bits_of_an_uninterrupted_one(frames, tmp_path, workers):
    x, y, _ = frames
    first = Ridge().fit(x, y + x["a"])
    options = {"solver": "cg", "tol": 1e-9, "workers": workers}
    whole = Ridge(**options).fit(x, y, init=first)
    path = tmp_path / "state"
    Ridge(checkpoint=path, **options).fit(x, y, init=first)
    again = Ridge(checkpoint=path, **options).fit(x, y, init=first)
    assert again.coef_.tobytes() == whole.coef_.tobytes()
    with pytest.raises(scrimp.InputError, match="start"):
        Ridge(checkpoint=path, **options).fit(x, y)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_every_frame_gives_its_columns_names(library):
    module = pytest.importorskip(library)
    make = module.table if library == "pyarrow" else module.DataFrame
    x = np.random.default_rng(0).normal(size=(60, 2))
    frame = make({"a": x[:, 0], "b": x[:, 1]})
    model, plain = Ridge().fit(frame, x[:, 0]), Ridge().fit(x, x[:, 0])
    assert model.feature_names_in_.tolist() == ["a", "b"]
    # A frame may lie column by column, which a BLAS adds up in another order.
    np.testing.assert_allclose(model.predict(frame), plain.predict(x), rtol=1e-13, atol=1e-15)
