"""ml_dtypes casts; one thread."""

import ml_dtypes

from contestants.data import normal


def version() -> str:
    return ml_dtypes.__version__


def cast(dtype, name: str):
    def factory(n: int, threads: int) -> dict:
        x = normal(n)

        def run() -> None:
            x.astype(dtype)

        return {name: run} if threads == 1 else {}

    return factory


CASES = {
    "codecs.bf16_encode": cast(ml_dtypes.bfloat16, "ml_dtypes bfloat16"),
    "codecs.e4m3_encode": cast(ml_dtypes.float8_e4m3fn, "ml_dtypes float8_e4m3fn"),
}
