"""Ridge on many rows: the Gram matrix of a sample is the preconditioner, the answer that of all rows."""

from __future__ import annotations

import numpy as np
import pytest

import scrimp
from scrimp.errors import InputError
from scrimp.linear_model import LinearRegression, Ridge
from scrimp.train import normal, shared_rows
from scrimp.train.refinement import System, refine_by_sample
from scrimp.train.sampling import choose_step

N, D = 30_000, 12


@pytest.fixture(autouse=True)
def small_samples(monkeypatch):
    """Of each 3rd row of these few columns."""
    monkeypatch.setattr(normal, "choose_step", lambda *_: 3)


@pytest.fixture(scope="module")
def rows():
    """Columns with means far from 0, two targets."""
    rng = np.random.default_rng(3)
    x = (rng.normal(size=(N, D)) * np.logspace(-2, 2, D) + 30).astype(np.float32)
    w = rng.normal(size=(D, 2)) / np.logspace(-2, 2, D)[:, None]
    return x, x @ w + 2 * rng.normal(size=(N, 2)) + 7


def exact(x, y, alpha, intercept=True):
    """Solve in float64."""
    x, y = x.astype(np.float64), np.asarray(y, np.float64)
    mean, y_mean = (x.mean(axis=0), y.mean(axis=0)) if intercept else (x[0] * 0, y[0] * 0)
    z = x - mean
    w = np.linalg.solve(z.T @ z + alpha * np.eye(x.shape[1]), z.T @ (y - y_mean))
    return w.T, y_mean - mean @ w


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize(("alpha", "intercept"), [(0.0, True), (1.0, True), (1e4, True), (1.0, False)])
def test_a_sample_solves_for_all_rows(rows, alpha, intercept):
    x, y = rows
    model = LinearRegression() if alpha == 0 else Ridge(alpha=alpha)
    model.set_params(fit_intercept=intercept).fit(x, y)
    coef, b = exact(x, y, alpha, intercept)
    assert "one row in 3," in model.solver_
    assert relative(model.coef_, coef) < 1e-6
    assert np.abs(model.intercept_ - b).max() < 1e-5 * np.abs(y).max()
    assert 3 <= model.n_iter_ <= 1 + normal.SAMPLE_PASSES + normal.passes_of(3, N, D, 1e-6)


def fit_on_ranks(comm, x, y):
    """Fit on the ranks of comm, by a sample."""
    normal.choose_step = lambda *_: 3
    said = b""
    for columns in (x, x[:, 2:]):
        found = normal.solve_normal(comm, columns, y, None, normal.NormalOptions(np.ones(2), threads=1))
        assert "one row in 3," in found.how
        said += found.w.tobytes() + found.mean.tobytes() + found.y_mean.tobytes()
    return said


def test_every_number_of_workers_gives_the_same_bits(rows):
    answers = [scrimp.run(fit_on_ranks, workers, rows) for workers in (1, 2, 3, 5)]
    assert len({answer for per_rank in answers for answer in per_rank}) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_though_the_sample_did_not_see_it(rows, value, monkeypatch):
    monkeypatch.setattr("scrimp.linear_model.inputs.MANY_BYTES", 0)
    x = rows[0].copy()
    x[1001, 5] = value
    with pytest.raises(InputError, match=r"X\[1001, 5\] is -?(nan|inf)"):
        Ridge().fit(x, rows[1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [24 * 700, 3 * 5601])  # of the part that shows the ends, of the sample alone
def test_a_value_that_is_not_finite_is_named_by_its_row_of_all(rows, row, value, monkeypatch):
    monkeypatch.setattr("scrimp.linear_model.inputs.MANY_BYTES", 0)
    monkeypatch.setattr(shared_rows, "SOME_ROWS", 500)
    x = rows[0].copy()
    x[row, 5] = value
    x[[row + 3, 29_994], 4] = -np.inf, np.inf  # in leaves of their own, and later
    with pytest.raises(InputError, match=rf"X\[{row}, 5\] is -?(nan|inf)"):
        Ridge().fit(x, rows[1])


@pytest.mark.parametrize("value", [1e3, 1e5, 1e7])
def test_an_outlier_that_the_sample_did_not_see_counts(rows, value):
    x = rows[0].copy()
    x[1001, 5] = value
    model, coef = Ridge().fit(x, rows[1]), exact(x, rows[1], 1.0)[0]
    assert relative(model.coef_, coef) < 1e-6
    assert relative(model.coef_[:, 5], coef[:, 5]) < 1e-3


@pytest.mark.parametrize("seen", [0, 30])
def test_rare_and_constant_columns_are_solved_with_all_rows(rows, seen):
    """A one-hot that is 1 in few rows: in `seen` of the sample, 100 of all."""
    x = rows[0].copy()
    x[:, 4] = 0
    x[np.arange(0, 3 * seen, 3), 4] = 1
    x[1 + 3 * np.arange(100 - seen), 4] = 1
    model = Ridge().fit(x, rows[1])
    assert "Gram of int8 codes" in model.solver_
    assert relative(model.coef_, exact(x, rows[1], 1.0)[0]) < 1e-6


@pytest.mark.parametrize("change", [{"data_bits": 8}, {"max_iter": 3}, {"data_bits": 4, "refine": False}])
def test_who_asks_for_something_else_gets_no_sample(rows, change):
    x, y = rows
    assert "one row in 3," not in Ridge(**change, tol=1e-4).fit(x, y).solver_
    assert "one row in 3," not in Ridge().fit(x, y, sample_weight=np.ones(N)).solver_


def asked(monkeypatch):
    """Note what is asked of the rows."""
    answer, said = normal.SharedRows.answer, []

    def noted(rows, ask):
        said.append(ask.what)
        return answer(rows, ask)

    monkeypatch.setattr(normal.SharedRows, "answer", noted)
    return said


def test_a_sample_needs_one_pass_in_float64(rows, monkeypatch):
    x, y = rows[0][:, 2:] - 30, rows[1]  # else what float32 takes of the mean decides
    said = asked(monkeypatch)
    model = Ridge().fit(x, y)
    assert relative(model.coef_, exact(x, y, 1.0)[0]) < 1e-6
    assert said.count("quick_residual") == said.count("residual") == 1
    assert "product" not in said


def test_a_part_of_the_sample_says_where_its_values_end(rows, monkeypatch):
    x, y = rows[0] - 30, rows[1]
    x[3 * 2501] *= 3  # of the sample, not of the part
    read, ranges = [], shared_rows.column_ranges
    monkeypatch.setattr(shared_rows, "SOME_ROWS", 500)
    monkeypatch.setattr(
        shared_rows, "column_ranges", lambda x, **more: read.append(len(x)) or ranges(x, **more)
    )
    model = Ridge().fit(x, y)
    assert "one row in 3," in model.solver_
    assert read == [N // 3 // 8]
    assert relative(model.coef_, exact(x, y, 1.0)[0]) < 1e-6


def test_columns_far_from_zero_are_not_multiplied_in_float32(rows, monkeypatch):
    """One is 3,000 standard deviations away."""
    said = asked(monkeypatch)
    assert "one row in 3," in Ridge().fit(*rows).solver_
    assert not any(what.startswith("quick") for what in said)


def test_what_float32_leaves_is_done_in_float64():
    """Products that are 1 % off are not trusted: the residual says so."""
    rng = np.random.default_rng(5)
    root = rng.normal(size=(400, 9))
    a, b = root.T @ root, rng.normal(size=(9, 2))
    start, rate = np.linalg.solve(a + 5 * np.eye(9), b), 0.02
    system = System(np.zeros(2), lambda r: np.linalg.solve(a + 5 * np.eye(9), r), np.ones(9))
    for off in (1.0, 1.01):
        questions, said = refine_by_sample(start, system, 1e-9, 20, rate), []
        ask = next(questions)
        while True:
            said.append(ask.what)
            by = off if ask.what.startswith("quick") else 1.0
            try:
                ask = questions.send(by * a @ ask.values[0] - (b if "residual" in ask.what else 0.0))
            except StopIteration as end:
                found = end.value
                break
        assert np.abs(found.w / np.linalg.solve(a, b) - 1).max() < 1e-8
        assert found.n_iter == len(said)
        assert ("product" in said) == (off > 1)


def test_a_row_far_from_the_rest_is_not_taken_on_trust(rows):
    """Of 300 standard deviations, where the sample does not see it."""
    x, y = rows[0][:, 2:].copy(), rows[1]
    x[7] += 300 * x.std(axis=0) * np.random.default_rng(4).normal(size=x.shape[1]).astype(np.float32)
    w, coef = Ridge().fit(x, y).coef_, exact(x, y, 1.0)[0]
    assert relative(w, coef) < 1e-6
    assert relative(w * x.std(axis=0), coef * x.std(axis=0)) < 1e-6


def test_the_step_follows_the_costs():
    assert choose_step(5000, 100, 1, 1e-6) == 1  # too few values
    assert choose_step(10**6, 256, 1, 1e-6) == 6
    assert choose_step(10**6, 256, 1, 1e-12) < 6  # more passes, a better preconditioner
    assert choose_step(10**6, 256, 10, 1e-6) < 6  # dearer passes
    assert choose_step(40_000, 1000, 1, 1e-6) == 1  # 40 rows a column
