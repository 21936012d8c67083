"""Gradients of many outputs: a BLAS multiplies the rows of a leaf, the kernels of the losses do the rest.

The kernels of `gradient` multiply and add in two instructions, since every instruction set gives the same
bits; a BLAS has one for both.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrimp import _core
from scrimp.matrix.blas import one_thread
from scrimp.matrix.tree import LEAF_ROWS

MANY_OUTPUTS = 64
_FLOATS = ("bfloat16", "float16", "float32", "float64")


def has_many_outputs(array: NDArray[Any], k: int) -> bool:
    """Whether a BLAS is faster for k outputs of these rows; codes are multiplied as integers."""
    return k >= MANY_OUTPUTS and array.dtype.name in _FLOATS and array.dtype.isnative


def fill_many(
    array: NDArray[Any],
    targets: NDArray[Any],
    weight: NDArray[np.float64] | None,
    w: NDArray[np.float64],
    bias: NDArray[np.float64],
    loss: str,
    delta: float,
    precise: bool,
    threads: int,
    out: NDArray[np.float64],
) -> None:
    """Do as `_core.gradient` does on float rows: fill out[n_leaves, d·k + k + 2].

    Threads take whole leaves and the BLAS has one, so that the bits do not depend on how many there are. They
    do depend on the BLAS and the processor.
    """
    dtype: Any = np.float64 if precise else np.float32
    weights = w.astype(dtype)

    def fill_leaf(leaf: int) -> None:
        rows = slice(leaf * LEAF_ROWS, (leaf + 1) * LEAF_ROWS)
        with np.errstate(all="ignore"):  # sums that are not finite are looked into by the caller
            X = np.ascontiguousarray(array[rows], dtype)
            scores = X @ weights
            own = None if weight is None else weight[rows]
            _core.slopes(scores, targets[rows], own, bias, loss, delta, out[leaf, w.size :])
            out[leaf, : w.size].reshape(w.shape)[...] = X.T @ scores

    workers = max(1, min(threads or _core.default_threads(), len(out)))
    with one_thread(), ThreadPoolExecutor(workers, "scrimp-leaf") as pool:
        list(pool.map(fill_leaf, range(len(out))))
