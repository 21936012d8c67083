"""`scrimp train`: from a data file to a model that predicts such files; a held-out score, and the bill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrimp.cli import options as opt
from scrimp.cli.launched import joined, launch
from scrimp.cli.outcome import check_outputs, console, format_bytes, format_score, hint, progress, write_json

if TYPE_CHECKING:
    from rich.table import Table

    from scrimp.cli.tabular import Split, TabularModel
    from scrimp.cost import Bill, Prices
    from scrimp.data import TableEncoder


def train(
    data: opt.TrainingFile,
    target: opt.Target,
    out: opt.Out,
    task: opt.Task = None,
    categorical: opt.Categorical = "",
    drop: opt.Drop = "",
    missing: opt.Missing = "error",
    max_categories: opt.MaxCategories = 256,
    raw_numbers: opt.RawNumbers = False,
    test_size: opt.TestSize = 0.2,
    max_rows: opt.MaxRows = None,
    seed: opt.Seed = 0,
    alpha: opt.Alpha = 1.0,
    solver: Annotated[str, typer.Option(metavar="SOLVER", help="auto, gram, lbfgs, cg or sgd.")] = "auto",
    max_iter: Annotated[int | None, typer.Option(metavar="N", min=1, help="Iterations at most.")] = None,
    workers: opt.Workers = 1,
    threads: opt.Threads = 0,
    data_bits: opt.DataBits = 32,
    weight_bits: opt.WeightBits = 32,
    compress: opt.Compress = "raw",
    compress_weights: opt.CompressWeights = None,
    raw_below: opt.RawBelow = 65536,
    shard: opt.Shard = "rows",
    sync_every: opt.SyncEvery = 1,
    feedback: opt.Feedback = "auto",
    on_failure: opt.OnFailure = "raise",
    max_usd: opt.MaxUsd = None,
    max_seconds: opt.MaxSeconds = None,
    max_bytes: opt.MaxBytes = None,
    checkpoint: opt.Checkpoint = None,
    prices_file: opt.PricesFile = None,
    json_file: opt.JsonFile = None,
) -> None:
    """Train a linear model on a data file, hold out rows for a score, and show the bill.

    Numbers are standardised and categories one-hot encoded; the encoder is stored in the model. A `.scrimp`
    file of `scrimp quantize` is read as it is and may be larger than memory; its last rows are held out.
    Under `mpiexec -n 4` or `torchrun` the processes join and share the rows.

    Example: scrimp train flights.csv --target arr_delay --categorical auto --drop tailnum,time_hour
    --missing drop --data-bits 8 --workers 2 --compress int4 --out model.safetensors
    """
    from scrimp.cli.quantized_data import SUFFIX, fit_quantized
    from scrimp.cli.tabular import Split
    from scrimp.cost import Prices

    mine = launch()
    if mine.size > 1 and workers > 1:
        raise typer.BadParameter(
            f"{mine.launcher} started {mine.size} ranks, which share the rows: no --workers"
        )
    if mine.rank == 0:
        check_outputs(out, json_file, checkpoint, inputs=[data, prices_file])
    prices = Prices.load(prices_file)
    settings = {
        "solver": solver,
        "max_iter": max_iter,
        "workers": workers,
        "threads": threads,
        "data_bits": data_bits,
        "weight_bits": weight_bits,
        "compress": (compress, compress_weights) if compress_weights else compress,
        "raw_below": raw_below,
        "shard": shard,
        "sync_every": sync_every,
        "feedback": feedback,
        "on_failure": on_failure,
        "budget": opt.budget(prices, usd=max_usd, seconds=max_seconds, bytes=max_bytes),
        "checkpoint": str(checkpoint) if checkpoint else None,
        "random_state": seed,
    }
    if data.suffix == SUFFIX and any((categorical, drop, missing != "error", raw_numbers, max_rows)):
        raise typer.BadParameter(f"{data} is encoded: `scrimp quantize` chose its columns and rows")
    with progress("training:") as show:
        show(f"reading {data}")
        if data.suffix == SUFFIX:
            fitted, facts = fit_quantized(data, target, task, test_size, alpha, settings)
        else:
            split = Split.read(data, target, task, opt.names(drop), missing, test_size, seed, max_rows)
            encoder = split.fit_encoder(
                opt.names(categorical), standardize=not raw_numbers, max_categories=max_categories
            )
            fitted, facts = _fit(split, encoder, alpha, settings, show)
    if mine.rank > 0:
        return
    model_bytes = fitted.save(out)
    bill = _bill_of(fitted.model, model_bytes, prices)
    result = {"data": str(data), "out": str(out), **facts, "model_bytes": model_bytes, "usd": bill.total_usd}
    if workers > 1 and compress != "raw" and bill.usage.wire_bytes == bill.usage.raw_bytes:
        hint("nothing was compressed: what this solver sends is below --raw-below, or exact by design")
    write_json(json_file, "train", result | {"bill": bill.to_dict()})
    console().print(_table(result, bill))
    console().print(bill)


def _fit(
    split: Split, encoder: TableEncoder, alpha: float, settings: dict[str, Any], show: Callable[[str], None]
) -> tuple[TabularModel, dict[str, Any]]:
    from scrimp.cli.tabular import TabularModel, estimator, score, target_column

    model = estimator(split.task, alpha, settings)
    y, y_test = (target_column(part, split.target, split.task) for part in (split.train, split.test))
    show(f"encoding {split.train.n_rows:,} rows")
    X = encoder.transform(split.train)
    show(f"{type(model).__name__} on {X.shape[0]:,} rows × {X.shape[1]:,} columns")
    with joined():
        model.fit(X, y)
    fitted = TabularModel(model, encoder, split.target, split.task)
    facts = {
        "target": split.target,
        "task": split.task,
        "estimator": type(model).__name__,
        "n_train": split.train.n_rows,
        "n_test": split.test.n_rows,
        "n_features": encoder.width,
        "solver": str(model.solver_),
    }
    return fitted, facts | (score(split.task, y_test, fitted.predict(split.test)) if len(y_test) else {})


def _bill_of(model: Any, model_bytes: int, prices: Prices) -> Bill:
    from scrimp.cost import bill

    return bill(replace(model.bill_.usage, stored_bytes=model_bytes), prices)


def _table(result: dict[str, Any], bill: Bill) -> Table:
    from rich.table import Table

    usage = bill.usage
    rows: dict[str, str] = {
        name: format_score(name, result[name]) for name in ("r2", "rmse", "accuracy") if name in result
    }
    rows |= {
        "trained": f"{result['estimator']} ({result['solver']})",
        "rows": f"{result['n_train']:,} trained, {result['n_test']:,} held out",
        "features": f"{result['n_features']:,}",
        "time": f"{usage.wall_s:.3g} s, {usage.cpu_s:.3g} CPU-s",
        "peak memory": format_bytes(usage.peak_bytes),
        "sent": f"{format_bytes(usage.wire_bytes)}, uncompressed {format_bytes(usage.raw_bytes)}"
        if usage.raw_bytes
        else "nothing: one process",
        "model": f"{result['out']}, {format_bytes(result['model_bytes'])}",
    }
    table = Table(title=f"{result['target']} ({result['task']})", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, text in rows.items():
        table.add_row(name, text)
    return table
