"""Rows as two planes of four bits: the first alone is int4 without bias, both together are 121 levels.

Fine codes f = 0 … 120 are rounded from the values stochastically, and coarse codes h = 0 … 15 from the fine
ones, again stochastically, to 8·h: E[8·h | f] = f, so that the first plane is an unbiased matrix of its own,
whose noise is that of both roundings. The second plane holds f − 8·h, which lies in −8 … 7: four bits.
Cutting eight-bit codes in half would cost no bit, but the upper half of a code always errs downwards; an
unbiased one of step 16 would leave −15 … 15 to the second plane, which is five bits. So the step is 8, and
the fine codes have a bit less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scrimp import _core
from scrimp.codecs.base import check_counts
from scrimp.matrix.quantized import (
    QuantizedMatrix,
    empty_codes,
    leaf_number,
    leaf_weights,
    n_leaves,
    row_weights,
    weight_marks,
)
from scrimp.matrix.ranges import Ranges, column_ranges
from scrimp.matrix.tree import LEAF_ROWS

STEP = 8  # fine steps of a coarse one
LEVELS = 15 * STEP  # largest fine code
MIDDLE = 64  # what is taken from fine codes to be int8
OTHER_SEED = 0x5DEECE66D  # the two roundings must not use the same random numbers
BATCH_VALUES = 1 << 22


@dataclass(frozen=True)
class NibblePlanes:
    """An n × d matrix in two planes.

    Attributes
    ----------
    coarse : QuantizedMatrix
        Of 4 bits: the first plane, on the memory of this matrix.
    rest : uint8[n, ⌈d/2⌉]
        The second plane, packed as the first: f − 8·h + 8.
    noise_blocks : float64[n_leaves, d]
        Of the fine codes, as in `QuantizedMatrix`.

    Examples
    --------
    >>> planes = NibblePlanes.from_array(np.linspace(0, 1, 121)[:, None])
    >>> np.abs(planes.fine().dequantize()[:, 0] - np.linspace(0, 1, 121)).max() < 1e-6
    np.True_
    >>> planes.coarse.bits, planes.fine().bits
    (4, 8)
    """

    coarse: QuantizedMatrix
    rest: NDArray[np.uint8]
    noise_blocks: NDArray[np.float64]

    @classmethod
    def from_array(
        cls,
        X: NDArray[Any],
        *,
        seed: int = 0,
        first_row: int = 0,
        sample_weight: ArrayLike | None = None,
        ranges: Ranges | None = None,
        threads: int = 0,
    ) -> NibblePlanes:
        """Quantize rows; parameters are those of `QuantizedMatrix.from_array`.

        Values beyond given `ranges` become the nearer end.
        """
        leaf_number(first_row)
        check_counts(seed=seed)
        found = column_ranges(X, threads=threads) if ranges is None else ranges
        low, scale = _grid(found)
        inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
        n, d = X.shape
        weight = None if sample_weight is None else row_weights(sample_weight, n)
        first, rest = (empty_codes(n, d, 4) for _ in range(2))
        noise, extra, sums = (np.empty((n_leaves(n), d)) for _ in range(3))
        step = max(1, BATCH_VALUES // (LEAF_ROWS * max(d, 1))) * LEAF_ROWS
        for begin in range(0, n, step):
            rows, leaves = slice(begin, begin + step), slice(begin // LEAF_ROWS, (begin + step) // LEAF_ROWS)
            own = None if weight is None else weight[rows]
            fine = np.empty((len(first[rows]), d), np.int8)
            grid, row = (low, inverse), first_row + begin
            x = X[rows] if ranges is None else _within(X[rows], ranges)
            _core.quantize_rows(x, 8, *grid, True, seed, row, own, fine, noise[leaves], sums[leaves], threads)
            if ranges is not None:  # sums are those of the rows themselves
                beyond = X[rows].astype(np.float64) - x.astype(np.float64)
                sums[leaves] += np.add.reduceat(beyond, np.arange(0, len(x), LEAF_ROWS), axis=0)
            codes = np.minimum(fine.view(np.uint8) ^ 128, LEVELS)
            grid = (np.zeros(d), np.full(d, 1 / STEP))
            wide, other, unused = codes.astype(np.float32), seed ^ OTHER_SEED, np.empty_like(sums[leaves])
            _core.quantize_rows(
                wide, 4, *grid, True, other, row, own, first[rows], extra[leaves], unused, threads
            )
            rest[rows] = _packed(np.asarray(codes - STEP * _unpacked(first[rows], d) + STEP, np.uint8))
        noise *= scale**2
        extra = noise + extra * (STEP * scale) ** 2
        weights = (leaf_weights(weight, n), weight_marks(weight, n))
        offset = low + STEP * STEP * scale
        coarse = QuantizedMatrix(first, 4, STEP * scale, offset, extra, sums, *weights, first_row, seed=seed)
        return cls(coarse, rest, noise)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.coarse.shape

    @property
    def nbytes(self) -> int:
        """Bytes of both planes, scales and offsets."""
        return self.coarse.nbytes + self.rest.nbytes

    def fine(self) -> QuantizedMatrix:
        """Put both planes together: int8 codes f − 64, in memory of their own."""
        (n, d), coarse = self.shape, self.coarse
        codes = np.empty((n, d), np.int8)
        step = max(1, BATCH_VALUES // max(d, 1))
        for begin in range(0, n, step):
            rows = slice(begin, begin + step)
            codes[rows] = (
                STEP * _unpacked(coarse.codes[rows], d) + _unpacked(self.rest[rows], d) - (STEP + MIDDLE)
            ).view(np.int8)
        scale = coarse.scale / STEP
        blocks = (self.noise_blocks, coarse.sum_blocks, coarse.weight_blocks, coarse.weight_marks)
        return QuantizedMatrix(codes, 8, scale, coarse.offset, *blocks, coarse.first_row, seed=coarse.seed)


def _within(x: NDArray[Any], ranges: Ranges) -> NDArray[Any]:
    """Take values beyond the ends of their column for the nearer one; NaN stays."""
    low, high = ranges.low.astype(x.dtype), ranges.high.astype(x.dtype)
    return np.asarray(np.minimum(np.maximum(x, low), high))


def _grid(ranges: Ranges) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the smallest value of each column and the distance of fine codes.

    Integers that span up to 120 lie on fine codes; those that span up to 15 on coarse ones.
    """
    ranges.check_size()
    coarse = ranges.grid(4)
    span = 15 * coarse.scale
    wide = np.where(ranges.low < ranges.high, ranges.high - ranges.low, 0.0)
    whole = ranges.integral & (wide > 0) & (wide <= LEVELS)
    power = 2.0 ** np.ceil(np.log2(np.maximum(wide, 15.0) / 15))
    return coarse.low, np.where(whole, power, span / 15) / STEP


def _unpacked(packed: NDArray[np.uint8], d: int) -> NDArray[np.uint8]:
    out: NDArray[np.uint8] = np.concatenate([packed & 15, packed >> 4], axis=1)[:, :d]
    return out


def _packed(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    half = -(-codes.shape[1] // 2)
    out = codes[:, :half].copy()
    out[:, : codes.shape[1] - half] |= codes[:, half:] << 4
    return out
