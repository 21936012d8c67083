"""When a mini-batch run ends, and what it then says."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import scrimp
from scrimp.linear_model import LinearRegression, LogisticRegression, Ridge, SGDRegressor


def few_rows(n, d):
    rng = np.random.default_rng(n + d)
    X = rng.normal(size=(n, d)) * np.logspace(0, 2, d) + 5
    return X, X @ rng.normal(size=d) + 0.5 * rng.normal(size=n)


def half_squared(w, rows):
    x, y = rows
    error = x @ w - y
    return 0.5 * float(error @ error) / len(y), x.T @ error / len(y)


@pytest.mark.parametrize("n", [3, 10, 50, 200])
@pytest.mark.parametrize("d", [1, 8])
def test_sgd_on_few_rows_ends_at_the_closed_form(n, d):
    X, y = few_rows(n, d)
    model, exact = Ridge(solver="sgd").fit(X, y), Ridge(solver="gram").fit(X, y)
    spread = X.std(axis=0)
    error = np.linalg.norm((model.coef_ - exact.coef_) * spread) / np.linalg.norm(exact.coef_ * spread)
    assert error < 2e-4
    assert model.solver_.endswith("converged")


def test_plain_least_squares_of_fifty_rows_is_the_closed_form():
    X, y = few_rows(50, 1)
    exact = np.polyfit(X[:, 0], y, 1)[0]
    assert LinearRegression(solver="sgd").fit(X, y).coef_[0] == pytest.approx(exact, rel=1e-4)


def test_logistic_sgd_on_few_rows_ends_where_lbfgs_does():
    X, y = few_rows(200, 3)
    label = np.random.default_rng(0).random(200) < 1 / (1 + np.exp((y.mean() - y) / y.std()))
    one, other = (LogisticRegression(solver=name).fit(X, label) for name in ("sgd", "lbfgs"))
    assert one.predict_proba(X) == pytest.approx(other.predict_proba(X), abs=2e-3)
    assert one.solver_.endswith("converged")


@pytest.mark.parametrize("estimator", [Ridge(solver="sgd", max_iter=5), SGDRegressor(max_iter=5)])
def test_too_few_steps_are_warned_of(estimator):
    with pytest.warns(ConvergenceWarning, match="stopped after 5 epochs"):
        estimator.fit(*few_rows(50, 3))


def test_a_pass_of_partial_fit_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SGDRegressor().partial_fit(*few_rows(50, 3))


def test_momentum_that_overshoots_is_not_convergence():
    """A narrow valley at one batch an epoch: the value rises for longer than five epochs, then falls."""
    x = np.eye(2, dtype=np.float32) * np.float32([1.0, 0.1])
    y = x @ np.ones(2, np.float32)
    options = {"learning_rate": 1.0, "momentum": 0.95, "batch_size": 2, "max_iter": 5000}
    fit = scrimp.minimize(half_squared, np.zeros(2, np.float32), (x, y), **options)
    values = np.array(fit.history)
    waits = np.diff(np.flatnonzero(values == np.minimum.accumulate(values)))
    assert waits.max() > 5
    assert fit.stop == "converged"
    assert fit.w == pytest.approx(np.ones(2), abs=1e-2)


def rising(w, rows):
    """A gradient that points the wrong way: every step makes it worse."""
    return float(w @ w) + 1, -0.01 * w


def test_a_value_that_rises_is_no_convergence():
    fit = scrimp.minimize(rising, np.ones(2, np.float32), np.zeros((4, 1)), batch_size=4, max_iter=40)
    assert fit.stop == "stalled"


def test_noise_that_hides_all_progress_is_a_stall_at_a_constant_step_and_none_while_steps_shrink():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 4)).astype(np.float32)
    y = x @ np.ones(4, np.float32) + rng.normal(size=400).astype(np.float32)
    options = {"learning_rate": 0.3, "batch_size": 4, "max_iter": 60, "tol": 1e-3}
    stops = {
        schedule: scrimp.minimize(half_squared, np.zeros(4, np.float32), (x, y), schedule=schedule, **options)
        for schedule in ("constant", "linear")
    }
    assert stops["constant"].stop == "stalled"
    assert stops["constant"].n_iter < 60
    assert stops["linear"].n_iter == 60
    assert stops["linear"].value < stops["constant"].value


def test_no_tolerance_runs_all_epochs():
    x = np.ones((8, 1), np.float32)
    options = {"learning_rate": 1.0, "max_iter": 30, "batch_size": 8}
    fits = [
        scrimp.minimize(half_squared, np.zeros(1, np.float32), (x, x[:, 0]), tol=tol, **options)
        for tol in (0.0, 1e-6)
    ]
    assert [(fit.stop, fit.n_iter) for fit in fits] == [("max_iter", 30), ("converged", 10)]


def train_on_ranks(comm, x, y):
    options = {"learning_rate": 0.5, "momentum": 0.5, "batch_size": 64, "max_iter": 100, "tol": 1e-5}
    packed = {"compress": "int8:rounding=stochastic", "raw_below": 0}
    ways = ({"shard": "rows"}, {"shard": "zero"}, {"shard": "zero", **packed})
    start = np.zeros(x.shape[1], np.float32)
    return [scrimp.minimize(half_squared, start, (x, y), comm=comm, **options, **way) for way in ways]


def test_ranks_with_unequal_rows_agree_when_to_stop():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(45, 4)).astype(np.float32)
    y = x @ np.ones(4, np.float32) + 0.1 * rng.normal(size=45).astype(np.float32)
    by_rank = scrimp.run(train_on_ranks, 2, (x, y))
    for fits in zip(*by_rank, strict=True):
        assert fits[0].stop == "converged"
        assert fits[0].history == fits[1].history
    assert by_rank[0][0].n_iter == by_rank[0][1].n_iter


@pytest.mark.parametrize("momentum", [2, 1.0, -0.1, "0.9"])
def test_a_momentum_out_of_range_is_blamed_by_name(momentum):
    with pytest.raises(ValueError, match=r"momentum must be at least 0 and below 1, got"):
        Ridge(solver="sgd", momentum=momentum).fit(*few_rows(20, 2))


@pytest.mark.parametrize("rate", [0, -1.0, "fast", float("inf")])
def test_a_learning_rate_out_of_range_is_blamed_by_name(rate):
    with pytest.raises(ValueError, match="learning_rate must be 'auto' or a number above 0, got"):
        Ridge(solver="sgd", learning_rate=rate).fit(*few_rows(20, 2))
