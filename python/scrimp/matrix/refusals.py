"""Why a sum over rows is no use: looked for once it turned out not to be finite, so that it costs nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scrimp.errors import InputError
from scrimp.matrix.ranges import column_ranges


def check_sums(sums: NDArray[Any], X: Any, **others: ArrayLike | None) -> None:
    """Raise InputError, naming the first value that is not finite, unless all sums are finite.

    Parameters
    ----------
    sums : float64 array
        What was computed of the others.
    X : array[n, d] or QuantizedMatrix
    **others : arrays
        By the name of the argument.
    """
    if np.isfinite(sums).all():
        return
    if isinstance(X, np.ndarray) and X.dtype.kind in "fV":
        column_ranges(X)
    for name, values in others.items():
        array = np.asarray(0.0 if values is None else values, np.float64)
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            where = f"[{', '.join(map(str, bad[0]))}]" if array.ndim else ""
            raise InputError(f"{name}{where} is {array[tuple(bad[0])]}: it must be a finite number")
    raise InputError("sums over the rows overflow: rescale X or y")


def check_loss_targets(y: NDArray[Any], loss: str, k: int) -> None:
    """Raise InputError unless targets are such that the loss means something.

    logistic takes probabilities; softmax class numbers [n], or probabilities [n, k]. NaN is left to
    `check_sums`.
    """
    if loss == "logistic":
        wrong, wish = (y < 0) | (y > 1), "0, 1, or between"
    elif loss == "softmax" and y.shape[1:] in ((), (1,)):
        wrong, wish = (y < 0) | (y >= k) | (y != np.floor(y)) & np.isfinite(y), f"class numbers 0 … {k - 1}"
    elif loss == "softmax":
        wrong, wish = (y < 0) | (y > 1), "probabilities"
    else:
        return
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0])
        raise InputError(f"y of the {loss} loss must be {wish}, got y[{', '.join(map(str, at))}] = {y[at]}")
