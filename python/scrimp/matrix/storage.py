"""The file form of a QuantizedMatrix: a header that a reader can check, sums by leaf, codes to be mapped.

Bytes, little-endian: magic `scrimpQ1`, uint32 length of the header text, uint32 crc32c of it, then the text
(JSON: rows, columns, bits, rounding, seed, first_row, crc32c of the tables, crc32c of the
codes). From the next multiple of 64 on: scale[d], offset[d], noise[L, d], sums[L, d], weights[L], marks[L],
all float64 (L leaves); from the next multiple of 4,096 on: the codes, row by row. The file ends with them.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrimp import _core
from scrimp.errors import CodecError
from scrimp.matrix.tree import LEAF_ROWS

if TYPE_CHECKING:
    from scrimp.matrix.quantized import QuantizedMatrix

MAGIC = b"scrimpQ1"
_HEAD = struct.Struct("<8sII")
_MAX_TEXT = 1 << 16
_TABLE_ALIGN, _CODE_ALIGN = 64, 4096
_INTEGERS = ("rows", "columns", "bits", "seed", "first_row", "tables_crc32c", "codes_crc32c")


class _Layout(NamedTuple):
    """Where tables and codes lie, from the sizes alone."""

    n: int
    d: int
    bits: int
    tables_at: int

    @property
    def leaves(self) -> int:
        return -(-self.n // LEAF_ROWS)

    @property
    def row_nbytes(self) -> int:
        return -(-self.d * self.bits // 8)

    @property
    def table_values(self) -> int:
        return 2 * self.d + 2 * self.leaves * self.d + 2 * self.leaves

    @property
    def codes_at(self) -> int:
        return _aligned(self.tables_at + 8 * self.table_values, _CODE_ALIGN)

    @property
    def file_nbytes(self) -> int:
        return self.codes_at + self.n * self.row_nbytes


def save(Q: QuantizedMatrix, path: str | os.PathLike[str]) -> None:
    """Write to a temporary file beside `path`, then rename."""
    parts = (Q.scale, Q.offset, Q.noise_blocks, Q.sum_blocks, Q.weight_blocks, Q.weight_marks)
    tables = b"".join(np.ascontiguousarray(part, dtype="<f8").tobytes() for part in parts)
    codes = np.ascontiguousarray(Q.codes).view(np.uint8)
    header = {
        "rows": Q.shape[0],
        "columns": Q.shape[1],
        "bits": Q.bits,
        "rounding": Q.rounding,
        "seed": Q.seed,
        "first_row": Q.first_row,
        "tables_crc32c": _core.crc32c(tables),
        "codes_crc32c": _core.crc32c(codes.reshape(-1)),
    }
    text = json.dumps(header).encode("ascii")
    layout = _Layout(*Q.shape, Q.bits, _aligned(_HEAD.size + len(text), _TABLE_ALIGN))
    head = _HEAD.pack(MAGIC, len(text), _core.crc32c(text)) + text
    target = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=target.name, suffix=".part", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(head.ljust(layout.tables_at, b"\0"))
            file.write(tables.ljust(layout.codes_at - layout.tables_at, b"\0"))
            codes.tofile(file)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def load(path: str | os.PathLike[str], *, verify: bool) -> dict[str, Any]:
    """Check a file and map its codes; the result is the arguments of QuantizedMatrix."""
    size = os.stat(path).st_size
    with open(path, "rb") as file:
        header, tables_at = _read_header(file.read(_HEAD.size + _MAX_TEXT), path)
        layout = _Layout(header["rows"], header["columns"], header["bits"], tables_at)
        if size != layout.file_nbytes:
            needed = f"{layout.n} rows of {layout.d} columns take {layout.file_nbytes} bytes"
            raise CodecError(f"{path}: {needed}, got {size}")
        file.seek(tables_at)
        tables = file.read(8 * layout.table_values)
    if _core.crc32c(tables) != header["tables_crc32c"]:
        raise CodecError(f"{path}: the tables are damaged (crc32c)")
    codes = _map_codes(path, layout)
    if verify and _core.crc32c(codes.view(np.uint8).reshape(-1)) != header["codes_crc32c"]:
        raise CodecError(f"{path}: the codes are damaged (crc32c)")
    names = ("scale", "offset", "noise_blocks", "sum_blocks", "weight_blocks", "weight_marks")
    kept = {key: header[key] for key in ("bits", "rounding", "seed", "first_row")}
    return {"codes": codes, **dict(zip(names, _split_tables(tables, layout), strict=True)), **kept}


def _read_header(start: bytes, path: str | os.PathLike[str]) -> tuple[dict[str, Any], int]:
    if len(start) < _HEAD.size or not start.startswith(MAGIC):
        raise CodecError(f"{path}: not a file of a QuantizedMatrix (it does not begin with {MAGIC.decode()})")
    _, length, crc = _HEAD.unpack_from(start)
    text = start[_HEAD.size : _HEAD.size + length]
    if len(text) != length or _core.crc32c(text) != crc:
        raise CodecError(f"{path}: the header is damaged or cut short")
    try:
        header = json.loads(text)
    except ValueError as error:
        raise CodecError(f"{path}: the header is not JSON") from error
    _check_header(header, path)
    return header, _aligned(_HEAD.size + length, _TABLE_ALIGN)


def _check_header(header: Any, path: str | os.PathLike[str]) -> None:
    good = isinstance(header, dict) and all(type(header.get(key)) is int for key in _INTEGERS)
    good = good and header["rows"] >= 0 and header["columns"] >= 0 and header["bits"] in (1, 2, 4, 8)
    good = good and header["first_row"] >= 0 and header["first_row"] % LEAF_ROWS == 0
    if not good or header.get("rounding") not in ("stochastic", "nearest"):
        raise CodecError(f"{path}: the header is not that of a QuantizedMatrix")


def _map_codes(path: str | os.PathLike[str], layout: _Layout) -> NDArray[Any]:
    dtype = np.dtype(np.int8 if layout.bits == 8 else np.uint8)
    shape = (layout.n, layout.row_nbytes)
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.asarray(np.memmap(path, dtype, "r", layout.codes_at, shape))


def _split_tables(tables: bytes, layout: _Layout) -> list[NDArray[np.float64]]:
    d, leaves = layout.d, layout.leaves
    values = np.frombuffer(tables, "<f8").astype(np.float64)
    pieces = np.split(values, np.cumsum([d, d, leaves * d, leaves * d, leaves]))
    return [*pieces[:2], pieces[2].reshape(leaves, d), pieces[3].reshape(leaves, d), *pieces[4:]]


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
