"""ggml, the C library, as the wheel of pywhispercpp carries it; one thread, outputs that exist already."""

import ctypes
from importlib.metadata import files
from importlib.metadata import version as installed

from contestants.data import aligned, normal

BLOCK_NBYTES = {"q8_0": (32, 34), "q4_0": (32, 18), "q4_K": (256, 144), "mxfp4": (32, 17)}


def load(part: str) -> ctypes.CDLL:
    found = [f for f in files("pywhispercpp") or [] if f.parts[0] == "pywhispercpp.libs" and part in f.name]
    if not found:
        raise ImportError(f"the wheel of pywhispercpp has no {part}")
    return ctypes.CDLL(str(found[0].locate()), mode=ctypes.RTLD_GLOBAL)


def version() -> str:
    return f"pywhispercpp {installed('pywhispercpp')}"


BASE = load("libggml-base")
CPU = load("libggml-cpu")


def codec(kind: str, decode: bool):
    def factory(n: int, threads: int) -> dict:
        if threads > 1:
            return {}
        block, nbytes = BLOCK_NBYTES[kind]
        x, codes = normal(n), aligned(n // block * nbytes, "u1")
        values, bytes_ = (ctypes.c_void_p(a.ctypes.data) for a in (x, codes))
        quantize, dequantize = CPU[f"quantize_row_{kind}"], BASE[f"dequantize_row_{kind}"]
        quantize(values, bytes_, ctypes.c_int64(n))

        def run() -> None:
            if decode:
                dequantize(bytes_, values, ctypes.c_int64(n))
            else:
                quantize(values, bytes_, ctypes.c_int64(n))

        run.arrays = x, codes  # they outlive the pointers
        return {f"ggml {kind}": run}

    return factory


CASES = {
    **{f"codecs.{kind}_encode": codec(kind, decode=False) for kind in BLOCK_NBYTES},
    **{f"codecs.{kind}_decode": codec(kind, decode=True) for kind in BLOCK_NBYTES},
    "codecs.int8_encode": codec("q8_0", decode=False),
    "codecs.int8_decode": codec("q8_0", decode=True),
    "codecs.int4_encode": codec("q4_0", decode=False),
    "codecs.int4_decode": codec("q4_0", decode=True),
    "codecs.int4_encode_mse": codec("q4_K", decode=False),
}
