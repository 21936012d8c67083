"""`Codec`: one way to write an array of floats in few bytes. The work is done by the native core."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from scrimp.codecs import spec as _spec

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
Nonfinite = Literal["raise", "saturate", "propagate"]
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)  # a dtype compares faster with a dtype
_RAW_DTYPES = tuple(
    np.dtype(t) for t in ["f4", "f8", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]
)


class Codec:
    """How to write n floats as bytes, and to read them back.

    Every codec keeps this contract: the payload of n values has exactly `nbytes(n)` bytes, whatever the
    values; the bytes depend on the values, the options and, with stochastic rounding, on (seed, step,
    absolute index), but not on the machine, its instruction set, the number of threads, or the strides and
    float dtype of the input. A prefix of whole blocks encodes to a prefix of the bytes.

    Parameters
    ----------
    text : str
        A spec such as `"int4"` or `"int4:rounding=stochastic"`; see `codec_names`.

    Attributes
    ----------
    spec : str
        The canonical spec: `codec(c.spec) == c`.
    native : NativeCodec
        The handle that native code works with. Internal.

    Examples
    --------
    >>> c = Codec("int8")
    >>> payload = c.encode(np.array([0.0, 0.5, -1.0], dtype=np.float32))
    >>> c.decode(payload, 3).round(2).tolist()
    [0.0, 0.5, -1.0]
    """

    __slots__ = ("native", "spec")

    def __init__(self, text: str) -> None:
        parsed, self.native = _spec.parse(text)
        self.spec = str(parsed)

    @property
    def bits(self) -> float:
        """Wire bits per value of a long array, scales included."""
        return 8 * self.native.block_nbytes / self.native.block

    @property
    def block(self) -> int:
        """Values that share a scale; 1 where there is none. Arrays may be cut only at multiples of it."""
        return self.native.block

    @property
    def contractive(self) -> bool:
        """Whether the error is provably smaller than the input, as error feedback needs."""
        return self.native.contractive

    def nbytes(self, n: int, dtype: DTypeLike = np.float32) -> int:
        """Return the exact payload size in bytes.

        Parameters
        ----------
        n : int
            Number of values.
        dtype : dtype, default float32
            Of the input. Matters to `raw` alone, which keeps it.

        Examples
        --------
        >>> Codec("int4").nbytes(1000), Codec("raw").nbytes(1000, np.float64)
        (532, 8000)
        """
        check_counts(n=n)
        return n * np.dtype(dtype).itemsize if self.spec == "raw" else self.native.nbytes(n)

    def encode(
        self,
        x: ArrayLike,
        out: NDArray[np.uint8] | None = None,
        *,
        seed: int = 0,
        step: int = 0,
        first_index: int = 0,
        nonfinite: Nonfinite | None = None,
        threads: int = 0,
        feedback: Literal["none", "ef14", "ef21"] = "none",
        state: NDArray[np.float32] | None = None,
    ) -> NDArray[np.uint8]:
        """Write x as bytes.

        Parameters
        ----------
        x : array of float16, float32 or float64, any shape and strides
            Taken in C order, rounded to float32 first. `raw` takes integers and bools too and keeps the
            dtype.
        out : uint8[nbytes], optional
            Where to write; allocated if absent. After an error its content is undefined. It must not lie
            between the first and the last byte of x or of state, not even in the gaps of a strided x.
        seed, step, first_index : int
            Key of stochastic rounding: value i draws from (seed, step, first_index + i).
        nonfinite : {"raise", "saturate", "propagate"}, optional
            What to do with NaN and infinities. "raise" names the first bad index; "saturate" takes NaN as 0
            and ±Inf as the largest finite magnitude of the block; "propagate" makes the block decode as NaN.
            Formats that store them (raw, f16, bf16, e4m3, e5m2) do so with both of the last; their default
            is "propagate", of all others "raise". Finite values beyond f16, bf16 and e5m2 become infinite
            in any case, as torch casts them.
        threads : int, default 0
            0 chooses by size.
        feedback : {"none", "ef14", "ef21"}, default "none"
            Error feedback in the same pass (`ErrorFeedback` keeps the state by name): what is
            encoded is x + state, and the state becomes what was lost; or x − state, and the state becomes
            the old one + what was sent.
        state : float32[n], with feedback
            Read and written.

        Returns
        -------
        uint8[nbytes]
            `out`, or the new array.

        Raises
        ------
        ValueError
            A value cannot be encoded (not finite; beyond the width of `step`).
        TypeError
            x is not an array of floats.

        Examples
        --------
        >>> Codec("bf16").encode([1.0, 2.0]).tolist()
        [128, 63, 0, 64]
        """
        values = np.asarray(x)
        if self.spec == "raw" and values.dtype != _FLOAT32 and feedback == "none":
            return _encode_raw(values, out)
        if not isinstance(x, np.ndarray) and values.dtype.kind in "iu":
            values = values.astype(np.float64)
        if out is None:
            out = np.empty(self.native.nbytes(values.size), np.uint8)
        if nonfinite is None:
            nonfinite = "propagate" if self.native.passes_nonfinite else "raise"
        try:
            self.native.encode(values, out, seed, step, first_index, nonfinite, threads, feedback, state)
        except TypeError:
            check_counts(seed=seed, step=step, first_index=first_index, threads=threads)
            raise
        except ValueError:
            _check_width(values, nonfinite)
            raise
        return out

    def decode(
        self,
        buf: NDArray[np.uint8] | bytes | memoryview,
        n: int,
        out: NDArray[Any] | None = None,
        *,
        add: bool = False,
        threads: int = 0,
        dtype: DTypeLike = np.float32,
    ) -> NDArray[Any]:
        """Read n values back.

        Parameters
        ----------
        buf : uint8[nbytes(n)] or bytes
            The payload.
        n : int
            Number of values.
        out : float32[n], optional
            Where to write, any contiguous shape of n values; allocated if absent. It must not lie between
            the first and the last byte of buf.
        add : bool, default False
            `out += decoded` instead of `out = decoded`.
        threads : int, default 0
            0 chooses by size.
        dtype : dtype, default float32
            What `raw` was given; other codecs decode to float32.

        Returns
        -------
        float32[n]
            `out`, or the new array.

        Raises
        ------
        ValueError
            The payload has another size than `nbytes(n)`.

        Examples
        --------
        >>> Codec("bf16").decode(bytes([128, 63, 0, 64]), 2).tolist()
        [1.0, 2.0]
        """
        data = _bytes_of(buf)
        wanted = np.dtype(dtype) if out is None else out.dtype
        if wanted != _FLOAT32:
            if self.spec == "raw":
                return _decode_raw(data, n, out, add, wanted)
            raise TypeError(f"{self.spec} decodes to float32, not {wanted}")
        if out is None or n < 0:  # else the native code checks the sizes
            self._check_size(data, n)
        if out is None:
            out = np.zeros(n, np.float32) if add else np.empty(n, np.float32)
        self.native.decode(data, n, out, add, threads)
        return out

    def _check_size(self, data: NDArray[np.uint8], n: int) -> None:
        wanted = self.nbytes(n)
        if data.size != wanted:
            raise ValueError(f"buf must hold {wanted} bytes for {n} {self.spec} values, got {data.size}")

    def bound(self, x: ArrayLike) -> float:
        """Return a proven upper bound of max |x - decode(encode(x))|; infinity where there is none.

        Parameters
        ----------
        x : array of floats
            The values to be encoded.

        Examples
        --------
        >>> 0.0039 < Codec("int8").bound(np.array([1.0, -0.3])) < 0.0040
        True
        """
        values = np.asarray(x)
        if self.spec == "raw":
            return 0.0
        rounded = values.astype(np.float32)
        cast = np.max(np.abs(values.astype(np.float64) - rounded), initial=0.0)
        return float(self.native.bound(rounded) + cast)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Codec) and self.spec == other.spec

    def __hash__(self) -> int:
        return hash((Codec, self.spec))

    def __repr__(self) -> str:
        return f"codec({self.spec!r})"

    def __reduce__(self) -> tuple[type[Codec], tuple[str]]:
        return Codec, (self.spec,)


def check_counts(**numbers: Any) -> None:
    """Raise TypeError or ValueError, with the name, unless all are counts that native code can hold."""
    for name, value in numbers.items():
        bits = {"threads": 31, "n": 60}.get(name, 64)
        if not isinstance(value, int | np.integer) or isinstance(value, bool):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
        if not 0 <= value < 1 << bits:
            raise ValueError(f"{name} must be >= 0 and below 2**{bits}, got {value}")


def _bytes_of(buf: Any) -> NDArray[Any]:
    if isinstance(buf, np.ndarray):
        return buf
    try:
        return np.frombuffer(buf, np.uint8)
    except TypeError:
        raise TypeError(f"buf must be a uint8 array or bytes, got {type(buf).__name__}") from None


def _check_width(values: NDArray[Any], nonfinite: str) -> None:
    """Raise ValueError for a float64 that is finite, but infinite as the float32 that codecs read."""
    if values.dtype != _FLOAT64 or nonfinite != "raise":
        return
    with np.errstate(over="ignore"):
        narrow = values.reshape(-1).astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(narrow))
    if len(bad) and np.isfinite(values.reshape(-1)[bad[0]]):
        value = values.reshape(-1)[bad[0]]
        raise ValueError(
            f"x[{bad[0]}] = {value:.9g} is beyond float32, which codecs read: ±{LARGEST_FLOAT32:.3g}"
        )


def _check_raw(dtype: np.dtype[Any]) -> None:
    if dtype not in _RAW_DTYPES:
        raise TypeError(f"raw takes arrays of floats, integers or bools of native byte order, got {dtype}")


def _encode_raw(values: NDArray[Any], out: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    _check_raw(values.dtype)
    data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    if out is None:
        return data.copy() if np.shares_memory(data, values) else data
    if out.dtype != np.uint8 or out.shape != data.shape:
        raise ValueError(f"out must be uint8({data.size},), got {out.dtype}{out.shape}")
    out[...] = data
    return out


def _decode_raw(
    data: NDArray[np.uint8], n: int, out: NDArray[Any] | None, add: bool, dtype: np.dtype[Any]
) -> NDArray[Any]:
    _check_raw(dtype)
    wanted = n * dtype.itemsize
    if data.size != wanted:
        raise ValueError(f"buf must hold {wanted} bytes for {n} raw {dtype} values, got {data.size}")
    values = np.frombuffer(data.tobytes(), dtype)
    if out is None:
        return values.copy()
    if out.size != n:
        raise ValueError(f"out must hold {n} values, got {out.size}")
    shaped = values.reshape(out.shape)
    out[...] = out + shaped if add else shaped
    return out


@lru_cache(maxsize=256)
def _codec(text: str) -> Codec:
    return Codec(text)


def codec(spec: str | Codec) -> Codec:
    """Return the codec of a spec.

    Parameters
    ----------
    spec : str or Codec
        A name from `codec_names`, with options after a colon: `"int8"`, `"int4:rounding=stochastic"`,
        `"step:k=0.01,bits=8"`. A Codec is returned as it is.

    Raises
    ------
    ValueError
        Unknown name, option or value; the message lists the known ones.

    Examples
    --------
    >>> codec("int4").bits
    4.25
    """
    return spec if isinstance(spec, Codec) else _codec(spec)


def codec_names() -> list[str]:
    """Return the names that `codec` knows.

    Examples
    --------
    >>> {"raw", "int8", "int4", "step"} <= set(codec_names())
    True
    """
    return _spec.names()
