"""The list of commands. A command's file imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

from typing import Annotated

import typer

import scrimp
from scrimp.cli import bench, bill, demo, distill, info, plan, predict, prune, recode, report, train
from scrimp.cli.launched import meet
from scrimp.cli.outcome import ending, reporting

app = typer.Typer(
    name="scrimp",
    help="Train and serve models for less, and see what each lever bought.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"scrimp {scrimp.__version__}")
        raise typer.Exit


@app.callback()
@reporting
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Train and serve models for less, and see what each lever bought."""
    if context.invoked_subcommand == "train":
        meet()


for _command in (
    demo.demo,
    train.train,
    predict.predict,
    predict.evaluate,
    recode.quantize,
    recode.dequantize,
    distill.distill,
    prune.prune,
    plan.plan,
    bill.bill,
    report.report,
    bench.bench,
    info.info,
):
    _text, _, _example = (_command.__doc__ or "").partition("Example:")
    app.command(help=_text.strip(), epilog=f"Example: {' '.join(_example.split())}")(reporting(_command))


def main() -> None:
    """Run the command line with the arguments of this process, and end it with the exit code."""
    with ending():
        app()
