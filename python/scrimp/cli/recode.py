"""`scrimp quantize` and `scrimp dequantize`: safetensors checkpoints, tensor by tensor, and data files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrimp.cli import options as opt
from scrimp.cli.options import JsonFile, Out, codec_spec, one_of, rule
from scrimp.cli.outcome import check_outputs, console, format_bytes, progress, write_json
from scrimp.cli.quantized_data import SUFFIX, is_data, quantize_data
from scrimp.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from scrimp.tensor_file import TensorReport

Source = Annotated[Path, typer.Argument(metavar="MODEL", help="A safetensors file.", show_default=False)]


def quantize(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            show_default=False,
            help="A safetensors file; or data: .parquet, .npy, .csv, a folder of .npy or .parquet.",
        ),
    ],
    out: Out,
    codec: Annotated[
        str, typer.Option("--codec", "-c", parser=codec_spec, metavar="CODEC", help="Of float tensors.")
    ] = "int4",
    rules: Annotated[
        list[Any] | None,
        typer.Option(
            "--rule",
            "-r",
            parser=rule,
            metavar="REGEX=CODEC",
            help="For tensors whose name matches; first match wins.",
        ),
    ] = None,
    bits: Annotated[
        int,
        typer.Option(metavar="8|4|2|1", parser=lambda text: int(one_of("8", "4", "2", "1")(str(text)))),
    ] = 8,
    target: Annotated[str | None, typer.Option("--target", "-t", metavar="COL", help="Of data.")] = None,
    task: opt.Task = None,
    categorical: opt.Categorical = "",
    drop: opt.Drop = "",
    missing: opt.Missing = "error",
    max_categories: opt.MaxCategories = 256,
    raw_numbers: opt.RawNumbers = False,
    seed: opt.Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Quantize a safetensors checkpoint, or training data, for less memory and traffic.

    Data files become rows of few bits with their target and encoder, which `scrimp train` reads; they may be
    larger than memory: two passes hold a batch at a time. Of a checkpoint the table shows what each tensor
    lost and saved.

    Integer tensors, and tensors that would not get smaller, are copied. `raw` in a rule copies, too. An
    output whose name ends in .gguf is written as GGUF (q8_0, q4_0, f16, bf16, raw).

    Example: scrimp quantize model.safetensors --codec int4 --rule 'norm|bias=f16' --out small.safetensors
    """
    from scrimp.tensor_file import export_gguf, quantize_file

    check_outputs(out, json_file, inputs=[model])
    if model.suffix == SUFFIX:
        raise InputError(f"{model}: is data in few bits already; `scrimp train` reads it")
    if is_data(model):
        if target is None:
            raise typer.BadParameter(f"{model} is data: say with --target which column is to be predicted")
        columns: dict[str, Any] = {"categorical": opt.names(categorical), "drop": opt.names(drop)}
        columns["missing"] = missing
        columns |= {"max_categories": max_categories, "standardize": not raw_numbers, "task": task}
        return quantize_data(model, out, json_file, target=target, bits=bits, seed=seed, **columns)
    write = export_gguf if out.suffix == ".gguf" else quantize_file
    with progress("quantizing") as show:
        try:
            reports = write(model, out, codec, rules or [], show)
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise typer.BadParameter(str(error)) from error
    write_json(json_file, "quantize", _result(model, out, reports) | {"codec": codec})
    console().print(_error_table(reports, f"{model} → {out}"))
    return None


def dequantize(
    model: Source,
    out: Out,
    dtype: Annotated[
        str | None,
        typer.Option(
            parser=lambda text: _dtype(text), metavar="F32|F16|BF16|F64", help="Default: what each had."
        ),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Write the plain form of a file that `scrimp quantize` wrote.

    Example: scrimp dequantize small.safetensors --out plain.safetensors
    """
    from scrimp.tensor_file import dequantize_file

    check_outputs(out, json_file, inputs=[model])
    with progress("dequantizing") as show:
        reports = dequantize_file(model, out, dtype, show)
    write_json(json_file, "dequantize", _result(model, out, reports))
    console().print(_size_table(reports, f"{model} → {out}"))


def _dtype(text: str) -> str:
    from scrimp.tensor_file.safetensors import FLOATS

    if text.upper() not in FLOATS:
        raise typer.BadParameter(f"unknown type {text!r}; known: {', '.join(FLOATS)}")
    return text.upper()


def _result(model: Path, out: Path, reports: list[TensorReport]) -> dict[str, Any]:
    return {
        "model": str(model),
        "out": str(out),
        "bytes_before": sum(r.bytes_before for r in reports),
        "bytes_after": sum(r.bytes_after for r in reports),
        "file_bytes_before": model.stat().st_size,
        "file_bytes_after": out.stat().st_size,
        "tensors": [r.to_dict() for r in reports],
    }


def _table(title: str, reports: list[TensorReport], *more: str) -> Table:
    from rich.table import Table

    before, after = (
        sum(sizes) for sizes in zip(*((r.bytes_before, r.bytes_after) for r in reports), strict=True)
    )
    table = Table(title=title, title_justify="left", show_footer=True)
    table.add_column("tensor", footer=f"{len(reports)} tensors", overflow="fold")
    table.add_column("shape")
    table.add_column("type")
    table.add_column("codec")
    table.add_column("before", justify="right", footer=format_bytes(before))
    table.add_column("after", justify="right", footer=format_bytes(after))
    table.add_column("ratio", justify="right", footer=f"{before / after:.2f}×" if after else "")
    for name in more:
        table.add_column(name, justify="right")
    return table


def _cells(report: TensorReport) -> list[str]:
    shape = "×".join(map(str, report.shape)) or "scalar"
    ratio = f"{report.bytes_before / report.bytes_after:.2f}×" if report.bytes_after else ""
    sizes = [format_bytes(report.bytes_before), format_bytes(report.bytes_after)]
    return [report.name, shape, report.dtype, report.codec, *sizes, ratio]


def _error_table(reports: list[TensorReport], title: str) -> Table:
    table = _table(title, reports, "relative MSE", "max error")
    for report in reports:
        errors = (
            ("", "")
            if report.codec == "copied"
            else (f"{report.relative_mse:.2e}", f"{report.max_error:.2e}")
        )
        table.add_row(*_cells(report), *errors)
    return table


def _size_table(reports: list[TensorReport], title: str) -> Table:
    table = _table(title, reports)
    for report in reports:
        table.add_row(*_cells(report))
    return table
