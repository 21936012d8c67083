"""Write golden files of rows and models: `python tests/golden/make_files.py`. It never rewrites one."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from scrimp import QuantizedMatrix

HERE = Path(__file__).resolve().parent


def rows() -> np.ndarray:
    """Return 40 rows of five columns of different sizes, one of them constant; the same on any machine."""
    i = np.arange(40 * 5, dtype=np.int64)
    draws = ((i * 2654435761 + 12345) % (1 << 20) / (1 << 19) - 1).reshape(40, 5)
    draws[:, 3] = 0.5
    return (draws * [1, 100, 0.01, 1, 3]).astype(np.float32)


def matrix(bits: int) -> QuantizedMatrix:
    return QuantizedMatrix.from_array(rows(), bits, seed=7, first_row=4096)


def predictions(bits: int) -> np.ndarray:
    """What the golden model of so many bits predicted when it was written."""
    return np.load(HERE / "ridge-predictions.npz")[f"bits{bits}"]


def frame() -> pd.DataFrame:
    return pd.DataFrame(rows(), columns=list("abcde"))


def write_models() -> None:
    from scrimp.linear_model import Ridge

    X = rows()
    y = np.c_[X @ [1, 0.01, -50, 1, 0.5], X @ [0, 0.02, 10, 0, -1]]
    predicted = {}
    for bits in (32, 8, 4):
        model = Ridge(0.01, weight_bits=bits).fit(frame(), y)
        model.save(HERE / f"ridge-{bits}.safetensors")
        predicted[f"bits{bits}"] = model.predict(frame())
    np.savez(HERE / "ridge-predictions.npz", **predicted)


def main() -> None:
    for bits in (8, 4, 2, 1):
        path = HERE / f"rows-int{bits}.scrimp"
        if not path.exists():
            matrix(bits).save(path)
    if not (HERE / "ridge-predictions.npz").exists():
        write_models()
    sys.stdout.write("\n".join(sorted(p.name for p in HERE.iterdir())) + "\n")


if __name__ == "__main__":
    main()
