"""The limits of the memory, as plain C compiled for this machine (bench/limits.c)."""

import ctypes
import subprocess
import tempfile
from pathlib import Path

from contestants.data import aligned, normal

SOURCE = Path(__file__).resolve().parent.parent / "limits.c"
FLAGS = [
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-mprefer-vector-width=512",
    "-shared",
    "-fPIC",
    "-pthread",
]
KINDS = {"read": 0, "memset": 1, "copy": 2, "convert": 3}


def build() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(prefix="limits") as folder:
        library = Path(folder) / "limits.so"
        subprocess.run(["cc", *FLAGS, str(SOURCE), "-lm", "-o", str(library)], check=True)
        return ctypes.CDLL(str(library))


LIBRARY = build()
LIBRARY.seconds_of.restype = ctypes.c_double


def version() -> str:
    return "cc -O3 -march=native"


def limits(*kinds: str):
    def factory(n: int, threads: int) -> dict:
        x, y = normal(n), aligned(n)

        def seconds(kind: int, repeats: int) -> float:
            pointers = ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data)
            return LIBRARY.seconds_of(kind, *pointers, ctypes.c_size_t(n), threads, repeats)

        def variant(kind: int):
            repeats = max(1, int(0.001 / seconds(kind, 3)))
            return lambda: {"seconds": seconds(kind, repeats)}

        return {f"limit: {kind}": variant(KINDS[kind]) for kind in kinds}

    return factory


def cases() -> dict:
    from suites import CODEC_CASES

    extra = {"int8_encode": ("convert",)}
    return {f"codecs.{name}": limits(limit, *extra.get(name, ())) for name, limit in CODEC_CASES.items()}


CASES = cases()
