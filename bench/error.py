"""Error of every codec against its bits per value, on five distributions and beside the peers' formats."""

from __future__ import annotations

import numpy as np

import scrimp

DISTRIBUTIONS = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "laplace": lambda rng, n: rng.laplace(size=n),
    "student t3": lambda rng, n: rng.standard_t(3, n),
    "spiky": lambda rng, n: rng.standard_normal(n) * np.where(rng.random(n) < 0.01, 30.0, 1.0),
    "mixed": lambda rng, n: rng.standard_normal(n) * np.exp(rng.standard_normal(n // 256).repeat(256)),
}
OPTIONS = ["int4:scale=mse", "int3:scale=mse", "int2:scale=mse"]


def specs() -> list[str]:
    """Return the specs of all codecs with a fixed number of bits, in their default form and some variants."""
    return [name for name in scrimp.codec_names() if name not in ("raw", "step", "topk")] + OPTIONS


def nmse(spec: str, x: np.ndarray) -> float:
    """Return ‖x - decoded‖² / ‖x‖²."""
    codec = scrimp.codec(spec)
    decoded = codec.decode(codec.encode(x), x.size)
    return float(np.sum((decoded.astype(np.float64) - x) ** 2) / np.sum(x.astype(np.float64) ** 2))


def errors(n: int = 1 << 18) -> list[dict]:
    """Return one row a codec: spec, bits, NMSE by distribution."""
    rng = np.random.default_rng(0)
    samples = {name: make(rng, n).astype(np.float32) for name, make in DISTRIBUTIONS.items()}
    return [
        {
            "spec": spec,
            "bits": scrimp.codec(spec).bits,
            "nmse": {name: nmse(spec, x) for name, x in samples.items()},
        }
        for spec in specs()
    ]
