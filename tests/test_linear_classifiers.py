"""LogisticRegression, SGDClassifier, SGDRegressor: scikit-learn's answers, on shards and few bits too."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import sklearn.linear_model as reference
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.utils.estimator_checks import parametrize_with_checks

import scrimp
from scrimp.linear_model import LogisticRegression, SGDClassifier, SGDRegressor
from scrimp.matrix import QuantizedMatrix
from scrimp.train.checkpoint import save_progress


def expected_failures(estimator):
    """Repeated rows fall into other mini-batches; scikit-learn excuses its own estimators for this too."""
    if isinstance(estimator, (SGDClassifier, SGDRegressor)):
        reason = "stochastic: repeated rows fall into other mini-batches"
        return {"check_sample_weight_equivalence_on_dense_data": reason}
    return {}


@parametrize_with_checks(
    [LogisticRegression(), SGDClassifier(), SGDRegressor()], expected_failed_checks=expected_failures
)
def test_scikit_learns_checks_pass(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)


@pytest.fixture(scope="module")
def cancer():
    x, y = load_breast_cancer(return_X_y=True)
    return x, y  # columns of sizes 0.001 to 4000, as they are


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return x.astype(np.float32), y


def best_of(x, y, alpha, weight=None):
    """scikit-learn's Newton solution, to all digits."""
    return reference.LogisticRegression(C=1 / alpha, solver="newton-cholesky", tol=1e-12, max_iter=200).fit(
        x, y, sample_weight=weight
    )


@pytest.mark.parametrize("alpha", [0.1, 10.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_two_classes_agree_with_newton(cancer, alpha, weighted):
    x, y = cancer
    weight = np.random.default_rng(0).random(len(y)) if weighted else None
    mine, theirs = LogisticRegression(alpha).fit(x, y, sample_weight=weight), best_of(x, y, alpha, weight)
    np.testing.assert_allclose(mine.coef_, theirs.coef_, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mine.predict_proba(x), theirs.predict_proba(x), atol=1e-5)


def test_many_classes_agree_with_newton(digits):
    x, y = (a[digits[1] < 4] for a in digits)
    mine, theirs = LogisticRegression(1.0, tol=1e-6).fit(x, y), best_of(x.astype(np.float64), y, 1.0)
    np.testing.assert_allclose(mine.predict_proba(x), theirs.predict_proba(x), atol=2e-3)
    assert log_loss(y, mine.predict_proba(x)) == pytest.approx(log_loss(y, theirs.predict_proba(x)), abs=1e-4)
    assert mine.coef_.shape == (4, 64)


def test_a_sample_saves_most_passes_over_the_rows():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(30_000, 20)) @ rng.normal(size=(20, 20)) + 1).astype(np.float32)
    score = x @ rng.normal(size=(20, 3)) / 5
    for y in (score[:, 0] + rng.logistic(size=len(x)) > 0, (score + rng.gumbel(size=score.shape)).argmax(1)):
        model = LogisticRegression(tol=1e-6).fit(x, y)
        assert model.n_iter_[0] <= 8  # scikit-learn's lbfgs: 20 to 60
        best = best_of(x.astype(np.float64), y, 1.0)
        assert log_loss(y, model.predict_proba(x)) == pytest.approx(
            log_loss(y, best.predict_proba(x)), abs=1e-6
        )


def test_c_is_one_over_alpha(cancer):
    x, y = cancer
    one, two = LogisticRegression(4.0).fit(x, y), LogisticRegression(C=0.25).fit(x, y)
    assert one.coef_.tobytes() == two.coef_.tobytes()


def test_hard_labels_are_soft_targets_of_zero_and_one(digits):
    x, y = digits
    hard, soft = LogisticRegression().fit(x, y), LogisticRegression().fit(x, np.eye(10)[y])
    np.testing.assert_allclose(hard.coef_, soft.coef_, atol=1e-4)
    pair = y < 2
    hard, soft = (
        LogisticRegression().fit(x[pair], y[pair]),
        LogisticRegression().fit(x[pair], np.eye(2)[y[pair]]),
    )
    np.testing.assert_allclose(hard.coef_, soft.coef_, atol=1e-6)


def test_soft_targets_are_learnt_as_probabilities():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3))
    p = np.exp(x @ rng.normal(size=(3, 3)))
    p /= p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(LogisticRegression(1e-3).fit(x, p).predict_proba(x), p, atol=1e-3)
    with pytest.raises(ValueError, match="sum to 1"):
        LogisticRegression().fit(x, 2 * p)


def test_class_weights_count_as_sample_weights(cancer):
    x, y = cancer
    weight = {0: 3.0, 1: 0.5}
    one = LogisticRegression(class_weight=weight).fit(x, y)
    two = LogisticRegression().fit(x, y, sample_weight=np.where(y == 0, 3.0, 0.5))
    np.testing.assert_allclose(one.coef_, two.coef_)
    balanced = LogisticRegression(class_weight="balanced").fit(x, y)
    theirs = reference.LogisticRegression(class_weight="balanced", solver="newton-cholesky", tol=1e-10).fit(
        x, y
    )
    np.testing.assert_allclose(balanced.predict_proba(x), theirs.predict_proba(x), atol=1e-5)


WAYS = {
    "sgd": {"solver": "sgd", "max_iter": 60, "batch_size": 128},
    "int8 rows": {"data_bits": 8},
    "int4 wire": {"compress": "int4", "raw_below": 0, "workers": 2},
    "zero": {
        "shard": "zero",
        "compress": "int8",
        "raw_below": 0,
        "workers": 2,
        "solver": "sgd",
        "max_iter": 60,
    },
    "int8 model": {"weight_bits": 8},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_classifies_as_well(digits, way):
    x, y = digits
    train = np.arange(len(y)) % 4 != 0
    best = LogisticRegression().fit(x[train], y[train]).score(x[~train], y[~train])
    model = LogisticRegression(**WAYS[way]).fit(x[train], y[train])
    assert model.score(x[~train], y[~train]) > best - 0.02
    assert best > 0.94


def test_quantized_rows_are_read_as_they_are(digits):
    x, y = digits
    codes = QuantizedMatrix.from_array(x, bits=8)
    model = LogisticRegression().fit(codes, y)
    assert model.score(codes, y) > 0.99
    assert (model.predict(codes) == model.predict(x)).mean() > 0.99


@pytest.mark.parametrize("labels", [["no", "yes"], [True, False], [3, 7], [-1.0, 1.0]])
def test_saved_classifiers_know_their_classes(cancer, labels, tmp_path):
    x, y = cancer
    named = np.array(labels)[y]
    model = LogisticRegression(weight_bits=8).fit(x, named)
    model.save(tmp_path / "m")
    again = scrimp.load(tmp_path / "m")
    assert again.classes_.tolist() == model.classes_.tolist()
    assert again.predict_proba(x).tobytes() == model.predict_proba(x).tobytes()
    assert (again.predict(x) == named).mean() > 0.9


@pytest.mark.parametrize("labels", [[0, 1], [False, True], ["benign", "bad"], np.array([0, 1])])
def test_saved_classifiers_keep_the_weights_of_their_classes(cancer, labels, tmp_path):
    x, y = cancer
    y = np.asarray(labels)[y]
    model = LogisticRegression(class_weight=dict(zip(labels, [1.0, 3.0], strict=True))).fit(x, y)
    model.save(tmp_path / "m")
    again = scrimp.load(tmp_path / "m")
    assert again.class_weight == model.class_weight
    np.testing.assert_array_equal(clone(again).fit(x, y).coef_, model.coef_)


@pytest.mark.parametrize("kind", [LogisticRegression, SGDClassifier])
@pytest.mark.parametrize("weights", [(0, 0), (-1, 1), (np.nan, 1), (np.inf, 1)])
def test_class_weights_that_weigh_nothing_or_less_are_named(cancer, kind, weights):
    with pytest.raises(ValueError, match="class_weight"):
        kind(class_weight=dict(enumerate(weights))).fit(*cancer)


def test_probabilities_do_not_overflow():
    x = np.array([[-1e6], [1e6]] * 5)
    p = LogisticRegression(1e-12).fit(x, [0, 1] * 5).predict_proba(x * 1e6)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=1), 1)


def test_one_class_is_refused_and_named(cancer):
    with pytest.raises(ValueError, match=r"at least two classes, got one class: \[1\]"):
        LogisticRegression().fit(cancer[0], np.ones(len(cancer[1]), int))


def test_columns_need_no_scaling_and_the_step_no_tuning():
    x, y = load_diabetes(return_X_y=True)
    x = x * np.logspace(-4, 4, 10) + 5
    best = reference.LinearRegression().fit(x, y).score(x, y)
    model = SGDRegressor(max_iter=60, batch_size=32, alpha=0.0).fit(x, y)
    assert model.score(x, y) > best - 0.02


def test_huber_is_not_moved_by_outliers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 4))
    y = x @ [1.0, 2.0, 3.0, 4.0] + 0.1 * rng.normal(size=3000)
    y[::50] += 1000
    squared, huber = (SGDRegressor(loss, max_iter=40).fit(x, y) for loss in ("squared_error", "huber"))
    error = [np.abs(m.coef_ - [1, 2, 3, 4]).max() for m in (squared, huber)]
    assert error[1] < 0.05 < error[0]


def test_partial_fit_learns_from_pieces(digits):
    x, y = digits
    order = np.random.default_rng(0).permutation(len(y))
    train, test = order[:1400], order[1400:]
    model = SGDClassifier(batch_size=64)
    for _ in range(8):
        for piece in np.array_split(train, 2):
            model.partial_fit(x[piece], y[piece], classes=np.arange(10))
    assert model.score(x[test], y[test]) > 0.93
    assert model.n_iter_[0] == 16
    with pytest.raises(ValueError, match="not those of the first call"):
        model.partial_fit(x, y, classes=[0, 1])


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("names", [["no", "yes"], ["a", "b", "c"]])
def test_probabilities_in_partial_fit_are_those_of_the_known_classes(names, loaded, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 4))
    labels = np.array(names)[np.digitize(x[:, 0], np.linspace(-0.5, 0.5, len(names))[1:])]
    model = SGDClassifier().fit(x, labels)
    soft, score = model.predict_proba(x), model.score(x, labels)
    if loaded:
        model.save(tmp_path / "m")
        model = scrimp.load(tmp_path / "m")
    model.partial_fit(x, soft)
    assert model.classes_.tolist() == names
    assert model.score(x, labels) > score - 0.05
    first = SGDClassifier().partial_fit(x, soft, classes=names)
    assert first.classes_.tolist() == names
    wide = np.column_stack([soft, np.zeros(len(soft))])
    with pytest.raises(ValueError, match=rf"each of the classes \['{names[0]}', .*\], got {len(names) + 1}"):
        model.partial_fit(x, wide)


def test_coefficients_are_read_as_a_start_once(cancer, monkeypatch):
    x, y = cancer
    for model in (SGDClassifier().fit(x, y), SGDRegressor().fit(x, y)):
        with monkeypatch.context() as patch:
            patch.setattr("scrimp.linear_model.sgd.Known.of", lambda _: pytest.fail("they were read again"))
            model.partial_fit(x, y)


def test_partial_fit_follows_rows_whose_mean_moves():
    rng = np.random.default_rng(0)
    model = SGDRegressor(alpha=0.0, batch_size=50)
    for shift in np.linspace(0, 3, 40):
        x = rng.normal(size=(500, 3)) + shift
        model.partial_fit(x, x @ [1.0, -2.0, 0.5] + 7)
    np.testing.assert_allclose(model.coef_, [1, -2, 0.5], atol=0.01)
    np.testing.assert_allclose(model.intercept_, 7, atol=0.05)


def test_partial_fit_goes_on_after_fit(cancer):
    x, y = cancer
    model = SGDClassifier().fit(x, y)
    before = model.coef_.copy()
    model.partial_fit(x, y)
    assert 0 < np.abs(model.coef_ - before).max() < np.abs(before).max()


def noisy_rows(n=4000):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 6)) @ rng.normal(size=(6, 6))
    return x, x @ np.arange(1.0, 7.0) + 2 * rng.normal(size=n)


@pytest.mark.parametrize("workers", [1, 2])
def test_averaged_coefficients_are_nearer_the_minimum(workers):
    x, y = noisy_rows()
    options = {"alpha": 1e-3, "batch_size": 16, "max_iter": 8, "workers": workers}
    best = SGDRegressor(alpha=1e-3, max_iter=400, batch_size=512, tol=1e-9).fit(x, y).coef_
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        last, mean = (SGDRegressor(average=average, **options).fit(x, y) for average in (False, True))
    off = [np.linalg.norm(model.coef_ - best) for model in (last, mean)]
    assert off[1] < 0.5 * off[0]


def test_averaging_over_calls_of_partial_fit_counts_all_rows():
    """Three calls are one mean over the steps of all, from the row that `average` names."""
    x, y = noisy_rows(900)
    pieces = [slice(0, 300), slice(300, 600), slice(600, 900)]

    def after_calls(average, batch_size=300):
        model, found = SGDRegressor(average=average, batch_size=batch_size), []
        for piece in pieces:
            model = pickle.loads(pickle.dumps(model)).partial_fit(x[piece], y[piece])
            found.append(np.append(model.coef_, model.intercept_))
        return found

    each = after_calls(False)  # one step a call
    np.testing.assert_allclose(after_calls(True), [each[0], np.mean(each[:2], axis=0), np.mean(each, axis=0)])
    np.testing.assert_allclose(after_calls(600), [each[0], each[1], np.mean(each[1:], axis=0)])
    np.testing.assert_allclose(after_calls(901), each)
    several = after_calls(500, batch_size=50)
    assert not np.array_equal(several[1], after_calls(501, batch_size=50)[1])


def test_partial_fit_goes_on_from_the_last_step_and_the_mean_of_a_fit():
    x, y = noisy_rows(600)
    options = {"batch_size": 600, "max_iter": 4, "tol": 1e-30}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        last, mean = (SGDRegressor(average=average, **options).fit(x, y) for average in (False, True))
    before = mean.coef_.copy()
    step = last.partial_fit(x, y).coef_
    np.testing.assert_allclose(mean.partial_fit(x, y).coef_, (4 * before + step) / 5)


@pytest.mark.parametrize("kind", [SGDRegressor, SGDClassifier])
@pytest.mark.parametrize(
    "options", [{"nesterov": True}, {"average": True}, {"average": 3000, "nesterov": True}]
)
def test_a_resumed_fit_with_momentum_and_mean_has_the_same_bits(kind, options, tmp_path, monkeypatch):
    x, y = noisy_rows(1000)
    target = y if kind is SGDRegressor else (y > 0).astype(int)
    usual = {"batch_size": 50, "learning_rate": 0.01, "max_iter": 8}
    saves = []

    def save_twice(*state):
        if len(saves) == 2:
            raise KeyboardInterrupt
        saves.append(save_progress(*state))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        plain, whole = kind(**usual).fit(x, target), kind(**usual, **options).fit(x, target)
        with monkeypatch.context() as patch:
            patch.setattr("scrimp.train.stochastic.save_progress", save_twice)
            with pytest.raises(KeyboardInterrupt):
                kind(checkpoint=tmp_path / "c", **usual, **options).fit(x, target)
        resumed = kind(checkpoint=tmp_path / "c", **usual, **options).fit(x, target)
    assert len(saves) == 2
    assert resumed.coef_.tobytes() == whole.coef_.tobytes() != plain.coef_.tobytes()
    assert resumed.intercept_.tobytes() == whole.intercept_.tobytes()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (SGDRegressor(nesterov="yes"), "nesterov must be one of False, True, got 'yes'"),
        (SGDClassifier(average=-2), "average must be False, True or a whole number of rows >= 0, got -2"),
        (LogisticRegression(-1.0), "alpha"),
        (LogisticRegression(solver="gram"), "known: auto, lbfgs, sgd"),
        (SGDRegressor("hinge"), "squared_error, huber"),
        (SGDRegressor(epsilon=0.0), "epsilon"),
        (SGDRegressor("huber", epsilon=np.inf), "epsilon a number above 0, got 0.0001 and inf"),
        (SGDRegressor("huber", epsilon=np.inf, sync_every=2), "epsilon a number above 0, got 0.0001 and inf"),
        (SGDClassifier(alpha=-1.0), "alpha"),
        (SGDClassifier(data_bits=3), "data_bits"),
    ],
)
def test_wrong_options_are_named(cancer, model, message):
    with pytest.raises(ValueError, match=message):
        model.fit(*cancer)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("classes", [2, 3])
def test_quantized_rows_come_first_and_the_rows_themselves_decide(bits, classes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 10)).astype(np.float32)
    y = (2 * x @ rng.normal(size=(10, classes)) + rng.gumbel(size=(20_000, classes))).argmax(1)
    exact, refined, coarse = (
        LogisticRegression(tol=1e-6, **way).fit(x, y)
        for way in ({}, {"data_bits": bits}, {"data_bits": bits, "refine": False})
    )
    assert "passes over quantized rows" in refined.solver_
    assert "passes over quantized rows" not in coarse.solver_
    off = [np.abs(m.predict_proba(x) - exact.predict_proba(x)).max() for m in (refined, coarse)]
    assert off[0] < 1e-4
    assert off[1] > 10 * off[0]


def test_a_refined_fit_resumes_in_either_part(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 10)).astype(np.float32)
    y = (x @ rng.normal(size=10) + rng.logistic(size=20_000) > 0).astype(int)
    whole = LogisticRegression(data_bits=4, tol=1e-6).fit(x, y)
    path = tmp_path / "state"
    first = LogisticRegression(data_bits=4, tol=1e-6, checkpoint=path).fit(x, y)
    again = LogisticRegression(data_bits=4, tol=1e-6, checkpoint=path).fit(x, y)
    assert whole.coef_.tobytes() == first.coef_.tobytes() == again.coef_.tobytes()
    assert (tmp_path / "state.coarse").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"C": 0}, "C must be a number above 0, got 0"),
        ({"C": "a"}, "C must be a number above 0, got 'a'"),
        ({"alpha": "a"}, "alpha must be a number >= 0, got 'a'"),
        ({"alpha": None}, "alpha must be a number >= 0, got None"),
        ({"sync_every": "a"}, "sync_every must be a whole number of at least 1, got 'a'"),
        ({"workers": None}, "workers must be a whole number of at least 1, got None"),
        ({"compress": 3}, "compress must be a codec, or one .* got 3"),
        ({"fit_intercept": None}, "fit_intercept must be True or False, got None"),
    ],
)
def test_options_of_another_type_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        LogisticRegression(**change).fit(np.eye(4), [0, 1, 0, 1])
