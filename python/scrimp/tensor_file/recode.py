"""Quantize a safetensors checkpoint tensor by tensor, and back. Memory stays near the largest tensor.

The quantized file is again safetensors: a quantized tensor is a U8 tensor that holds one packet
(docs/formats.md); the metadata key `scrimp.quantized` names them with the type that they had. Everything
else is copied byte for byte. A model of `scrimp.model_file` holds its weights as packets already: these are
encoded again, and it stays a model.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrimp.atomic import replacing
from scrimp.codecs import Codec, PacketInfo, codec, pack, packet_info, packet_nbytes, unpack
from scrimp.errors import CodecError, InputError
from scrimp.tensor_file.safetensors import FLOATS, SafetensorsReader, SafetensorsWriter, TensorInfo, to_dtype

METADATA_KEY = "scrimp.quantized"
SCHEMA = "scrimp.quantized/1"
MODEL_KEY = "scrimp"  # metadata of a file that scrimp.model_file wrote
PACKET_MAGIC = b"scrp"
CHUNK = 1 << 16  # float64 working arrays of a chunk stay in the cache of a core

Rule = tuple[str, str]
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class TensorReport:
    """What became of one tensor.

    Attributes
    ----------
    name, dtype, shape
        As in the file that was read.
    codec : str
        Spec, or `"copied"`.
    bytes_before, bytes_after : int
        In the files; packet header included.
    relative_mse : float
        `Σ(x − x̂)² / Σx²`; 0 for a copy.
    max_error : float
        `max |x − x̂|`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    codec: str
    bytes_before: int
    bytes_after: int
    relative_mse: float = 0.0
    max_error: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict, for JSON."""
        return asdict(self)


def quantize_file(
    source: str | Path,
    out: str | Path,
    spec: str = "int4",
    rules: Sequence[Rule] = (),
    progress: Progress | None = None,
) -> list[TensorReport]:
    """Write a quantized copy of a safetensors file.

    Parameters
    ----------
    source, out : path
        `out` is replaced when the whole new file is written; it may be `source`.
    spec : str
        Codec of the float tensors.
    rules : sequence of (regex, spec)
        The first whose regex is found in a tensor's name replaces `spec`; `raw` copies the tensor.
    progress : callable, optional
        Called with each tensor's name before it is encoded.

    Returns
    -------
    list of TensorReport
        In file order. Integers, types other than f64, f32, f16 and bf16, and tensors that would not get
        smaller are copied.

    Raises
    ------
    InputError
        `source` is not whole or is quantized already, or a tensor holds NaN or infinities that its codec
        refuses.
    OutputError
        `out` cannot be written; it is as it was.
    """
    reader = SafetensorsReader(source)
    if is_quantized(reader):
        raise InputError(f"{source}: is quantized already; dequantize it first")
    plan = [_plan(reader, info, codec(spec), rules) for info in reader.tensors.values()]
    dtypes = {p.info.name: p.info.dtype for p in plan if p.chosen is not None and p.info.is_float}
    note = {METADATA_KEY: json.dumps({"schema": SCHEMA, "dtypes": dtypes})} if dtypes else {}
    reports = []
    with replacing(out) as file:
        writer = SafetensorsWriter(file, [p.target() for p in plan], {**reader.metadata, **note})
        for p in plan:
            if progress is not None:
                progress(p.info.name)
            reports.append(_write_tensor(reader, writer, p))
        writer.finish()
    return reports


def dequantize_file(
    source: str | Path, out: str | Path, dtype: str | None = None, progress: Progress | None = None
) -> list[TensorReport]:
    """Write the plain copy of a file that `quantize_file` wrote.

    Parameters
    ----------
    source, out : path
    dtype : {"F64", "F32", "F16", "BF16"}, optional
        Type of the tensors that were quantized; default the one that each had.
    progress : callable, optional
        Called with each tensor's name before it is decoded.

    Returns
    -------
    list of TensorReport
        `codec` is the one that was found; there is no error to report, what was lost is gone.

    Raises
    ------
    InputError
        `source` is not such a file, or a packet in it is damaged.
    OutputError
        `out` cannot be written; it is as it was.
    """
    if dtype is not None and dtype not in FLOATS:
        raise ValueError(f"unknown dtype {dtype!r}; known: {', '.join(FLOATS)}")
    reader = SafetensorsReader(source)
    dtypes = {name: dtype or was for name, was in _described(reader).items()}
    packets = {name: packet_of(reader, name) for name in dtypes}
    targets = [
        _plain_info(info, packets[info.name].shape, dtypes[info.name]) if info.name in dtypes else info
        for info in reader.tensors.values()
    ]
    metadata = {key: text for key, text in reader.metadata.items() if key != METADATA_KEY}
    reports = []
    with replacing(out) as file:
        writer = SafetensorsWriter(file, targets, metadata)
        for info, target in zip(reader.tensors.values(), targets, strict=True):
            if progress is not None:
                progress(info.name)
            packet = packets.get(info.name)
            data = reader.raw(info.name) if packet is None else _decoded(reader, info.name, target.dtype)
            writer.write(info.name, data)
            spec = "copied" if packet is None else packet.codec.spec
            reports.append(_report(target, spec, info.nbytes, target.nbytes))
        writer.finish()
    return reports


def is_quantized(reader: SafetensorsReader) -> bool:
    """Whether `quantize_file` wrote this file."""
    return METADATA_KEY in reader.metadata


def packet_of(reader: SafetensorsReader, name: str) -> PacketInfo:
    """Read the header of a quantized tensor's packet."""
    if name not in reader.tensors:
        raise InputError(f"{reader.path}: damaged: there is no tensor {name!r}, which its metadata names")
    try:
        return packet_info(reader.raw(name).data)
    except CodecError as error:
        raise InputError(f"{reader.path}: tensor {name!r} is damaged: {error}") from error


def parse_rule(text: str) -> Rule:
    """Read `REGEX=SPEC`, checking both.

    Examples
    --------
    >>> parse_rule("norm|bias=f16")
    ('norm|bias', 'f16')
    """
    pattern, equals, spec = text.partition("=")
    if not equals or not pattern:
        raise ValueError(f"a rule is written REGEX=CODEC, for example 'norm|bias=f16', got {text!r}")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"rule {text!r}: {pattern!r} is not a regular expression: {error}") from error
    codec(spec)
    return pattern, spec


def choose(info: TensorInfo, default: Codec, rules: Sequence[Rule]) -> Codec | None:
    """Return the codec of a plain tensor, None to copy it."""
    chosen = _ruled(info, default, rules)
    if not info.is_float or chosen.spec == "raw" or packet_nbytes(info.shape, chosen) >= info.nbytes:
        return None
    return chosen


def _ruled(info: TensorInfo, default: Codec, rules: Sequence[Rule]) -> Codec:
    return next((codec(spec) for pattern, spec in rules if re.search(pattern, info.name)), default)


@dataclass(frozen=True, slots=True)
class _Plan:
    """One tensor: as the file has it, as numbers, and its new codec (None: copy)."""

    info: TensorInfo
    numbers: TensorInfo
    chosen: Codec | None

    @property
    def is_packet(self) -> bool:
        return self.info is not self.numbers

    def target(self) -> TensorInfo:
        if self.chosen is None:
            return self.info
        nbytes = packet_nbytes(self.numbers.shape, self.chosen, FLOATS[self.numbers.dtype])
        return TensorInfo(self.info.name, "U8", (nbytes,), nbytes)


def _plan(reader: SafetensorsReader, info: TensorInfo, default: Codec, rules: Sequence[Rule]) -> _Plan:
    packet = _packed_floats(reader, info)
    if packet is not None:
        return _Plan(info, packet, _ruled(info, default, rules))
    is_model = MODEL_KEY in reader.metadata
    return _Plan(info, info, None if is_model else choose(info, default, rules))


def _packed_floats(reader: SafetensorsReader, info: TensorInfo) -> TensorInfo | None:
    """Return shape and float type of a tensor that is stored as a packet, else None."""
    if info.dtype != "U8" or bytes(reader.raw(info.name)[:4]) != PACKET_MAGIC:
        return None
    packet = packet_of(reader, info.name)
    dtype = next((name for name, kind in FLOATS.items() if kind == packet.dtype and name != "BF16"), None)
    return None if dtype is None else TensorInfo(info.name, dtype, packet.shape, info.nbytes)


def _plain_info(info: TensorInfo, shape: tuple[int, ...], dtype: str) -> TensorInfo:
    return TensorInfo(info.name, dtype, shape, math.prod(shape) * FLOATS[dtype].itemsize)


def _write_tensor(reader: SafetensorsReader, writer: SafetensorsWriter, plan: _Plan) -> TensorReport:
    info = plan.info
    if plan.chosen is None:
        writer.write(info.name, reader.raw(info.name))
        return _report(info, "copied", info.nbytes, info.nbytes)
    values = _unpacked(reader, info.name) if plan.is_packet else reader.values(info.name)
    try:
        packet = pack(values, plan.chosen)
    except ValueError as error:
        hint = "name it in a rule to keep it"
        raise InputError(f"{reader.path}: tensor {info.name!r}: {error}; {hint}") from error
    writer.write(info.name, packet)
    errors = measured_error(values, unpack(packet))
    if not math.isfinite(errors[1]):
        beyond = f"holds values beyond the range of {plan.chosen.spec}"
        raise InputError(f"{reader.path}: tensor {info.name!r} {beyond}; give it another codec in a rule")
    return _report(plan.numbers, plan.chosen.spec, info.nbytes, len(packet), *errors)


def _report(
    info: TensorInfo, spec: str, before: int, after: int, mse: float = 0.0, worst: float = 0.0
) -> TensorReport:
    return TensorReport(info.name, info.dtype, info.shape, spec, before, after, mse, worst)


def measured_error(x: NDArray[Any], decoded: NDArray[Any]) -> tuple[float, float]:
    """Return relative MSE and largest error, in float64; non-finite values count as exact."""
    x, decoded = x.reshape(-1), decoded.reshape(-1)
    energy = lost = worst = 0.0
    for start in range(0, x.size, CHUNK):
        part, got = x[start : start + CHUNK].astype(np.float64), decoded[start : start + CHUNK]
        finite = np.isfinite(part)
        if not finite.all():
            part, got = part[finite], got[finite]
        difference = got - part
        energy += float(part @ part)
        lost += float(difference @ difference)
        worst = max(worst, float(difference.max(initial=0.0)), -float(difference.min(initial=0.0)))
    return (lost / energy if energy else 0.0), worst


def _described(reader: SafetensorsReader) -> dict[str, str]:
    note = reader.metadata.get(METADATA_KEY)
    if note is None:
        raise InputError(f"{reader.path}: not a quantized file (scrimp quantize writes them)")
    try:
        document = json.loads(note)
        if document["schema"] != SCHEMA:
            raise InputError(f"{reader.path}: expected schema {SCHEMA}, got {document['schema']!r}")
        dtypes = {str(name): str(dtype) for name, dtype in document["dtypes"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{reader.path}: its metadata key {METADATA_KEY} is damaged: {error!r}") from error
    unknown = sorted(set(dtypes.values()) - set(FLOATS))
    if unknown:
        raise InputError(f"{reader.path}: unknown dtype {unknown[0]!r} in its metadata")
    return dtypes


def _decoded(reader: SafetensorsReader, name: str, dtype: str) -> NDArray[np.uint8]:
    return to_dtype(_unpacked(reader, name), dtype).reshape(-1).view(np.uint8)


def _unpacked(reader: SafetensorsReader, name: str) -> NDArray[Any]:
    try:
        return unpack(reader.raw(name).data)
    except CodecError as error:
        raise InputError(f"{reader.path}: tensor {name!r} is damaged: {error}") from error
