"""Numba: the fused row loop that a careful user would write."""

import numba
import numpy as np

from contestants.datasets import load, weights


def version() -> str:
    return numba.__version__


@numba.njit(parallel=True, fastmath=True)
def fused(X, y, w, parts):
    n, d = X.shape
    total = np.zeros((parts, d), np.float32)
    for part in numba.prange(parts):
        g = total[part]
        for i in range(part * n // parts, (part + 1) * n // parts):
            z = np.float32(0)
            for j in range(d):
                z += X[i, j] * w[j]
            z -= y[i]
            for j in range(d):
                g[j] += z * X[i, j]
    return total.sum(axis=0)


def gradient(threads: int, data: str, n: int, d: int, k: int = 1) -> dict:
    if k > 1:
        return {}
    numba.set_num_threads(threads)
    rows, w = load(data, n, d, k), weights(d, k)

    def run() -> None:
        fused(rows.X, rows.y, w, threads)

    return {"numba fused loop": run}


CASES = {"gradient.gradient": gradient}
