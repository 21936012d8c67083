"""`scrimp demo`: the ladder on real data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scrimp.cli.options import JsonFile
from scrimp.cli.outcome import console


def demo(
    dataset: Annotated[str, typer.Argument(metavar="[flights]")] = "flights",
    html_file: Annotated[
        Path, typer.Option("--html", metavar="FILE", help="Where to write the page.")
    ] = Path("scrimp-demo.html"),
    rows: Annotated[
        int | None, typer.Option(min=1000, help="Use only so many rows, to look around.", show_default=False)
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Train on real data, one lever of saving a rung, and show what each rung cost, gave and saved.

    Example: scrimp demo --json demo.json
    """
    from scrimp.demo import run_demo

    result = run_demo(dataset, json_path=json_file, html_path=html_file, max_rows=rows)
    console().print(result)
    console().print(f"the same with charts: {html_file}")
