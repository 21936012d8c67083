"""Linear maps whose weights stay in few bits: products with rows, without a decoded copy of the weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scrimp import _core
from scrimp.codecs import Codec, pack, packet_payload
from scrimp.errors import InputError
from scrimp.matrix.quantized import QuantizedMatrix

Activations = Literal["float32", "int8"]


@dataclass(frozen=True, eq=False, slots=True)
class QuantizedLinear:
    """y = W·x + b with W in the blocks of a codec.

    The product reads the packed weights and decodes them a few kilobytes at a time, or multiplies their codes
    as they are; the weights are never in memory as float32. int8 and int4 in blocks of 128 with rows that are
    a multiple of 128 values have loops of their own; every other codec and width works.

    Attributes
    ----------
    payload : uint8[…]
        W as the codec's payload of its k·d values in C order (docs/formats.md); may lie in a mapped file.
    codec : Codec
    shape : (int, int)
        (k, d): outputs and inputs.
    bias : float32[k]

    Examples
    --------
    >>> layer = QuantizedLinear.from_array(np.eye(3, 128, dtype=np.float32), "int4")
    >>> layer(np.ones((2, 128), np.float32)).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    >>> layer.nbytes, layer.dequantize().nbytes
    (216, 1536)
    """

    payload: NDArray[np.uint8]
    codec: Codec
    shape: tuple[int, int]
    bias: NDArray[np.float32] = field(repr=False)

    def __post_init__(self) -> None:
        k, d = self.shape
        if self.bias.shape != (k,):
            raise ValueError(f"bias must have shape ({k},), got {self.bias.shape}")
        needed = self.codec.nbytes(k * d)
        if self.payload.nbytes != needed:
            raise ValueError(
                f"payload must have the {needed:,} bytes of {k}×{d} values in {self.codec.spec},"
                f" got {self.payload.nbytes:,}"
            )

    @classmethod
    def from_array(
        cls, W: ArrayLike, codec: str | Codec = "int4", bias: ArrayLike | None = None, **key: Any
    ) -> Self:
        """Encode weights.

        Parameters
        ----------
        W : float array[k, d]
            One row an output, as `torch.nn.Linear.weight` and `coef_` have them.
        codec : str or Codec, default "int4"
            As `scrimp.codec` takes it; "int4:scale=mse" loses least.
        bias : float array[k], optional
        **key
            Passed to `Codec.encode`: seed, nonfinite, threads.

        Raises
        ------
        TypeError
            W or bias does not hold real numbers.
        ValueError
            W is not two-dimensional, or a value cannot be encoded.
        InputError
            A finite value of W or bias is beyond the range of float32.
        """
        weights = np.asarray(W)
        if weights.ndim != 2:
            raise ValueError(f"W must be a 2-D array, got {weights.dtype}{weights.shape}")
        return cls.from_packet(pack(_float32("W", weights), codec, **key), bias)

    @classmethod
    def from_packet(cls, packet: bytes | bytearray | memoryview, bias: ArrayLike | None = None) -> Self:
        """Take weights from a packet, without a copy.

        Parameters
        ----------
        packet : bytes-like
            What `scrimp.pack` made of a float array[k, d]; tensors of `scrimp quantize` are such.
        bias : float array[k], optional

        Raises
        ------
        CodecError
            The packet is damaged.
        ValueError
            It holds no two-dimensional float array, or the bias has another length.
        """
        info, payload = packet_payload(packet)
        if len(info.shape) != 2 or info.dtype.kind != "f":
            raise ValueError(f"the packet must hold a 2-D float array, got {info.dtype}{info.shape}")
        if info.codec.spec == "raw" and info.dtype != np.float32:
            raise ValueError(f"raw weights must be float32, got {info.dtype}")
        k, d = info.shape
        values = np.zeros(k, np.float32) if bias is None else _float32("bias", np.array(bias))
        return cls(payload, info.codec, (k, d), values)

    @property
    def nbytes(self) -> int:
        """Bytes of the weights and the bias."""
        return int(self.payload.nbytes + self.bias.nbytes)

    def dequantize(self) -> NDArray[np.float32]:
        """Return W as float32[k, d]."""
        return self.codec.decode(self.payload, self.shape[0] * self.shape[1]).reshape(self.shape)

    def __call__(
        self,
        X: NDArray[Any] | QuantizedMatrix,
        out: NDArray[np.float32] | None = None,
        *,
        activations: Activations = "float32",
        scale: ArrayLike | None = None,
        threads: int = 0,
    ) -> NDArray[np.float32]:
        """Multiply rows.

        Parameters
        ----------
        X : float16, float32, float64 or int8 array[n, d] or [d], any strides; or QuantizedMatrix
            Rounded to float32; a float64 beyond its range counts as an infinity.
        out : float32[n, k] (or [k]), C-contiguous, optional
            Where to write; allocated if absent.
        activations : {"float32", "int8"}
            "int8" rounds each row to int8 under one scale (the codec int8 with the row as its block) and
            multiplies codes exactly; it needs int8 or int4 weights.
        scale : float64[d], optional
            Multiplies the columns of an array X of floats, in float32.
        threads : int
            0 chooses by size.

        Returns
        -------
        float32[n, k] or float32[k]
            `out`, or the new array.

        Raises
        ------
        ValueError
            Shapes do not fit; int8 activations with other weights.
        TypeError
            X has another dtype.

        Notes
        -----
        With float32 activations y = Σ_j x_j·w_j + b over the decoded weights, in float32: lane j mod 16
        first, then the lanes pairwise; the bits are those of `product` with the decoded weights. With int8
        ones y = s·Σ_B s_B·(Σ_{j∈B} c_j·w_j) + b, with an exact integer sum a block B in 16 lanes; its error
        is at most ‖row‖∞/254 · Σ|w_j| above that. A result does not depend on the other rows, the threads or
        the machine. A NaN in X makes its row of the result NaN; with int8 activations so does an infinity.

        Examples
        --------
        >>> layer = QuantizedLinear.from_array(np.ones((2, 4), np.float32), "int8", bias=[0.0, 1.0])
        >>> layer(np.arange(4, dtype=np.float32), activations="int8").tolist()
        [6.0, 7.0]
        """
        if activations not in ("float32", "int8"):
            raise ValueError(f"activations must be 'float32' or 'int8', got {activations!r}")
        k, d = self.shape
        rows, bits, grid = _rows(X, None if scale is None else _column_scale(scale, d))
        n = rows.shape[:-1]
        if rows.ndim not in (1, 2) or (bits == 0 and rows.shape[-1] != d):
            raise ValueError(f"X must have shape (n, {d}) or ({d},), got {rows.shape}")
        if out is None:
            out = np.empty((*n, k), np.float32)
        if out.shape != (*n, k):
            raise ValueError(f"out must have shape {(*n, k)}, got {out.shape}")
        two = rows.reshape(1, -1) if rows.ndim == 1 else rows
        values = out.reshape(1, -1) if rows.ndim == 1 else out
        native = self.codec.native
        rounds = activations == "int8"
        _core.matmul(two, bits, *grid, native, self.payload, self.bias, d, rounds, threads, values)
        return out


def _rows(
    X: NDArray[Any] | QuantizedMatrix, scale: NDArray[np.float64] | None
) -> tuple[NDArray[Any], int, tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]]:
    """Array, width of its codes (0: plain numbers), and their scale and offset."""
    if not isinstance(X, QuantizedMatrix):
        return np.asarray(X), 0, (scale, None)
    if scale is not None:
        raise ValueError("scale is for arrays; a QuantizedMatrix has its own")
    return X.codes, X.bits, (X.scale, X.offset)


def _column_scale(scale: ArrayLike, d: int) -> NDArray[np.float64]:
    values = np.asarray(scale)
    _check_real("scale", values)
    if values.shape != (d,):
        raise ValueError(f"scale must have shape ({d},), got {values.shape}")
    return np.ascontiguousarray(values, np.float64)


def _float32(name: str, values: NDArray[Any]) -> NDArray[np.float32]:
    """Round to float32; InputError if a finite value becomes an infinity."""
    _check_real(name, values)
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32, copy=False)
    if values.dtype.kind == "f" and values.dtype.itemsize > 4:
        beyond = np.argwhere(np.isinf(rounded) & np.isfinite(values))
        if len(beyond):
            at = tuple(beyond[0].tolist())
            where = ", ".join(map(str, at))
            raise InputError(f"{name}[{where}] is {values[at]:.3g}: beyond the range of float32")
    return rounded


def _check_real(name: str, values: NDArray[Any]) -> None:
    if values.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got {values.dtype}{values.shape}")
