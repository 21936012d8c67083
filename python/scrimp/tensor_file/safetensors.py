"""Read and write safetensors one tensor at a time; the library checks the header, the bytes are mapped.

bf16, which NumPy lacks, is read as float32 and written from float32 (round to nearest even). Types that
have no use here (fp8, …) can be copied byte for byte.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from scrimp.codecs import codec
from scrimp.errors import InputError

FLOATS: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What the header says of one tensor; `nbytes` is its size in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int

    @property
    def is_float(self) -> bool:
        """Whether `SafetensorsReader.values` can read it as numbers."""
        return self.dtype in FLOATS


class SafetensorsReader:
    """A safetensors file, opened and checked.

    Parameters
    ----------
    path : str or Path

    Attributes
    ----------
    tensors : dict of str to TensorInfo
        In file order.
    metadata : dict of str to str

    Raises
    ------
    InputError
        Missing, empty, truncated, or not safetensors.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        _check_header(self.path)
        with self.path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        self.metadata: dict[str, str] = header.pop("__metadata__", {})
        entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
        self.tensors = {name: _info(name, entry) for name, entry in entries}
        self._start = {name: 8 + size + entry["data_offsets"][0] for name, entry in entries}

    def raw(self, name: str) -> NDArray[np.uint8]:
        """Map the bytes of one tensor."""
        info = self.tensors[name]
        if info.nbytes == 0:
            return np.empty(0, np.uint8)
        return np.memmap(self.path, np.uint8, "r", self._start[name], (info.nbytes,))

    def values(self, name: str) -> NDArray[Any]:
        """Return a float tensor in its shape: mapped, or, for bf16, a float32 copy."""
        info = self.tensors[name]
        data: NDArray[Any] = self.raw(name).view(FLOATS[info.dtype])
        if info.dtype == "BF16":
            data = (data.astype(np.uint32) << 16).view(np.float32)
        return data.reshape(info.shape)


class SafetensorsWriter:
    """Write a safetensors file in order, each tensor in as many pieces as is convenient.

    Parameters
    ----------
    file : binary file
        Open for writing, at its beginning.
    tensors : iterable of TensorInfo
        All that will be written, in that order.
    metadata : mapping of str to str
    """

    def __init__(self, file: BinaryIO, tensors: Iterable[TensorInfo], metadata: Mapping[str, str]) -> None:
        self._file = file
        self._left = {info.name: info.nbytes for info in tensors}
        header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
        at = 0
        for info in tensors:
            header[info.name] = {
                "dtype": info.dtype,
                "shape": list(info.shape),
                "data_offsets": [at, at + info.nbytes],
            }
            at += info.nbytes
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)  # tensors begin aligned, as the library writes them
        file.write(len(text).to_bytes(8, "little") + text)

    def write(self, name: str, data: Any) -> None:
        """Append bytes to a tensor; tensors must come in the order announced."""
        view = memoryview(data).cast("B")
        current = next((key for key, left in self._left.items() if left), None)
        assert not view.nbytes or name == current, f"{name!r} out of order, expected {current!r}"
        self._left[name] -= view.nbytes
        assert self._left[name] >= 0, f"{name!r}: more bytes than announced"
        self._file.write(view)

    def finish(self) -> None:
        """Check that everything announced was written."""
        assert not any(self._left.values()), f"not all bytes were written: {self._left}"


def to_dtype(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Turn float32 into the bytes of a safetensors float type, rounded to nearest even."""
    if dtype == "BF16":
        return codec("bf16").encode(values.reshape(-1))
    return values.astype(FLOATS[dtype], copy=False)


def _check_header(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    if path.is_dir():
        raise InputError(f"cannot read {path}: is a folder, not a file")
    try:
        if os.stat(path).st_size == 0:
            raise InputError(f"{path}: the file is empty")
        with safe_open(str(path), framework="np"):
            pass
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        raise InputError(f"{path}: not a whole safetensors file ({reason})") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _info(name: str, entry: dict[str, Any]) -> TensorInfo:
    first, last = entry["data_offsets"]
    info = TensorInfo(name, entry["dtype"], tuple(entry["shape"]), last - first)
    assert not info.is_float or math.prod(info.shape) * FLOATS[info.dtype].itemsize == info.nbytes
    return info
