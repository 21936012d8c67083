"""scrimp: weights that stay in int8 or int4, rows in float32 or rounded to int8."""

import numpy as np

import scrimp
from contestants.products import load, with_error


def version() -> str:
    return scrimp.__version__


def product(codec: str):
    def factory(threads: int, rows: int, d: int, k: int) -> dict:
        problem = load(rows, d, k)
        layer = scrimp.QuantizedLinear.from_array(problem.W, codec)
        out = np.zeros((rows, k), np.float32)

        def variant(activations: str):
            return with_error(
                lambda: layer(problem.X, out, activations=activations, threads=threads), problem
            )

        return {"scrimp": variant("float32"), "scrimp int8-rows": variant("int8")}

    return factory


CASES = {"predict.int8": product("int8"), "predict.int4": product("int4")}
