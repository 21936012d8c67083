"""The file form of a QuantizedMatrix: a header that a reader can check, sums by leaf, codes to be mapped.

Bytes, little-endian: magic `scrimpQ1`, uint32 length of the header text, uint32 crc32c of it, then the text
(JSON, spaces at its end allowed: rows, columns, bits, rounding, seed, first_row, crc32c of the tables and of
the codes; if there are targets, their crc32c and `about`, what the table was). From the next multiple of 64
on: scale[d], offset[d], noise[L, d], sums[L, d], weights[L], marks[L], all float64 (L leaves); from the next
multiple of 4,096 on: the codes, row by row; if there are targets, from the next multiple of 64 on: they as
float64[n]. The file ends there.
"""

from __future__ import annotations

import json
import os
import struct
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrimp import _core
from scrimp.atomic import replacing
from scrimp.errors import CodecError, InputError
from scrimp.matrix.tree import LEAF_ROWS

if TYPE_CHECKING:
    from scrimp.matrix.quantized import QuantizedMatrix

MAGIC = b"scrimpQ1"
_HEAD = struct.Struct("<8sII")
_MAX_TEXT = 1 << 24
_LARGEST_CRC = (1 << 32) - 1
_LARGEST = (1 << 64) - 1  # of any integer of a header
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
    def codes_end(self) -> int:
        return self.codes_at + self.n * self.row_nbytes

    @property
    def targets_at(self) -> int:
        return _aligned(self.codes_end, _TABLE_ALIGN)

    def file_nbytes(self, has_targets: bool) -> int:
        return self.targets_at + 8 * self.n if has_targets else self.codes_end


class Writer:
    """A file under way: leaves are added in order, and `finish` writes what stands before them.

    Parameters
    ----------
    file : binary file
        Empty, seekable.
    shape : (int, int)
        Rows and columns of the whole matrix.
    facts : dict
        bits, rounding, seed, first_row.
    has_targets : bool
        Whether every row has a target.
    about : dict, optional
        JSON of the caller's, given back by `load_targets`.
    """

    def __init__(
        self,
        file: BinaryIO,
        shape: tuple[int, int],
        facts: dict[str, Any],
        *,
        has_targets: bool = False,
        about: dict[str, Any] | None = None,
    ) -> None:
        self._file = file
        self._header = {"rows": shape[0], "columns": shape[1], **facts}
        self._header |= {"tables_crc32c": _LARGEST_CRC, "codes_crc32c": _LARGEST_CRC}
        self._header |= {"targets_crc32c": _LARGEST_CRC} if has_targets else {}
        self._header |= {"about": about} if about is not None else {}
        self._room = len(self._text())
        if self._room > _MAX_TEXT:
            raise InputError(f"the description of the columns takes {self._room:,} bytes of {_MAX_TEXT:,}")
        self._layout = _Layout(*shape, facts["bits"], _aligned(_HEAD.size + self._room, _TABLE_ALIGN))
        self._crc, self._targets_crc, self._rows = 0, 0, 0
        self._grid: bytes = b""
        self._blocks: list[list[bytes]] = [[], [], [], []]

    def add(self, Q: QuantizedMatrix, targets: NDArray[np.float64] | None = None) -> None:
        """Write the next rows; all but the last have whole leaves, all have one grid."""
        codes = np.ascontiguousarray(Q.codes).view(np.uint8).reshape(-1)
        self._file.seek(self._layout.codes_at + self._rows * self._layout.row_nbytes)
        self._file.write(codes.data)
        self._crc = _core.crc32c(codes, self._crc)
        if targets is not None:
            values = np.ascontiguousarray(targets, "<f8").view(np.uint8)
            self._file.seek(self._layout.targets_at + 8 * self._rows)
            self._file.write(values.data)
            self._targets_crc = _core.crc32c(values, self._targets_crc)
        self._grid = _bytes_of(Q.scale) + _bytes_of(Q.offset)
        sums = (Q.noise_blocks, Q.sum_blocks, Q.weight_blocks, Q.weight_marks)
        for blocks, part in zip(self._blocks, sums, strict=True):
            blocks.append(_bytes_of(part))
        self._rows += len(Q.codes)

    def finish(self) -> None:
        """Write header and tables; all rows must have been added."""
        assert self._rows == self._layout.n
        tables = self._grid + b"".join(b"".join(blocks) for blocks in self._blocks)
        self._header |= {"tables_crc32c": _core.crc32c(tables), "codes_crc32c": self._crc}
        if "targets_crc32c" in self._header:
            self._header["targets_crc32c"] = self._targets_crc
        text = self._text().ljust(self._room)
        head = _HEAD.pack(MAGIC, len(text), _core.crc32c(text)) + text
        self._file.seek(0)
        self._file.write(head.ljust(self._layout.tables_at, b"\0"))
        self._file.write(tables.ljust(self._layout.codes_at - self._layout.tables_at, b"\0"))
        self._file.truncate(self._layout.file_nbytes("targets_crc32c" in self._header))

    def _text(self) -> bytes:
        return json.dumps(self._header).encode("ascii")


def save(Q: QuantizedMatrix, path: str | os.PathLike[str]) -> None:
    """Write all or nothing."""
    with replacing(path) as file:
        writer = Writer(file, Q.shape, _facts(Q))
        writer.add(Q)
        writer.finish()


def _facts(Q: QuantizedMatrix) -> dict[str, Any]:
    return {"bits": Q.bits, "rounding": Q.rounding, "seed": Q.seed, "first_row": Q.first_row}


def load(path: str | os.PathLike[str], *, verify: bool) -> dict[str, Any]:
    """Check a file and map its codes; the result is the arguments of QuantizedMatrix."""
    with open(path, "rb") as file:
        header, layout = _read_layout(file, path)
        file.seek(layout.tables_at)
        tables = file.read(8 * layout.table_values)
        if verify:
            _check_padding(file, path, layout, "targets_crc32c" in header)
    if _core.crc32c(tables) != header["tables_crc32c"]:
        raise CodecError(f"{path}: the tables are damaged (crc32c)")
    codes = _map_codes(path, layout)
    if verify and _core.crc32c(codes.view(np.uint8).reshape(-1)) != header["codes_crc32c"]:
        raise CodecError(f"{path}: the codes are damaged (crc32c)")
    names = ("scale", "offset", "noise_blocks", "sum_blocks", "weight_blocks", "weight_marks")
    kept = {key: header[key] for key in ("bits", "rounding", "seed", "first_row")}
    return {"codes": codes, **dict(zip(names, _split_tables(tables, layout), strict=True)), **kept}


def load_targets(path: str | os.PathLike[str]) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Map the targets of a file and give what it is about; InputError if it was written without them."""
    with open(path, "rb") as file:
        header, layout = _read_layout(file, path)
    if "targets_crc32c" not in header or not isinstance(header.get("about"), dict):
        raise InputError(f"{path}: holds rows without a target; `scrimp quantize --target` writes one")
    if not layout.n:
        return np.zeros(0), header["about"]
    targets = np.memmap(path, "<f8", "r", layout.targets_at, (layout.n,))
    if _core.crc32c(targets.view(np.uint8)) != header["targets_crc32c"]:
        raise CodecError(f"{path}: the targets are damaged (crc32c)")
    return np.asarray(targets), header["about"]


def _read_layout(file: BinaryIO, path: str | os.PathLike[str]) -> tuple[dict[str, Any], _Layout]:
    header, tables_at = _read_header(file, path)
    layout = _Layout(header["rows"], header["columns"], header["bits"], tables_at)
    needed, size = layout.file_nbytes("targets_crc32c" in header), os.fstat(file.fileno()).st_size
    if size != needed:
        raise CodecError(f"{path}: {layout.n} rows of {layout.d} columns take {needed} bytes, got {size}")
    return header, layout


def _read_header(file: BinaryIO, path: str | os.PathLike[str]) -> tuple[dict[str, Any], int]:
    start = file.read(_HEAD.size)
    if len(start) < _HEAD.size or not start.startswith(MAGIC):
        raise CodecError(f"{path}: not a file of a QuantizedMatrix (it does not begin with {MAGIC.decode()})")
    _, length, crc = _HEAD.unpack_from(start)
    text = file.read(min(length, _MAX_TEXT))
    if len(text) != length or _core.crc32c(text) != crc:
        raise CodecError(f"{path}: the header is damaged or cut short")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"{path}: the header is not JSON") from error
    _check_header(header, path)
    return header, _aligned(_HEAD.size + length, _TABLE_ALIGN)


def _check_padding(file: BinaryIO, path: str | os.PathLike[str], layout: _Layout, has_targets: bool) -> None:
    """Look at what no checksum covers: the bytes before tables, codes and targets."""
    file.seek(8)
    text_end = _HEAD.size + int.from_bytes(file.read(4), "little")
    gaps = [(text_end, layout.tables_at), (layout.tables_at + 8 * layout.table_values, layout.codes_at)]
    gaps += [(layout.codes_end, layout.targets_at)] if has_targets else []
    for begin, end in gaps:
        file.seek(begin)
        if file.read(end - begin).strip(b"\0"):
            raise CodecError(f"{path}: damaged: the bytes {begin:,} to {end:,} are padding and must be 0")


def _check_header(header: Any, path: str | os.PathLike[str]) -> None:
    good = isinstance(header, dict) and all(type(header.get(key)) is int for key in _INTEGERS)
    good = good and all(0 <= header[key] <= _LARGEST for key in _INTEGERS)
    good = good and header["bits"] in (1, 2, 4, 8) and header["first_row"] % LEAF_ROWS == 0
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


def _bytes_of(values: NDArray[np.float64]) -> bytes:
    return np.ascontiguousarray(values, dtype="<f8").tobytes()


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
