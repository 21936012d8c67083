"""Gram matrices of data rows: exact in the codes of a QuantizedMatrix, float64 by leaves otherwise."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scrimp import _core
from scrimp.errors import CodecError, InputError
from scrimp.matrix.gradients import Source, float_targets
from scrimp.matrix.quantized import QuantizedMatrix, Rounding, is_stochastic, row_weights
from scrimp.matrix.ranges import Grid, Ranges, column_ranges
from scrimp.matrix.refusals import check_sums
from scrimp.matrix.tree import LEAF_ROWS, TreeSum

Doubles = NDArray[np.float64]
_HEAD = struct.Struct("<4sBQQ")  # magic, whether there are codes, d, k
_MAGIC = b"scgr"
_CODE_ROWS = 16 * LEAF_ROWS  # rows whose codes are held at once


@dataclass(frozen=True)
class Gram:
    """Second moments of rows x and targets y, with the rounding noise of quantized rows removed.

    Attributes
    ----------
    about : float64[d]
        The point that `moment` is taken about.
    moment : float64[d, d]
        Σ w·(q − about)(q − about)ᵀ − diag(noise), q the rows as stored; an unbiased Σ w·(x − about)(x −
        about)ᵀ.
    drift : float64[d]
        Σ w·(q − about).
    mean : float64[d]
        Exact means of the original columns.
    cross : float64[d, k]
        Σ w·(q − about)·yᵀ.
    y_mean : float64[k]
    y_square : float
        Σ w·‖y‖².
    n : float
        Σ w; the number of rows without weights.
    noise : float64[d]
        Σ w·Var(e): zeros where rows are exact.
    codes : int64[d, d] or None
        Σ c·cᵀ of the codes of a QuantizedMatrix (or int8 rows), exact for any number of rows.
    y_ndim : int
        1 if y was a vector.
    """

    about: Doubles
    moment: Doubles
    drift: Doubles
    mean: Doubles
    cross: Doubles
    y_mean: Doubles
    y_square: float
    n: float
    noise: Doubles
    codes: NDArray[np.int64] | None = None
    y_ndim: int = 1

    @cached_property
    def xtx(self) -> Doubles:
        """float64[d, d]: XᵀX."""
        return self._moved(-self.about)

    @cached_property
    def xty(self) -> Doubles:
        """float64[d] or float64[d, k]: Xᵀy."""
        return self._shaped(self.cross + np.outer(self.about, self.n * self.y_mean))

    def centered(self) -> tuple[Doubles, Doubles]:
        """Give (X − mean)ᵀ(X − mean) and (X − mean)ᵀ(y − ȳ), as a fit with an intercept needs them."""
        cross = self.cross - np.outer(self.drift, self.y_mean)
        return self._moved(self.mean - self.about), self._shaped(cross)

    def of_rows(self, n: float) -> Gram:
        """Take the rows for an even sample of `n`: all sums are multiplied."""
        by = n / self.n
        sums = {name: by * getattr(self, name) for name in ("moment", "drift", "cross", "y_square", "noise")}
        return replace(self, **sums, n=n, codes=None)

    def _moved(self, by: Doubles) -> Doubles:
        mixed = np.outer(by, self.drift)
        return self.moment - (mixed + mixed.T) + self.n * np.outer(by, by)

    def _shaped(self, cross: Doubles) -> Doubles:
        return cross[:, 0] if self.y_ndim == 1 and cross.shape[1] == 1 else cross


@dataclass(frozen=True)
class GramSums:
    """A shard's part of a Gram matrix: it merges over shards without changing a bit.

    Attributes
    ----------
    d, k : int
        Columns of X and of y.
    tree : TreeSum
        Of codes: Qᵀy, Σy, Σ‖y‖², n. Of floats and weighted codes: the upper triangle of Σ w·v·vᵀ,
        v = (x − shift, y, 1). After either: exact column sums Σ w·x and the noise.
    codes, code_sums : int64[d, d], int64[d] or None
        Σ c·cᵀ and Σ c.
    scale, offset : float64[d] or None
        Grid of the codes.
    shift : float64[d] or None
        What floats are taken about.
    exact_mean : bool
        Whether `tree` holds exact column sums; else the means are those of the rows as stored.
    """

    d: int
    k: int
    tree: TreeSum
    codes: NDArray[np.int64] | None = None
    code_sums: NDArray[np.int64] | None = None
    scale: Doubles | None = None
    offset: Doubles | None = None
    shift: Doubles | None = None
    exact_mean: bool = False
    y_ndim: int = 1

    @classmethod
    def merge(cls, parts: Iterable[GramSums]) -> GramSums:
        """Sum over the rows of all parts, in any order; ValueError unless they share grid and shift."""
        parts = list(parts)
        first = parts[0]
        for part in parts[1:]:
            if not _same_frame(first, part):
                raise ValueError("parts must share grid and shift: quantize all shards with one `ranges`")
        return cls(
            first.d,
            first.k,
            TreeSum.merge(part.tree for part in parts),
            _added([part.codes for part in parts]),
            _added([part.code_sums for part in parts]),
            first.scale,
            first.offset,
            first.shift,
            first.exact_mean,
            first.y_ndim,
        )

    def gram(self) -> Gram:
        """Finish the sum: moments with the noise removed.

        Raises
        ------
        InputError
            If there are no rows, or the weights sum to 0.
        """
        return self._of_codes() if self.codes is not None else self._of_floats()

    def _of_codes(self) -> Gram:
        d, k, total = self.d, self.k, self.tree.total()
        assert self.codes is not None
        assert self.code_sums is not None
        assert self.scale is not None
        assert self.offset is not None
        n = _positive(total[d * k + k + 1])
        code_mean = self.code_sums / n
        y_sum = total[d * k : d * k + k]
        about = self.offset + self.scale * code_mean
        moment = self.codes - np.outer(code_mean, self.code_sums)
        noise = total[-d:]
        return Gram(
            about=about,
            moment=moment * np.outer(self.scale, self.scale) - np.diag(noise),
            drift=np.zeros(d),
            mean=self._mean(total, n, about),
            cross=total[: d * k].reshape(d, k) - np.outer(about, y_sum),
            y_mean=y_sum / n,
            y_square=float(total[d * k + k]),
            n=n,
            noise=noise,
            codes=self.codes,
            y_ndim=self.y_ndim,
        )

    def _of_floats(self) -> Gram:
        d, k, m = self.d, self.k, self.d + self.k + 1
        assert self.shift is not None
        total = self.tree.total()
        full = np.zeros((m, m))
        full[np.triu_indices(m)] = total[: m * (m + 1) // 2]
        n = _positive(full[-1, -1])
        noise = total[-d:]
        upper = np.triu(full[:d, :d], 1)
        return Gram(
            about=self.shift,
            moment=upper + upper.T + np.diag(np.diag(full)[:d] - noise),
            drift=full[:d, -1],
            mean=self._mean(total, n, self.shift + full[:d, -1] / n),
            cross=full[:d, d : d + k],
            y_mean=full[d : d + k, -1] / n,
            y_square=float(np.diag(full)[d : d + k].sum()),
            n=n,
            noise=noise,
            y_ndim=self.y_ndim,
        )

    def _mean(self, total: Doubles, n: float, stored: Doubles) -> Doubles:
        """Return the exact means where the sums know them, of constant columns to the bit; else `stored`."""
        if not self.exact_mean:
            return stored
        exact = total[-2 * self.d : -self.d] / n
        if self.scale is None or self.offset is None:
            return exact
        return np.where(self.scale == 0, self.offset, exact)

    def to_bytes(self) -> bytes:
        """Write all sums, little-endian, without grid and shift: `from_bytes` has those at hand."""
        head = _HEAD.pack(_MAGIC, self.codes is not None, self.d, self.k)
        if self.codes is None or self.code_sums is None:
            return head + self.tree.to_bytes()
        triangle = self.codes[np.triu_indices(self.d)].astype("<i8").tobytes()
        return head + triangle + self.code_sums.astype("<i8").tobytes() + self.tree.to_bytes()

    def from_bytes(self, data: bytes) -> GramSums:
        """Read what `to_bytes` of another part of the same matrix wrote; grid and shift are this part's."""
        if len(data) < _HEAD.size:
            raise CodecError(f"Gram sums have at least {_HEAD.size} bytes, got {len(data)}")
        magic, exact, d, k = _HEAD.unpack_from(data)
        if (magic, bool(exact), d, k) != (_MAGIC, self.codes is not None, self.d, self.k):
            raise CodecError(f"not Gram sums of {self.d} columns and {self.k} targets like those at hand")
        codes = code_sums = None
        at = _HEAD.size
        if exact:
            size = d * (d + 1) // 2
            if len(data) < at + 8 * (size + d):
                raise CodecError(f"Gram sums of {d} columns are cut short: {len(data)} bytes")
            codes = np.zeros((d, d), np.int64)
            codes[np.triu_indices(d)] = np.frombuffer(data, "<i8", size, at)
            codes += np.triu(codes, 1).T
            code_sums = np.frombuffer(data, "<i8", d, at + 8 * size).astype(np.int64)
            at += 8 * (size + d)
        tree = TreeSum.from_bytes(data[at:])
        if tree.width != self.tree.width:
            raise CodecError(f"Gram sums must have {self.tree.width} values a node, got {tree.width}")
        frame = (self.scale, self.offset, self.shift, self.exact_mean, self.y_ndim)
        return GramSums(self.d, self.k, tree, codes, code_sums, *frame)


def gram_sums(
    X: NDArray[Any] | QuantizedMatrix,
    y: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    shift: ArrayLike | None = None,
    bits: int | None = None,
    rounding: Rounding = "stochastic",
    seed: int = 0,
    ranges: Ranges | None = None,
    first_row: int | None = None,
    threads: int = 0,
) -> GramSums:
    """Sum second moments over rows, by leaves: the shard's part of `gram`.

    Parameters
    ----------
    X : bfloat16, float16, float32, float64 or int8 array[n, d], any strides; or QuantizedMatrix
    y : array[n] or array[n, k], optional
    sample_weight : array[n], optional
        Weights of the rows, >= 0. With weights the Gram matrix of codes is a float64 sum.
    shift : float array[d], optional
        Subtracted from rows before they are multiplied as floats; the same for all shards. Anything near the
        column means keeps `centered` accurate. Default 0, of codes the offset of their grid.
    bits, rounding, seed, ranges
        Of float rows: round them to codes on the way, as `QuantizedMatrix.from_array` does with these, but
        keep no codes.
    first_row : int, optional
        Absolute number of row 0, a multiple of `LEAF_ROWS`; 0 by default, or that of the QuantizedMatrix.
    threads : int
        0 chooses by size. The result does not depend on it.
    """
    source = Source.of(X, first_row)
    targets = None if y is None else float_targets(y, source.n)
    weight = None if sample_weight is None else row_weights(sample_weight, source.n)
    if bits is not None and not source.has_codes:
        given = {"rounding": rounding, "seed": seed, "ranges": ranges, "threads": threads}
        return _rounded(source, targets, weight, bits, given)
    if weight is None and source.has_codes:
        return _code_sums(source, targets, threads)
    return _float_sums(source, targets, weight, shift, threads)


def gram(
    X: NDArray[Any] | QuantizedMatrix,
    y: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    threads: int = 0,
) -> Gram:
    """Compute XᵀX, Xᵀy and the means in one pass over the rows.

    Parameters
    ----------
    X : bfloat16, float16, float32, float64 or int8 array[n, d], any strides; or QuantizedMatrix
    y : array[n] or array[n, k], optional
    sample_weight : array[n], optional
        Weights of the rows, >= 0.
    threads : int
        0 chooses by size. The result does not depend on it.

    Returns
    -------
    Gram
        `xtx`, `xty`, `mean`, `n`, `centered()`. On a QuantizedMatrix XᵀX is QᵀQ − diag(noise), unbiased;
        `codes` is the exact int64 Gram matrix of the codes.

    Raises
    ------
    InputError
        If there are no rows, the weights sum to 0, or a value is not finite: it names the first.

    Examples
    --------
    >>> gram(np.array([[1.0, 2.0], [3.0, 4.0]]), [1.0, 0.0]).xtx.tolist()
    [[10.0, 14.0], [14.0, 20.0]]
    """
    shift = None
    if not isinstance(X, QuantizedMatrix) and len(X):
        with np.errstate(all="ignore"):
            shift = np.asarray(X[:LEAF_ROWS], np.float64).mean(axis=0)
    sums = gram_sums(X, y, sample_weight=sample_weight, shift=shift, first_row=0, threads=threads)
    with np.errstate(all="ignore"):
        found = sums.gram()
        check_sums(np.append(found.moment, found.cross), X, y=y)
    return found


def _rounded(
    source: Source, y: NDArray[Any] | None, weight: Doubles | None, bits: int, given: dict[str, Any]
) -> GramSums:
    if weight is not None:
        return _rounded_and_weighted(source, y, weight, bits, given)
    stochastic = is_stochastic(given["rounding"])
    ranges = given["ranges"] or column_ranges(source.array, threads=given["threads"])
    return _rounded_sums(source, y, ranges.grid(bits), (stochastic, given["seed"]), given["threads"])


def _rounded_and_weighted(
    source: Source, y: NDArray[Any] | None, weight: Doubles, bits: int, given: dict[str, Any]
) -> GramSums:
    """Sum codes times weights, which are float64 sums; the codes of a few leaves at a time."""
    given["ranges"] = given["ranges"] or column_ranges(source.array, threads=given["threads"])
    parts: list[GramSums] = []
    for begin in range(0, max(source.n, 1), _CODE_ROWS):
        rows = slice(begin, begin + _CODE_ROWS)
        Q = QuantizedMatrix.from_array(
            source.array[rows],
            bits,
            first_row=source.first_row + begin,
            sample_weight=weight[rows],
            **given,
        )
        y_rows = None if y is None else y[rows]
        parts.append(gram_sums(Q, y_rows, sample_weight=weight[rows], threads=given["threads"]))
        parts = [GramSums.merge(parts)]
    return parts[0]


def _code_sums(source: Source, y: NDArray[Any] | None, threads: int) -> GramSums:
    """Rows that are codes already: their noise and exact column sums were added up when they were made."""
    d, k = source.d, _columns(y)
    scale, offset = _grid(source)
    noise, sums = source.noise(None), source.exact_sums(None)
    total = _IntegerSums(d)

    def fill(rows: slice, leaves: slice, out: Doubles) -> None:
        part = np.empty((len(out), d * k + k + 2))
        y_rows = None if y is None else y[rows]
        no_rounding = (None, None, False, 0, 0)
        array = source.array[rows]
        _core.code_gram(array, source.bits, scale, offset, y_rows, *no_rounding, *total.next(), part, threads)
        out[:, : -2 * d] = part
        out[:, -2 * d : -d] = 0.0 if sums is None else sums[leaves]
        out[:, -d:] = 0.0 if noise is None else noise[leaves]

    tree = source.sum_leaves(d * k + k + 2 + 2 * d, fill)
    return GramSums(d, k, tree, *total.all(), scale, offset, None, sums is not None, _ndim(y))


def _rounded_sums(
    source: Source, y: NDArray[Any] | None, grid: Grid, key: tuple[bool, int], threads: int
) -> GramSums:
    """Float rows, rounded to codes on the way and never stored."""
    d, k = source.d, _columns(y)
    total = _IntegerSums(d)

    def fill(rows: slice, leaves: slice, out: Doubles) -> None:
        array, y_rows = source.array[rows], None if y is None else y[rows]
        rounding = (grid.low, grid.inverse, *key, source.first_row + rows.start)
        _core.code_gram(
            array, grid.bits, grid.scale, grid.offset, y_rows, *rounding, *total.next(), out, threads
        )

    tree = source.sum_leaves(d * k + k + 2 + 2 * d, fill)
    return GramSums(d, k, tree, *total.all(), grid.scale, grid.offset, None, True, _ndim(y))


class _IntegerSums:
    """Σ c·cᵀ and Σ c over the batches of leaves."""

    def __init__(self, d: int) -> None:
        self._gram, self._sum = np.zeros((d, d), np.int64), np.zeros(d, np.int64)
        self._part = np.zeros((d, d), np.int64), np.zeros(d, np.int64)

    def next(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Add the last batch; give room for the next."""
        self.all()
        return self._part

    def all(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give the sums over all batches."""
        for total, part in zip((self._gram, self._sum), self._part, strict=True):
            total += part
            part[...] = 0
        return self._gram, self._sum


def _float_sums(
    source: Source, y: NDArray[Any] | None, weight: Doubles | None, shift: ArrayLike | None, threads: int
) -> GramSums:
    d, k = source.d, _columns(y)
    noise, sums = source.noise(weight), source.exact_sums(weight)
    grid = source.grid
    about = grid[1] if shift is None else np.ascontiguousarray(shift, dtype=np.float64)
    about = np.zeros(d) if about is None else about
    size = (d + k + 1) * (d + k + 2) // 2

    def fill(rows: slice, leaves: slice, out: Doubles) -> None:
        triangle = np.empty((len(out), size))
        y_rows, w_rows = (None if a is None else a[rows] for a in (y, weight))
        _core.gram(source.array[rows], source.bits, d, *grid, about, y_rows, w_rows, triangle, threads)
        out[:, :size] = triangle
        out[:, size:-d] = 0.0 if sums is None else sums[leaves]
        out[:, -d:] = 0.0 if noise is None else noise[leaves]

    tree = source.sum_leaves(size + 2 * d, fill)
    return GramSums(d, k, tree, None, None, *grid, about, sums is not None, _ndim(y))


def _added(parts: list[NDArray[np.int64] | None]) -> NDArray[np.int64] | None:
    arrays = [part for part in parts if part is not None]
    return np.sum(arrays, axis=0) if arrays else None


def _grid(source: Source) -> tuple[Doubles, Doubles]:
    scale, offset = source.grid
    return (np.ones(source.d), np.zeros(source.d)) if scale is None or offset is None else (scale, offset)


def _columns(y: NDArray[Any] | None) -> int:
    return 0 if y is None else int(np.prod(y.shape[1:]))


def _ndim(y: NDArray[Any] | None) -> int:
    return 1 if y is None else y.ndim


def _positive(weight: float) -> float:
    if not weight > 0:
        raise InputError("X must have at least one row of positive weight")
    return float(weight)


def _same_frame(a: GramSums, b: GramSums) -> bool:
    """Whether two parts may be added: the same columns, targets, grid and shift."""
    frames = [(p.d, p.k, p.codes is None, p.exact_mean, p.scale, p.offset, p.shift) for p in (a, b)]
    return all(np.array_equal(u, v) for u, v in zip(*frames, strict=True))
