"""Read a table from a file, by its extension. A file that cannot be used is one clear InputError."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrimp.data.csv_reader import read_csv
from scrimp.data.table import Table, as_table
from scrimp.errors import InputError

# What NumPy, its tokenizer, zipfile and zlib raise on damaged files; a damaged shape may ask for any memory.
_DAMAGED = (
    ValueError,
    TypeError,
    EOFError,
    KeyError,
    AttributeError,
    RuntimeError,
    OverflowError,
    MemoryError,
    TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_table(path: str | Path) -> Table:
    r"""Read `.npy`, `.npz`, `.csv`, `.tsv` or `.parquet`.

    Parameters
    ----------
    path : str or Path
        `.npy`: a 2-D array (columns are named "0", "1", …; memory-mapped) or a structured one. `.npz`: one
        2-D array and any number of 1-D columns named by their keys. `.csv`: with a header line.

    Raises
    ------
    InputError
        Missing, empty, truncated, ragged or of another kind than its extension says; an unknown extension.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    ...     _ = file.write("a,b\n1,x\n2,y\n")
    ...     file.flush()
    ...     read_table(file.name).names
    ('a', 'b')
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if path.is_dir():
        raise InputError(f"{path}: is a folder, not a file")
    if path.suffix == ".scrimp":
        raise InputError(f"{path}: data in few bits is read by train, predict, evaluate and info")
    if reader is None:
        raise InputError(f"{path}: cannot tell the format from {path.suffix!r}; known: {' '.join(_READERS)}")
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"cannot read {path}: not a regular file")
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty")
        table = reader(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if table.n_rows == 0:
        raise InputError(f"{path}: there are no rows")
    return table


def _read_npy(path: Path) -> Table:
    with path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise InputError(f"{path}: not a whole .npy file: it does not begin like one")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except _DAMAGED as error:
        raise not_whole(path, error) from error
    return as_table(array, str(path))


def _read_npz(path: Path) -> Table:
    columns: dict[str, NDArray[Any]] = {}
    matrices: list[str] = []
    for key, array in _members(path).items():
        if array.ndim == 2:
            matrices.append(key)
            columns |= {str(i): array[:, i] for i in range(array.shape[1])}
        elif array.ndim == 1:
            columns[key] = array
    if len(matrices) > 1:
        raise InputError(f"{path}: more than one 2-D array ({', '.join(matrices)}); keep one")
    return as_table(columns, str(path))


def _members(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except _DAMAGED as error:
        raise not_whole(path, error) from error


def _read_parquet(path: Path) -> Table:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(f"{path}: reading Parquet needs pyarrow: pip install 'scrimp[parquet]'") from error
    try:
        frame = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError, UnicodeEncodeError) as error:
        raise not_whole(path, error) from error
    return as_table(frame, str(path))


def not_whole(path: Path, error: Exception) -> InputError:
    """Return the error for a damaged or truncated file, or one that pyarrow does not find by its name."""
    if isinstance(error, UnicodeEncodeError):
        return InputError(f"cannot read {path}: pyarrow reads no file whose name is not UTF-8")
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(f"{path}: not a whole {path.suffix} file: {reason}")


_READERS: dict[str, Callable[[Path], Table]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": _read_parquet,
}
