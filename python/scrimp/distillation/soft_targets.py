"""What the teacher says, row by row: asked in chunks, kept on disk under a hash of teacher and rows.

The cache holds plain `.npy` files. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from scrimp.atomic import replacing

FORMAT = b"scrimp.soft_targets/1"
CHUNK_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class SoftTargets:
    """Targets of a teacher.

    Attributes
    ----------
    values : float64[n] or float64[n, k]
        Predictions, or class probabilities; mapped from the file if there is a cache.
    path : Path or None
        The file in the cache.
    from_cache : bool
        Whether the teacher needed not be asked.
    """

    values: npt.NDArray[np.float64]
    path: Path | None
    from_cache: bool


def soft_targets(
    teacher: Any,
    X: Any,
    *,
    method: str = "predict",
    cache: str | os.PathLike[str] | None = None,
    cache_key: str | None = None,
    chunk_rows: int = CHUNK_ROWS,
) -> SoftTargets:
    """Ask the teacher about every row, a chunk at a time.

    Parameters
    ----------
    teacher : estimator or callable
        `teacher.predict(X)`, `teacher.predict_proba(X)` or `teacher(X)`.
    X : array or data frame of n rows
    method : str
        `"predict"` or `"predict_proba"`; a callable is just called.
    cache : path, optional
        Folder. The file's name is the SHA-256 of the teacher, the method, and the values, type and shape of
        the rows; another teacher or another row is another file.
    cache_key : str, optional
        Stands for the teacher in the hash: required for a callable, whose behaviour cannot be hashed.
    chunk_rows : int
        Rows per question. A student that sees all rows at once still has a teacher that does not.

    Raises
    ------
    ValueError
        If the teacher returns another number of rows, or anything not finite.

    Examples
    --------
    >>> soft_targets(lambda rows: rows[:, 0] * 2, np.array([[1.0], [3.0]])).values.tolist()
    [2.0, 6.0]
    """
    if chunk_rows < 1:
        raise ValueError(f"chunk_rows must be at least 1, got {chunk_rows}")
    if cache is None:
        return SoftTargets(np.concatenate(list(_answers(teacher, X, method, chunk_rows))), None, False)
    key = _key(teacher, X, method, cache_key)
    path = Path(cache) / f"{key}.npy"
    kept = _read(path, row_count(X))
    if kept is not None:
        return SoftTargets(kept, path, True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        _write(file, row_count(X), _answers(teacher, X, method, chunk_rows))
    fresh = _read(path, row_count(X))
    assert fresh is not None
    return SoftTargets(fresh, path, False)


def row_count(X: Any) -> int:
    """Count the rows of an array or data frame."""
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def rows_of(X: Any, rows: slice) -> Any:
    """Return a run of rows, of the same kind as `X`."""
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def _answers(teacher: Any, X: Any, method: str, chunk_rows: int) -> Iterator[npt.NDArray[np.float64]]:
    """Ask about a chunk of rows at a time; at least once, since only an answer shows how wide it is."""
    ask = getattr(teacher, method, teacher)
    n = row_count(X)
    width: tuple[int, ...] | None = None
    for start in range(0, max(n, 1), chunk_rows):
        rows = slice(start, min(start + chunk_rows, n))
        answer = _checked(ask(rows_of(X, rows)), rows)
        width = answer.shape[1:] if width is None else width
        if answer.shape[1:] != width:
            raise ValueError(f"teacher: from row {start} on {answer.shape[1:]}, before {width}")
        yield answer


def _write(file: BinaryIO, n: int, answers: Iterator[npt.NDArray[np.float64]]) -> None:
    """Write answers as one .npy of n rows."""
    for k, answer in enumerate(answers):
        if k == 0:
            layout = {"descr": "<f8", "fortran_order": False, "shape": (n, *answer.shape[1:])}
            np.lib.format.write_array_header_1_0(file, layout)
        file.write(np.ascontiguousarray(answer, "<f8").data)


def _checked(answer: Any, rows: slice) -> npt.NDArray[np.float64]:
    values = np.asarray(answer, np.float64)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    wanted = rows.stop - rows.start
    if values.ndim not in (1, 2) or len(values) != wanted:
        raise ValueError(f"teacher: {wanted} rows must give {wanted} targets, got an array {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"teacher: not finite in rows {rows.start} to {rows.stop}")
    return values


def _read(path: Path, n: int) -> npt.NDArray[np.float64] | None:
    """Map a cached file; None if it is missing, damaged or of another length: then it is made again."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = values.dtype == np.float64 and values.ndim in (1, 2) and len(values) == n
    return values if fits else None


def _key(teacher: Any, X: Any, method: str, cache_key: str | None) -> str:
    digest = hashlib.sha256(FORMAT)
    for part in (method, cache_key if cache_key is not None else _fingerprint(teacher)):
        digest.update(part.encode() + b"\0")
    _add_rows(digest, X)
    return digest.hexdigest()[:40]


def _fingerprint(teacher: Any) -> str:
    """Hash of everything a fitted estimator holds."""
    if not hasattr(teacher, "get_params"):
        raise ValueError("cache needs cache_key='…' for a teacher that is a callable: name its version there")
    import joblib

    return f"{type(teacher).__module__}.{type(teacher).__qualname__}:{joblib.hash(teacher, hash_name='sha1')}"


def _add_rows(digest: Any, X: Any) -> None:
    if not isinstance(X, np.ndarray):
        import joblib

        digest.update(str(joblib.hash(X, hash_name="sha1")).encode())
        return
    if X.dtype.hasobject:
        raise ValueError("cache: rows of Python objects cannot be hashed; pass numbers or a data frame")
    digest.update(f"{X.dtype.str}{X.shape}".encode())
    for start in range(0, len(X), CHUNK_ROWS):
        digest.update(np.ascontiguousarray(X[start : start + CHUNK_ROWS]).data)
