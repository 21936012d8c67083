"""Handwritten digits (1,797 pictures of scikit-learn) and a small network: the ladder of the digits demo.

Here the parameters are sharded too: each of two workers owns half of the weights and of the momentum.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scrimp.cost import Meter, bill
from scrimp.demo.network import PIXEL_MAX
from scrimp.demo.network_classifier import TwoLayerNet
from scrimp.demo.results import RungResult
from scrimp.demo.rungs import Rung, settings_up_to
from scrimp.distillation import distill
from scrimp.matrix.blas import one_thread

LADDER = (
    Rung("baseline", "float32 pixels, one process, float32 network of 64 inner units", {"hidden": 64}),
    Rung(
        "sharded",
        "2 workers: each half of the rows, each the owner of half of the weights",
        {"workers": 2, "shard": "zero"},
    ),
    Rung("compressed", "int4 gradients in, int8 weights out", {"compress": ("int4", "int8"), "raw_below": 0}),
    Rung(
        "quantized-data",
        "pixels are bytes; they were drawn in 17 grey levels, so nothing is lost",
        rows_in_int8=True,
    ),
    Rung(
        "quantized-model", "the network is stored and predicts in int8", {"weight_bits": 8}, rows_in_int8=True
    ),
    Rung(
        "distilled",
        "no labels: a network of 16 inner units learns from one of 256",
        {"hidden": 16, "max_iter": 100},
        rows_in_int8=True,
        soft_targets=True,
    ),
)
TEST_SHARE = 1 / 3
TEMPERATURE = 2.0
SEED = 0


class DigitsTask:
    """The digits of scikit-learn on the ladder."""

    metric = "accuracy"
    ladder = LADDER

    def prepare(self, folder: Path, max_rows: int | None = None) -> dict[str, Any]:
        """Split the pictures and write them as float32 and as bytes."""
        from sklearn.datasets import load_digits

        start = time.perf_counter()
        X, y = load_digits(return_X_y=True)
        order = np.random.default_rng(SEED).permutation(len(y))[:max_rows]
        test_rows = int(len(order) * TEST_SHARE)
        for part, rows in (("test", order[:test_rows]), ("train", order[test_rows:])):
            np.save(folder / f"X_{part}.npy", (X[rows] / PIXEL_MAX).astype(np.float32))
            np.save(folder / f"bytes_{part}.npy", X[rows].astype(np.uint8))
            np.save(folder / f"y_{part}.npy", y[rows])
        seconds = time.perf_counter() - start
        return {"rows": len(order), "test_rows": test_rows, "features": X.shape[1], "prepare_s": seconds}

    def run(self, folder: Path, rung: Rung) -> RungResult:
        """Load, fit, save, load again, predict the held-out pictures."""
        rows = "bytes" if rung.rows_in_int8 else "X"
        X, y, X_test, y_test = (
            _array(folder, name) for name in (f"{rows}_train", "y_train", f"{rows}_test", "y_test")
        )
        settings = settings_up_to(LADDER, rung.name)
        model = TwoLayerNet(**settings)
        extras: dict[str, Any] = {}
        if rung.soft_targets:
            model, extras["distillation"] = _distilled(model, X, y, X_test, y_test)
        else:
            model.fit(X, y)
        path = folder / f"{rung.name}.safetensors"
        model.save(path)
        model.load_weights(path)
        return RungResult(
            name=rung.name,
            adds=rung.adds,
            score=float(np.mean(model.predict(X_test) == y_test)),
            usage=model.bill_.usage,
            data_bytes=X.nbytes,
            model_bytes=path.stat().st_size,
            usd=model.bill_.total_usd,
            settings=settings,
            extras={"n_iter": model.n_iter_, "solver": "sgd", **extras},
        )


task = DigitsTask()


def _array(folder: Path, name: str) -> npt.NDArray[Any]:
    loaded: npt.NDArray[Any] = np.load(folder / f"{name}.npy", allow_pickle=False)
    return loaded


def _distilled(
    model: TwoLayerNet, X: Any, y: Any, X_test: Any, y_test: Any
) -> tuple[TwoLayerNet, dict[str, Any]]:
    """Train the teacher on the labels, and the student on nothing but the teacher."""
    from sklearn.neural_network import MLPClassifier

    teacher = MLPClassifier((256,), max_iter=300, random_state=SEED)
    with Meter() as meter, one_thread():  # batches of 200: a second BLAS thread only waits
        teacher.fit(X, y)
    result = distill(teacher, model, X, temperature=TEMPERATURE, X_test=X_test, y_test=y_test)
    report = result.report.to_dict()
    report["teacher"]["training"] = bill(meter.usage).to_dict()
    return result.student, report
