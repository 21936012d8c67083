"""`scrimp distill`: a large teacher, a small linear student, and whether it was worth it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrimp.cli import options as opt
from scrimp.cli.outcome import check_outputs, console, progress, write_json
from scrimp.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scrimp.cli.tabular import Split
    from scrimp.cost import Bill, Prices
    from scrimp.data import TableEncoder


def distill(
    data: opt.DataFile,
    target: opt.Target,
    out: opt.Out,
    teacher: Annotated[
        str,
        typer.Option(metavar="boosting|MODEL", help="Gradient boosting trained here, or a trained model."),
    ] = "boosting",
    alpha_teacher: Annotated[
        float,
        typer.Option("--teacher-weight", metavar="A", min=0, max=1, help="1: the teacher alone, no labels."),
    ] = 1.0,
    temperature: Annotated[float, typer.Option(metavar="T", help="Softens classes.")] = 1.0,
    task: opt.Task = None,
    categorical: opt.Categorical = "",
    drop: opt.Drop = "",
    missing: opt.Missing = "error",
    max_categories: opt.MaxCategories = 256,
    test_size: opt.TestSize = 0.2,
    seed: opt.Seed = 0,
    alpha: opt.Alpha = 1.0,
    weight_bits: opt.WeightBits = 8,
    prices_file: opt.PricesFile = None,
    json_file: opt.JsonFile = None,
) -> None:
    """Train a small linear student on what a teacher says, and compare it with labels alone.

    Example: scrimp distill flights.csv --target arr_delay --categorical auto --drop tailnum,time_hour
    --missing drop --out student.safetensors
    """
    from scrimp.cli.tabular import Split, TabularModel, estimator, target_column
    from scrimp.cost import Prices, bill
    from scrimp.distillation import distill as distill_into

    check_outputs(out, json_file, inputs=[data, prices_file, Path(teacher)])
    prices = Prices.load(prices_file)
    with progress("distilling:") as show:
        show(f"reading {data}")
        split = Split.read(data, target, task, opt.names(drop), missing, test_size, seed)
        _check(split, temperature)
        columns = opt.names(categorical)
        encoder = split.fit_encoder(columns, standardize=True, max_categories=max_categories)
        X, X_test = encoder.transform(split.train), encoder.transform(split.test)
        y, y_test = (target_column(part, target, split.task) for part in (split.train, split.test))
        show(f"teacher: {teacher}")
        wise, taught = _teacher(teacher, split, encoder, X, y, seed, prices)
        show("student")
        result = distill_into(
            wise,
            estimator(split.task, alpha, {"weight_bits": weight_bits, "random_state": seed}),
            X,
            y,
            alpha=alpha_teacher,
            temperature=temperature,
            X_test=X_test,
            y_test=y_test,
            prices=prices,
        )
    model_bytes = TabularModel(result.student, encoder, target, split.task).save(out)
    facts: dict[str, Any] = {
        "data": str(data),
        "out": str(out),
        "target": target,
        "task": split.task,
        "teacher": teacher,
    }
    facts |= {
        "n_train": len(y),
        "n_test": len(y_test),
        "n_features": encoder.width,
        "model_bytes": model_bytes,
    }
    training = None if taught is None else bill(taught.usage, prices).to_dict()
    write_json(
        json_file, "distill", {**facts, "teacher_training": training, "report": result.report.to_dict()}
    )
    console().print(f"{target}: {len(y):,} rows for the teacher's answers, {len(y_test):,} held out")
    console().print(str(result.report))
    if taught is not None:
        console().print(f"training the teacher: {taught.usage.wall_s:.1f} s; it is not in the dollars above")


def _check(split: Split, temperature: float) -> None:
    """Refuse what the fit would refuse, before the teacher is trained."""
    if not split.test.n_rows:
        where = split.train.where
        raise InputError(f"{where}: no rows are held out, and the comparison needs some: raise --test-size")
    if not (math.isfinite(temperature) and temperature > 0):
        raise typer.BadParameter(f"--temperature must be a number above 0, got {temperature!r}")
    if split.task == "regression" and temperature != 1:
        raise typer.BadParameter(f"temperature softens classes; for numbers it must be 1, got {temperature}")


def _teacher(
    name: str,
    split: Split,
    encoder: TableEncoder,
    X: NDArray[Any],
    y: NDArray[Any],
    seed: int,
    prices: Prices,
) -> tuple[Any, Bill | None]:
    """Return the teacher, and the bill of its training if it was trained here."""
    from scrimp.cost import Meter, bill

    if name == "boosting":
        with Meter() as meter:
            model = _boosting(split.task, seed).fit(X, y)
        return model, bill(meter.usage, prices)
    return _trained(Path(name), split, encoder), None


def _boosting(task: str, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingClassifier if task == "classification" else HistGradientBoostingRegressor
    return kind(random_state=seed)


def _trained(path: Path, split: Split, encoder: TableEncoder) -> Any:
    """Load a teacher, which must read and encode the columns as the student does."""
    from scrimp.cli.tabular import TabularModel

    model = TabularModel.load(path)
    if model.task != split.task or model.target != split.target:
        raise InputError(
            f"{path}: predicts {model.target!r} ({model.task}), not {split.target!r} ({split.task})"
        )
    if model.encoder != encoder:
        raise InputError(
            f"{path}: was trained on other columns or rows; train it with the same --seed and columns"
        )
    return model.model
