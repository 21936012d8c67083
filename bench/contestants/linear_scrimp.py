"""scrimp: gradients, Gram matrices and fits."""

import numpy as np

import scrimp
from contestants import fits
from contestants.datasets import ALPHA, load, weights
from scrimp.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from scrimp.matrix import gradient_sums, gram_sums

SEEDS = range(5)


def version() -> str:
    return scrimp.__version__


def gradient(threads: int, data: str, n: int, d: int, k: int = 1) -> dict:
    rows, w = load(data, n, d, k), weights(d, k)
    matrices = {"fp32": rows.X} | {
        f"int{bits}": scrimp.QuantizedMatrix.from_array(rows.X, bits) for bits in (8, 4)
    }

    def call(X):
        return lambda: gradient_sums(X, rows.y, w, threads=threads) and None

    return {f"scrimp {name}": call(X) for name, X in matrices.items()}


def gram(threads: int, data: str, n: int, d: int, k: int = 1) -> dict:
    rows = load(data, n, d, k)
    codes = scrimp.QuantizedMatrix.from_array(rows.X, 8)
    ranges = scrimp.matrix.column_ranges(rows.X)
    return {
        "scrimp int8": lambda: gram_sums(codes, threads=threads) and None,
        "scrimp fp32 to int8": lambda: gram_sums(rows.X, bits=8, ranges=ranges, threads=threads) and None,
    }


def gram_float64(threads: int, data: str, n: int, d: int, k: int = 1) -> dict:
    X = load(data, n, d, k).X
    return {"scrimp": lambda: gram_sums(X, shift=np.zeros(d), threads=threads) and None}


def flights(threads: int, data: str, n: int, d: int, k: int = 1) -> dict:
    rows = load(data, n, d, k)
    quality, four = fits.ridge_quality(rows), {}

    def int4(seed: int):
        return Ridge(ALPHA, data_bits=4, refine=False, random_state=seed, threads=threads).fit(rows.X, rows.y)

    def with_seeds(model) -> dict:
        if not four:
            r2 = [quality(int4(seed))["r2"] for seed in SEEDS]
            four.update(r2_mean=round(float(np.mean(r2)), 6), r2_worst=min(r2))
        return quality(model) | four

    return {
        "scrimp": fits.measured(lambda: Ridge(ALPHA, threads=threads).fit(rows.X, rows.y), quality),
        "scrimp int4 alone": fits.measured(lambda: int4(0), with_seeds),
    }


def sgd(kind) -> dict:
    """Fits of 20 epochs, the default, and of 2."""
    return {
        "scrimp": lambda threads: kind(threads=threads),
        "scrimp 2 epochs": lambda threads: kind(threads=threads, max_iter=2),
    }


CASES = {
    "gradient.gradient": gradient,
    "gram.gram": gram,
    "gram.gram_float64": gram_float64,
    "fit.ridge": fits.ridge({"scrimp": lambda threads: Ridge(ALPHA, threads=threads)}),
    "fit.flights": flights,
    "fit.logistic": fits.logistic({"scrimp": lambda threads: LogisticRegression(alpha=1.0, threads=threads)}),
    "sgd.squared": fits.ridge(sgd(SGDRegressor)),
    "sgd.logistic": fits.logistic(sgd(SGDClassifier)),
}
