"""The rows of a ridge problem on the ranks that hold them: Gram matrices, means, products.

All float sums run over leaves of rows in a fixed tree and the Gram matrix of codes is one of integers, so
every answer has the same bits for every number of ranks and threads. Nothing is solved here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from scrimp.comm import Comm, shard_bounds
from scrimp.matrix import (
    LEAF_ROWS,
    Gram,
    GramSums,
    QuantizedMatrix,
    Ranges,
    TreeSum,
    column_ranges,
    gradient_sums,
    gram_sums,
)
from scrimp.matrix.file_rows import FileRows
from scrimp.matrix.quantized import Rounding
from scrimp.matrix.ranges import LARGEST
from scrimp.train.dense import Matrix
from scrimp.train.refinement import Ask

_RANGE_ROWS = 16 * LEAF_ROWS  # looked through at once where some do not count
SOME_ROWS, SOME_OF = 2048, 8  # at least so many rows of a sample, or one of so many, show where it ends


class SharedRows:
    """The leaves of rows that one rank reads, and sums over the rows of all ranks.

    Parameters
    ----------
    comm : Comm
        All ranks call the same methods in the same order.
    X : float array[n, d], int8 array[n, d] or QuantizedMatrix
        All rows; this rank's are a contiguous run of leaves.
    y : float32 or float64[n, k]
    sample_weight : float64[n] or None
    seed, threads : int
    numbers : range, optional
        What messages call the rows, if they are a part.
    ranges : Ranges, optional
        Of all rows, where they are known already.
    """

    def __init__(
        self,
        comm: Comm,
        X: Any,
        y: Matrix,
        sample_weight: Matrix | None,
        seed: int,
        threads: int,
        numbers: range | None = None,
        ranges: Ranges | None = None,
    ) -> None:
        numbers = range(len(y)) if numbers is None else numbers
        self._whole = X, y, numbers
        begin, end = shard_bounds(len(y), comm.size, LEAF_ROWS)[comm.rank]
        self.comm, self.n, self.d, self.k = comm, len(y), X.shape[1], y.shape[1]
        self.first_row, self._seed, self._threads = begin, seed, threads
        self._numbers, self._known = numbers[begin:end], ranges
        self.x = _rows_of(X, begin, end)
        self.y = y[begin:end]
        self.weight = None if sample_weight is None else sample_weight[begin:end]
        self._mean, self._y_mean = np.zeros(self.d), np.zeros(self.k)

    @property
    def weighted(self) -> bool:
        """Whether rows have weights."""
        return self.weight is not None

    @property
    def has_codes(self) -> bool:
        """Whether the rows came as integers."""
        return isinstance(self.x, QuantizedMatrix) or self.x.dtype == np.int8

    @property
    def is_file(self) -> bool:
        """Whether the rows are mapped from a file, of which a sample is most pages."""
        return FileRows.of(self.x) is not None

    def quantized_gram(self, bits: int) -> Gram:
        """Return the Gram matrix of the rows in `bits` bits, or of the codes that they are already."""
        if self.has_codes:
            return self._merge(self._sums(self.x, self.y, self.weight))
        return self._rounded_gram(bits, self._ranges())

    def _ranges(self) -> Ranges:
        found = column_ranges(self.x, threads=self._threads, rows=self._numbers)
        ranges = Ranges.merge(
            Ranges.from_bytes(part) for part in self.comm.all_gather_bytes(found.to_bytes())
        )
        ranges.check_size(least=1 / LARGEST)
        return ranges

    def _rounded_gram(self, bits: int, ranges: Ranges, rounding: Rounding = "stochastic") -> Gram:
        part = gram_sums(
            self.x,
            self.y,
            sample_weight=self.weight,
            bits=bits,
            rounding=rounding,
            seed=self._seed,
            ranges=ranges,
            first_row=self.first_row,
            threads=self._threads,
        )
        return self._merge(part)

    def every(self, step: int) -> SharedRows:
        """Return each `step`-th row, shared among the ranks anew; rows have no weights."""
        X, y, numbers = self._whole
        return SharedRows(self.comm, X[::step], y[::step], None, self._seed, self._threads, numbers[::step])

    def sample_ranges(self, step: int) -> tuple[Matrix, Matrix, Matrix]:
        """Return the least and largest values of a part of every `step`-th row, and whether all are integers.

        A column that is constant there is too rare for a sample. What lies beyond these ends in the rest of
        the sample is taken for them, as a preconditioner may: if it weighs, the passes over all rows see it.
        """
        apart = max(1, min(-(-self.n // step) // SOME_ROWS, SOME_OF))
        found = self.every(step * apart)._ranges()
        return found.low, found.high, found.integral.astype(np.float64)

    def sampled_gram(self, bits: int, step: int, low: Matrix, high: Matrix, integral: Matrix) -> Gram:
        """Return about the Gram matrix of all rows, from every `step`-th and what `sample_ranges` said."""
        sample = self.every(step)
        ranges = Ranges(low, high, integral.astype(np.bool_))
        with np.errstate(invalid="ignore"):  # infinities of both signs
            gram = sample._rounded_gram(bits, ranges, "nearest")
        if not np.isfinite(gram.mean).all():
            sample._ranges()  # names the value
        scale = ranges.grid(bits).scale
        noise = np.where(ranges.integral & (scale == 1), 0.0, gram.n * scale**2 / 12)
        noise = np.minimum(noise, np.diag(gram.moment) / 4)
        return replace(gram, moment=gram.moment - np.diag(noise), noise=noise).of_rows(self.n)

    def exact_gram(self, shift: Matrix) -> Gram:
        """Return the Gram matrix in float64."""
        return self._merge(self._sums(self.x, self.y, self._ones_or_weight(), shift))

    def moments(self) -> tuple[Matrix, Matrix]:
        """Return exact weighted means of the columns (of the original rows, if known) and of y.

        That of a constant column is its value to the bit, or what is left of it would look like a spread.
        """
        zero = np.zeros((self.d, 1))
        ones = np.broadcast_to(-1.0, (len(self.y), 1))  # at w = 0, b = 0 the gradient is Σ w·x·(0 − y)
        x_sums = self._tree(self._gradient(zero, 0.0, ones))
        y_sums = self._tree(_leaf_sums(self.y, self.weight, self.first_row))
        total = x_sums[: self.d]
        if isinstance(self.x, QuantizedMatrix) and self.weight is None:
            total = self._tree(TreeSum.from_leaves(self.x.sum_blocks, self.first_row // LEAF_ROWS))
        mean = total / x_sums[-1]
        if isinstance(self.x, QuantizedMatrix):
            mean = self.x.exactly(mean)
        elif self.weight is not None or self.x.dtype == np.float64:  # sums of others have no rounding
            parts = self.comm.all_gather_bytes(self._weighed_ranges().to_bytes())
            ends = Ranges.merge(Ranges.from_bytes(part) for part in parts)
            mean = np.clip(mean, ends.low, ends.high)
        return mean, y_sums / x_sums[-1]

    def _weighed_ranges(self) -> Ranges:
        """Return the ranges of the rows whose weights are above 0."""
        if self.x.dtype != np.int8 and (self.weight is None or self.weight.all()):
            return self._known or column_ranges(self.x, threads=self._threads, rows=self._numbers)
        assert self.weight is not None
        empty = Ranges(np.full(self.d, np.inf), np.full(self.d, -np.inf), np.ones(self.d, np.bool_))
        parts = [empty]
        for begin in range(0, len(self.y), _RANGE_ROWS):
            rows = slice(begin, begin + _RANGE_ROWS)
            x = self.x[rows][self.weight[rows] > 0]
            x = x.astype(np.float32) if x.dtype == np.int8 else x
            parts.append(column_ranges(x, threads=self._threads))
        return Ranges.merge(parts)

    def scatter(self) -> Matrix:
        """Return Σ w·(x − mean)² of each column, about what `centre` said."""
        leaves = range(0, len(self.y), LEAF_ROWS)
        sums = np.array([self._leaf_scatter(slice(i, i + LEAF_ROWS)) for i in leaves]).reshape(
            len(leaves), self.d
        )
        return self._tree(TreeSum.from_leaves(sums, self.first_row // LEAF_ROWS))

    def _leaf_scatter(self, rows: slice) -> Matrix:
        codes = isinstance(self.x, QuantizedMatrix)
        x = self.x.exactly(self.x.dequantize(rows)) if codes else self.x[rows].astype(np.float64)
        z = x - self._mean
        weight = None if self.weight is None else self.weight[rows]
        total: Matrix = (z * z).sum(axis=0) if weight is None else (z * z * weight[:, None]).sum(axis=0)
        return total

    def target_scatter(self) -> Matrix:
        """Return Σ w·(y − ȳ)² of each target, about what `centre` said."""
        z = self.y - self._y_mean
        return self._tree(_leaf_sums(z * z, self.weight, self.first_row))

    def answer(self, ask: Ask) -> Any:
        """Answer a question; all ranks are asked the same."""
        if ask.what == "centre":
            self._mean, self._y_mean = ask.values
            return None
        if ask.what == "moments":
            return self.moments()
        if ask.what == "quantized_gram":
            return self.quantized_gram(int(ask.values[0]))
        if ask.what == "sample_ranges":
            return self.sample_ranges(int(ask.values[0]))
        if ask.what == "sampled_gram":
            bits, step, *ranges = ask.values
            return self.sampled_gram(int(bits), int(step), *ranges)
        if ask.what == "exact_gram":
            return self.exact_gram(ask.values[0])
        if ask.what == "scatter":
            return self.scatter()
        if ask.what == "target_scatter":
            return self.target_scatter()
        if ask.what in ("logistic", "softmax"):
            w, intercept, precise = ask.values
            return self._tree(self._gradient(w, intercept, self.y, loss=ask.what, precise=bool(precise)))
        quick, what = ask.what.startswith("quick_"), ask.what.removeprefix("quick_")
        assert what in ("product", "residual")
        return self._centred_product(ask.values[0], what == "residual", not quick)

    def _centred_product(self, v: Matrix, residual: bool, precise: bool) -> Matrix:
        """Return A·v, or A·v − b, of the centred columns: float64[d, k].

        v of [d + 1, k] has intercepts in the last row, and so has the answer: then `centre` need not be the
        means.
        """
        d, k = self.d, v.shape[1]
        bias = (self._y_mean if residual else 0.0) - self._mean @ v[:d]
        if len(v) > d:
            bias = bias + v[d]
        exact = np.broadcast_to(bias, k)
        if not precise:  # every row would miss what rounding takes
            bias = np.asarray(exact, np.float32).astype(np.float64)
        zeros = np.broadcast_to(0.0, (len(self.y), k))
        total = self._tree(self._gradient(v[:d], bias, self.y if residual else zeros, precise=precise))
        slopes = total[d * k : d * k + k]
        with np.errstate(over="ignore", invalid="ignore"):
            moved = total[: d * k].reshape(d, k) - np.outer(self._mean, slopes)
            slopes = slopes - total[-1] * (bias - exact)
        return moved if len(v) == d else np.vstack([moved, slopes])

    def _sums(self, x: Any, y: Matrix, weight: Matrix | None, shift: Matrix | None = None) -> GramSums:
        first_row = None if isinstance(x, QuantizedMatrix) else self.first_row
        return gram_sums(x, y, sample_weight=weight, shift=shift, first_row=first_row, threads=self._threads)

    def _ones_or_weight(self) -> Matrix | None:
        """Weights make the Gram matrix of integer rows a float64 sum, as an exact Gram is."""
        if self.weight is None and self.has_codes:
            return np.ones(len(self.y))
        return self.weight

    def _gradient(
        self, w: Matrix, bias: Any, y: Matrix, loss: str = "squared", precise: bool = True
    ) -> TreeSum:
        first_row = None if isinstance(self.x, QuantizedMatrix) else self.first_row
        return gradient_sums(
            self.x,
            y,
            w,
            loss=loss,
            intercept=bias,
            sample_weight=self.weight,
            first_row=first_row,
            precise=precise,
            threads=self._threads,
        )

    def _merge(self, part: GramSums) -> Gram:
        parts = [part]
        if self.comm.size > 1:
            parts = [part.from_bytes(data) for data in self.comm.all_gather_bytes(part.to_bytes())]
        return GramSums.merge(parts).gram()

    def _tree(self, part: TreeSum) -> Matrix:
        if self.comm.size == 1:
            return part.total()
        return TreeSum.merge(
            TreeSum.from_bytes(data) for data in self.comm.all_gather_bytes(part.to_bytes())
        ).total()


def _rows_of(X: Any, begin: int, end: int) -> Any:
    """Return a run of leaves as a view."""
    if isinstance(X, QuantizedMatrix):
        return X.leaves(begin // LEAF_ROWS, -(-end // LEAF_ROWS))
    return X[begin:end]


def _leaf_sums(y: Matrix, weight: Matrix | None, first_row: int) -> TreeSum:
    """Return Σ w·y by leaf."""
    starts = range(0, len(y), LEAF_ROWS)
    leaves = ((slice(i, i + LEAF_ROWS), y[i : i + LEAF_ROWS].astype(np.float64)) for i in starts)
    sums = [(leaf if weight is None else leaf * weight[rows, None]).sum(axis=0) for rows, leaf in leaves]
    return TreeSum.from_leaves(np.array(sums).reshape(len(starts), y.shape[1]), first_row // LEAF_ROWS)
