"""Checkpoints: everything that the next step depends on, of all ranks, in one file that is whole or absent.

Rank 0 collects the others' parts and writes. A fit that begins again from a checkpoint makes the same steps,
bit for bit, as one that was never interrupted. A checkpoint of another problem, or of other settings, is
refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from scrimp._core import crc32c
from scrimp.comm import Comm
from scrimp.errors import InputError
from scrimp.matrix.file_rows import FileRows
from scrimp.train.exchange import COUNTER
from scrimp.train.storage import read_tensors, write_tensors

SCHEMA = "scrimp.checkpoint/1"
_AT_ONCE = 1 << 20  # bytes


class Progress(NamedTuple):
    """Where a fit stands.

    Attributes
    ----------
    arrays : dict
        The state of this rank.
    record : dict
        What all ranks agree on, as JSON: counters, history, what was spent.
    """

    arrays: dict[str, NDArray[Any]]
    record: dict[str, Any]


def save_progress(
    path: str | os.PathLike[str], comm: Comm, problem: Mapping[str, Any], progress: Progress
) -> None:
    """Write a checkpoint; every rank must call it."""
    plain = {name: np.ascontiguousarray(a) for name, a in progress.arrays.items()}
    parts = comm.all_gather_bytes(save(plain))
    if comm.rank == 0:
        tensors = {f"{rank}/{name}": a for rank, part in enumerate(parts) for name, a in load(part).items()}
        _write(path, tensors, problem, progress.record | {"workers": comm.size})
    comm.barrier()


def save_progress_of_one(
    path: str | os.PathLike[str], problem: Mapping[str, Any], progress: Progress
) -> None:
    """Write a checkpoint of a fit whose state is all on rank 0; rank 0 alone calls it."""
    _write(path, {f"0/{name}": a for name, a in progress.arrays.items()}, problem, progress.record)


def _write(
    path: str | os.PathLike[str],
    tensors: dict[str, NDArray[Any]],
    problem: Mapping[str, Any],
    record: dict[str, Any],
) -> None:
    write_tensors(path, tensors, {"schema": SCHEMA, "problem": dict(problem), "record": record})


def load_progress(path: str | os.PathLike[str], rank: int, problem: Mapping[str, Any]) -> Progress | None:
    """Read a rank's part of a checkpoint, or return None where there is none.

    Raises
    ------
    InputError
        The file is damaged, or of another problem; the message names what differs.
    """
    if not os.path.exists(path):
        return None
    tensors, document = read_tensors(path, SCHEMA)
    found = document.get("problem", {})
    differ = sorted(key for key in {*found, *problem} if found.get(key) != problem.get(key))
    if differ:
        what = ", ".join(f"{key} {found.get(key)!r} there, {problem.get(key)!r} here" for key in differ)
        raise InputError(f"{os.fspath(path)}: checkpoint of another fit ({what}); remove it to begin anew")
    prefix = f"{rank}/"
    arrays = {name.removeprefix(prefix): a for name, a in tensors.items() if name.startswith(prefix)}
    return Progress(arrays, document["record"])


def without_residuals(progress: Progress) -> Progress:
    """Drop what error feedback knew of ranks that are not there any more; keep the count of collectives."""
    kept = {n: a for n, a in progress.arrays.items() if not n.startswith("wire.") or n == f"wire.{COUNTER}"}
    anchor = {name: kept[name][:0] for name in ("anchor.at", "anchor.own", "anchor.mean") if name in kept}
    return progress._replace(arrays=kept | anchor)


def written(path: str | os.PathLike[str] | None) -> str | None:
    """Return the path where there is a checkpoint by now, else None."""
    return os.fspath(path) if path is not None and os.path.exists(path) else None


def fingerprint(*arrays: Any) -> str:
    """Return a short digest of shapes, types and values of each array.

    Of rows in a file that is mapped, 256 evenly spaced ones are looked at: a fit that goes on should not read
    the whole file before.

    Examples
    --------
    >>> fingerprint(np.zeros(3)) == fingerprint(np.ones(3))
    False
    """
    digest = 0
    for a in arrays:
        matrix = getattr(a, "matrix", a)  # rows of a QuantizedMatrix
        values = np.asarray(getattr(matrix, "codes", matrix))
        digest = crc32c(f"{values.shape}{values.dtype}".encode(), digest)
        values = np.atleast_1d(values)
        if FileRows.of(values) is not None:
            values = values[:: max(1, len(values) // 256)]
        step = max(1, _AT_ONCE // max(1, values[:1].nbytes))
        for i in range(0, len(values), step):
            digest = crc32c(np.ascontiguousarray(values[i : i + step]).reshape(-1).view(np.uint8), digest)
    return f"{digest:08x}"
