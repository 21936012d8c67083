"""Least squares whose columns are spread over the workers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import scrimp
from scrimp.linear_model import LinearRegression, Ridge
from scrimp.matrix import QuantizedMatrix
from scrimp.train.columns import ColumnBlock
from scrimp.train.equations import NormalOptions


@pytest.fixture(scope="module")
def rows():
    """5,000 rows, 75 columns of scales 0.1 to 10 and means far from 0, two targets."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(5000, 75)) * np.logspace(-1, 1, 75) + 3).astype(np.float32)
    x[:, 40] = 0.1
    return x, x @ rng.normal(size=(75, 2)) + rng.normal(size=(5000, 2))


def closed_form(x, y, alpha, weight=None):
    x = x.astype(np.float64)
    x, y = x - np.average(x, 0, weight), y - np.average(y, 0, weight)
    x[:, 40] = 0
    scaled = x if weight is None else x * weight[:, None]
    return np.linalg.solve(scaled.T @ x + alpha * np.eye(75), scaled.T @ y).T


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_coefficients_are_those_of_the_closed_form(rows, workers, weighted):
    x, y = rows
    weight = np.random.default_rng(1).random(len(y)) if weighted else None
    model = Ridge(2.0, shard="features", workers=workers).fit(x, y, sample_weight=weight)
    best = closed_form(x, y, 2.0, weight)
    assert np.linalg.norm(model.coef_ - best) < 1e-6 * np.linalg.norm(best)
    assert f"{workers} blocks of columns" in model.solver_
    np.testing.assert_allclose(
        np.average(model.predict(x), axis=0, weights=weight), np.average(y, axis=0, weights=weight), rtol=1e-4
    )


def test_more_workers_than_blocks_and_no_intercept(rows):
    x, y = rows[0][:, :20], rows[1][:, 0]
    models = [
        LinearRegression(shard="features", workers=workers, fit_intercept=False, tol=1e-9).fit(x, y)
        for workers in (1, 3)
    ]
    best = np.linalg.lstsq(x.astype(np.float64), y, rcond=None)[0]
    for model in models:
        np.testing.assert_allclose(model.coef_, best, rtol=1e-5, atol=1e-6)


def state_of(comm, x, y):
    """Return how many columns a rank holds state of."""
    return ColumnBlock(comm, x, y, None, NormalOptions(np.ones(2))).scatter.size


def test_a_rank_holds_the_state_of_its_own_columns_alone(rows):
    assert scrimp.run(state_of, 2, rows) == [32, 43]


def test_a_fit_resumes_bit_for_bit(rows, tmp_path):
    x, y = rows
    options = {"shard": "features", "workers": 2, "tol": 1e-9}
    whole = Ridge(**options).fit(x, y)
    path = tmp_path / "state"
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        Ridge(max_iter=9, checkpoint=path, **options).fit(x, y)
    resumed = Ridge(checkpoint=path, **options).fit(x, y)
    assert resumed.coef_.tobytes() == whole.coef_.tobytes()
    assert resumed.n_iter_ == whole.n_iter_
    with pytest.raises(scrimp.InputError, match="workers"):
        Ridge(checkpoint=path, **(options | {"workers": 3})).fit(x, y)


def test_a_budget_stops_the_fit(rows):
    with pytest.raises(scrimp.BudgetExceeded):
        Ridge(shard="features", budget=scrimp.Budget(seconds=1e-9), tol=1e-12).fit(*rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"solver": "lbfgs"}, "solver='cg'; got solver='lbfgs'"),
        ({"compress": "int4"}, "exact sums"),
        ({"data_bits": 8}, "data_bits=32"),
        ({"on_failure": "continue"}, "columns are lost"),
    ],
)
def test_what_does_not_go_with_blocks_of_columns_is_named(rows, change, message):
    with pytest.raises(ValueError, match=message):
        Ridge(shard="features", **change).fit(*rows)


def test_quantized_rows_are_refused(rows):
    with pytest.raises(ValueError, match="QuantizedMatrix"):
        Ridge(shard="features").fit(QuantizedMatrix.from_array(rows[0], bits=8), rows[1])


def test_many_columns_are_solved_without_a_gram_matrix():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4200, 1600)).astype(np.float32)
    y = x @ rng.normal(size=1600) + rng.normal(size=4200)
    model = Ridge(50.0).fit(x, y)
    assert model.solver_.startswith("cg: d=1600 columns are more than 1500")
    z = x.astype(np.float64) - x.mean(0, dtype=np.float64)
    best = np.linalg.solve(z.T @ z + 50 * np.eye(1600), z.T @ (y - y.mean()))
    assert np.linalg.norm(model.coef_ - best) < 1e-6 * np.linalg.norm(best)


def test_blocks_of_other_widths_meet_in_the_same_chunks(rows):
    x, y = rows
    first, second = scrimp.run(_chunked, workers=2, args=rows)
    assert np.array_equal(first, second)
    assert np.linalg.norm(first.T - closed_form(x, y, 2.0)) < 1e-6 * np.linalg.norm(first)


def _chunked(comm, x, y):
    from scrimp.train import columns

    columns.CHUNK_VALUES = 1 << 14  # 512 rows of 32 columns, 341 of 48
    options = NormalOptions(np.full(2, 2.0), tol=1e-9)
    return columns.solve_by_columns(comm, x, y, None, options).w
