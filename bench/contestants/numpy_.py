"""NumPy expressions that a user would write; they use one thread."""

import numpy as np

from contestants.data import aligned, normal


def version() -> str:
    return np.__version__


def int8_encode(n: int, threads: int) -> dict:
    x = normal(n).reshape(-1, 128)

    def encode() -> None:
        scale = np.abs(x).max(axis=1, keepdims=True) / 127
        np.rint(x / scale).astype(np.int8)

    return {"numpy block 128": encode} if threads == 1 else {}


def int8_decode(n: int, threads: int) -> dict:
    codes, out = (normal(n) * 31).astype(np.int8), aligned(n)

    def decode() -> None:
        np.multiply(codes, np.float32(0.03), out=out)

    return {"numpy codes * scale": decode} if threads == 1 else {}


def f16_encode(n: int, threads: int) -> dict:
    x = normal(n)

    def encode() -> None:
        x.astype(np.float16)

    return {"numpy astype(float16)": encode} if threads == 1 else {}


CASES = {
    "codecs.int8_encode": int8_encode,
    "codecs.int8_decode": int8_decode,
    "codecs.f16_encode": f16_encode,
}
