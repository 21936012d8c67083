"""ElasticNet, Lasso and paths: the minima of scikit-learn, proven by the gap, on shards and few bits too."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.linear_model as reference
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

import scrimp
from scrimp import _core
from scrimp.linear_model import ElasticNet, Lasso, enet_path, lasso_path, ridge_path
from scrimp.matrix import QuantizedMatrix
from scrimp.train.equations import NormalOptions
from scrimp.train.lasso import Penalty, Quadratic, minimize_quadratic
from scrimp.train.sparse import SparseProblem, solve_sparse


@parametrize_with_checks([ElasticNet(), Lasso(), ElasticNet(0.1, solver="proximal")])
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def rows():
    """13,000 rows in four leaves, scales 0.1 to 10, means far from 0, a third of the coefficients not 0."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(13_000, 37)) * np.logspace(-1, 1, 37) + 3
    w = np.where(rng.random((37, 2)) < 0.3, rng.normal(size=(37, 2)), 0)
    return x.astype(np.float32), x @ w + 5 * rng.normal(size=(13_000, 2))


def objective(x, y, coef, intercept, alpha, ratio, weight=None):
    error = y - x.astype(np.float64) @ coef - intercept
    size = ratio * np.abs(coef).sum() + 0.5 * (1 - ratio) * (coef**2).sum()
    return 0.5 * np.average(error**2, weights=weight) + alpha * size


def excess(x, y, model, alpha, ratio, weight=None, positive=False):
    """Return how far the objective is above scikit-learn's, relative to it."""
    best = reference.ElasticNet(alpha=alpha, l1_ratio=ratio, tol=1e-10, max_iter=100_000, positive=positive)
    best.fit(x.astype(np.float64), y, sample_weight=weight)
    mine, theirs = (
        objective(x, y, m.coef_.astype(np.float64), m.intercept_, alpha, ratio, weight) for m in (model, best)
    )
    return (mine - theirs) / max(theirs, 1e-12)


PENALTIES = [(3.0, 0.5), (0.3, 1.0), (0.01, 0.9), (0.1, 0.1), (1e-4, 0.5)]


@pytest.mark.parametrize(("alpha", "ratio"), PENALTIES)
@pytest.mark.parametrize("solver", ["gram", "proximal"])
@pytest.mark.parametrize("positive", [False, True])
def test_objectives_are_those_of_scikit_learn(rows, alpha, ratio, solver, positive):
    x, y = rows[0], rows[1][:, 0]
    model = ElasticNet(alpha, l1_ratio=ratio, solver=solver, positive=positive).fit(x, y)
    assert abs(excess(x, y, model, alpha, ratio, positive=positive)) < 1e-6
    assert model.dual_gap_ < 1e-6
    assert not positive or (model.coef_ >= 0).all()


def test_few_passes_over_the_rows_are_needed(rows):
    model = Lasso(0.3).fit(*rows)
    assert model.n_iter_ <= 5
    assert "int8" in model.solver_
    assert 0 < (model.coef_ != 0).sum() < 37
    assert model.sparse_coef_.nnz == (model.coef_ != 0).sum()


@pytest.mark.parametrize("shape", [(1, 3), (2, 1), (60, 20), (40, 150), (100, 1600)])
def test_few_rows_and_many_columns(shape):
    rng = np.random.default_rng(sum(shape))
    x, y = rng.normal(size=shape), rng.normal(size=shape[0])
    for alpha, ratio in ((0.1, 1.0), (0.05, 0.5)):
        model = ElasticNet(alpha, l1_ratio=ratio).fit(x, y)
        assert abs(excess(x, y, model, alpha, ratio)) < 1e-6
    assert ("proximal" in model.solver_) == (shape[1] > 1500)


def test_the_ridge_end_of_the_elastic_net_is_ridge(rows):
    x, y = rows
    model = ElasticNet(0.1, l1_ratio=0.0, tol=1e-12).fit(x, y)
    ridge = scrimp.linear_model.Ridge(0.1 * len(y), tol=1e-9).fit(x, y)
    np.testing.assert_allclose(model.coef_, ridge.coef_, rtol=1e-4, atol=1e-6)


def test_each_output_is_a_fit_of_its_own(rows):
    x, y = rows
    both = Lasso(0.3, tol=1e-9).fit(x, y)
    assert both.coef_.shape == (2, 37)
    for i in range(2):
        alone = Lasso(0.3, tol=1e-9).fit(x, y[:, i])
        np.testing.assert_allclose(both.coef_[i], alone.coef_, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(both.intercept_[i], alone.intercept_, rtol=1e-4)


def test_weights_count_as_repeated_rows(rows):
    x, y = rows[0], rows[1][:, 0]
    weight = np.random.default_rng(1).integers(0, 4, len(x)).astype(np.float64)
    weighted = ElasticNet(0.1, tol=1e-10).fit(x, y, sample_weight=weight)
    assert abs(excess(x, y, weighted, 0.1, 0.5, weight)) < 1e-6
    times = weight.astype(int)
    repeated = ElasticNet(0.1, tol=1e-10).fit(np.repeat(x, times, axis=0), np.repeat(y, times))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-6, atol=1e-8)


def fit_on_ranks(comm, x, y, threads):
    """Return the bytes of several fits."""
    found = []
    for change in ({}, {"gram": False, "max_iter": 30}, {"refine": False, "data_bits": 4}):
        options = NormalOptions(np.zeros(0), threads=threads, **change)
        penalty = Penalty(np.full(2, 3000.0), np.full(2, 500.0))
        solution = solve_sparse(comm, x, y, None, SparseProblem(penalty, options, np.zeros((37, 2))))
        found.append((solution.w.tobytes(), solution.mean.tobytes(), solution.how, solution.n_iter))
    return found


def test_fits_have_the_same_bits_for_any_number_of_workers_and_threads(rows):
    answers = [scrimp.run(fit_on_ranks, 1, (*rows, threads))[0] for threads in (1, 2)]
    for workers in (2, 3):
        answers += scrimp.run(fit_on_ranks, workers, (*rows, 1))
    assert all(answer == answers[0] for answer in answers)


def test_an_estimator_with_workers_is_bit_identical(rows):
    one, two = (ElasticNet(0.1, workers=workers).fit(*rows) for workers in (1, 2))
    assert one.coef_.tobytes() == two.coef_.tobytes()
    assert two.bill_.usage.wire_bytes > 0 == one.bill_.usage.wire_bytes


def test_quantized_rows_alone_find_nearly_the_same(rows):
    x, y = rows
    exact = ElasticNet(0.1).fit(x, y).score(x, y)
    codes = QuantizedMatrix.from_array(x, bits=8)
    assert exact - ElasticNet(0.1).fit(codes, y).score(x, y) < 1e-4
    assert exact - ElasticNet(0.1, data_bits=4, refine=False).fit(x, y).score(x, y) < 5e-3
    small = ElasticNet(0.1, weight_bits=8).fit(x, y)
    assert exact - small.score(x, y) < 2e-3
    assert ((small.coef_ == 0) >= (ElasticNet(0.1).fit(x, y).coef_ == 0)).all()


def test_int8_rows_are_exact():
    rng = np.random.default_rng(0)
    x = rng.integers(-127, 128, (9000, 20)).astype(np.int8)
    y = x @ rng.normal(size=20) + rng.normal(size=9000)
    model = Lasso(5.0).fit(x, y)
    assert abs(excess(x, y, model, 5.0, 1.0)) < 1e-6


def test_odd_columns_and_targets():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(9000, 8)) * np.array([1e-9, 1e9, 1, 1, 1, 1, 1, 1])
    x[:, 3], x[:, 4], x[:, 5] = 0.0, 0.1, x[:, 2]
    x[17, 6] = -1e6
    y = x @ (rng.normal(size=8) / np.array([1e-9, 1e9, 1, 1, 1, 1, 1e3, 1])) + rng.normal(size=9000)
    for model in (ElasticNet(0.01), Lasso(0.01, positive=True)):
        model.fit(x, y)
        assert model.coef_[3] == model.coef_[4] == 0
        assert model.dual_gap_ < 1e-6
    assert abs(excess(x, y, Lasso(0.01).fit(x, y), 0.01, 1.0)) < 1e-6
    flat = Lasso(0.1).fit(x, np.full(9000, 0.1))
    assert not flat.coef_.any()
    np.testing.assert_allclose(flat.intercept_, 0.1)


def test_a_large_penalty_leaves_only_the_intercept(rows):
    x, y = rows
    top = lasso_path(x, y, n_alphas=2).alphas[0]
    assert not Lasso(1.001 * top).fit(x, y).coef_.any()
    assert Lasso(0.9 * top).fit(x, y).coef_.any()
    np.testing.assert_allclose(Lasso(10 * top).fit(x, y).intercept_, y.mean(0))


def test_a_warm_start_begins_at_the_last_coefficients(rows):
    x, y = rows
    model = Lasso(0.3, solver="proximal", warm_start=True).fit(x, y)
    cold = model.n_iter_
    model.set_params(alpha=0.29).fit(x, y)
    assert model.n_iter_ < cold
    assert model.coef_.tobytes() != Lasso(0.3, solver="proximal").fit(x, y).coef_.tobytes()


@pytest.mark.parametrize("intercept", [True, False])
def test_a_path_is_what_fits_one_by_one_find(rows, intercept):
    x, y = rows
    path = enet_path(x, y, l1_ratio=0.9, n_alphas=4, fit_intercept=intercept)
    assert path.coefs.shape == (2, 37, 4)
    assert not path.coefs[:, :, 0].any() or path.alphas[0] > path.alphas[1]
    for i, alpha in enumerate(path.alphas):
        alone = ElasticNet(alpha, l1_ratio=0.9, fit_intercept=intercept, tol=1e-9).fit(x, y)
        np.testing.assert_allclose(path.coefs[:, :, i], alone.coef_, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(path.intercepts[:, i], alone.intercept_, rtol=1e-2, atol=1e-2)
    assert path.dual_gap < 1e-6
    counted = enet_path(x, y, l1_ratio=0.9, alphas=4, fit_intercept=intercept)
    assert counted.coefs.tobytes() == path.coefs.tobytes()


def test_a_ridge_path_is_the_closed_form_for_every_alpha(rows):
    x, y = rows
    alphas = [0.0, 1.0, 1e5]
    for weight in (None, np.random.default_rng(0).random(len(y))):
        path = ridge_path(x, y, alphas, sample_weight=weight)
        z, t = (a - np.average(a, 0, weight) for a in (x.astype(np.float64), y))
        scaled = z if weight is None else z * weight[:, None]
        for i, alpha in enumerate(alphas):
            best = np.linalg.solve(scaled.T @ z + alpha * np.eye(37), scaled.T @ t)
            np.testing.assert_allclose(path.coefs[:, :, i].T, best, rtol=1e-8, atol=1e-10)
    codes = ridge_path(QuantizedMatrix.from_array(x, bits=8), y, alphas)
    np.testing.assert_allclose(codes.coefs, ridge_path(x, y, alphas, workers=2).coefs, atol=0.2)


def test_a_saved_model_keeps_its_zeros(rows, tmp_path):
    model = ElasticNet(0.3, weight_bits=8).fit(*rows)
    model.save(tmp_path / "m")
    again = scrimp.load(tmp_path / "m")
    assert again.get_params() == model.get_params()
    assert again.predict(rows[0]).tobytes() == model.predict(rows[0]).tobytes()
    assert again.dual_gap_ == model.dual_gap_


def test_a_fit_resumes_bit_for_bit(rows, tmp_path, monkeypatch):
    x, y = rows
    whole = Lasso(0.3, solver="proximal").fit(x, y)
    asked = iter(range(6))
    monkeypatch.setattr("scrimp.train.watch.Watch.due", lambda self, step: True)
    monkeypatch.setattr("scrimp.train.watch.Watch.over_budget", lambda self, step: next(asked, None) is None)
    path = tmp_path / "state"
    with pytest.raises(scrimp.BudgetExceeded):
        Lasso(0.3, solver="proximal", checkpoint=path, budget=scrimp.Budget(seconds=1000)).fit(x, y)
    monkeypatch.undo()
    assert Lasso(0.3, solver="proximal", checkpoint=path).fit(x, y).coef_.tobytes() == whole.coef_.tobytes()
    with pytest.raises(scrimp.InputError, match="penalty"):
        Lasso(0.4, solver="proximal", checkpoint=path).fit(x, y)


def test_too_few_passes_warn_with_the_gap_that_is_left(rows):
    with pytest.warns(ConvergenceWarning, match="duality gap"):
        model = Lasso(0.01, solver="proximal", max_iter=3, tol=1e-9).fit(*rows)
    assert model.dual_gap_ > 1e-9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 0.0}, "alpha must be a number above 0"),
        ({"alpha": "a"}, "alpha"),
        ({"l1_ratio": 1.5}, "l1_ratio"),
        ({"solver": "cg"}, "known: auto, gram, proximal"),
        ({"tol": 0}, "tol"),
    ],
)
def test_wrong_options_are_named(rows, change, message):
    with pytest.raises(ValueError, match=message):
        ElasticNet(**change).fit(*rows)


def test_wrong_paths_are_named(rows):
    for arguments, message in (
        ({"l1_ratio": 0}, "alphas"),
        ({"alphas": [1.0, 0.0]}, "above 0"),
        ({"alphas": []}, "list"),
    ):
        with pytest.raises(ValueError, match=message):
            enet_path(*rows, **arguments)


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200, 1e300])
def test_only_the_ratio_of_weights_counts(rows, scale):
    x, y = rows[0][:500], rows[1][:500, 0]
    weight = np.random.default_rng(0).integers(1, 4, len(x)).astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = ElasticNet(0.1).fit(x, y, weight)
        np.testing.assert_allclose(ElasticNet(0.1).fit(x, y, scale * weight).coef_, plain.coef_, rtol=1e-5)
        paths = [enet_path(x, y, n_alphas=5, sample_weight=w).coefs for w in (weight, scale * weight)]
    np.testing.assert_allclose(*paths, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("alpha", "ratio"), [(1e-6, 1.0), (1e-5, 1.0), (1e-5, 0.9), (1e-8, 1.0)])
@pytest.mark.parametrize("positive", [False, True])
def test_more_columns_than_rows_and_a_small_penalty_get_to_the_minimum(alpha, ratio, positive):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 300))
    y = x[:, :5].sum(axis=1) + 0.1 * rng.normal(size=100)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model = ElasticNet(alpha, l1_ratio=ratio, positive=positive).fit(x, y)
    assert model.dual_gap_ < 1e-6
    if alpha == 1e-5:  # scikit-learn takes long for the others
        best = reference.ElasticNet(alpha, l1_ratio=ratio, positive=positive, tol=1e-6, max_iter=100_000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            best.fit(x, y)
        mine, theirs = (objective(x, y, m.coef_, m.intercept_, alpha, ratio) for m in (model, best))
        assert mine <= theirs * (1 + 1e-5)


def test_a_warning_names_what_would_help(monkeypatch):
    from scrimp.train import lasso

    monkeypatch.setattr(lasso, "ROUNDS", 1)
    x = np.random.default_rng(0).normal(size=(100, 300))
    with pytest.warns(ConvergenceWarning, match=r"on the Gram matrix stopped at .*: raise alpha or tol$"):
        Lasso(1e-6).fit(x, x[:, 0] + x[:, 1] ** 2)


@pytest.mark.parametrize("seed", range(5))
def test_the_gap_bounds_the_distance_to_the_minimum(seed):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(30, 12)) * np.logspace(0, 2, 12)
    y = rng.normal(size=(30, 3)) * 10
    problem = Quadratic(root.T @ root, root.T @ y, (y * y).sum(axis=0))
    for penalty in (Penalty(np.array([1.0, 50.0, 0.0]), np.array([0.0, 3.0, 20.0]), seed % 2 == 1),):
        best, gap = minimize_quadratic(problem, penalty, np.zeros((12, 3)), 1e-12)
        lowest, _ = problem.gap(best, penalty)
        assert (gap < 1e-11).all()
        for size in (1e-4, 1e-2, 1.0):
            near = best + size * rng.normal(size=best.shape)
            near = np.maximum(near, 0) if penalty.positive else near
            value, bound = problem.gap(near, penalty)
            assert (value - lowest <= bound * (1 + 1e-9) + 1e-9).all()


def test_descent_stops_at_the_soft_threshold_and_keeps_the_slope():
    w, q = np.zeros((2, 2)), np.array([[3.0, -0.5], [-3.0, 2.0]])
    done = np.zeros(2, np.int64)
    ones = np.ones(2)
    _core.descend(np.eye(2), w, q, ones, ones, 1e-9 * ones, False, 50, done, 1)
    assert w.tolist() == [[1.0, 0.0], [-1.0, 0.5]]
    assert q.tolist() == [[2.0, -0.5], [-2.0, 1.5]]
    assert (done > 0).all()
    with pytest.raises(ValueError, match="square"):
        _core.descend(np.ones((2, 3)), w, q, ones, ones, ones, False, 1, done, 1)


def test_scikit_learns_defaults_give_scikit_learns_model(rows):
    x, y = rows[0].astype(np.float64), rows[1][:, 0]
    for mine, theirs in ((ElasticNet(), reference.ElasticNet()), (Lasso(), reference.Lasso())):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_allclose(mine.fit(x, y).coef_, theirs.fit(x, y).coef_, rtol=0.02, atol=1e-3)
