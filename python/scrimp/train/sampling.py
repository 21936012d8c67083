"""Of how many rows the Gram matrix should be that is the preconditioner for all of them, by what it costs."""

from __future__ import annotations

import math

# Nanoseconds on two cores with AVX2, of which only ratios matter: rounding a value of the sample, one of the
# d²/2 products of a row's codes, and a value of all rows in a pass: to read it, and for each output.
ROUNDED, PRODUCT = 0.9, 0.0077
QUICK, PRECISE = (0.12, 0.04), (0.10, 0.085)  # in float32, in float64
ENOUGH = 1.1  # times the least cost: a larger sample is surer
LEAST = 1 << 22  # values of all rows: with fewer, nothing takes long
FEWEST = 40  # rows of a sample, a column: fewer say too little
MARGIN = 8.0  # by which the last error should be below what is asked for
PASSES_OF_ALL = 3  # in float64, where the codes of all rows are the preconditioner


def choose_step(n: int, d: int, k: int, tol: float) -> int:
    """Return how many rows stand for one in the Gram matrix; 1 where all rows in codes are cheaper.

    Examples
    --------
    >>> choose_step(10**6, 256, 1, 1e-6), choose_step(200_000, 1000, 10, 1e-6), choose_step(5000, 9, 1, 1e-6)
    (6, 2, 1)
    """
    if n * d < LEAST:
        return 1
    steps = range(1, max(1, n // (FEWEST * d)) + 1)
    costs = [_cost(step, n, d, k, tol) for step in steps]
    return next(step for step, cost in zip(steps, costs, strict=True) if cost <= ENOUGH * min(costs))


def rate_of(step: int, n: int, d: int) -> float:
    """Return what a pass leaves of an error: √(d/rows of the sample), as for normal rows."""
    return min(0.5, math.sqrt(d * step / n))


def passes_of(step: int, n: int, d: int, tol: float) -> int:
    """Return how many passes over all rows a sample takes, the last of which is one in float64."""
    return max(2, math.ceil(math.log(tol / MARGIN) / math.log(rate_of(step, n, d))) - 1)


def _cost(step: int, n: int, d: int, k: int, tol: float) -> float:
    quick, precise = (read + output * k for read, output in (QUICK, PRECISE))
    passes = PASSES_OF_ALL * precise if step == 1 else (passes_of(step, n, d, tol) - 1) * quick + precise
    return d * (n / step * (ROUNDED + PRODUCT * d / 2) + n * passes)
