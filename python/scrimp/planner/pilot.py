"""A pilot: real fits on a sample of the rows, to learn what a full fit will score, take and cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrimp.data import held_out_split
from scrimp.errors import InputError
from scrimp.usage import Usage

PILOT_ROWS = 65536
PILOT_VALUES = 16 << 20
MIN_ROWS = 64
BOOTSTRAPS = 200
Z = 1.645  # one-sided 95 % bound

DATA_BITS = (32, 8, 4)

# `make(n_rows, **settings)` returns an estimator that is to be fitted on so many rows.
Make = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Trial:
    """One way to fit, tried at two sizes.

    Attributes
    ----------
    lost : float
        Held-out score lost against the reference on the same rows.
    fixed, per_row : Usage
        Wall and CPU seconds and peak memory: `fixed + n · per_row`. The peak is that of the whole process.
    """

    lost: float
    fixed: Usage
    per_row: Usage

    def usage(self, n_rows: int) -> Usage:
        """Predict wall and CPU seconds and peak memory for so many rows."""
        return Usage(
            wall_s=self.fixed.wall_s + n_rows * self.per_row.wall_s,
            cpu_s=self.fixed.cpu_s + n_rows * self.per_row.cpu_s,
            peak_bytes=self.fixed.peak_bytes + n_rows * self.per_row.peak_bytes,
        )


@dataclass(frozen=True, slots=True)
class Pilot:
    """What the pilot found.

    Attributes
    ----------
    metric : {"r2", "accuracy"}
    rows : tuple of int
        Training rows of the reference fits (the first solver on 32 bits), ascending; the last is the whole
        sample.
    scores : tuple of float
        Their held-out scores.
    limit, slope : float
        `score(n) ≈ limit − slope / n`, fitted to those.
    error : float
        Standard error of the last score.
    trials : dict
        By (solver, data bits).
    lost_by_weight_bits : dict of int to float
        Score lost by storing the weights in so many bits.
    lambda_max : float
        Largest eigenvalue of the mean of x·xᵀ: a step of gradient descent must stay below 2/λmax.
    noise_rows : float
        Gradient noise scale tr(C)/|g|² at zero weights: batches much larger than this waste work.
    """

    metric: str
    rows: tuple[int, ...]
    scores: tuple[float, ...]
    limit: float
    slope: float
    error: float
    trials: dict[tuple[str, int], Trial]
    lost_by_weight_bits: dict[int, float]
    lambda_max: float
    noise_rows: float

    def score(self, n_rows: int, solver: str, data_bits: int) -> float:
        """Predict the held-out score of a fit. What rounding of data loses averages out like 1/n."""
        lost = self.trials[solver, data_bits].lost
        if data_bits < 32:
            lost *= min(1.0, self.rows[-1] / n_rows)
        return self.limit - self.slope / n_rows - lost


def run_pilot(
    X: NDArray[Any], y: NDArray[Any], make: Make, solvers: tuple[str, ...], *, classes: bool, seed: int = 0
) -> Pilot:
    """Fit a sample a few times.

    Parameters
    ----------
    X : float array of shape (n, d)
    y : array of n
    make : callable
        `make(n_rows, **settings)` returns an estimator that is to be fitted on so many rows.
    solvers : tuple of str
        To try; the first is the reference.
    classes : bool
        Whether y are classes: the score is the accuracy.
    seed : int
        Of the sample.

    Raises
    ------
    InputError
        Too few rows to hold some out.
    """
    if len(X) < MIN_ROWS:
        raise InputError(f"a plan needs at least {MIN_ROWS} rows, got {len(X)}")
    sample = _sample_rows(len(X), X.shape[1], seed)
    train, test = (sample[part] for part in held_out_split(len(sample), 0.25, seed))
    bench = _Bench(X, y, make, np.random.default_rng(seed).permutation(train), test, classes)
    rows = tuple(len(train) // part for part in (16, 4, 1))
    fits = [bench.fit(k, solver=solvers[0], data_bits=32) for k in rows]
    scores = tuple(bench.score(fit) for fit in fits)
    limit, slope = _learning_curve(rows, scores)
    lambda_max, noise_rows = _gradient_shape(bench, classes)
    return Pilot(
        metric="accuracy" if classes else "r2",
        rows=rows,
        scores=scores,
        limit=limit,
        slope=slope,
        error=bench.score_error(fits[-1], seed),
        trials={
            (solver, bits): bench.trial(solver, bits, scores[-1]) for solver in solvers for bits in DATA_BITS
        },
        lost_by_weight_bits=_lost_by_weight_bits(bench, solvers[0], scores[-1]),
        lambda_max=lambda_max,
        noise_rows=noise_rows,
    )


@dataclass(frozen=True, slots=True)
class _Bench:
    """The sample: rows in random order to fit prefixes of, and rows to score on."""

    X: NDArray[Any]
    y: NDArray[Any]
    make: Make
    order: NDArray[np.intp]
    test: NDArray[np.intp]
    classes: bool

    def fit(self, n_rows: int, **settings: Any) -> Any:
        rows = np.sort(self.order[:n_rows])
        return self.make(n_rows, **settings).fit(self.X[rows], self.y[rows])

    def score(self, fitted: Any) -> float:
        return float(fitted.score(self.X[self.test], self.y[self.test]))

    def trial(self, solver: str, data_bits: int, best: float) -> Trial:
        """Fit a quarter and the whole of the sample twice each; the faster one counts."""
        sizes = (len(self.order) // 4, len(self.order))
        fits = [[self.fit(k, solver=solver, data_bits=data_bits) for _ in range(2)] for k in sizes]
        few, all_ = (min((f.bill_.usage for f in pair), key=lambda usage: usage.wall_s) for pair in fits)
        more = sizes[1] - sizes[0]
        wall = max(0.0, all_.wall_s - few.wall_s) / more
        cpu = max(0.0, all_.cpu_s - few.cpu_s) / more
        row_bytes = 4 * self.X.shape[1] + (self.X.shape[1] * data_bits // 8 if data_bits < 32 else 0)
        fixed = Usage(
            wall_s=max(0.0, all_.wall_s - wall * sizes[1]),
            cpu_s=max(0.0, all_.cpu_s - cpu * sizes[1]),
            peak_bytes=max(0, all_.peak_bytes - row_bytes * sizes[1]),
        )
        lost = max(0.0, best - self.score(fits[1][0]))
        return Trial(lost, fixed, Usage(wall_s=wall, cpu_s=cpu, peak_bytes=row_bytes))

    def score_error(self, fitted: Any, seed: int) -> float:
        """Return the standard deviation of the score over resampled test rows."""
        truth, guess = self.y[self.test], fitted.predict(self.X[self.test])
        losses = (truth != guess).astype(np.float64) if self.classes else (truth - guess) ** 2
        scale = 1.0 if self.classes else float(np.var(truth)) or 1.0
        drawn = np.random.default_rng(seed).integers(len(losses), size=(BOOTSTRAPS, len(losses)))
        return float(losses[drawn].mean(axis=1).std() / scale)


def _sample_rows(n: int, d: int, seed: int) -> NDArray[np.intp]:
    size = min(n, PILOT_ROWS, max(MIN_ROWS, PILOT_VALUES // d))
    drawn = np.random.default_rng(seed).choice(n, size, replace=False) if n > size else np.arange(n)
    return np.sort(drawn).astype(np.intp)


def _lost_by_weight_bits(bench: _Bench, solver: str, best: float) -> dict[int, float]:
    whole = len(bench.order)
    lost = {
        bits: max(0.0, best - bench.score(bench.fit(whole, solver=solver, data_bits=32, weight_bits=bits)))
        for bits in (8, 4)
    }
    return {32: 0.0, **lost}


def _learning_curve(rows: tuple[int, ...], scores: tuple[float, ...]) -> tuple[float, float]:
    """Fit `limit − slope / rows`, rows as weights; a curve that falls with more rows counts as flat."""
    sizes = np.array(rows, np.float64)
    slope, limit = np.polyfit(1.0 / sizes, scores, 1, w=np.sqrt(sizes))
    return (float(limit), float(-slope)) if slope < 0 else (max(scores), 0.0)


def _gradient_shape(bench: _Bench, classes: bool) -> tuple[float, float]:
    """Return λmax of mean(x·xᵀ) by power iteration, and tr(C)/|g|² (McCandlish et al. 2018)."""
    rows = bench.order[:4096]
    X, y = bench.X[rows].astype(np.float64), bench.y[rows]
    target = (y == y[0]).astype(np.float64) if classes else y.astype(np.float64)
    v = np.ones(X.shape[1]) / np.sqrt(X.shape[1])
    largest = 0.0
    for _ in range(20):
        v = X.T @ (X @ v) / len(X)
        largest = float(np.linalg.norm(v))
        if largest == 0:
            return 0.0, 1.0
        v /= largest
    gradients = X * (target - target.mean())[:, None]
    mean = gradients.mean(axis=0)
    spread = float(gradients.var(axis=0).sum())
    power = float(mean @ mean) - spread / len(X)
    return largest, max(1.0, spread / power) if power > 0 else float(len(X))
