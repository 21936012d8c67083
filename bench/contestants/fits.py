"""Time a whole fit, with the memory that it took beyond its data and the quality of what it found."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from contestants.datasets import Data, load

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def kilobytes(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


def measured(fit: Callable[[], Any], quality: Callable[[Any], dict]) -> Callable[[], dict]:
    """Return a call that fits once: seconds, MB of peak beyond what was resident, and figures of quality."""

    def run() -> dict:
        CLEAR.write_text("5")  # the peak begins here
        before = kilobytes("VmRSS")
        start = time.perf_counter()
        model = fit()
        seconds = time.perf_counter() - start
        extra = max(0, kilobytes("VmHWM") - before) / 1024
        return {"seconds": seconds, "extra_mb": round(extra, 1), **quality(model)}

    run.once = True  # not to be warmed up: the first call counts
    return run


def ridge_quality(data: Data) -> Callable[[Any], dict]:
    def quality(model: Any) -> dict:
        w = np.asarray(model.coef_, np.float64).reshape(-1, data.X.shape[1]).T
        truth = data.truth[:-1]
        error = max(np.linalg.norm(w - truth, axis=0) / np.linalg.norm(truth, axis=0))
        predicted = data.X_test @ w + np.asarray(model.intercept_)
        y = data.y_test.reshape(len(predicted), -1)
        r2 = 1 - ((y - predicted) ** 2).sum() / ((y - y.mean(axis=0)) ** 2).sum()
        return {"coef_error": float(f"{error:.2g}"), "r2": round(float(r2), 6)}

    return quality


def logistic_quality(data: Data) -> Callable[[Any], dict]:
    positive = data.y_test > np.median(data.y)

    def quality(model: Any) -> dict:
        logit = data.X_test @ np.ravel(model.coef_).astype(np.float64) + np.ravel(model.intercept_)[0]
        return {"log_loss": round(float(np.logaddexp(0, np.where(positive, -logit, logit)).mean()), 6)}

    return quality


def ridge(models: dict[str, Callable[[int], Any]]):
    """Make a factory: {variant: threads → unfitted model}."""

    def factory(threads: int, data: str, n: int, d: int, k: int = 1) -> dict:
        rows = load(data, n, d, k)
        return {
            name: measured(lambda make=make: make(threads).fit(rows.X, rows.y), ridge_quality(rows))
            for name, make in models.items()
        }

    return factory


def logistic(models: dict[str, Callable[[int], Any]]):
    def factory(threads: int, data: str, n: int, d: int, k: int = 1) -> dict:
        rows = load(data, n, d, k)
        label = rows.y > np.median(rows.y)
        return {
            name: measured(lambda make=make: make(threads).fit(rows.X, label), logistic_quality(rows))
            for name, make in models.items()
        }

    return factory
