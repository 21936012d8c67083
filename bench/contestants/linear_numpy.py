"""NumPy with its OpenBLAS: the expressions that a user would write."""

from types import SimpleNamespace

import numpy as np
from threadpoolctl import threadpool_limits

from contestants import fits
from contestants.datasets import ALPHA, load, weights


def version() -> str:
    return np.__version__


def gradient(threads: int, data: str, n: int, d: int, k: int = 1) -> dict:
    rows, w = load(data, n, d, k), weights(d, k)
    threadpool_limits(threads)

    def run() -> None:
        rows.X.T @ (rows.X @ w - rows.y)

    return {"numpy fp32": run}


def gram(threads: int, data: str, n: int, d: int, k: int = 1) -> dict:
    X = load(data, n, d, k).X
    threadpool_limits(threads)

    def run() -> None:
        X.T @ X

    return {"numpy fp32": run}


def gram_float64(threads: int, data: str, n: int, d: int, k: int = 1) -> dict:
    X = load(data, n, d, k).X
    X64 = X.astype(np.float64)
    threadpool_limits(threads)

    def stored() -> None:
        X64.T @ X64

    def converted() -> None:
        copy = X.astype(np.float64)
        copy.T @ copy

    return {"numpy float64": stored, "numpy float64 of fp32": converted}


class NormalEquations:
    """Centred fp32 normal equations, with means in float64."""

    def __init__(self, threads: int) -> None:
        threadpool_limits(threads)

    def fit(self, X: np.ndarray, y: np.ndarray) -> SimpleNamespace:
        mean, y_mean = X.mean(axis=0, dtype=np.float64), y.mean(axis=0, dtype=np.float64)
        a = (X.T @ X).astype(np.float64) - len(X) * np.outer(mean, mean)
        b = (X.T @ y).astype(np.float64) - len(X) * np.multiply.outer(mean, y_mean)
        w = np.linalg.solve(a + ALPHA * np.eye(len(a)), b)
        return SimpleNamespace(coef_=w.T, intercept_=y_mean - mean @ w)


CASES = {
    "gradient.gradient": gradient,
    "gram.gram": gram,
    "gram.gram_float64": gram_float64,
    "fit.ridge": fits.ridge({"numpy fp32 normal equations": NormalEquations}),
    "fit.flights": fits.ridge({"numpy fp32 normal equations": NormalEquations}),
}
