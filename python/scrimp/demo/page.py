"""The ladder as a page: the table, a chart a quantity, the teacher beside its student, the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from scrimp.cost import format_usd
from scrimp.demo.results import METRICS, Column, DemoResult, columns, format_bytes, saved_text
from scrimp.report import Bar, Page, bar_chart
from scrimp.report.page import Cell

LEAD = (
    "Each rung adds one lever of saving to the one below it. Every rung was trained and measured "
    "in a process of its own; green is better than the baseline, red is worse."
)
CHARTED = ("seconds", "CPU-s", "peak memory", "wire sent", "data", "model", "dollars")


def demo_page(result: DemoResult) -> Page:
    """Lay out a result."""
    page = Page("scrimp demo: what each lever bought", f"{result.title}. {LEAD}")
    page.heading("The ladder")
    page.table(*_ladder_table(result))
    page.heading("What each rung adds, and what changed against the baseline")
    page.table(*_change_table(result))
    page.heading("Rung by rung")
    page.charts(
        [_score_chart(result), *(_chart(result, c) for c in columns(result.metric) if c.head in CHARTED)]
    )
    for rung in result.rungs:
        if "distillation" in rung.extras:
            page.heading("Teacher and student")
            page.table(*_distillation_table(rung.extras["distillation"], result.metric))
    page.heading("Read this with the numbers")
    for note in result.notes:
        page.paragraph(note)
    page.footer = _footer(result)
    return page


def _ladder_table(result: DemoResult) -> tuple[list[Cell], list[list[Cell]]]:
    shown = columns(result.metric)
    head = [Cell("rung"), *(Cell(c.head) for c in shown)]
    baseline = result.rungs[0]
    rows = [
        [Cell(rung.name), *(Cell(c.text(c.value(rung)), c.tone(rung, baseline)) for c in shown)]
        for rung in result.rungs
    ]
    return head, rows


def _change_table(result: DemoResult) -> tuple[list[Cell], list[list[Cell]]]:
    head = [Cell("rung"), Cell("adds", "text"), Cell("against the baseline", "text")]
    baseline, *others = result.rungs
    rows = [[Cell(baseline.name), Cell(baseline.adds, "text"), Cell("", "text")]]
    for rung in others:
        changed = saved_text(rung, baseline, result.metric)
        rows.append([Cell(rung.name), Cell(rung.adds, "text"), Cell(changed, "text")])
    return head, rows


def _chart(result: DemoResult, column: Column) -> str:
    baseline = result.rungs[0]
    bars = [
        Bar(rung.name, column.value(rung), column.text(column.value(rung)), column.tone(rung, baseline))
        for rung in result.rungs
    ]
    return bar_chart(column.head, bars, caption="less is better")


def _score_chart(result: DemoResult) -> str:
    column = columns(result.metric)[0]
    scores = [rung.score for rung in result.rungs]
    spread = max(max(scores) - min(scores), 0.005)
    start = max(0.0, round(min(scores) - spread, 2))
    baseline = result.rungs[0]
    bars = [Bar(r.name, r.score, column.text(r.score), column.tone(r, baseline)) for r in result.rungs]
    return bar_chart(
        f"{METRICS[result.metric]} on held-out rows", bars, caption="more is better", start=start
    )


def _distillation_table(report: dict[str, Any], metric: str) -> tuple[list[Cell], list[list[Cell]]]:
    head = [
        Cell(text)
        for text in ("", METRICS[metric], "size", "µs a row, in batches", "µs for one row", "dollars")
    ]
    rows = [[Cell(name), *_side_cells(report[name])] for name in ("teacher", "student")]
    return head, rows


def _side_cells(side: dict[str, Any]) -> Iterator[Cell]:
    forms: dict[str, Callable[[float], str]] = {
        "score": lambda v: f"{v:.4f}",
        "nbytes": format_bytes,
        "us_per_row": lambda v: f"{v:.3g}",
        "us_single": lambda v: f"{v:.0f}",
    }
    for key, form in forms.items():
        yield Cell("–" if side[key] is None else form(side[key]))
    training = side.get("training", side["bill"])
    yield Cell(format_usd(training["total_usd"]) + " to train")


def _footer(result: DemoResult) -> str:
    machine = result.facts.get("machine", {})
    about = ", ".join(f"{key} {value}" for key, value in machine.items())
    total = result.facts.get("total_s")
    took = "" if total is None else f" The whole demo took {total:.0f} s."
    return f"Measured on: {about}. Prices: {result.facts.get('prices', '')}.{took} Made by `scrimp demo`."
