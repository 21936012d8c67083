"""Loss and gradient of linear models, straight on the bits that the rows are stored in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scrimp import _core
from scrimp.errors import InputError
from scrimp.matrix.file_rows import BATCH_BYTES as FILE_BATCH_BYTES
from scrimp.matrix.file_rows import FileRows
from scrimp.matrix.many_outputs import fill_many, has_many_outputs
from scrimp.matrix.quantized import (
    QuantizedMatrix,
    leaf_number,
    leaf_weights,
    n_leaves,
    row_weights,
    weight_marks,
)
from scrimp.matrix.refusals import check_loss_targets, check_sums
from scrimp.matrix.tree import LEAF_ROWS, TreeSum

_BATCH_BYTES = 64 << 20  # leaf sums that are held at once before they merge


@dataclass(frozen=True)
class Source:
    """Rows as the kernels take them: an array, and how its codes are to be read."""

    array: NDArray[Any]
    d: int
    first_row: int
    bits: int = 0
    quantized: QuantizedMatrix | None = None

    @classmethod
    def of(cls, X: NDArray[Any] | QuantizedMatrix, first_row: int | None) -> Source:
        """Check X; `first_row` is that of a QuantizedMatrix, else 0, unless given."""
        if isinstance(X, QuantizedMatrix):
            first = X.first_row if first_row is None else first_row
            source = cls(X.codes, X.shape[1], first, X.bits, X)
        else:
            array = np.asarray(X)
            if array.ndim != 2:
                raise ValueError(f"X must be a 2-D array, got {array.dtype}{array.shape}")
            source = cls(array, array.shape[1], first_row or 0)
        leaf_number(source.first_row)
        return source

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.array)

    @property
    def grid(self) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
        """Scale and offset of the codes; None where rows are plain numbers."""
        return (None, None) if self.quantized is None else (self.quantized.scale, self.quantized.offset)

    @property
    def has_codes(self) -> bool:
        """Whether rows are integers."""
        return self.quantized is not None or self.array.dtype == np.int8

    def noise(self, weight: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        """Σ w_i·Var(e_ij) by leaf; weights other than the matrix's own take the mean of Var in the leaf."""
        Q = self.quantized
        if Q is None or not Q.noise_blocks.any():
            return None
        own = Q.weight_blocks
        ratio = np.divide(leaf_weights(weight, self.n), own, out=np.zeros_like(own), where=own > 0)
        return Q.noise_blocks * ratio[:, None]

    def exact_sums(self, weight: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        """Σ w_i·x_ij by leaf of the original values, if the matrix was built with these weights."""
        Q = self.quantized
        return Q.sum_blocks if Q and np.array_equal(Q.weight_marks, weight_marks(weight, self.n)) else None

    def batches(self, leaves: int) -> Iterator[slice]:
        """Yield slices of whole leaves, about so many at once; rows of a file are read ahead."""
        file = FileRows.of(self.array)
        if file is not None:
            leaves = min(leaves, FILE_BATCH_BYTES // (file.row_nbytes * LEAF_ROWS))
        step = max(16 if file is None else 2, leaves) * LEAF_ROWS
        slices = (slice(begin, min(begin + step, self.n)) for begin in range(0, self.n, step))
        return slices if file is None else file.batches(slices)

    def sum_leaves(self, width: int, fill: Callable[[slice, slice, NDArray[np.float64]], None]) -> TreeSum:
        """Merge leaf sums that `fill(rows, leaves, out)` writes, a bounded number at a time."""
        parts: list[TreeSum] = []
        for rows in self.batches(_BATCH_BYTES // (8 * max(width, 1))):
            first, last = rows.start // LEAF_ROWS, n_leaves(rows.stop)
            out = np.empty((last - first, width))
            fill(rows, slice(first, last), out)
            parts.append(TreeSum.from_leaves(out, leaf_number(self.first_row) + first))
            parts = [TreeSum.merge(parts)] if len(parts) > 1 else parts  # a mini-batch has nothing to merge
        return parts[0] if parts else TreeSum(width, {})


def loss_names() -> list[str]:
    """Names of the losses that `gradient` knows.

    Examples
    --------
    >>> "squared" in loss_names()
    True
    """
    return _core.loss_names()


def gradient_sums(
    X: NDArray[Any] | QuantizedMatrix,
    y: ArrayLike,
    w: ArrayLike,
    *,
    loss: str = "squared",
    intercept: ArrayLike = 0.0,
    sample_weight: ArrayLike | None = None,
    first_row: int | None = None,
    precise: bool = False,
    delta: float = 1.0,
    threads: int = 0,
) -> TreeSum:
    """Sum loss and gradient over rows, by leaves: the shard's part of `gradient`.

    Parameters are those of `gradient`, and

    Parameters
    ----------
    first_row : int, optional
        Absolute number of row 0, a multiple of `LEAF_ROWS`; 0 by default, or that of the QuantizedMatrix.

    Returns
    -------
    TreeSum of float64[d·k + k + 2]
        Σ wᵢ·∂L/∂W (row by row of W), Σ wᵢ·∂L/∂b, Σ wᵢ·L, Σ wᵢ: not divided by anything.
    """
    source = Source.of(X, first_row)
    weights = np.asarray(w, np.float64)
    matrix = np.ascontiguousarray(weights.reshape(weights.shape[0], -1) if weights.ndim else weights)
    if weights.ndim not in (1, 2) or matrix.shape[0] != source.d:
        raise ValueError(f"w must have shape ({source.d},) or ({source.d}, k), got {weights.shape}")
    if not 0 < delta < np.inf:
        raise ValueError(f"delta must be a number above 0, got {delta!r}")
    k = matrix.shape[1]
    bias = np.broadcast_to(np.asarray(intercept, np.float64), k).copy()
    targets = float_targets(y, source.n)
    weight = None if sample_weight is None else row_weights(sample_weight, source.n)
    noise = source.noise(weight) if loss == "squared" else None
    scale, offset = source.grid

    def fill(rows: slice, leaves: slice, out: NDArray[np.float64]) -> None:
        own_weight = None if weight is None else weight[rows]
        rest = (targets[rows], own_weight, matrix, bias, loss, delta, precise, threads, out)
        if has_many_outputs(source.array, k) and threads >= 0:
            fill_many(source.array[rows], *rest)
        else:
            own_noise = None if noise is None else noise[leaves]
            _core.gradient(source.array[rows], source.bits, scale, offset, own_noise, *rest)

    return source.sum_leaves(source.d * k + k + 2, fill)


def gradient(
    X: NDArray[Any] | QuantizedMatrix,
    y: ArrayLike,
    w: ArrayLike,
    *,
    loss: str = "squared",
    intercept: ArrayLike = 0.0,
    sample_weight: ArrayLike | None = None,
    precise: bool = False,
    delta: float = 1.0,
    threads: int = 0,
) -> tuple[NDArray[np.float64], Any, float]:
    """Compute loss and gradient of a linear model in one pass over the rows.

    Parameters
    ----------
    X : bfloat16, float16, float32, float64 or int8 array[n, d], any strides; or QuantizedMatrix
        Rows are read as they are stored; float64 is rounded to float32 unless `precise`.
    y : array[n] or array[n, k]
        Targets. logistic: 0 … 1. softmax: class numbers [n], or soft targets [n, k].
    w : array[d] or array[d, k]
        Weights of one or k outputs.
    loss : {"squared", "logistic", "huber", "softmax"}
        squared is ½(x·w + b − y)². Losses are summed over the k outputs.
    intercept : float or array[k]
        b.
    sample_weight : array[n], optional
        Weights of the rows, >= 0.
    precise : bool
        Multiply and add in float64 throughout, as iterative refinement needs.
    delta : float
        Where huber turns linear.
    threads : int
        0 chooses by size. The result does not depend on it.

    Returns
    -------
    g : float64, shape of w
    g0 : float, or float64[k] when w is 2-D
    value : float
        Means over the rows: Σ wᵢ·(…)ᵢ / Σ wᵢ. On a QuantizedMatrix the squared loss is corrected for the
        rounding noise D: g − D∘w, value − ½·wᵀ(D∘w), which makes both unbiased. Logistic, softmax and huber
        keep a bias of the order of the squared scale.

    Raises
    ------
    InputError
        If there are no rows, the weights sum to 0, a value is not finite (it names the first), or y does not
        suit the loss.

    Notes
    -----
    In float32, products and 256-row sums of the gradient are float32 in a fixed order of 16 lanes; all sums
    above are float64. On codes, weights and slopes are rounded to 24 bits (an error of 2⁻²⁴ of an output's
    largest weight, in the units of the codes, and of the largest slope of 32 rows) and their products with
    the codes are added exactly. The result has the same bits for every number of threads and outputs and
    every instruction set. From 64 outputs on, a BLAS multiplies rows of floats, a leaf of 4,096 rows at a
    time: the same bits for every number of threads and workers still, but they depend on the BLAS and the
    processor.

    Examples
    --------
    >>> X = np.eye(2, dtype=np.float32)
    >>> gradient(X, [1.0, 3.0], [0.0, 1.0])
    (array([-0.5, -1. ]), -1.5, 1.25)
    """
    shape = np.shape(w)
    k = 1 if len(shape) < 2 else shape[1]
    check_loss_targets(float_targets(y, len(Source.of(X, 0).array)), loss, k)
    sums = gradient_sums(
        X,
        y,
        w,
        loss=loss,
        intercept=intercept,
        sample_weight=sample_weight,
        first_row=0,
        precise=precise,
        delta=delta,
        threads=threads,
    ).total()
    if not sums[-1] > 0:
        raise InputError("X must have at least one row of positive weight")
    check_sums(sums, X, y=y, w=w, intercept=intercept)
    mean = sums[:-1] / sums[-1]
    g0 = mean[-1 - k : -1]
    return mean[: -1 - k].reshape(shape), (float(g0[0]) if len(shape) == 1 else g0), float(mean[-1])


def float_targets(y: ArrayLike, n: int) -> NDArray[Any]:
    """Targets as a float array of n rows; integers become float64."""
    targets = np.asarray(y)
    if targets.dtype.kind in "iub":
        targets = targets.astype(np.float64)
    if targets.ndim not in (1, 2) or len(targets) != n:
        got = f"{targets.dtype}{targets.shape}"
        raise ValueError(f"y must have one row for each of the {n} rows of X, got {got}")
    return targets


def product(
    X: NDArray[Any] | QuantizedMatrix, W: ArrayLike, intercept: ArrayLike = 0.0, *, threads: int = 0
) -> NDArray[np.float32]:
    """Predict with a linear model: X·W + b.

    Parameters
    ----------
    X : bfloat16, float16, float32, float64 or int8 array[n, d], any strides; or QuantizedMatrix
    W : array[d] or array[d, k]
    intercept : float or array[k]
    threads : int
        0 chooses by size.

    Returns
    -------
    float32[n] or float32[n, k]
        Each row's sum in a fixed order, whatever rows surround it.

    Examples
    --------
    >>> product(np.eye(2, dtype=np.float32), [1.0, 2.0], 0.5).tolist()
    [1.5, 2.5]
    """
    source = Source.of(X, None if isinstance(X, QuantizedMatrix) else 0)
    weights = np.asarray(W, np.float64)
    if weights.ndim not in (1, 2) or weights.shape[0] != source.d:
        raise ValueError(f"W must have shape ({source.d},) or ({source.d}, k), got {weights.shape}")
    matrix = np.ascontiguousarray(weights.reshape(source.d, -1))
    bias = np.broadcast_to(np.asarray(intercept, np.float64), matrix.shape[1]).copy()
    out = np.empty((source.n, matrix.shape[1]), np.float32)
    scale, offset = source.grid
    _core.product(source.array, source.bits, scale, offset, matrix, bias, threads, out)
    return out[:, 0] if weights.ndim == 1 else out
