"""Options that several commands share, spelled once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from scrimp.cost import Budget, Prices


def codec_spec(text: str) -> str:
    """Check a codec spec while the command line is parsed, so that a typing error is a usage error."""
    from scrimp.codecs import codec

    try:
        return codec(text).spec
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def rule(text: str) -> tuple[str, str]:
    """Check a rule `REGEX=CODEC`."""
    from scrimp.tensor_file import parse_rule

    try:
        return parse_rule(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")]
Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write; replaced only when whole.")
]
PricesFile = Annotated[
    Path | None,
    typer.Option("--prices", metavar="FILE", help="Price file (TOML or JSON); default: example list prices."),
]


def names(text: str) -> list[str]:
    """Split `A,B`.

    Examples
    --------
    >>> names("month, day"), names("")
    (['month', 'day'], [])
    """
    return [name.strip() for name in text.split(",") if name.strip()]


def budget(prices: Prices, **limits: float | None) -> Budget | None:
    """Make a budget of the limits that were given; None of none."""
    from scrimp.cost import Budget

    if all(limit is None for limit in limits.values()):
        return None
    try:
        return Budget(**limits, prices=prices)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def check_solver(task: str, settings: dict[str, Any]) -> None:
    """Refuse a solver that the task does not have, or that cannot do what the levers ask for."""
    from scrimp.linear_model.choice import choose_gradient_solver, choose_solver

    solver, every = settings.get("solver", "auto"), settings.get("sync_every", 1)
    shard = settings.get("shard", "rows")
    try:
        if task == "classification":
            choose_gradient_solver(solver, every)
        else:
            choose_solver(solver, 1, 1, settings.get("compress", "raw"), shard, every)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if shard == "zero" and (every > 1 or settings.get("on_failure") == "continue"):
        raise typer.BadParameter("--shard zero allows no --sync-every above 1, no --on-failure continue")


def one_of(*choices: str) -> Callable[[str], str]:
    """Check that a word is one of a few."""

    def check(text: str) -> str:
        if text not in choices:
            raise typer.BadParameter(f"{text!r}; known: {', '.join(choices)}")
        return text

    return check


def bits(text: str) -> int:
    """Check a number of bits per value."""
    return int(one_of("32", "8", "4")(str(text)))


def _option(metavar: str, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, metavar=metavar, help=text, **more)


DATA, LEVERS, LIMITS = "Data", "Levers", "Limits"

DataFile = Annotated[Path, typer.Argument(metavar="DATA", help=".npy, .npz, .csv, .tsv or .parquet.")]
TrainingFile = Annotated[
    Path, typer.Argument(metavar="DATA", help=".npy, .npz, .csv, .tsv, .parquet, or .scrimp of quantize.")
]
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="What `scrimp train` wrote.")]

Target = Annotated[str, _option("COL", "Column to predict.", "--target", "-t", rich_help_panel=DATA)]
Task = Annotated[
    str | None,
    _option(
        "regression|classification",
        "Default: classification if the target is text.",
        parser=one_of("regression", "classification"),
        rich_help_panel=DATA,
    ),
]
Categorical = Annotated[
    str, _option("auto|COL,…", "Columns to one-hot encode; auto: all that hold text.", rich_help_panel=DATA)
]
Drop = Annotated[str, _option("COL,…", "Columns to leave out.", rich_help_panel=DATA)]
Missing = Annotated[
    str,
    _option("error|drop", "Rows with a missing value.", parser=one_of("error", "drop"), rich_help_panel=DATA),
]
MaxCategories = Annotated[int, _option("N", "Refuse a column with more values.", min=1, rich_help_panel=DATA)]
RawNumbers = Annotated[bool, typer.Option("--raw-numbers", help="Do not standardise.", rich_help_panel=DATA)]
TestSize = Annotated[
    float, _option("SHARE", "Rows held out for the score.", min=0, max=0.99, rich_help_panel=DATA)
]
MaxRows = Annotated[
    int | None, _option("N", "Train on a sample of so many rows.", min=2, rich_help_panel=DATA)
]
Seed = Annotated[
    int, _option("N", "Of the split and of all rounding.", min=0, max=2**32 - 1, rich_help_panel=DATA)
]

Alpha = Annotated[float, _option("X", "L2 penalty, as in scikit-learn's Ridge.", min=0, max=1e100)]
Workers = Annotated[
    int,
    _option("N", "Processes that share the rows.", "--workers", "-w", min=1, max=256, rich_help_panel=LEVERS),
]
Threads = Annotated[int, _option("N", "Threads a process; 0 chooses.", min=0, rich_help_panel=LEVERS)]
DataBits = Annotated[int, _option("32|8|4", "Bits of a training value.", parser=bits, rich_help_panel=LEVERS)]
WeightBits = Annotated[
    int, _option("32|8|4", "Bits of a stored weight.", parser=bits, rich_help_panel=LEVERS)
]
Compress = Annotated[
    str, _option("CODEC", "Codec of gradients between workers.", parser=codec_spec, rich_help_panel=LEVERS)
]
RawBelow = Annotated[
    int, _option("BYTES", "Send smaller gradients uncompressed.", min=0, rich_help_panel=LEVERS)
]
CompressWeights = Annotated[
    str | None,
    _option("CODEC", "Codec of weights, with --shard zero.", parser=codec_spec, rich_help_panel=LEVERS),
]
Shard = Annotated[
    str,
    _option("rows|zero", "zero: shard weights, too.", parser=one_of("rows", "zero"), rich_help_panel=LEVERS),
]
SyncEvery = Annotated[
    int, _option("N", "Exchange weights every N steps of sgd.", min=1, rich_help_panel=LEVERS)
]
Feedback = Annotated[
    str,
    _option(
        "auto|none|ef14|ef21",
        "What becomes of what --compress dropped.",
        parser=one_of("auto", "none", "ef14", "ef21"),
        rich_help_panel=LEVERS,
    ),
]
OnFailure = Annotated[
    str,
    _option(
        "raise|continue",
        "When a worker is lost: fail, or go on without it.",
        parser=one_of("raise", "continue"),
        rich_help_panel=LEVERS,
    ),
]

MaxUsd = Annotated[float | None, _option("X", "Stop before it costs more dollars.", rich_help_panel=LIMITS)]
MaxSeconds = Annotated[float | None, _option("X", "Stop before it takes longer.", rich_help_panel=LIMITS)]
MaxBytes = Annotated[float | None, _option("X", "Stop before workers send more.", rich_help_panel=LIMITS)]
Checkpoint = Annotated[
    Path | None,
    _option("FILE", "Saved when stopped; the same command goes on from it.", rich_help_panel=LIMITS),
]
