"""`scrimp predict` and `scrimp evaluate`: a model of `scrimp train` on new rows."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrimp.cli.launched import alone
from scrimp.cli.options import JsonFile, Missing, ModelFile, Out, TrainingFile
from scrimp.cli.outcome import check_outputs, console, format_score, hint, progress, write_json
from scrimp.cli.quantized_data import SUFFIX, evaluate_data, predict_data
from scrimp.errors import InputError

if TYPE_CHECKING:
    from scrimp.cli.tabular import TabularModel


def predict(model: ModelFile, data: TrainingFile, out: Out, json_file: JsonFile = None) -> None:
    """Predict every row of DATA; write the predictions to a .csv or .npy file.

    Example: scrimp predict model.safetensors new.csv --out predictions.csv
    """
    from scrimp.atomic import replacing
    from scrimp.cli.tabular import TabularModel
    from scrimp.cost import Meter

    alone("predict")
    check_outputs(out, json_file, inputs=[model, data])
    if out.suffix not in (".csv", ".npy"):
        raise InputError(f"cannot tell the format of {out}; known: .csv .npy")
    fitted = TabularModel.load(model)
    with Meter() as meter:
        predicted, unseen = _predict_batches(fitted, data)
    _note_unseen(unseen)
    with replacing(out) as file:
        file.write(_csv(fitted.target, predicted) if out.suffix == ".csv" else _npy(predicted))
    result = {"model": str(model), "data": str(data), "out": str(out), "n_rows": len(predicted)}
    write_json(json_file, "predict", result | {"target": fitted.target, "usage": meter.usage.to_dict()})
    console().print(
        f"{len(predicted):,} predictions of {fitted.target!r} in {out} ({meter.usage.wall_s:.2f} s)"
    )


def _predict_batches(fitted: TabularModel, data: Path) -> tuple[NDArray[Any], Counter[str]]:
    """Predict batch by batch, so that only one is encoded at a time; count rows of unseen categories."""
    from scrimp.data import TableBatches

    unseen: Counter[str] = Counter()
    if data.suffix == SUFFIX:
        return predict_data(fitted, data)[0], unseen
    parts: list[NDArray[Any]] = []
    done = 0
    with progress("predicting") as show:
        for table in TableBatches(data):
            parts.append(fitted.predict(table))
            unseen.update(fitted.encoder.unseen(table))
            done += table.n_rows
            show(f"{done:,} rows")
    if not done:
        raise InputError(f"{data}: there are no rows")
    return np.concatenate(parts), unseen


def evaluate(
    model: ModelFile, data: TrainingFile, missing: Missing = "error", json_file: JsonFile = None
) -> None:
    """Score a model on rows whose target is known.

    Example: scrimp evaluate model.safetensors test.csv --json score.json
    """
    from scrimp.cli.tabular import TabularModel
    from scrimp.data import read_table

    alone("evaluate")
    check_outputs(json_file, inputs=[model, data])
    fitted = TabularModel.load(model)
    if data.suffix == SUFFIX:
        scores, n_rows = evaluate_data(fitted, data)
    else:
        table = read_table(data)
        if missing == "drop":
            table = fitted.complete_rows(table)
        scores, n_rows = fitted.scores(table), table.n_rows
        _note_unseen(fitted.encoder.unseen(table))
    shown = ", ".join(f"{name} {format_score(name, value)}" for name, value in scores.items())
    result = {"model": str(model), "data": str(data), "target": fitted.target, "n_rows": n_rows}
    write_json(json_file, "evaluate", result | scores)
    console().print(f"{fitted.target}: {shown} on {n_rows:,} rows of {data}")


def _note_unseen(unseen: Mapping[str, int]) -> None:
    for name, n in unseen.items():
        hint(f"{n:,} rows have a value of {name!r} that was not there in training; it counts as none")


def _csv(target: str, predicted: NDArray[Any]) -> bytes:
    import csv

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([target])
    writer.writerows([str(value)] for value in predicted)  # NumPy's shortest digits that read back equal
    return text.getvalue().encode()


def _npy(predicted: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, predicted, allow_pickle=False)
    return file.getvalue()
