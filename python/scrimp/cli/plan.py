"""`scrimp plan`: how to train on a data file at least cost, with the reasons and the command to run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrimp.cli import options as opt
from scrimp.cli.outcome import check_outputs, console, hint, progress, write_json

if TYPE_CHECKING:
    from rich.table import Table

    from scrimp.planner import Plan

SHOWN = 8


def plan(
    data: opt.DataFile,
    target: opt.Target,
    reach: Annotated[
        float | None, typer.Option(metavar="SCORE", max=1, help="Held-out R² or accuracy to reach.")
    ] = None,
    task: opt.Task = None,
    categorical: opt.Categorical = "",
    drop: opt.Drop = "",
    missing: opt.Missing = "error",
    max_categories: opt.MaxCategories = 256,
    raw_numbers: opt.RawNumbers = False,
    seed: opt.Seed = 0,
    alpha: opt.Alpha = 1.0,
    max_usd: opt.MaxUsd = None,
    max_seconds: opt.MaxSeconds = None,
    prices_file: opt.PricesFile = None,
    json_file: opt.JsonFile = None,
) -> None:
    """Measure this machine, try a pilot, and say how to train at least cost, and why.

    Example: scrimp plan flights.csv --target arr_delay --categorical auto --drop tailnum,time_hour
    --missing drop --reach 0.88
    """
    from scrimp.cli.tabular import Split, target_column
    from scrimp.cost import Prices
    from scrimp.planner import plan as make_plan

    check_outputs(json_file, inputs=[data, prices_file])
    prices = Prices.load(prices_file)
    budget = opt.budget(prices, usd=max_usd, seconds=max_seconds)
    with progress("planning:") as show:
        show(f"reading {data}")
        split = Split.read(data, target, task, opt.names(drop), missing, 0, seed)
        chosen_columns = opt.names(categorical)
        encoder = split.fit_encoder(
            chosen_columns, standardize=not raw_numbers, max_categories=max_categories
        )
        X, y = encoder.transform(split.train), target_column(split.train, target, split.task)
        show("a pilot")
        made = make_plan(
            X, y, target=reach, budget=budget, task=split.task, alpha=alpha, prices=prices, seed=seed
        )
    given: dict[str, str | bool] = {
        "--task": task or "",
        "--categorical": categorical,
        "--drop": drop,
        "--missing": missing if missing != "error" else "",
        "--max-categories": str(max_categories) if max_categories != 256 else "",
        "--seed": str(seed) if seed else "",
        "--raw-numbers": raw_numbers,
    }
    command = _command(data, target, given, made)
    write_json(json_file, "plan", {"data": str(data), "target": target, "command": command, **made.to_dict()})
    console().print(f"{data}: {len(X):,} rows × {encoder.width:,} columns")
    console().print(str(made))
    console().print(_table(made))
    console().print(f"run: {command}", soft_wrap=True)
    if not made.reaches:
        hint("what was asked for is not expected to be met; this is the best within the limits")


def _command(data: Path, target: str, given: dict[str, str | bool], made: Plan) -> str:
    words = ["scrimp", "train", str(data), "--target", target]
    for option, value in given.items():
        words += [option] if value is True else [option, str(value)] if value else []
    choice = made.choice
    words += ["--alpha", f"{choice['alpha']:.6g}", "--solver", choice["solver"]]
    words += ["--data-bits", str(choice["data_bits"]), "--weight-bits", str(choice["weight_bits"])]
    words += [
        "--workers",
        str(choice["workers"]),
        "--max-rows",
        str(made.n_rows),
        "--out",
        "model.safetensors",
    ]
    return shlex.join(words)


def _table(made: Plan) -> Table:
    from rich.table import Table

    from scrimp.cost import format_usd

    table = Table(title="weighed, cheapest first", title_justify="left")
    columns: dict[str, Any] = {
        "": "left",
        "solver": "left",
        "bits": "right",
        "workers": "right",
        "rows": "right",
    }
    columns |= {made.pilot.metric: "right", "at least": "right", "seconds": "right", "US dollars": "right"}
    for name, justify in columns.items():
        table.add_column(name, justify=justify)
    first = made.options[:SHOWN]
    for option in first if made.predicted in first else [*first, made.predicted]:
        table.add_row(
            "→" if option == made.predicted else "",
            option.solver,
            str(option.data_bits),
            str(option.workers),
            f"{option.n_rows:,}",
            f"{option.score:.4f}",
            f"{option.floor:.4f}",
            f"{option.usage.wall_s:.3g}",
            format_usd(option.usd),
        )
    return table
