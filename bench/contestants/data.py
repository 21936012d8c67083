"""The values that every contestant is given."""

import numpy as np


def normal(n: int) -> np.ndarray:
    """Return n standard normal values, fp32, the same in every process, on a 64-byte boundary."""
    x = aligned(n)
    some = np.random.default_rng(0).standard_normal(min(n, 1 << 22), dtype=np.float32)
    for begin in range(0, n, some.size):
        x[begin : begin + some.size] = some[: n - begin]
    return x


def aligned(n: int, dtype=np.float32) -> np.ndarray:
    """Return n zeros on a 64-byte boundary, their pages touched."""
    raw = np.ones(n * np.dtype(dtype).itemsize + 64, np.uint8)
    begin = -raw.ctypes.data % 64
    values = raw[begin : begin + n * np.dtype(dtype).itemsize].view(dtype)
    values[...] = 0
    return values
