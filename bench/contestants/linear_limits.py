"""The limit of a pass over the rows: reading them, in each number of bits (bench/limits.c)."""

import ctypes

import numpy as np

from contestants.datasets import load
from contestants.limits import KINDS, LIBRARY, version

__all__ = ["CASES", "version"]


def read(threads: int, data: str, n: int, d: int, k: int = 1) -> dict:
    rows = load(data, n, d, k).X
    arrays = {"fp32": rows, "int8": np.ones(n * d, np.int8), "int4": np.ones(n * d // 2, np.int8)}
    nothing = np.zeros(16, np.float32)

    def seconds(x: np.ndarray) -> dict:
        pointers = ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(nothing.ctypes.data)
        n_floats = ctypes.c_size_t(x.nbytes // 4)
        return {"seconds": LIBRARY.seconds_of(KINDS["read"], *pointers, n_floats, threads, 3)}

    return {f"limit: read {name}": (lambda x=x: seconds(x)) for name, x in arrays.items()}


CASES = {"gradient.gradient": read}
