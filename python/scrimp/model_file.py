"""Models as files: safetensors with one JSON document, never pickle, so that loading runs no code.

A model is anything with `to_parts() -> ModelParts` and a classmethod `from_parts(parts)`; which class that is
stands in one explicit table here, never in the file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from scrimp.codecs import codec, pack, packet_info, unpack
from scrimp.errors import CodecError, InputError
from scrimp.train.storage import Tensors, read_tensors, write_tensors

SCHEMA = "scrimp.model/1"
WEIGHT_CODECS = {32: "raw", 8: "int8", 4: "int4"}

# Name in the file -> module that defines the class of that name.
MODEL_CLASSES = {
    "LinearRegression": "scrimp.linear_model",
    "Ridge": "scrimp.linear_model",
    "RidgeCV": "scrimp.linear_model",
    "ElasticNet": "scrimp.linear_model",
    "Lasso": "scrimp.linear_model",
    "LogisticRegression": "scrimp.linear_model",
    "SGDRegressor": "scrimp.linear_model",
    "SGDClassifier": "scrimp.linear_model",
}


@dataclass(slots=True)
class ModelParts:
    """What a model file holds.

    Attributes
    ----------
    kind : str
        Name of the class, a key of `MODEL_CLASSES`.
    tensors : dict of arrays
        Weights and the like. A uint8 tensor whose name ends in `.packed` is a packet (`scrimp.pack`).
    fields : dict
        Everything else, as JSON: parameters, names of features, counters.
    extra : dict
        What a caller of `save` attached, as JSON; for example the encoder of a table.
    """

    kind: str
    tensors: Tensors
    fields: dict[str, Any]
    extra: dict[str, Any] = field(default_factory=dict)


class Model(Protocol):
    """What can be saved."""

    def to_parts(self) -> ModelParts:
        """Return the parts."""

    @classmethod
    def from_parts(cls, parts: ModelParts) -> Self:
        """Build the model from its parts."""


def save(model: Model, path: str | os.PathLike[str], extra: dict[str, Any] | None = None) -> int:
    """Write a model to a file, all or nothing.

    Parameters
    ----------
    model : Model
        For example a fitted estimator of `scrimp.linear_model`.
    path : path
        An existing file is replaced once the new one is complete.
    extra : dict, optional
        JSON to keep beside the model, for `load_parts`.

    Returns
    -------
    int
        Size of the file in bytes.
    """
    parts = model.to_parts()
    if parts.kind not in MODEL_CLASSES:
        raise ValueError(f"unknown kind of model {parts.kind!r}; known: {', '.join(MODEL_CLASSES)}")
    document = {"schema": SCHEMA, "kind": parts.kind, "fields": parts.fields, "extra": extra or parts.extra}
    return write_tensors(path, parts.tensors, document)


def load(path: str | os.PathLike[str]) -> Any:
    """Read a model.

    Parameters
    ----------
    path : path
        What `save` or a model's own `save` wrote.

    Returns
    -------
    model
        Of the class that was saved; predicts the same bits.

    Raises
    ------
    InputError
        No such file; damaged or cut short; not a model.

    Examples
    --------
    >>> load("/nowhere/model.safetensors")
    Traceback (most recent call last):
        ...
    scrimp.errors.InputError: /nowhere/model.safetensors: no such file
    """
    parts = load_parts(path)
    if parts.kind not in MODEL_CLASSES:
        raise InputError(
            f"{os.fspath(path)}: unknown kind of model {parts.kind!r}; known: {', '.join(MODEL_CLASSES)}"
        )
    model_class = getattr(import_module(MODEL_CLASSES[parts.kind]), parts.kind)
    try:
        return model_class.from_parts(parts)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{os.fspath(path)}: damaged {parts.kind} model ({error!r})") from error


def load_parts(path: str | os.PathLike[str]) -> ModelParts:
    """Read the parts of a model file without building the model; raises as `load` does."""
    tensors, document = read_tensors(path, SCHEMA)
    found = [document.get(key) for key in ("kind", "fields", "extra")]
    if not all(isinstance(x, kind) for x, kind in zip(found, (str, dict, dict), strict=True)):
        raise InputError(f"{os.fspath(path)}: damaged model: kind, fields or extra is missing")
    return ModelParts(document["kind"], tensors, document["fields"], document["extra"])


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """Weights in the precision in which a model keeps and uses them.

    Attributes
    ----------
    values : ndarray
        What the model predicts with: a copy of the weights, or what `codes` decode to.
    codes : bytes or None
        The packet of weights in few bits; None for exact ones.

    Examples
    --------
    >>> stored = StoredWeights.of(np.linspace(-1, 1, 256, dtype=np.float32), 8)
    >>> stored.values.shape, len(stored.packet)
    ((256,), 296)
    """

    values: NDArray[Any]
    codes: bytes | None = None

    @classmethod
    def of(cls, weights: NDArray[Any], bits: int) -> StoredWeights:
        """Encode weights with 32 (exact), 8 or 4 bits each."""
        if bits not in WEIGHT_CODECS:
            raise ValueError(f"weight_bits must be one of {', '.join(map(str, WEIGHT_CODECS))}, got {bits!r}")
        if bits == 32:
            return cls(np.array(weights, order="C"))
        packet = pack(weights, codec(WEIGHT_CODECS[bits]))
        return cls(unpack(packet), packet)

    @classmethod
    def read(cls, tensors: Tensors, name: str) -> StoredWeights:
        """Read the tensor that `tensor` made."""
        packet = tensors[f"{name}.packed"].tobytes()
        try:
            exact = packet_info(packet).codec.spec == WEIGHT_CODECS[32]
            return cls(unpack(packet), None if exact else packet)
        except CodecError as error:
            raise ValueError(f"tensor {name}: {error}") from error

    @property
    def packet(self) -> bytes:
        """The stored form; of exact weights that of `values` as they are now."""
        return pack(self.values, WEIGHT_CODECS[32]) if self.codes is None else self.codes

    def tensor(self, name: str) -> Tensors:
        """Return the stored form as a named tensor."""
        return {f"{name}.packed": np.frombuffer(self.packet, np.uint8)}
