"""Arrays that processes share: memory that is mapped by each instead of copied to each."""

from __future__ import annotations

import io
import mmap
import os
import pickle
import sys
import weakref
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
MAPPED_NBYTES = 65536
"""Arrays of at least this many bytes are mapped into the workers; smaller ones are pickled."""

_ALIGNMENT = 4096
_fd_of_map: weakref.WeakKeyDictionary[mmap.mmap, int] = weakref.WeakKeyDictionary()


def _map(fd: int, nbytes: int, flags: int) -> mmap.mmap:
    return mmap.mmap(fd, nbytes, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def shared_array(shape: int | tuple[int, ...], dtype: DTypeLike = np.float64) -> Array:
    """Return an array of zeros in memory that `scrimp.run` passes to its workers without a copy.

    It is one memory for all: what a worker writes, the caller and the other workers see. (Any other array is
    mapped copy-on-write: a worker's writes are its own.)

    Parameters
    ----------
    shape : int or tuple of int
        Shape in C order.
    dtype : dtype, default float64
        Any dtype without Python objects.

    Returns
    -------
    ndarray
        Backed by anonymous memory (memfd) that is freed with the last array on it, in whatever process.

    Examples
    --------
    >>> x = shared_array((2, 3), np.float32)
    >>> x.shape, float(x.sum())
    ((2, 3), 0.0)
    """
    kind = np.dtype(dtype)
    if kind.hasobject:
        raise TypeError(f"dtype must not hold Python objects, got {kind}")
    n = int(np.prod(shape, dtype=np.int64))
    if n == 0 or not hasattr(os, "memfd_create"):
        return np.zeros(shape, kind)
    fd = os.memfd_create("scrimp")
    os.posix_fallocate(fd, 0, n * kind.itemsize)
    memory = _map(fd, n * kind.itemsize, mmap.MAP_SHARED)
    _fd_of_map[memory] = fd
    weakref.finalize(memory, os.close, fd)
    return np.frombuffer(memory, kind).reshape(shape)


def _shared_origin(x: Array) -> tuple[int, int] | None:
    """(fd, byte offset) of a contiguous array inside memory of `shared_array`, or None."""
    base: Any = x
    while isinstance(base, np.ndarray):
        base = base.base
    base = base.obj if isinstance(base, memoryview) else base
    if not isinstance(base, mmap.mmap) or base not in _fd_of_map:
        return None
    start = np.frombuffer(base, np.uint8).__array_interface__["data"][0]
    return _fd_of_map[base], x.__array_interface__["data"][0] - start


def _attach(
    fd: int, offset: int, kind: np.dtype[Any], shape: tuple[int, ...], order: str, shared: bool
) -> Array:
    """Map one array in a worker; `shared` ones are one memory for all."""
    memory = _maps.get(fd)
    if memory is None:
        memory = _maps[fd] = _map(fd, os.fstat(fd).st_size, mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE)
        if shared:
            _fd_of_map[memory] = fd
    n = int(np.prod(shape, dtype=np.int64))
    flat = np.frombuffer(memory, kind, n, offset)
    return flat.reshape(shape, order="F" if order == "F" else "C")


_maps: dict[int, mmap.mmap] = {}


class ArgumentPickler(pickle.Pickler):
    """Pickles what workers get. Large arrays go into one shared file; functions are remembered by module.

    Attributes
    ----------
    fds : set of int
        Descriptors that the workers must inherit.
    modules : dict
        Module name -> file, of functions and classes met on the way.
    """

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, protocol=5)
        self.fds: set[int] = set()
        self.modules: dict[str, str] = {}
        self._fd = -1
        self._end = 0
        self._seen: dict[int, tuple[Array, int]] = {}

    def reducer_override(self, obj: Any) -> Any:
        """Map arrays; note where functions and classes come from."""
        if isinstance(obj, type) or callable(obj):
            self._note(getattr(obj, "__module__", None))
        if type(obj) is np.ndarray and obj.nbytes >= MAPPED_NBYTES and not obj.dtype.hasobject:
            return self._reduce_array(obj)
        return NotImplemented

    def _note(self, module: str | None) -> None:
        found = sys.modules.get(module or "")
        path = getattr(found, "__file__", None)
        if module and path:
            self.modules[module] = os.path.abspath(path)

    def _reduce_array(self, x: Array) -> Any:
        order = "F" if x.flags.f_contiguous and not x.flags.c_contiguous else "C"
        origin = _shared_origin(x) if x.flags.c_contiguous or x.flags.f_contiguous else None
        fd, offset = origin or self._store(x, order)
        self.fds.add(fd)
        return _attach, (fd, offset, x.dtype, x.shape, order, origin is not None)

    def _store(self, x: Array, order: str) -> tuple[int, int]:
        if self._fd < 0:
            self._fd = os.memfd_create("scrimp-args")
        offset, nbytes = self._end, x.nbytes
        self._end += -(-nbytes // _ALIGNMENT) * _ALIGNMENT
        os.posix_fallocate(self._fd, 0, self._end)
        memory = _map(self._fd, self._end, mmap.MAP_SHARED)
        target = np.frombuffer(memory, x.dtype, x.size, offset).reshape(
            x.shape, order="F" if order == "F" else "C"
        )
        target[...] = x
        return self._fd, offset

    def close(self) -> None:
        """Close the file of the arrays; workers that inherited it keep it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
