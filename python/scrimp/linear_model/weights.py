"""Coefficients in the precision in which a model keeps them.

Below 32 bits the codes are those of blocks of 128 coefficients under one scale. Where columns differ much in
size so do coefficients, and the small ones of a block would be lost; then the coefficients are stored in
units of powers of two near the spread of their columns, one more byte each. Columns whose coefficients are
all 0 are left out where that is smaller; a bit each says which.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrimp.matrix import QuantizedLinear
from scrimp.model_file import StoredWeights
from scrimp.train.storage import Tensors

FEW = 0.8  # part of the columns below which the others are left out
WORTH = 0.5  # what exponents must leave of the expected squared error of predictions to be kept


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Stored coefficients of [k, d], and what they decode to.

    Examples
    --------
    >>> stored = Coefficients.of(np.float32([[1.0, 0.5]]), 8, np.array([1.0, 1.0]))
    >>> stored.values.round(2).tolist(), stored.nbytes < 100
    ([[1.0, 0.5]], True)
    """

    values: NDArray[Any]
    stored: StoredWeights
    exponents: NDArray[np.int8] | None = None
    packed: QuantizedLinear | None = None
    used: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, w: NDArray[Any], bits: int, scatter: NDArray[np.float64]) -> Coefficients:
        """Store coefficients.

        Parameters
        ----------
        w : float[k, d]
        bits : {32, 8, 4}
        scatter : float64[d]
            Σ (x − mean)² of each column: the square of an error of a coefficient counts so much.
        """
        every, used = cls._of_all(w, bits, scatter), (w != 0).any(axis=0)
        if not 0 < used.sum() < FEW * len(used):
            return every
        few = cls._of_all(np.ascontiguousarray(w[:, used]), bits, scatter[used])
        few = few._among(used)
        return few if few.nbytes < every.nbytes else every

    @classmethod
    def _of_all(cls, w: NDArray[Any], bits: int, scatter: NDArray[np.float64]) -> Coefficients:
        plain = cls._decoded(StoredWeights.of(w, bits), None)
        if bits == 32 or not np.isfinite(scatter).all():
            return plain
        exponents = _exponents(scatter)
        scaled = cls._decoded(StoredWeights.of(np.ldexp(w, exponents), bits), exponents)
        return scaled if scaled._cost(w, scatter) < WORTH * plain._cost(w, scatter) else plain

    @classmethod
    def read(cls, tensors: Tensors) -> Coefficients:
        """Read what `tensors` made."""
        exponents, columns = tensors.get("coef.exponents"), tensors.get("coef.columns")
        found = cls._decoded(StoredWeights.read(tensors, "coef"), exponents)
        if columns is None:
            return found
        used = _unpacked(columns)
        if used.sum() != found.values.shape[1]:
            raise ValueError(f"{found.values.shape[1]} columns are stored, {used.sum()} are named")
        return found._among(used)

    @classmethod
    def _decoded(cls, stored: StoredWeights, exponents: NDArray[np.int8] | None) -> Coefficients:
        values = stored.values
        if exponents is not None:
            values = np.ldexp(values, -exponents.astype(np.int32))
        if values.ndim != 2 or stored.codes is None:
            return cls(values, stored, exponents)
        values.setflags(write=False)  # or `packed` would predict with other coefficients than it shows
        return cls(values, stored, exponents, QuantizedLinear.from_packet(stored.codes))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the stored form: NumPy forgets that an array may not be written to."""
        return Coefficients.read, (self.tensors(),)

    def are(self, w: NDArray[Any]) -> bool:
        """Whether the stored form stands for these coefficients, [k, d], whatever was written to `values`."""
        values = self.values
        if self.used is not None:
            values = _widened(self._decoded(self.stored, self.exponents).values, self.used)
        return w.shape == values.shape and bool((w == values).all())

    def _among(self, used: NDArray[np.bool_]) -> Coefficients:
        """Return the same for all columns; predictions are by what the codes decode to."""
        return replace(self, values=_widened(self.values, used), used=used, packed=None)

    def product(
        self, rows: Any, coef: NDArray[Any], intercept: Any, threads: int
    ) -> NDArray[np.float32] | None:
        """Multiply float rows by the packed coefficients, in the bits of `scrimp.matrix.product`.

        None where they are not packed, `coef` is not what they decode to (it was set by hand), or rows are
        codes, which the product with decoded coefficients reads faster.
        """
        plain = isinstance(rows, np.ndarray) and rows.dtype.kind == "f"
        if self.packed is None or not plain or not np.may_share_memory(coef, self.values):
            return None
        bias = np.broadcast_to(np.asarray(intercept, np.float64), len(self.values)).astype(np.float32)
        scale = None if self.exponents is None else np.ldexp(1.0, -self.exponents.astype(np.int32))
        out = replace(self.packed, bias=bias)(rows, scale=scale, threads=threads)
        return out[:, 0] if coef.ndim == 1 else out

    @property
    def nbytes(self) -> int:
        """Bytes of the stored form."""
        exponents = 0 if self.exponents is None else self.exponents.nbytes
        return len(self.stored.packet) + exponents + (0 if self.used is None else len(_packed(self.used)))

    def scatter(self, w: NDArray[Any]) -> NDArray[np.float64]:
        """Return what `of` was told of the columns, as far as the exponents show it, float64[d].

        Columns that were left out and have coefficients in w, float[k, d], are taken to vary no more than the
        others, and so little that what is new weighs no more than the heaviest of the others: it does not
        coarsen their codes.
        """
        if self.exponents is None:
            return np.ones(self.values.shape[1])
        spread = np.ldexp(1.0, self.exponents.astype(np.int32))
        if self.used is None:
            return spread**2
        size = np.abs(w.astype(np.float64)).max(axis=0)
        heaviest = float((size[self.used] * spread).max())
        out, new = np.zeros(len(size)), ~self.used & (size > 0)
        out[self.used] = spread
        out[new] = np.minimum(heaviest / size[new], spread.max()) if heaviest else spread.max()
        return out**2

    def tensors(self) -> Tensors:
        """Return the stored form as named tensors."""
        own: Tensors = {} if self.exponents is None else {"coef.exponents": self.exponents}
        if self.used is not None:
            own["coef.columns"] = _packed(self.used)
        return self.stored.tensor("coef") | own

    def _cost(self, w: NDArray[Any], scatter: NDArray[np.float64]) -> float:
        error = self.values.astype(np.float64) - w
        return float((error * error * scatter).sum())


def _widened(values: NDArray[Any], used: NDArray[np.bool_]) -> NDArray[Any]:
    out = np.zeros((len(values), len(used)), values.dtype)
    out[:, used] = values
    return out


def _packed(used: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the number of columns, eight bytes, and a bit for each."""
    head = np.frombuffer(len(used).to_bytes(8, "little"), np.uint8)
    return np.concatenate([head, np.packbits(used, bitorder="little")])


def _unpacked(data: NDArray[np.uint8]) -> NDArray[np.bool_]:
    count = int.from_bytes(data[:8].tobytes(), "little")
    if data.dtype != np.uint8 or len(data) != 8 + -(-count // 8):
        raise ValueError(f"coef.columns of {len(data)} bytes do not name {count} columns")
    return np.unpackbits(data[8:], count=count, bitorder="little").astype(bool)


def _exponents(scatter: NDArray[np.float64]) -> NDArray[np.int8]:
    """Round log₂ of the spread of the columns, the largest at 0."""
    positive = scatter > 0
    spread = np.sqrt(np.where(positive, scatter, 1.0))
    exponents = np.round(np.log2(spread))
    top = exponents[positive].max(initial=-np.inf) if positive.any() else 0.0
    return np.where(positive, np.clip(exponents - top, -100, 0), 0).astype(np.int8)
