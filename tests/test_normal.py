"""The normal equations: the same bits for any number of workers and threads, however a fit was solved."""

from __future__ import annotations

import numpy as np
import pytest

import scrimp
from scrimp.linear_model import LogisticRegression, Ridge
from scrimp.train.dense import Factor, PseudoInverse, ridge_by_svd
from scrimp.train.equations import NormalOptions
from scrimp.train.normal import solve_normal
from scrimp.train.refinement import refine


@pytest.fixture(scope="module")
def rows():
    """Four leaves, two targets."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(13_000, 37)) * np.logspace(-1, 1, 37) + 3).astype(np.float32)
    w = rng.normal(size=(37, 2)) / np.logspace(-1, 1, 37)[:, None]
    return x, x @ w + rng.normal(size=(13_000, 2))


CONFIGURATIONS = {
    "float32": {},
    "int4, refined": {"data_bits": 4},
    "int8 alone": {"data_bits": 8, "refine": False},
    "int4 alone": {"data_bits": 4, "refine": False},
    "weights": {"weighted": True},
    "singular": {"singular": True},
    "cg": {"solver": "cg", "tol": 1e-4},
}


def fit_all(comm, x, y, threads):
    """Fit every configuration on the ranks of comm, each reading its own leaves."""
    weight = np.random.default_rng(2).random(len(x))
    found = {}
    for name, change in CONFIGURATIONS.items():
        alpha = np.full(y.shape[1], 0.0 if change.get("singular") else 1.0)
        data = x if not change.get("singular") else np.hstack([x[:, :5], x[:, :5]])
        options = NormalOptions(
            alpha,
            data_bits=change.get("data_bits", 32),
            refine=change.get("refine", True),
            gram=change.get("solver") != "cg",
            tol=change.get("tol", 1e-6),
            max_iter=500,
            threads=threads,
        )
        solution = solve_normal(comm, data, y, weight if change.get("weighted") else None, options)
        found[name] = (
            solution.w.tobytes(),
            solution.mean.tobytes(),
            solution.how,
            solution.n_iter,
            solution.rank,
        )
    return found


@pytest.fixture(scope="module")
def by_workers(rows):
    answers = {(1, threads): scrimp.run(fit_all, 1, (*rows, threads))[0] for threads in (1, 2)}
    for workers in (2, 3, 4):
        per_rank = scrimp.run(fit_all, workers, (*rows, 1))
        assert all(answer == per_rank[0] for answer in per_rank)
        answers[workers, 1] = per_rank[0]
    return answers


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_fits_have_the_same_bits_for_any_number_of_workers_and_threads(by_workers, name):
    assert len({answers[name] for answers in by_workers.values()}) == 1


@pytest.mark.parametrize("way", ["gram", "gradient"])
def test_every_number_of_workers_to_eight_gives_the_same_bits(rows, way):
    """Of estimators, as a user starts them; with eight workers some have no leaf of rows at all."""
    x, y = rows[0], rows[1][:, 0]
    model = Ridge(solver="gram") if way == "gram" else LogisticRegression(solver="lbfgs")
    target = y if way == "gram" else y > np.median(y)
    found = set()
    for workers in range(1, 9):
        model.set_params(workers=workers, threads=1).fit(x, target)
        found.add(model.coef_.tobytes() + np.atleast_1d(model.intercept_).tobytes())
    assert len(found) == 1


def answered(questions, a, b):
    """Play the rows: answer all questions of `refine` with a matrix."""
    ask, asked = next(questions), []
    while True:
        asked.append(ask.what)
        try:
            ask = questions.send(a @ ask.values[0] - (b if ask.what == "residual" else 0.0))
        except StopIteration as end:
            return end.value, asked


def test_refinement_with_the_exact_factor_needs_one_look():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(20, 9))
    a, b = root.T @ root, rng.normal(size=(9, 3))
    solve = Factor.of(a + np.eye(9)).solve
    found, asked = answered(refine(solve(b), np.ones(3), solve, np.ones(9), 1e-12, 10), a, b)
    np.testing.assert_allclose(found.w, np.linalg.solve(a + np.eye(9), b), rtol=1e-10)
    assert asked == ["residual"]


def test_refinement_without_a_good_factor_is_conjugate_gradients():
    rng = np.random.default_rng(1)
    root = rng.normal(size=(40, 9)) * np.logspace(0, 2, 9)
    a, b = root.T @ root, rng.normal(size=(9, 2))
    diagonal = np.diag(a)[:, None]
    found, asked = answered(
        refine(np.zeros((9, 2)), np.zeros(2), lambda r: r / diagonal, np.ones(9), 1e-10, 50), a, b
    )
    np.testing.assert_allclose(found.w, np.linalg.solve(a, b), rtol=1e-7)
    assert len(asked) <= 14


def test_a_factor_says_when_there_is_none():
    assert Factor.of(np.diag([1.0, -1.0])) is None
    assert Factor.of(np.array([[1.0, 2.0], [2.0, 1.0]])) is None
    assert Factor.of(np.diag([1e-20, 1e20])).solve(np.ones((2, 1))).ravel() == pytest.approx([1e20, 1e-20])


def test_the_pseudo_inverse_takes_the_least_norm_at_any_scale():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(30, 4)) * np.array([1e-3, 1, 1, 1e3])
    x = np.column_stack([x, x[:, 0] + x[:, 1]])
    inverse = PseudoInverse.of(x.T @ x)
    b = x.T @ rng.normal(size=(30, 2))
    assert inverse.rank == 4
    w = inverse.solve(b)
    np.testing.assert_allclose(x.T @ (x @ w), b, rtol=1e-6, atol=1e-9)
    null = np.array([1.0, 1.0, 0, 0, -1.0])
    np.testing.assert_allclose(null @ w, 0, atol=1e-9 * np.abs(w).max())


def test_singular_values_give_ridge_and_least_norm():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(7, 12)), rng.normal(size=(7, 2))
    w, rank = ridge_by_svd(x, y, np.array([0.0, 2.0]))
    assert rank == 7
    np.testing.assert_allclose(w[:, 0], np.linalg.pinv(x) @ y[:, 0], rtol=1e-9)
    np.testing.assert_allclose(w[:, 1], np.linalg.solve(x.T @ x + 2 * np.eye(12), x.T @ y[:, 1]), rtol=1e-9)


@pytest.mark.parametrize(("k", "shape"), [(2, (3, 3)), (4, (50, 3))])
def test_few_rows_are_solved_by_their_triangle(monkeypatch, k, shape):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 3)), rng.normal(size=(50, k))
    x[:, 2] = 2 * x[:, 0] - x[:, 1]
    seen, svd = [], np.linalg.svd
    monkeypatch.setattr(np.linalg, "svd", lambda a, **more: seen.append(a.shape) or svd(a, **more))
    w, rank = ridge_by_svd(x, y, np.zeros(k))
    assert seen == [shape]
    assert rank == 2
    np.testing.assert_allclose(w, np.linalg.pinv(x) @ y, atol=1e-12)
