"""Files of named tensors: safetensors with one JSON document in the metadata, written all or nothing.

Checkpoints and models are such files. Reading one executes nothing and trusts nothing: damage raises
InputError. A checksum covers the document and all tensors but packets, which have their own and may be
encoded again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrimp import _core
from scrimp.atomic import replacing
from scrimp.errors import InputError

Tensors = dict[str, NDArray[Any]]
DOCUMENT = "scrimp"  # key of the JSON document in the safetensors metadata
CHECKSUM = "scrimp.crc32c"  # of that text and of the tensors, eight hexadecimal digits
PACKED = ".packed"  # end of the name of a tensor that is a packet


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, NDArray[Any]], document: dict[str, Any]
) -> int:
    """Write tensors and a JSON document to one file, atomically; return its size in bytes."""
    from safetensors.numpy import save

    plain = {name: np.ascontiguousarray(a) for name, a in tensors.items()}
    text = json.dumps(document, allow_nan=False)
    content = save(plain, metadata={DOCUMENT: text, CHECKSUM: checksum(text, plain)})
    with replacing(os.fspath(path)) as file:
        file.write(content)
    return len(content)


def read_tensors(path: str | os.PathLike[str], schema: str) -> tuple[Tensors, dict[str, Any]]:
    """Read what `write_tensors` wrote.

    Parameters
    ----------
    path : path
        The file.
    schema : str
        Name and version that the document must have, for example `scrimp.model/1`.

    Raises
    ------
    InputError
        The file is missing, damaged, cut short, no safetensors file, or of another schema.
    """
    from safetensors import SafetensorError, safe_open

    if os.path.isdir(path):
        raise InputError(f"{os.fspath(path)}: is a folder, not a file")
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            document = _document(path, metadata, schema)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise InputError(f"{os.fspath(path)}: no such file") from error
    except (SafetensorError, OSError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{os.fspath(path)}: damaged, or not a {schema} file ({error})") from error
    if metadata.get(CHECKSUM) != checksum(metadata[DOCUMENT], tensors):
        raise InputError(f"{os.fspath(path)}: damaged: its checksum does not match")
    return tensors, document


def checksum(text: str, tensors: Mapping[str, NDArray[Any]]) -> str:
    """Return the CRC-32C of a document and of the tensors that are not packets, by name."""
    crc = _core.crc32c(text.encode())
    for name in sorted(tensors):
        if not name.endswith(PACKED):
            values = np.ascontiguousarray(tensors[name])
            crc = _core.crc32c(f"{name} {values.dtype.str} {values.shape}".encode(), crc)
            crc = _core.crc32c(values.reshape(-1).view(np.uint8), crc)
    return f"{crc:08x}"


def _document(path: str | os.PathLike[str], metadata: dict[str, str], schema: str) -> dict[str, Any]:
    document = json.loads(metadata.get(DOCUMENT, "{}"))
    found = document.get("schema") if isinstance(document, dict) else None
    if found != schema:
        what = f"a {found} file" if isinstance(found, str) else "a file of some other program"
        raise InputError(f"{os.fspath(path)}: expected a {schema} file, got {what}")
    assert isinstance(document, dict)
    return document
