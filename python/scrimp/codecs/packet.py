"""Packets: an array as self-describing bytes, checked before anything is allocated (docs/formats.md)."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from scrimp import _core
from scrimp.codecs.base import Codec
from scrimp.codecs.base import codec as codec_of
from scrimp.errors import CodecError

MAGIC = b"scrp"
VERSION = 1
MAX_NDIM = 32
# magic, version, dtype, ndim, length of spec, crc32c of all other bytes, length of payload
_HEAD = struct.Struct("<4sBBBBIQ")
_CRC_AT = 8
_DTYPES = {
    code: np.dtype(name)
    for code, name in enumerate(
        ("<f4", "<f8", "<f2", "<i8", "<i4", "<i2", "|i1", "<u8", "<u4", "<u2", "|u1", "|b1"), start=1
    )
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


def pack(x: ArrayLike, codec: str | Codec, **key: Any) -> bytes:
    """Encode an array into a packet that says what it is.

    Parameters
    ----------
    x : array of floats, any shape up to 32 dimensions
        `raw` takes integers and bools too.
    codec : str or Codec
        Which codec, as `scrimp.codec` takes it.
    **key
        Passed to `Codec.encode`: seed, step, nonfinite, threads.

    Returns
    -------
    bytes
        Header (20 bytes + 8 per dimension + the spec) and payload, little-endian.

    Examples
    --------
    >>> unpack(pack(np.eye(2, dtype=np.float32), "int8")).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    values, chosen = np.asarray(x), codec_of(codec)
    if values.ndim > MAX_NDIM:
        raise ValueError(f"x must have at most {MAX_NDIM} dimensions, got {values.ndim}")
    if values.dtype not in _CODES:
        raise TypeError(f"x must hold floats, integers or bools, got {values.dtype}")
    payload = chosen.encode(values.reshape(-1), **key)
    name = chosen.spec.encode("ascii")
    if len(name) > 255:
        raise ValueError(f"codec spec is longer than 255 bytes: {chosen.spec[:40]}…")
    head = _HEAD.pack(MAGIC, VERSION, _CODES[values.dtype], values.ndim, len(name), 0, payload.size)
    meta = head + struct.pack(f"<{values.ndim}Q", *values.shape) + name
    crc = _crc(meta, payload)
    return b"".join((meta[:_CRC_AT], struct.pack("<I", crc), meta[_CRC_AT + 4 :], payload.data))


def unpack(packet: bytes | bytearray | memoryview) -> NDArray[Any]:
    """Decode a packet.

    Parameters
    ----------
    packet : bytes-like
        What `pack` returned.

    Returns
    -------
    ndarray
        Shape and dtype of the packed array.

    Raises
    ------
    CodecError
        The bytes are damaged, cut short, too long, or of an unknown version. Sizes and checksum are checked
        before anything is allocated.

    Examples
    --------
    >>> unpack(b"scrp")
    Traceback (most recent call last):
        ...
    scrimp.errors.CodecError: packet is cut short: 4 of at least 20 bytes
    """
    (dtype, shape, chosen), payload = packet_payload(packet)
    n = math.prod(shape)
    if dtype == np.bool_ and payload.max(initial=0) > 1:
        raise CodecError("packet is damaged: a bool is neither 0 nor 1")
    if chosen.spec == "raw":
        return chosen.decode(payload, n, dtype=dtype).reshape(shape)
    with np.errstate(all="ignore"):  # a decoded value may lie beyond a float16
        return chosen.decode(payload, n).astype(dtype, copy=False).reshape(shape)


class PacketInfo(NamedTuple):
    """What a packet's header says.

    Attributes
    ----------
    dtype : dtype
        Of the array that `unpack` returns.
    shape : tuple of int
    codec : Codec
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    codec: Codec


def packet_info(packet: bytes | bytearray | memoryview) -> PacketInfo:
    """Read the header of a packet; its sizes are checked, its checksum and payload are not read.

    Raises
    ------
    CodecError
        As `unpack`.

    Examples
    --------
    >>> packet_info(pack(np.eye(2, dtype=np.float32), "int8")).shape
    (2, 2)
    """
    return PacketInfo(*_read_head(_bytes_of(packet))[:3])


def packet_payload(packet: bytes | bytearray | memoryview) -> tuple[PacketInfo, NDArray[np.uint8]]:
    """Check a packet whole, and return its header and its payload where it lies.

    Raises
    ------
    CodecError
        As `unpack`.

    Examples
    --------
    >>> packet_payload(pack(np.eye(2, dtype=np.float32), "int8"))[1].size
    8
    """
    view = _bytes_of(packet)
    dtype, shape, chosen, start = _read_head(view)
    if _crc(view[:start], view[start:]) != _HEAD.unpack_from(view)[5]:
        raise CodecError("packet is damaged: its checksum does not match")
    return PacketInfo(dtype, shape, chosen), np.frombuffer(view, np.uint8, offset=start)


def packet_nbytes(shape: Sequence[int], spec: str | Codec, dtype: DTypeLike = np.float32) -> int:
    """Return the size in bytes of the packet that `pack` makes.

    Parameters
    ----------
    shape : sequence of int
        Of the array.
    spec : str or Codec
    dtype : dtype, default float32
        Of the array; matters to `raw` alone.

    Examples
    --------
    >>> packet_nbytes((2, 2), "int8") == len(pack(np.eye(2), "int8"))
    True
    """
    chosen = codec_of(spec)
    return _HEAD.size + 8 * len(shape) + len(chosen.spec) + chosen.nbytes(math.prod(shape), dtype)


def _bytes_of(packet: Any) -> memoryview:
    try:
        return memoryview(packet).cast("B")
    except TypeError:
        kind = type(packet).__name__
        raise TypeError(f"packet must be bytes, or another contiguous buffer of them, got {kind}") from None


def _crc(meta: bytes | memoryview, payload: Any) -> int:
    crc = _core.crc32c(bytes(meta[:_CRC_AT]))
    return _core.crc32c(payload, _core.crc32c(bytes(meta[_CRC_AT + 4 :]), crc))


def _read_head(view: memoryview) -> tuple[np.dtype[Any], tuple[int, ...], Codec, int]:
    if len(view) < _HEAD.size:
        raise CodecError(f"packet is cut short: {len(view)} of at least {_HEAD.size} bytes")
    magic, version, dtype_code, ndim, name_nbytes, _, payload_nbytes = _HEAD.unpack_from(view)
    if magic != MAGIC:
        raise CodecError(f"not a packet: it begins with {magic!r}, not {MAGIC!r}")
    if version != VERSION:
        raise CodecError(f"packet has version {version}; this release reads {VERSION}")
    if dtype_code not in _DTYPES or ndim > MAX_NDIM:
        raise CodecError(f"packet is damaged: dtype code {dtype_code}, {ndim} dimensions")
    start = _HEAD.size + 8 * ndim + name_nbytes
    if len(view) != start + payload_nbytes:
        raise CodecError(f"packet must have {start} + {payload_nbytes} bytes, got {len(view)}")
    shape = struct.unpack_from(f"<{ndim}Q", view, _HEAD.size)
    chosen = _read_spec(bytes(view[_HEAD.size + 8 * ndim : start]))
    dtype = _DTYPES[dtype_code]
    n = math.prod(shape)
    if math.prod(filter(None, shape)) >= 2**60 or chosen.nbytes(n, dtype) != payload_nbytes:
        raise CodecError(f"packet of {payload_nbytes} payload bytes claims shape {shape} of {chosen.spec}")
    if chosen.spec != "raw" and dtype.kind != "f":
        raise CodecError(f"packet claims {dtype} values of {chosen.spec}")
    return dtype, shape, chosen, start


def _read_spec(name: bytes) -> Codec:
    try:
        text = name.decode("ascii")
        chosen = codec_of(text)
    except ValueError as error:
        raise CodecError(f"packet names an unusable codec: {error}") from None
    if chosen.spec != text:
        raise CodecError(f"packet names its codec {text!r}, which is not the canonical {chosen.spec!r}")
    return chosen
