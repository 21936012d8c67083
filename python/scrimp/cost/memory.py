"""Peak resident memory of this process over a stretch of time, as exactly as the system allows.

On Linux the kernel keeps a high-water mark (VmHWM) that a process may reset through
/proc/self/clear_refs: the peak is then exact. Where that is not permitted a thread samples the resident
size; without /proc only the peak since the process began is known.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
from collections.abc import Callable

SAMPLE_S = 0.005

_lock = threading.Lock()
_open_peaks: list[PeakMemory] = []


class PeakMemory:
    """Largest resident memory between `start` and `stop`, in bytes.

    Several may be open at once, also nested: each sees the peaks of its own stretch.

    Attributes
    ----------
    source : str
        `"VmHWM"` (exact), `"sampled"` (every 5 ms: shorter peaks are missed) or `"ru_maxrss"` (peak
        since the process began: an upper bound).
    """

    def __init__(self) -> None:
        self.source = ""
        self._peak = 0
        self._sampler: Sampler | None = None

    def start(self) -> None:
        """Begin. Resets the kernel's mark, after handing its value to the peaks that are open."""
        with _lock:
            mark = _status_bytes("VmHWM")
            if mark and _reset_mark():
                self.source = "VmHWM"
                for peak in _open_peaks:
                    peak._peak = max(peak._peak, mark)
                _open_peaks.append(self)
                return
        if _status_bytes("VmRSS"):
            self.source = "sampled"
            self._sampler = Sampler(self._sample, SAMPLE_S)
        else:
            self.source = "ru_maxrss"

    def stop(self) -> int:
        """End and return the peak in bytes."""
        if self.source == "VmHWM":
            with _lock:
                _open_peaks.remove(self)
                self._peak = max(self._peak, _status_bytes("VmHWM"))
        elif self._sampler is not None:
            self._sampler.stop()
            self._sample()
        else:
            self._peak = lifetime_peak_bytes()
        return self._peak

    def _sample(self) -> None:
        self._peak = max(self._peak, _status_bytes("VmRSS"))


class Sampler:
    """A daemon thread that calls a function every `period_s` seconds until stopped."""

    def __init__(self, call: Callable[[], None], period_s: float) -> None:
        self._call, self._period_s = call, period_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="scrimp-meter", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._done.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._done.wait(self._period_s):
            self._call()


def lifetime_peak_bytes() -> int:
    """Return the largest resident memory since the process began."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def shared_resident_bytes() -> int:
    """Return the resident bytes of shared segments mapped by this process; 0 where unknown."""
    return _status_bytes("RssShmem")


def _status_bytes(field: str) -> int:
    """Read a field of /proc/self/status (given in kB there), 0 where there is none."""
    try:
        handle = os.open("/proc/self/status", os.O_RDONLY)
    except OSError:
        return 0
    try:
        status = os.read(handle, 1 << 16)
    finally:
        os.close(handle)
    value = status.partition(f"\n{field}:".encode())[2].split(maxsplit=1)
    return int(value[0]) * 1024 if value else 0


def _reset_mark() -> bool:
    """Set VmHWM to the present resident size (`man 5 proc`: writing 5 to clear_refs, Linux >= 4.0)."""
    try:
        handle = os.open("/proc/self/clear_refs", os.O_WRONLY)
    except OSError:
        return False
    try:
        os.write(handle, b"5")
    except OSError:
        return False
    finally:
        os.close(handle)
    return True
