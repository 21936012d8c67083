"""gguf, the NumPy package of llama.cpp; it uses one thread."""

from importlib.metadata import version as installed

from gguf import quants
from gguf.constants import GGMLQuantizationType

from contestants.data import normal


def version() -> str:
    return installed("gguf")


def codec(kind: GGMLQuantizationType, decode: bool):
    def factory(n: int, threads: int) -> dict:
        x = normal(n).reshape(-1, 4096)
        codes = quants.quantize(x, kind)

        def run() -> None:
            quants.dequantize(codes, kind) if decode else quants.quantize(x, kind)

        return {f"gguf {kind.name}": run} if threads == 1 else {}

    return factory


KINDS = {
    "q8_0": GGMLQuantizationType.Q8_0,
    "q4_0": GGMLQuantizationType.Q4_0,
    "mxfp4": GGMLQuantizationType.MXFP4,
}
CASES = {f"codecs.{name}_encode": codec(kind, decode=False) for name, kind in KINDS.items()}
CASES |= {f"codecs.{name}_decode": codec(kind, decode=True) for name, kind in KINDS.items()}
