"""Parameters of any shape as one flat vector, and back. The loops see only the vector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Structure:
    """How an array, or a tuple, list or dict of arrays, lies in one vector.

    Examples
    --------
    >>> w = {"hidden": np.zeros((2, 3), np.float32), "bias": np.ones(3, np.float32)}
    >>> structure = Structure.of(w)
    >>> structure.size
    9
    >>> structure.unflatten(structure.flatten(w))["bias"]
    array([1., 1., 1.], dtype=float32)
    """

    kind: type
    keys: tuple[Any, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, w: Any) -> Structure:
        """Read the structure of initial weights; float64 if any array is float64 or integer."""
        kind = type(w) if isinstance(w, (tuple, list, dict)) else np.ndarray
        keys = tuple(w) if isinstance(w, dict) else ()
        arrays = [np.asarray(a) for a in _leaves(w)]
        if not arrays:
            raise ValueError("w0 must hold at least one array, got an empty " + kind.__name__)
        dtype = np.result_type(np.float32, *arrays)
        if dtype.kind != "f":
            raise TypeError(f"w0 must hold real numbers, got {dtype}")
        return cls(kind, keys, tuple(a.shape for a in arrays), dtype)

    @property
    def size(self) -> int:
        """Number of values in the vector."""
        return sum(math.prod(shape) for shape in self.shapes)

    def flatten(self, w: Any, out: Vector | None = None) -> Vector:
        """Copy all arrays into one vector, in order."""
        arrays = [np.asarray(a) for a in _leaves(w)]
        shapes = tuple(a.shape for a in arrays)
        if shapes != self.shapes:
            raise ValueError(f"arrays must have the shapes of w0, {list(self.shapes)}, got {list(shapes)}")
        out = np.empty(self.size, self.dtype) if out is None else out
        start = 0
        for a in arrays:
            out[start : start + a.size] = a.ravel()
            start += a.size
        return out

    def unflatten(self, vector: Vector) -> Any:
        """Return views of the vector in the structure of `w0`."""
        views, start = [], 0
        for shape in self.shapes:
            size = math.prod(shape)
            views.append(vector[start : start + size].reshape(shape))
            start += size
        if self.kind is np.ndarray:
            return views[0]
        return dict(zip(self.keys, views, strict=True)) if self.kind is dict else self.kind(views)


def _leaves(w: Any) -> list[Any]:
    if isinstance(w, dict):
        return list(w.values())
    return list(w) if isinstance(w, (tuple, list)) else [w]
