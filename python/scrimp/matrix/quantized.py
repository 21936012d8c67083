"""QuantizedMatrix: data rows in 8, 4, 2 or 1 bits, with the exact variance of what rounding did to them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scrimp import _core
from scrimp.codecs.base import check_counts
from scrimp.matrix import storage
from scrimp.matrix.ranges import Ranges, check_bits, column_ranges
from scrimp.matrix.tree import LEAF_ROWS, TreeSum

Rounding = Literal["stochastic", "nearest"]


@dataclass(frozen=True)
class QuantizedMatrix:
    """An n × d matrix as codes, with one scale and one offset a column: x ≈ offset + scale·code.

    Build it with `from_array`, `from_codes` or `open`. With stochastic rounding E[code] is exact, so that
    Qᵀy is an unbiased Xᵀy, and E[QᵀQ] = XᵀX + diag(noise).

    Attributes
    ----------
    codes : int8[n, d], or uint8[n, ⌈d·bits/8⌉] below 8 bits
        In −2^(bits−1) … 2^(bits−1) − 1. Packed rows hold code i + h·p of column group p in byte i (h bytes
        a row), from the low bits up, as code + 2^(bits−1).
    scale, offset : float64[d]
    noise_blocks : float64[n_leaves, d]
        Σ w_i·Var(e_ij) over the rows of each leaf of 4,096 rows; Var = scale²·f(1−f) where the value lies
        the fraction f above a grid point, 0 with nearest rounding.
    sum_blocks : float64[n_leaves, d]
        Σ w_i·x_ij of the original values.
    weight_blocks : float64[n_leaves]
        Σ w_i.
    weight_marks : float64[n_leaves]
        Fingerprints of the sample weights that the blocks were added up with; 0: none.
    first_row : int
        Absolute number of row 0, a multiple of 4,096.

    Examples
    --------
    >>> Q = QuantizedMatrix.from_array(np.array([[0.0, 2.0], [1.0, 3.5]]), bits=4, rounding="nearest")
    >>> Q.shape, Q.nbytes, Q.dequantize().tolist()
    ((2, 2), 34, [[0.0, 2.0], [1.0, 3.5]])
    """

    codes: NDArray[Any]
    bits: int
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]
    noise_blocks: NDArray[np.float64]
    sum_blocks: NDArray[np.float64]
    weight_blocks: NDArray[np.float64]
    weight_marks: NDArray[np.float64]
    first_row: int = 0
    rounding: Rounding = "stochastic"
    seed: int = 0

    @classmethod
    def from_array(
        cls,
        X: NDArray[Any],
        bits: int = 8,
        *,
        rounding: Rounding = "stochastic",
        seed: int = 0,
        first_row: int = 0,
        sample_weight: ArrayLike | None = None,
        ranges: Ranges | None = None,
        threads: int = 0,
    ) -> QuantizedMatrix:
        """Quantize rows.

        Parameters
        ----------
        X : bfloat16, float16, float32 or float64 array[n, d]
            Any strides; finite.
        bits : {8, 4, 2, 1}
            Width of a code.
        rounding : {"stochastic", "nearest"}
            Stochastic rounding is a pure function of (seed, absolute row, column).
        seed, first_row : int
            `first_row` is the absolute number of row 0, a multiple of `LEAF_ROWS`.
        sample_weight : float array[n], optional
            Weights of the rows in `noise` and the column means.
        ranges : Ranges, optional
            Ranges of the whole matrix of which X is a shard, so that all shards share one grid. Values
            outside are clipped to the grid. By default X is read once more to find them.
        threads : int
            0 chooses by size. The result does not depend on it.

        Raises
        ------
        InputError
            If X holds NaN or infinity.
        """
        check_bits(bits)
        leaf_number(first_row)
        check_counts(seed=seed)
        key = (is_stochastic(rounding), seed, first_row)
        grid = (column_ranges(X, threads=threads) if ranges is None else ranges).grid(bits)
        n, d = X.shape
        codes = empty_codes(n, d, bits)
        noise, sums = np.empty((n_leaves(n), d)), np.empty((n_leaves(n), d))
        weight = None if sample_weight is None else row_weights(sample_weight, n)
        _core.quantize_rows(X, bits, grid.low, grid.inverse, *key, weight, codes, noise, sums, threads)
        noise *= grid.scale**2
        own = (leaf_weights(weight, n), weight_marks(weight, n))
        return cls(codes, bits, grid.scale, grid.offset, noise, sums, *own, first_row, rounding, seed)

    @classmethod
    def from_codes(
        cls,
        codes: NDArray[np.int8],
        scale: ArrayLike = 1.0,
        offset: ArrayLike = 0.0,
        *,
        first_row: int = 0,
    ) -> QuantizedMatrix:
        """Take int8 rows as they are (no copy): x = offset + scale·code exactly.

        Parameters
        ----------
        codes : int8[n, d], C-contiguous
        scale, offset : float or float array[d]
        first_row : int
            Absolute number of row 0, a multiple of `LEAF_ROWS`.
        """
        if codes.ndim != 2 or codes.dtype != np.int8:
            raise ValueError(f"codes must be an int8[n, d] array, got {codes.dtype}{codes.shape}")
        leaf_number(first_row)
        n, d = codes.shape
        scales, offsets = (np.broadcast_to(np.asarray(a, np.float64), d).copy() for a in (scale, offset))
        weights = leaf_weights(None, n)
        starts = np.arange(0, n, LEAF_ROWS)
        sums = np.add.reduceat(codes, starts, axis=0, dtype=np.int64) if n else np.zeros((0, d), np.int64)
        exact = offsets * weights[:, None] + scales * sums
        blocks = (np.zeros_like(exact), exact, weights, weight_marks(None, n))
        return cls(np.ascontiguousarray(codes), 8, scales, offsets, *blocks, first_row=first_row)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return len(self.codes), len(self.scale)

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales and offsets."""
        return int(self.codes.nbytes + self.scale.nbytes + self.offset.nbytes)

    @cached_property
    def noise(self) -> NDArray[np.float64]:
        """float64[d]: Σ_i w_i·Var(e_ij), the diagonal that rounding adds to QᵀQ."""
        return TreeSum.from_leaves(self.noise_blocks, 0).total()

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """float64[d]: weighted column means of the original values."""
        weight = TreeSum.from_leaves(self.weight_blocks[:, None], 0).total()
        return np.asarray(TreeSum.from_leaves(self.sum_blocks, 0).total() / weight)

    def dequantize(
        self, rows: slice | NDArray[Any] = slice(None), *, threads: int = 0
    ) -> NDArray[np.float32]:
        """Give rows as float32: offset + scale·code, rounded once.

        Parameters
        ----------
        rows : slice or array of row numbers
            Which rows.
        threads : int
            0 chooses by size.
        """
        if not isinstance(rows, slice) and np.ndim(rows) != 1:
            raise TypeError(f"rows must be a slice or an array of row numbers, got {rows!r}")
        codes = np.ascontiguousarray(self.codes[rows if isinstance(rows, slice) else np.asarray(rows)])
        out = np.empty((len(codes), self.shape[1]), np.float32)
        _core.dequantize_rows(codes, self.bits, self.scale, self.offset, out, threads)
        return out

    def exactly(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Give decoded rows or means, [d] or [n, d], in float64: those of constant columns to the bit."""
        return np.where(self.scale == 0, self.offset, np.asarray(x, np.float64))

    def leaves(self, first: int, last: int) -> QuantizedMatrix:
        """Give the rows of the leaves first … last − 1, counted from row 0, on the same memory."""
        if not 0 <= first <= last <= len(self.weight_blocks):
            raise ValueError(f"leaves must lie in 0 … {len(self.weight_blocks)}, got {first} … {last}")
        blocks = slice(first, last)
        return QuantizedMatrix(
            self.codes[first * LEAF_ROWS : last * LEAF_ROWS],
            self.bits,
            self.scale,
            self.offset,
            self.noise_blocks[blocks],
            self.sum_blocks[blocks],
            self.weight_blocks[blocks],
            self.weight_marks[blocks],
            self.first_row + first * LEAF_ROWS,
            self.rounding,
            self.seed,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file that `open` maps; an existing one is replaced once the new one is complete."""
        storage.save(self, path)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, verify: bool = False) -> QuantizedMatrix:
        """Map a file that `save` wrote: codes are read from disk as they are used, and are read-only.

        Parameters
        ----------
        path : path
        verify : bool
            Also read all codes and check their crc32c.

        Raises
        ------
        CodecError
            If the file is damaged, cut short or of another format.
        """
        return cls(**storage.load(path, verify=verify))


def is_stochastic(rounding: str) -> bool:
    """Whether rounding is stochastic; ValueError unless it is that or nearest."""
    if rounding not in ("stochastic", "nearest"):
        raise ValueError(f"rounding must be 'stochastic' or 'nearest', got {rounding!r}")
    return rounding == "stochastic"


def empty_codes(n: int, d: int, bits: int) -> NDArray[Any]:
    """Rows of codes to fill, at the beginning of a cache line: NumPy's own begin 16 bytes behind one."""
    width = d if bits == 8 else -(-d * bits // 8)
    room = np.empty(n * width + 64, np.uint8)
    start = -room.ctypes.data % 64
    codes = room[start : start + n * width].reshape(n, width)
    return codes.view(np.int8) if bits == 8 else codes


def n_leaves(n: int) -> int:
    """Leaves that n rows take."""
    return -(-n // LEAF_ROWS)


def leaf_number(first_row: int) -> int:
    """Global number of the leaf that begins at a row; ValueError if none does."""
    if first_row < 0 or first_row % LEAF_ROWS:
        raise ValueError(f"first_row must be a multiple of {LEAF_ROWS}, got {first_row}")
    return first_row // LEAF_ROWS


def row_weights(sample_weight: ArrayLike, n: int) -> NDArray[np.float64]:
    """Weights as float64[n]; ValueError on another length, a negative or a non-finite weight."""
    weight = np.ascontiguousarray(sample_weight, dtype=np.float64)
    if weight.shape != (n,):
        raise ValueError(f"sample_weight must have shape ({n},), got {weight.shape}")
    if not (weight >= 0).all() or not np.isfinite(weight).all():
        raise ValueError("sample_weight must hold finite numbers >= 0")
    return weight


def leaf_weights(weight: NDArray[np.float64] | None, n: int) -> NDArray[np.float64]:
    """Sum of the weights of each leaf."""
    starts = np.arange(0, n, LEAF_ROWS)
    if weight is None:
        return np.minimum(n - starts, LEAF_ROWS).astype(np.float64)
    return np.add.reduceat(weight, starts) if n else np.zeros(0)


def weight_marks(weight: NDArray[np.float64] | None, n: int) -> NDArray[np.float64]:
    """Fingerprint of the sample weights of each leaf; 0 for none."""
    if weight is None:
        return np.zeros(n_leaves(n))
    leaves = (weight[row : row + LEAF_ROWS] for row in range(0, n, LEAF_ROWS))
    return np.array([1.0 + _core.crc32c(leaf.view(np.uint8)) for leaf in leaves])
