"""`scrimp demo`: every lever on real data, one rung at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scrimp.cli.options import JsonFile
from scrimp.cli.outcome import check_outputs, console


def demo(
    dataset: Annotated[str, typer.Argument(metavar="[flights|digits]", help="Which data.")] = "flights",
    html: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the page.")] = Path(
        "scrimp-demo.html"
    ),
    max_rows: Annotated[
        int | None, typer.Option(metavar="N", min=1000, help="Fewer rows, to look around quickly.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Train the ladder baseline → … → distilled on real data; measure what each lever buys.

    Example: scrimp demo --json demo.json
    """
    from scrimp.demo import run_demo

    check_outputs(html, json_file)
    result = run_demo(dataset, json_file, html, quiet, max_rows=max_rows)
    console().print(result)
    console().print(f"page: {html}")
