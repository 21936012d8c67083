"""Write a checkpoint in the layout of GGUF, version 3, streamed.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
The layout only: names and metadata of a certain architecture are up to whoever wants to run the file.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrimp.atomic import replacing
from scrimp.codecs import Codec, codec
from scrimp.errors import InputError
from scrimp.tensor_file.recode import Rule, TensorReport, choose, measured_error
from scrimp.tensor_file.safetensors import SafetensorsReader, TensorInfo

ALIGNMENT = 32
BLOCK = 32  # values of a row that share a scale in q8_0 and q4_0; a row is whole blocks

# Codec spec or safetensors type -> number of the type in GGUF.
TYPES = {
    "F32": 0,
    "F16": 1,
    "q4_0": 2,
    "q8_0": 8,
    "I8": 24,
    "I16": 25,
    "I32": 26,
    "I64": 27,
    "F64": 28,
    "BF16": 30,
}
_CASTS = {"f16": "F16", "bf16": "BF16"}


def export_gguf(
    source: str | Path,
    out: str | Path,
    spec: str = "q8_0",
    rules: Sequence[Rule] = (),
    progress: Callable[[str], None] | None = None,
) -> list[TensorReport]:
    """Write a safetensors file as GGUF.

    Parameters
    ----------
    source, out : path
    spec : {"q8_0", "q4_0", "f16", "bf16", "raw"}
        Of the float tensors. One-dimensional tensors and rows that are no multiple of 32 values stay as
        they are.
    rules : sequence of (regex, spec)
        As in `quantize_file`.
    progress : callable, optional
        Called with each tensor's name.

    Returns
    -------
    list of TensorReport

    Raises
    ------
    ValueError
        A codec that GGUF does not have.
    InputError
        A type that GGUF does not have, more than four dimensions, NaN.
    OutputError
        `out` cannot be written; it is as it was.
    """
    allowed = ("q8_0", "q4_0", "f16", "bf16", "raw")
    for name in (spec, *(rule[1] for rule in rules)):
        if codec(name).spec not in allowed:
            raise ValueError(f"GGUF has no {name!r}; possible: {', '.join(allowed)}")
    reader = SafetensorsReader(source)
    plan = [
        (info, *_plan(reader, info, choose(info, codec(spec), rules))) for info in reader.tensors.values()
    ]
    reports = []
    with replacing(out) as file:
        file.write(_header(plan, Path(source).stem))
        for info, kind, chosen in plan:
            if progress is not None:
                progress(info.name)
            data, report = _encoded(reader, info, kind, chosen)
            file.write(data.data)
            file.write(b"\0" * (-data.nbytes % ALIGNMENT))
            reports.append(report)
    return reports


def _plan(reader: SafetensorsReader, info: TensorInfo, chosen: Codec | None) -> tuple[str, Codec | None]:
    """Return the name of the GGUF type, and the codec if the tensor is not copied."""
    if len(info.shape) > 4:
        raise InputError(
            f"{reader.path}: tensor {info.name!r} has {len(info.shape)} dimensions, GGUF has 4 at most"
        )
    quantized = chosen is not None and chosen.spec in TYPES
    if quantized and (len(info.shape) < 2 or info.shape[-1] % BLOCK):
        chosen = None
    if chosen is None:
        if info.dtype not in TYPES:
            raise InputError(f"{reader.path}: tensor {info.name!r} is {info.dtype}, which GGUF does not have")
        return info.dtype, None
    return _CASTS.get(chosen.spec, chosen.spec), chosen


def _header(plan: Sequence[tuple[TensorInfo, str, Codec | None]], name: str) -> bytes:
    pairs = [_pair("general.architecture", "none"), _pair("general.name", name)]
    pairs += [_pair("general.quantization_version", 2), _pair("general.alignment", ALIGNMENT)]
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(plan), len(pairs)) + b"".join(pairs)
    at = 0
    for info, kind, chosen in plan:
        shape = info.shape or (1,)
        dims = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        head += _string(info.name) + dims + struct.pack("<IQ", TYPES[kind], at)
        nbytes = info.nbytes if chosen is None else chosen.nbytes(math.prod(info.shape))
        at += nbytes + -nbytes % ALIGNMENT
    return head + b"\0" * (-len(head) % ALIGNMENT)


def _pair(key: str, value: str | int) -> bytes:
    if isinstance(value, str):
        return _string(key) + struct.pack("<I", 8) + _string(value)
    return _string(key) + struct.pack("<II", 4, value)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _encoded(
    reader: SafetensorsReader, info: TensorInfo, kind: str, chosen: Codec | None
) -> tuple[NDArray[np.uint8], TensorReport]:
    if chosen is None:
        raw = reader.raw(info.name)
        return raw, TensorReport(info.name, info.dtype, info.shape, "copied", raw.nbytes, raw.nbytes)
    values: NDArray[Any] = reader.values(info.name)
    try:
        data = chosen.encode(values)
    except ValueError as error:
        raise InputError(
            f"{reader.path}: tensor {info.name!r}: {error}; name it in a rule to keep it"
        ) from error
    errors = measured_error(values, chosen.decode(data, values.size))
    return data, TensorReport(
        info.name, info.dtype, info.shape, chosen.spec, info.nbytes, data.nbytes, *errors
    )
