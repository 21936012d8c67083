"""`scrimp info`: what this installation can do, or what is in a file."""

from __future__ import annotations

import importlib.util
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrimp.cli.options import JsonFile
from scrimp.cli.outcome import check_outputs, console, format_bytes, write_json
from scrimp.cli.quantized_data import SUFFIX, open_data

if TYPE_CHECKING:
    from rich.table import Table

MODEL_KEY = "scrimp"
EXTRAS = ("numpy", "sklearn", "pandas", "pyarrow", "polars", "torch", "mpi4py", "onnxruntime", "matplotlib")


def info(
    file: Annotated[
        Path | None,
        typer.Argument(help="A safetensors checkpoint or model, or a data file.", show_default=False),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Show what this installation can do; with a FILE, what is in it.

    Example: scrimp info small.safetensors
    """
    check_outputs(json_file, inputs=[file])
    if file is None:
        result = _machine()
    elif file.suffix == ".safetensors":
        result = _checkpoint(file)
    elif file.suffix == SUFFIX:
        result = _quantized_data(file)
    else:
        result = _data(file)
    columns, rows = result.pop("columns"), result.pop("rows")
    write_json(json_file, "info", result)
    console().print(_table(columns, rows, result))


def _machine() -> dict[str, Any]:
    from importlib.metadata import version

    import scrimp
    from scrimp.cost import Meter

    with Meter() as meter:
        pass
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {name: importlib.util.find_spec(name) is not None for name in EXTRAS}
    packages = {
        name: version("scikit-learn" if name == "sklearn" else name) for name, is_in in found.items() if is_in
    }
    result: dict[str, Any] = {
        "scrimp": scrimp.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpus": usable,
        "isa": scrimp.isa(),
        "codecs": scrimp.codec_names(),
        "peak_memory_by": meter.peak_source,
        "energy_by": "estimate" if meter.usage.joules_estimated else "RAPL",
        "packages": packages,
        "missing_packages": [name for name, is_in in found.items() if not is_in],
    }
    rows = [(key, _text(value)) for key, value in result.items()]
    return result | {"columns": ("this installation", ""), "rows": rows}


def _checkpoint(path: Path) -> dict[str, Any]:
    from scrimp.tensor_file import SafetensorsReader, is_quantized, packet_of

    reader = SafetensorsReader(path)
    tensors, rows = [], []
    for tensor in reader.tensors.values():
        spec, shape = tensor.dtype, tensor.shape
        if tensor.dtype == "U8" and bytes(reader.raw(tensor.name)[:4]) == b"scrp":
            packet = packet_of(reader, tensor.name)
            spec, shape = packet.codec.spec, packet.shape
        tensors.append({"name": tensor.name, "type": spec, "shape": list(shape), "bytes": tensor.nbytes})
        rows.append((tensor.name, "×".join(map(str, shape)) or "scalar", spec, format_bytes(tensor.nbytes)))
    result: dict[str, Any] = {"file": str(path), "file_bytes": path.stat().st_size}
    result |= {"quantized": is_quantized(reader), "metadata": reader.metadata, "tensors": tensors}
    if MODEL_KEY in reader.metadata:
        result["model"] = _model(path)
    return result | {"columns": ("tensor", "shape", "type", "bytes"), "rows": rows}


def _model(path: Path) -> dict[str, Any]:
    """Say what a model file predicts, from what."""
    from scrimp.model_file import load_parts

    parts = load_parts(path)
    encoder = parts.extra.get("encoder", {}).get("columns", [])
    return {
        "kind": parts.kind,
        "target": parts.extra.get("target"),
        "task": parts.extra.get("task"),
        "columns": [column.get("name") for column in encoder],
    }


def _data(path: Path) -> dict[str, Any]:
    from scrimp.data import read_table

    table = read_table(path)
    missing = table.missing()
    described = [
        {
            "name": name,
            "type": "text" if table.is_text(name) else str(table.column(name).dtype),
            "missing": missing.get(name, 0),
        }
        for name in table.names
    ]
    rows = [(str(d["name"]), str(d["type"]), f"{d['missing']:,}") for d in described]
    result = {
        "file": str(path),
        "file_bytes": path.stat().st_size,
        "n_rows": table.n_rows,
        "features": described,
    }
    return result | {"columns": ("column", "type", "missing"), "rows": rows}


def _quantized_data(path: Path) -> dict[str, Any]:
    """Say what the rows of a `.scrimp` file are made of."""
    table = open_data(path)
    described = [
        {"name": column["name"], "type": column["kind"]} for column in table.encoder.to_dict()["columns"]
    ]
    result = {
        "file": str(path),
        "file_bytes": path.stat().st_size,
        "n_rows": table.X.shape[0],
        "bits": table.X.bits,
        "target": table.target,
        "task": table.task,
        "features": described,
    }
    rows = [(str(d["name"]), f"{d['type']}, {table.X.bits} bits") for d in described]
    rows.append((table.target, f"target of {table.task}"))
    return result | {"columns": ("column", "type"), "rows": rows}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]], result: dict[str, Any]) -> Table:
    from rich.table import Table

    model = result.get("model")
    title = f"{result['file']}, {format_bytes(result['file_bytes'])}" if "file" in result else None
    if "n_rows" in result:
        title = f"{title}, {result['n_rows']:,} rows"
    if model is not None:
        title = f"{title}: {model['kind']}"
        if model["target"] is not None:
            title += f" of {model['target']!r} ({model['task']}) from {', '.join(map(str, model['columns']))}"
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
