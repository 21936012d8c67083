"""Gradients that a BLAS multiplies: near those of the kernels, the same bits for any threads and workers."""

import numpy as np
import pytest
from sklearn.base import clone

import scrimp
from scrimp.linear_model import LogisticRegression, Ridge
from scrimp.matrix import LEAF_ROWS, gradient_sums, many_outputs

K = many_outputs.MANY_OUTPUTS
rng = np.random.default_rng(0)


def problem(loss, n, d=21, k=K):
    X, W = rng.standard_normal((n, d)).astype(np.float32), 0.3 * rng.standard_normal((d, k))
    if loss == "softmax":
        return X, rng.integers(0, k, n), W
    return X, rng.random((n, k)), W


@pytest.mark.parametrize("precise", [False, True])
@pytest.mark.parametrize("loss", ["squared", "logistic", "huber", "softmax"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_gradients_are_those_of_the_kernels(monkeypatch, loss, weighted, precise, dtype):
    n = LEAF_ROWS + 77
    X, y, W = problem(loss, n)
    X, intercept = X.astype(dtype), np.linspace(-1, 1, K)
    options = {"loss": loss, "intercept": intercept, "precise": precise, "delta": 0.5}
    if weighted:
        options["sample_weight"] = rng.random(n)
    calls = []
    fill = many_outputs.fill_many
    monkeypatch.setattr("scrimp.matrix.gradients.fill_many", lambda *args: (calls.append(1), fill(*args)))
    mine = scrimp.gradient(X, y, W, **options)
    monkeypatch.setattr(many_outputs, "MANY_OUTPUTS", K + 1)
    theirs = scrimp.gradient(X, y, W, **options)
    assert calls == [1]
    tolerance = 1e-13 if precise else 2e-6
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("loss", ["squared", "softmax"])
def test_bits_do_not_depend_on_threads_or_strides(loss):
    X, y, W = problem(loss, 5 * LEAF_ROWS + 9)
    whole = gradient_sums(X, y, W, loss=loss, threads=1).total()
    for threads in (0, 2, 3):
        assert np.array_equal(gradient_sums(X, y, W, loss=loss, threads=threads).total(), whole)
    for view in (np.asfortranarray(X), np.repeat(X, 2, axis=1)[:, ::2], X.astype(np.float64)):
        assert np.array_equal(gradient_sums(view, y, W, loss=loss).total(), whole)


@pytest.mark.filterwarnings("ignore:stopped after 3")
@pytest.mark.parametrize("loss", ["squared", "softmax"])
def test_fits_have_the_same_bits_for_any_workers(loss):
    X, y, _ = problem(loss, 2 * LEAF_ROWS + 300, 6)
    make = LogisticRegression if loss == "softmax" else Ridge
    model = make(1e-2, solver="lbfgs", max_iter=3)
    fits = [clone(model).set_params(workers=workers).fit(X, y).coef_ for workers in (1, 2)]
    assert np.array_equal(*fits)


def test_wrong_targets_threads_and_values_are_refused_as_by_the_kernels():
    X, y, W = problem("squared", 30)
    with pytest.raises(ValueError, match=f"y must have {K} columns"):
        scrimp.gradient(X, y[:, 1:], W)
    with pytest.raises(ValueError, match="threads must be >= 0"):
        scrimp.gradient(X, y, W, threads=-1)
    with pytest.raises(TypeError, match="X must be a bfloat16"):
        scrimp.gradient(X.astype(np.int64), y, W)
    X[3, 2] = np.nan
    with pytest.raises(scrimp.InputError, match=r"X\[3, 2\] is nan"):
        scrimp.gradient(X, y, W)
