"""Write a file all or nothing: whoever reads the path sees the old content or the whole new one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from scrimp.errors import OutputError, ScrimpError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; it is synced and takes its place if the block ends well.

    A device or pipe (`/dev/stdout`) is written directly.

    Raises
    ------
    OutputError
        The folder does not exist or cannot be written, or the disk is full. `path` is then as it was.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "x")) as file:
    ...         _ = file.write(b"whole")
    ...     Path(folder, "x").read_bytes()
    b'whole'
    """
    path = Path(path)
    check_writable(path)
    with _named(path):
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(handle, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, _mode(path))
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise OutputError, before any work is done, if a file cannot be put at `path`."""
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a directory")
    folder = path if path.exists() and not path.is_file() else path.parent
    if not folder.exists():
        raise OutputError(f"cannot write {path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"cannot write {path}: permission denied")


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the path that was asked for, not the temporary one, into errors of the system."""
    try:
        yield
    except ScrimpError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _mode(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mode & 0o7777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
