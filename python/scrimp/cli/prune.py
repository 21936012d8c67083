"""`scrimp prune`: the columns of a model that matter, fitted again without the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from scrimp.cli.options import DataFile, JsonFile, Missing, ModelFile, Out, one_of
from scrimp.cli.outcome import check_outputs, console, write_json
from scrimp.errors import InputError


def count_or_part(text: str) -> float:
    """Read a whole number of columns, or with a point the part of them.

    Examples
    --------
    >>> count_or_part("20"), count_or_part("0.5")
    (20, 0.5)
    """
    try:
        value = float(text) if "." in str(text) else int(text)
    except ValueError:
        value = 0
    if not (value >= 1 if isinstance(value, int) else 0 < value <= 1):
        raise typer.BadParameter(f"{text!r}; needed: a number of columns, or a part such as 0.5")
    return value


Keep = Annotated[
    Any,
    typer.Option("--keep", metavar="N|X", help="Columns to keep, or the part of them.", parser=count_or_part),
]
Method = Annotated[
    str,
    typer.Option(
        "--method",
        metavar="magnitude|l1",
        help="By how much columns move predictions, or those that a lasso keeps.",
        parser=one_of("magnitude", "l1"),
    ),
]
SHOWN = 12  # names of kept columns on the console


def prune(
    model: ModelFile,
    data: DataFile,
    out: Out,
    keep: Keep = "0.5",
    method: Method = "magnitude",
    missing: Missing = "error",
    json_file: JsonFile = None,
) -> None:
    """Keep the columns of a model that matter, and fit them again on DATA.

    Columns count as the encoder makes them: one for each category. The model file does not hold the others.

    Example: scrimp prune model.safetensors train.csv --keep 20 --out pruned.safetensors
    """
    from scrimp.cli.tabular import TabularModel, target_column
    from scrimp.data import read_table
    from scrimp.linear_model import prune as prune_model

    check_outputs(out, json_file, inputs=[model, data])
    fitted = TabularModel.load(model)
    if keep > fitted.encoder.width:
        raise typer.BadParameter(f"--keep {keep}: the model has {fitted.encoder.width} columns")
    table = read_table(data)
    if missing == "drop":
        table = fitted.complete_rows(table)
    if table.n_rows < 2:
        raise InputError(f"{data}: 2 rows at least are needed for a score, there is 1")
    truth = target_column(table, fitted.target, fitted.task)
    found = prune_model(fitted.model, fitted.encoder.transform(table), truth, keep=keep, method=method)
    nbytes = replace(fitted, model=found.model).save(out)
    names = [name for name, kept in zip(fitted.encoder.features(), found.kept, strict=True) if kept]
    result = {
        "model": str(model),
        "out": str(out),
        "columns_before": found.columns_before,
        "columns_after": found.columns_after,
        "nbytes": nbytes,
        "coef_bytes_before": found.nbytes_before,
        "coef_bytes_after": found.nbytes_after,
        "score_before": found.score_before,
        "score_after": found.score_after,
        "kept": names,
    }
    write_json(json_file, "prune", result)
    more = ", …" if len(names) > SHOWN else ""
    console().print(f"{fitted.target}: {found}\n{', '.join(names[:SHOWN])}{more}")
