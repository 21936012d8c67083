"""`scrimp report`: results of other commands as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrimp.cli.options import Out
from scrimp.cli.outcome import check_outputs, console, format_bytes, read_json
from scrimp.errors import InputError

if TYPE_CHECKING:
    from scrimp.report import Page


def report(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULT.json…", help="What `--json` of other commands wrote.")
    ],
    out: Out = Path("scrimp-report.html"),
) -> None:
    """Put results of other commands on one HTML page: facts, bills, tensors, the ladder of a demo.

    Example: scrimp report train.json quantize.json --out report.html
    """
    from scrimp.report import Page

    check_outputs(out, inputs=results)
    documents = [(path, read_result(path)) for path in results]
    if len(documents) == 1 and documents[0][1]["schema"] == "scrimp.demo/1":
        with _reading(documents[0][0]):
            page = _demo_page(documents[0][1])
    else:
        page = Page("scrimp report", f"{len(documents)} results, as they were measured.")
        for path, document in documents:
            with _reading(path):
                _section(page, path, document)
    page.save(out)
    console().print(f"page: {out}")


def read_result(path: Path) -> dict[str, Any]:
    """Read what `--json` of a command wrote; InputError if it is something else."""
    document = read_json(path)
    schema = document.get("schema") if isinstance(document, dict) else None
    if not (isinstance(schema, str) and schema.startswith("scrimp.")):
        raise InputError(f"{path}: not a result of scrimp: its schema is {schema!r}")
    return dict(document)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever a result lacks, or holds in place of what commands write, is bad input."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, StopIteration) as error:
        raise InputError(f"{path}: a damaged result: {error!r}") from error


def _demo_page(document: dict[str, Any]) -> Page:
    from scrimp.demo.page import demo_page
    from scrimp.demo.results import DemoResult

    return demo_page(DemoResult.from_dict(document))


def _section(page: Page, path: Path, document: dict[str, Any]) -> None:
    page.heading(f"{document['schema'].removeprefix('scrimp.').partition('/')[0]}: {path}")
    facts = {key: value for key, value in document.items() if isinstance(value, str | int | float)}
    _words(page, "", ((key, _text(key, value)) for key, value in facts.items() if key != "schema"))
    bill = document if "lines" in document else document.get("bill")
    if isinstance(bill, dict) and bill.get("lines"):
        lines = [
            (b["name"], f"{b['quantity']:.4g} {b['unit']}", _text("usd", b["usd"])) for b in bill["lines"]
        ]
        total = ("total", "", _text("usd", bill["total_usd"]))
        _table(page, ("bill", "used", "US dollars"), [*lines, total])
        page.paragraph("Prices: " + "; ".join(map(str, bill.get("priced_by", []))))
    for key in ("reasons", "report"):
        if isinstance(document.get(key), dict):
            plain = ((k, str(v)) for k, v in document[key].items() if not isinstance(v, dict | list))
            _words(page, key, plain)
    for key in ("rungs", "tensors", "parts", "options"):
        if document.get(key) and isinstance(document[key], list):
            _records(page, key, document[key])


def _records(page: Page, name: str, records: list[dict[str, Any]]) -> None:
    """Show a list of dicts as a table of their plain values."""
    keys = [key for key, value in records[0].items() if not isinstance(value, dict | list) or key == "shape"]
    rows = ([_text(key, record.get(key, "")) for key in keys] for record in records)
    _table(page, (name, *keys[1:]) if keys[0] == "name" else keys, rows)


def _words(page: Page, name: str, rows: Iterable[tuple[str, str]]) -> None:
    """Show names with values that may be sentences: at the left, as many lines as they need."""
    from scrimp.report.page import Cell

    page.table([Cell(name), Cell("", "text")], [[Cell(key), Cell(text, "text")] for key, text in rows])


def _table(page: Page, head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    from scrimp.report.page import Cell

    page.table([Cell(text) for text in head], [[Cell(text) for text in row] for row in rows])


def _text(key: str, value: Any) -> str:
    from scrimp.cost import format_usd

    if key == "shape":
        return "×".join(map(str, value)) or "scalar"
    if "bytes" in key and isinstance(value, int | float):
        return format_bytes(value)
    if key in ("usd", "total_usd"):
        return format_usd(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
