"""scrimp itself, into outputs that exist already."""

import scrimp
from contestants.data import aligned, normal


def version() -> str:
    return scrimp.__version__


def encode(spec: str):
    def factory(n: int, threads: int) -> dict:
        codec, x = scrimp.codec(spec), normal(n)
        out = aligned(codec.nbytes(n), "u1")

        def run() -> None:
            codec.encode(x, out, threads=threads)

        return {"scrimp": run}

    return factory


def decode(spec: str, add: bool):
    def factory(n: int, threads: int) -> dict:
        codec, x = scrimp.codec(spec), normal(n)
        payload, out = codec.encode(x), aligned(n)

        def run() -> None:
            codec.decode(payload, n, out, add=add, threads=threads)

        return {"scrimp": run}

    return factory


NAMES = [name for name in scrimp.codec_names() if name != "step"]
CASES = {f"codecs.{name}_encode": encode(name) for name in NAMES}
CASES |= {f"codecs.{name}_decode": decode(name, add=False) for name in NAMES}
CASES |= {f"codecs.{name}_decode_add": decode(name, add=True) for name in NAMES}
for name in ("int8", "int4"):
    CASES[f"codecs.{name}_encode_stochastic"] = encode(f"{name}:rounding=stochastic")
CASES["codecs.int4_encode_mse"] = encode("int4:scale=mse")
