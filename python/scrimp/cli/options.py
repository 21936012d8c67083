"""Options that several commands share, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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
