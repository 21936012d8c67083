"""`quantize`: the lattice round(w/step)·step, from which all other codecs descend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def quantize(w: ArrayLike, step: float) -> NDArray[Any]:
    """Round every value to the nearest multiple of step.

    Parameters
    ----------
    w : array of floats, any shape
        Integers are taken as float64. NaN and infinities stay as they are.
    step : float
        Distance of neighbouring lattice points; positive and finite, also in the dtype of w.

    Returns
    -------
    array, shape and float dtype of w
        `np.round(w / step) * step`, half to even, computed in the dtype of w.

    Examples
    --------
    >>> quantize(np.array([0.1, 0.26, -0.4], dtype=np.float32), 0.25).tolist()
    [0.0, 0.25, -0.5]
    """
    values = np.asarray(w)
    if values.dtype.kind in "iub":
        values = values.astype(np.float64)
    if values.dtype.kind != "f":
        raise TypeError(f"w must be an array of floats, got {values.dtype}")
    if isinstance(step, np.ndarray) or not isinstance(step, (int, float, np.integer, np.floating)):
        raise TypeError(f"step must be a number, got {type(step).__name__}")
    k = values.dtype.type(step)
    if not (math.isfinite(step) and step > 0 and np.isfinite(k) and k > 0):
        raise ValueError(f"step must be positive and finite in {values.dtype}, got {step}")
    with np.errstate(all="ignore"):
        scaled = np.asarray(values / k)
        np.rint(scaled, out=scaled)
        np.multiply(scaled, k, out=scaled)
    return scaled
