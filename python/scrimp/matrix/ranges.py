"""Smallest and largest value of every column, and the grids of codes made from them.

Minimum and maximum commute, so that shards of any size agree on one grid.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrimp import _core
from scrimp.errors import CodecError, InputError
from scrimp.matrix.file_rows import BATCH_BYTES, FileRows

BITS = (8, 4, 2, 1)
LARGEST = 1e140  # squares of it, summed over any rows, are finite


def check_bits(bits: int) -> int:
    """Return `bits` if codes may have so many; ValueError otherwise."""
    if bits not in BITS:
        raise ValueError(f"bits must be one of {', '.join(map(str, BITS))}, got {bits!r}")
    return bits


@dataclass(frozen=True)
class Grid:
    """Values that codes of one column may stand for: low, low + scale, … low + (2^bits − 1)·scale.

    Parameters
    ----------
    bits : {8, 4, 2, 1}
    low, scale : float64[d]
        Smallest value and distance of two neighbours; 0 in a constant column.
    """

    bits: int
    low: NDArray[np.float64]
    scale: NDArray[np.float64]

    @property
    def offset(self) -> NDArray[np.float64]:
        """float64[d]: x ≈ offset + scale·code with codes in −2^(bits−1) … 2^(bits−1) − 1."""
        return self.low + (1 << (self.bits - 1)) * self.scale

    @property
    def inverse(self) -> NDArray[np.float64]:
        """float64[d]: 1/scale; 0 in a constant column."""
        return np.divide(1.0, self.scale, out=np.zeros_like(self.scale), where=self.scale > 0)


@dataclass(frozen=True)
class Ranges:
    """What is known of the columns of a matrix.

    Parameters
    ----------
    low, high : float64[d]
        Smallest and largest value of each column; +inf and −inf where there are no rows.
    integral : bool[d]
        Whether all values of the column are integers.

    Examples
    --------
    >>> column_ranges(np.array([[0.0, 5.0], [1.0, 6.5]])).grid(8).scale.tolist()  # a 0/1 column is exact
    [1.0, 0.0058823529411764705]
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    integral: NDArray[np.bool_]

    def grid(self, bits: int) -> Grid:
        """Lay a grid of 2^bits values from `low` to `high` through every column.

        A column of integers that span less than 2^bits gets the scale 1: it is stored exactly. A constant
        column gets the scale 0.

        Raises
        ------
        InputError
            If values are so large that squares of them overflow.
        """
        levels = (1 << check_bits(bits)) - 1
        self.check_size()
        span = self._span()
        scale = np.where(self.integral & (span <= levels) & (span > 0), 1.0, span / levels)
        low = np.where(np.isfinite(self.low), self.low, 0.0) + 0.0  # + 0.0: no column begins at −0
        return Grid(bits, low, scale)

    def check_size(self, largest: float = LARGEST, least: float = 0.0) -> None:
        """Raise InputError unless values are within ±`largest` and columns constant or wider than `least`.

        Beyond, their squares, or sums of those, are infinite or 0, and a fit would silently be wrong.
        """
        span = self._span()
        reach = np.maximum(np.abs(self.low), np.abs(self.high))
        wrong = np.flatnonzero((np.isfinite(reach) & (reach > largest)) | ((span > 0) & (span < least)))
        if not len(wrong):
            return
        j = int(wrong[0])
        ends = f"X[:, {j}] spans {self.low[j]:.6g} … {self.high[j]:.6g}"
        if reach[j] > largest:
            raise InputError(f"{ends}: values must be within ±{largest:g}; rescale the column")
        raise InputError(f"{ends}: it must vary by {least:g} or more, or not at all; rescale the column")

    def _span(self) -> NDArray[np.float64]:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.where(self.low < self.high, self.high - self.low, 0.0)

    @classmethod
    def merge(cls, parts: Iterable[Ranges]) -> Ranges:
        """Ranges of the rows of all parts together."""
        parts = list(parts)
        return cls(
            np.minimum.reduce([part.low for part in parts]),
            np.maximum.reduce([part.high for part in parts]),
            np.logical_and.reduce([part.integral for part in parts]),
        )

    def to_bytes(self) -> bytes:
        """Write low, high and integral, little-endian."""
        return self.low.astype("<f8").tobytes() + self.high.astype("<f8").tobytes() + self.integral.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Ranges:
        """Read what `to_bytes` wrote."""
        d, rest = divmod(len(data), 17)
        if rest:
            raise CodecError(f"ranges take 17 bytes a column, got {len(data)} bytes")
        low, high = np.frombuffer(data, "<f8", 2 * d).astype(np.float64).reshape(2, d)
        return cls(low, high, np.frombuffer(data, np.bool_, offset=16 * d).copy())


def column_ranges(X: NDArray[Any], *, threads: int = 0, rows: range | None = None) -> Ranges:
    """Find the ranges of the columns of X.

    Parameters
    ----------
    X : bfloat16, float16, float32 or float64 array[n, d]
        Any strides.
    threads : int
        0 chooses by size.
    rows : range, optional
        What messages call the rows, if X is a part: the rows of the whole.

    Raises
    ------
    InputError
        If X holds NaN or infinity; it names the first row and column.
    """
    if not isinstance(X, np.ndarray) or X.ndim != 2:
        got = f"{X.dtype}{X.shape}" if isinstance(X, np.ndarray) else type(X).__name__
        raise ValueError(f"X must be a 2-D array, got {got}")
    file, numbers = FileRows.of(X), range(len(X)) if rows is None else rows
    if file is None:
        return _ranges_of(X, numbers, threads)
    step = max(1, BATCH_BYTES // file.row_nbytes)
    slices = (slice(i, min(i + step, len(X))) for i in range(0, len(X), step))
    return Ranges.merge(_ranges_of(X[part], numbers[part], threads) for part in file.batches(slices))


def _ranges_of(X: NDArray[Any], rows: range, threads: int) -> Ranges:
    low, high, integral = np.empty(X.shape[1]), np.empty(X.shape[1]), np.empty(X.shape[1], np.uint8)
    bad = _core.column_ranges(X, low, high, integral, threads)
    if bad is not None:
        raise InputError(f"X[{rows[bad[0]]}, {bad[1]}] is {X[bad]}: rows must hold finite numbers")
    return Ranges(low, high, integral.astype(np.bool_))
