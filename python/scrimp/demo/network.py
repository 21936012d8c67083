"""A network of two layers in plain NumPy: value, gradient, starting weights. Workers import only this.

Pixels come as float32 from 0 to 1, or as bytes from 0 to 16; both mean the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

PIXEL_MAX = 16.0
Weights = dict[str, npt.NDArray[np.float32]]


def starting_weights(inputs: int, hidden: int, classes: int, seed: int = 0) -> Weights:
    """Draw He's initial weights (He et al. 2015); biases are 0."""
    rng = np.random.default_rng(seed)
    return {
        "A": (rng.normal(size=(inputs, hidden)) * np.sqrt(2 / inputs)).astype(np.float32),
        "a": np.zeros(hidden, np.float32),
        "B": (rng.normal(size=(hidden, classes)) * np.sqrt(2 / hidden)).astype(np.float32),
        "b": np.zeros(classes, np.float32),
    }


def cross_entropy(w: Weights, rows: tuple[Any, npt.NDArray[np.float32]]) -> tuple[float, Weights]:
    """Mean of −Σ_c t_c·log p_c over rows, and its gradient; the targets of a row sum to 1."""
    x, targets = rows
    logs, inner = log_probabilities(w, x)
    n = np.float32(max(len(targets), 1))
    delta = (np.exp(logs) - targets) / n
    back = (delta @ w["B"].T) * (inner > 0)
    gradient = {"A": _pixels(x).T @ back, "a": back.sum(axis=0), "B": inner.T @ delta, "b": delta.sum(axis=0)}
    return -float((targets * logs).sum()) / float(n), gradient


def log_probabilities(w: Weights, x: Any) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return log softmax of the output layer, and the hidden layer."""
    inner = np.maximum(_pixels(x) @ w["A"] + w["a"], 0)
    z = inner @ w["B"] + w["b"]
    z -= z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True)), inner


def _pixels(x: Any) -> npt.NDArray[np.float32]:
    if x.dtype == np.uint8:
        return np.asarray(x.astype(np.float32) / np.float32(PIXEL_MAX))
    return np.asarray(x, np.float32)
