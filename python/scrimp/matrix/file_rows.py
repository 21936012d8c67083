"""Rows in a mapped file: the next ones are read while these are worked on, those done with are let go.

So a pass over a file that is larger than memory runs at the speed of the disk, and the process holds a few
batches of it at a time. Arrays that are not mapped from a file pass through untouched.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrimp.errors import CodecError

BATCH_BYTES = 32 << 20  # rows of a file that are worked on at once
_AHEAD = 2  # batches: while one is waited for, the reader has the next to go on with
_STEP = 1 << 20
_PAGE = mmap.PAGESIZE


class FileRows:
    """The bytes of a C-contiguous array of rows in the file that it is mapped from.

    Parameters
    ----------
    mapped : np.memmap
        The whole map.
    array : ndarray
        Rows of it.
    """

    def __init__(self, mapped: np.memmap[Any, Any], array: NDArray[Any]) -> None:
        self.row_nbytes = array.strides[0]
        self._map = mapped._mmap  # type: ignore[attr-defined]
        inside = array.__array_interface__["data"][0] - mapped.__array_interface__["data"][0]
        # NumPy maps from the page below the first byte of the array.
        self._in_map = inside + mapped.offset % mmap.ALLOCATIONGRANULARITY
        self._in_file = inside + mapped.offset
        self._path = str(mapped.filename)
        self._fd = -1

    @classmethod
    def of(cls, array: NDArray[Any]) -> FileRows | None:
        """Find the file under an array; None if there is none, or writing to it would stay private."""
        base: Any = array
        while isinstance(base, np.ndarray) and not isinstance(base.base, mmap.mmap):
            base = base.base
        if not isinstance(base, np.memmap):
            return None
        known = base.filename is not None and base.mode in ("r", "r+")
        return cls(base, array) if known and array.flags.c_contiguous and array.size else None

    def batches(self, slices: Iterable[slice]) -> Iterator[slice]:
        """Yield slices of rows, in order; while the caller works on one, a thread reads the next two.

        Raises
        ------
        CodecError
            If the file has become shorter than the array.
        """
        self._fd = os.open(self._path, os.O_RDONLY)
        reading: deque[tuple[slice, Future[None]]] = deque()
        pool = ThreadPoolExecutor(1, "scrimp-read")
        try:
            for rows in slices:
                reading.append((rows, pool.submit(self._read, rows)))
                if len(reading) > _AHEAD:
                    yield from self._next(reading)
            while reading:
                yield from self._next(reading)
        finally:
            pool.shutdown(cancel_futures=True)
            os.close(self._fd)

    def _next(self, reading: deque[tuple[slice, Future[None]]]) -> Iterator[slice]:
        rows, read = reading.popleft()
        read.result()
        yield rows
        self._let_go(rows)

    def _span(self, rows: slice) -> tuple[int, int]:
        return rows.start * self.row_nbytes, rows.stop * self.row_nbytes

    def _read(self, rows: slice) -> None:
        """Bring rows into the page cache; a step that is there already costs the look at one page."""
        begin, end = self._span(rows)
        size = os.fstat(self._fd).st_size
        if size < self._in_file + end:  # the kernels would meet SIGBUS
            rest = f"rows {rows.start:,} to {rows.stop:,} end at byte {self._in_file + end:,}"
            raise CodecError(f"{self._path}: was cut short while it was read: {rest}, the file at {size:,}")
        probe, scratch = bytearray(1), bytearray(_STEP)
        for at in range(self._in_file + begin, self._in_file + end, _STEP):
            if not self._is_cached(probe, at):
                os.preadv(self._fd, [scratch], at)

    def _is_cached(self, probe: bytearray, at: int) -> bool:
        try:
            return os.preadv(self._fd, [probe], at, os.RWF_NOWAIT) == 1
        except OSError:  # it would have to wait, or the file system cannot tell
            return False

    def _let_go(self, rows: slice) -> None:
        """Unmap whole pages of rows that are done with; the page cache may keep them."""
        begin, end = (self._in_map + at for at in self._span(rows))
        begin, end = -(-begin // _PAGE) * _PAGE, end // _PAGE * _PAGE
        if end > begin:
            self._map.madvise(mmap.MADV_DONTNEED, begin, end - begin)
