"""`scrimp bill`: price what other commands measured, with the prices of one's own."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from scrimp.cli.options import JsonFile, PricesFile
from scrimp.cli.outcome import check_outputs, console, read_json, write_json
from scrimp.cost.prices import LARGEST
from scrimp.errors import InputError
from scrimp.usage import Usage

# Where results keep what was really spent. Predictions of a plan and shares that were saved are elsewhere.
SIDES = ("teacher_training", "teacher", "student", "hard")
HOLDERS = ("usage", "bill", "rungs", "report", *SIDES)

# Commands whose results hold a usage; results of others.
MEASURING = ("train", "predict", "distill", "demo", "bill")
WITHOUT_USAGE = [
    f"scrimp.{name}/1" for name in ("evaluate", "quantize", "dequantize", "prune", "bench", "info")
]


def bill(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULT.json…", help="What `--json` of other commands wrote.")
    ],
    prices_file: PricesFile = None,
    json_file: JsonFile = None,
) -> None:
    """Add up what runs used, and price it.

    Every usage in the files counts: of a training run, or of each rung of a demo.

    Example: scrimp bill train.json --prices ours.toml
    """
    from scrimp.cost import Bill, Prices
    from scrimp.cost import bill as price

    check_outputs(json_file, inputs=[*results, prices_file])
    prices = Prices.load(prices_file)
    parts: list[tuple[str, Bill]] = [
        (name, price(usage, prices)) for path in results for name, usage in _usages(read_json(path), path)
    ]
    total = sum((part for _, part in parts[1:]), parts[0][1])
    named = [{"name": name, **part.to_dict()} for name, part in parts]
    write_json(json_file, "bill", total.to_dict() | {"parts": named, "prices": prices.to_dict()})
    if len(parts) > 1:
        console().print(_parts_table(parts))
    console().print(total)


def _usages(document: Any, path: Path) -> list[tuple[str, Usage]]:
    found = list(_find(document, path.stem))
    if not found:
        raise InputError(f"{path}: holds no usage (wall_s, cpu_s, …): {_instead(document)}")
    return found


def _instead(document: Any) -> str:
    """Say what to give in place of a file without a usage."""
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema == "scrimp.plan/1":
        return "a plan foresees and spends nothing; run its command with --json FILE and give that file"
    who = f"the result of `scrimp {schema[7:-2]}`" if schema in WITHOUT_USAGE else "not a result of scrimp"
    return f"{who}; what --json of {', '.join(MEASURING)} wrote has one"


def _find(node: Any, name: str) -> Iterator[tuple[str, Usage]]:
    """Walk a result. A `usage` inside a bill is the usage; its holder is not searched further."""
    if isinstance(node, list):
        for i, item in enumerate(node):
            yield from _find(item, f"{name} {i + 1}")
    elif isinstance(node, dict):
        name = f"{name} {node['name']}" if isinstance(node.get("name"), str) else name
        if "wall_s" in node and "cpu_s" in node:
            yield name, _usage(node)
        elif isinstance(node.get("usage"), dict):
            yield from _find(node["usage"], name)
        else:
            for key in HOLDERS:
                yield from _find(node.get(key), f"{name} {key}" if key in SIDES else name)


def _usage(node: dict[str, Any]) -> Usage:
    known = {f.name for f in fields(Usage)}
    given = {key: value for key, value in node.items() if key in known and value is not None}
    for key, value in given.items():
        if not isinstance(value, int | float) or not 0 <= value <= LARGEST:
            wish = f"a number from 0 to {LARGEST:g}"
            raise InputError(f"usage: {key} must be {wish}, got {reprlib.repr(value)}")
    return Usage(**given)


def _parts_table(parts: list[tuple[str, Any]]) -> Any:
    from rich.table import Table

    from scrimp.cost import format_usd

    table = Table()
    for column in ("", "wall s", "CPU s", "US dollars"):
        table.add_column(column, justify="left" if not column else "right")
    for name, part in parts:
        used = part.usage
        table.add_row(name, f"{used.wall_s:.3g}", f"{used.cpu_s:.3g}", format_usd(part.total_usd))
    return table
