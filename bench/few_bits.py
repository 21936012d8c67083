"""What rows in few bits cost: R² of ridge regression on the flights of 2013, and how mean gradients settle.

`python bench/few_bits.py` (about 20 s; needs the extra "demo"). Rows are months, hours, carriers and airports
as indicators beside the departure delay; every fifth is held out. Training reads the quantized rows alone.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

import scrimp
from scrimp.demo.flights import flights_file
from scrimp.linear_model import Ridge
from scrimp.matrix import QuantizedMatrix

SEEDS = 5


def flights() -> tuple[np.ndarray, np.ndarray]:
    """Return rows float32[n, d] and arrival delays float64[n]."""
    columns = ["month", "hour", "carrier", "origin", "dest"]
    table = pd.read_csv(flights_file(), usecols=[*columns, "dep_delay", "arr_delay"]).dropna()
    hot = pd.get_dummies(table[columns].astype(str), dtype=np.float32).to_numpy()
    rows = np.hstack([hot, table[["dep_delay"]].to_numpy(np.float32)])
    return rows, table["arr_delay"].to_numpy(np.float64)


def scores(x: np.ndarray, y: np.ndarray) -> None:
    """Print R² on held-out rows by bits, over seeds."""
    test = np.arange(len(y)) % 5 == 0
    train_x, train_y, test_x, test_y = x[~test], y[~test], x[test], y[test]
    exact = Ridge(1.0).fit(train_x, train_y).score(test_x, test_y)
    print(f"{len(train_y):,} x {x.shape[1]} rows; exact R2 {exact:.5f}")
    for bits in (8, 4, 2):
        models = [Ridge(1.0, data_bits=bits, refine=False, random_state=seed) for seed in range(SEEDS)]
        found = [model.fit(train_x, train_y).score(test_x, test_y) for model in models]
        lost = exact - np.array(found)
        print(f"int{bits}: mean {np.mean(found):.5f} (loses {lost.mean():.5f}), worst loses {lost.max():.5f}")


def gradients(x: np.ndarray, y: np.ndarray) -> None:
    """Print how far means of gradients of int4 rows are from the exact gradient, by the number of seeds."""
    x, y = x[:20_000], y[:20_000]
    w = np.full(x.shape[1], 0.1)
    exact = scrimp.gradient(x, y, w, precise=True)[0]
    codes = (QuantizedMatrix.from_array(x, bits=4, seed=seed) for seed in range(256))
    found = np.array([scrimp.gradient(rows, y, w, precise=True)[0] for rows in codes])
    for seeds in (1, 4, 16, 64):
        means = found.reshape(-1, seeds, len(w)).mean(axis=1)
        error = np.sqrt(((means - exact) ** 2).sum(axis=1).mean()) / np.linalg.norm(exact)
        steady = error * seeds**0.5
        print(f"mean of {seeds:2d} gradients: relative error {error:.2e}, times root {steady:.2e}")


if __name__ == "__main__":
    rows = flights()
    scores(*rows)
    gradients(*rows)
