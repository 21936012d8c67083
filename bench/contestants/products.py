"""Rows and weights of the prediction benches, and the error of a product beside exact arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from contestants.data import normal

SAMPLE = 256  # rows whose exact products are computed


class Product(NamedTuple):
    """X float32[rows, d] and W float32[k, d], normally distributed."""

    X: np.ndarray
    W: np.ndarray


def load(rows: int, d: int, k: int) -> Product:
    values = normal(k * d + 1)  # W and X begin at different places of the same stream
    return Product(normal(rows * d).reshape(rows, d), values[1:].reshape(k, d) * np.float32(0.02))


def with_error(call: Callable[[], Any], problem: Product) -> Callable[[], dict]:
    """Make the call report ‖y − exact‖ / ‖exact‖ of what it returned the first time."""
    some = problem.X[:SAMPLE].astype(np.float64)
    exact = some @ problem.W.T.astype(np.float64)
    found = np.asarray(call(), np.float64).reshape(len(problem.X), -1)[:SAMPLE]
    figures = {"rel_error": float(f"{np.linalg.norm(found - exact) / np.linalg.norm(exact):.2g}")}

    def run() -> dict:
        call()
        return figures

    return run
