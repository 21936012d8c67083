"""NumPy: the float32 product by its BLAS."""

import os

import numpy as np
from threadpoolctl import threadpool_limits

from contestants.products import load, with_error


def version() -> str:
    return np.__version__


def product(threads: int, rows: int, d: int, k: int) -> dict:
    threadpool_limits(min(threads, os.cpu_count() or 1))
    problem = load(rows, d, k)
    weights, out = np.ascontiguousarray(problem.W).T, np.zeros((rows, k), np.float32)
    return {"numpy fp32 @": with_error(lambda: np.matmul(problem.X, weights, out=out), problem)}


CASES = {"predict.int8": product, "predict.int4": product}
