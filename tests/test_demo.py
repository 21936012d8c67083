"""The demo: what its table, JSON and page say about given measurements, and a small real climb."""

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from scrimp.demo.notes import notes
from scrimp.demo.page import demo_page
from scrimp.demo.results import DemoResult, RungResult, columns, saved
from scrimp.demo.rungs import Rung, settings_up_to
from scrimp.report import Bar, Page, bar_chart
from scrimp.report.page import Cell
from scrimp.usage import Usage

NAMES = ["baseline", "sharded", "compressed", "quantized-data", "quantized-model", "distilled"]
LADDER = (
    Rung("baseline", "float32"),
    Rung("sharded", "2 workers", {"workers": 2}),
    Rung("compressed", "int4", {"compress": "int4"}),
    Rung("quantized-data", "int8 rows", rows_in_int8=True),
    Rung("quantized-model", "int8 model", {"weight_bits": 8}, rows_in_int8=True),
    Rung("distilled", "no labels", rows_in_int8=True, soft_targets=True),
)
KEYS = {
    *("name", "r2", "wall_s", "cpu_s", "peak_bytes", "wire_bytes", "raw_bytes"),
    *("model_bytes", "data_bytes", "usd"),
}


def side(score, nbytes):
    bill = {"total_usd": 1e-5, "usage": {"wall_s": 6.0}}
    return {
        "score": score,
        "nbytes": nbytes,
        "us_per_row": 2.2,
        "us_single": 900.0,
        "bill": bill,
        "training": bill,
    }


@pytest.fixture
def result():
    """Made-up measurements in which sharding is slower, int8 rows are quicker and distillation is worse."""
    usages = [
        Usage(wall_s=3.0, cpu_s=6.0, peak_bytes=700_000_000),
        Usage(wall_s=3.5, cpu_s=6.9, peak_bytes=1_000_000_000, wire_bytes=2_000_000, raw_bytes=2_000_000),
        Usage(wall_s=3.6, cpu_s=7.0, peak_bytes=1_000_000_000, wire_bytes=270_000, raw_bytes=2_000_000),
        *[Usage(wall_s=1.5, cpu_s=3.0, peak_bytes=400_000_000, wire_bytes=270_000, raw_bytes=2_000_000)] * 3,
    ]
    report = {"teacher": side(0.88, 13_000_000), "student": side(0.866, 900), "fidelity": 0.97}
    rungs = tuple(
        RungResult(
            name=rung.name,
            adds=rung.adds,
            score=score,
            usage=usage,
            data_bytes=135_000_000 if rung.rows_in_int8 else 536_000_000,
            model_bytes=900 if "model" in rung.name or rung.soft_targets else 2_400,
            usd=usage.wall_s * 1e-5,
            settings=settings_up_to(LADDER, rung.name),
            extras={"distillation": report} if rung.soft_targets else {"n_iter": 7},
        )
        for rung, score, usage in zip(
            LADDER, [0.8692, 0.8692, 0.8690, 0.8689, 0.8680, 0.8660], usages, strict=True
        )
    )
    facts = {"quantize_s": 1.0, "prepare_s": 3.0, "machine": {"cpu": "A & B", "cores": 2}, "prices": "list"}
    return DemoResult("flights", "r2", 327_346, 65_469, 512, rungs, tuple(notes(rungs, facts, "r2")), facts)


def test_json_has_the_agreed_names_and_survives_a_round_trip(result):
    told = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert told["schema"] == "scrimp.demo/1"
    assert (told["dataset"], told["rows"], told["features"]) == ("flights", 327_346, 512)
    assert [rung["name"] for rung in told["rungs"]] == NAMES
    assert all(rung.keys() >= KEYS for rung in told["rungs"])
    assert tuple(RungResult.from_dict(rung, "r2") for rung in told["rungs"]) == result.rungs


def test_a_rung_keeps_the_settings_of_those_below_it():
    assert settings_up_to(LADDER, "distilled") == {"workers": 2, "compress": "int4", "weight_bits": 8}
    assert settings_up_to(LADDER, "sharded") == {"workers": 2}
    with pytest.raises(ValueError, match="unknown rung 'x'"):
        settings_up_to(LADDER, "x")


def test_the_table_shows_where_a_rung_is_worse(result):
    column = {c.head: c for c in columns("r2")}
    base, sharded, compressed, int8_rows, *_, distilled = result.rungs
    assert column["seconds"].tone(sharded, base) == "worse"
    assert column["seconds"].tone(int8_rows, base) == "better"
    assert column["R²"].tone(distilled, base) == "worse"
    assert column["R²"].tone(compressed, base) == "plain"
    assert column["wire sent"].tone(compressed, base) == "better"
    assert column["wire sent"].tone(sharded, base) == "plain"
    assert column["data"].tone(base, base) == "reference"
    close = replace(sharded, usage=replace(sharded.usage, wall_s=3.1))
    assert column["seconds"].tone(close, base) == "plain"


def test_savings_are_shares_of_the_baseline_and_of_what_the_wire_would_have_carried(result):
    base, sharded, compressed, int8_rows, *_ = result.rungs
    assert saved(int8_rows, base)["wall_s"] == pytest.approx(0.5)
    assert saved(sharded, base)["wall_s"] == pytest.approx(-1 / 6)
    assert saved(compressed, base)["wire_bytes"] == pytest.approx(1 - 0.135)
    assert saved(base, base)["wire_bytes"] is None


def test_notes_name_what_does_not_pay(result):
    text = str(result)
    assert "Sharding does not pay" in text
    assert "distillation does not help the score (0.8660 against 0.8680)" in text
    quick = replace(result.rungs[1], usage=replace(result.rungs[1].usage, wall_s=1.0))
    told = " ".join(notes((result.rungs[0], quick, *result.rungs[2:]), result.facts, "r2"))
    assert "Sharding does not pay" not in told


def test_text_and_colour_tables_hold_every_rung(result):
    from rich.console import Console

    consoles = [Console(width=99, file=io.StringIO(), record=True, markup=m) for m in (True, False)]
    for console in consoles:
        console.print(result)
    for text in (str(result), *(console.export_text() for console in consoles)):
        assert "[dim]" not in text
        assert [name for name in NAMES if name in text] == NAMES
        assert "0.8692" in text
        assert "536 MB" in text


class Strict(HTMLParser):
    """Checks that tags close in order and nothing is fetched."""

    VOID = ("meta", "rect", "!doctype")

    def __init__(self):
        super().__init__()
        self.open, self.texts = [], []

    def handle_starttag(self, tag, attrs):
        names = dict(attrs)
        assert not names.keys() & {"src", "href", "onload"}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in self.VOID

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_is_one_well_formed_file_that_fetches_nothing(result, tmp_path):
    path = tmp_path / "demo.html"
    demo_page(result).save(path)
    html = path.read_text(encoding="utf-8")
    parser = Strict()
    parser.feed(html)
    assert parser.open == []
    assert not re.search(r"https?://|@import|url\(|<script", html)
    assert {*NAMES} <= set(parser.texts)
    assert "A &amp; B" in html
    assert list(tmp_path.iterdir()) == [path]


def test_text_from_outside_is_escaped():
    page = Page("<b>", lead="a < b", footer="&")
    page.paragraph("<script>")
    page.table([Cell("<i>")], [[Cell("<u>", "text")]])
    page.charts([bar_chart("<t>", [Bar("<l>", 1.0, "<v>")], caption="<c>")])
    assert not re.search(r"<(script|b|i|u|t|l|v|c)>", page.html())


def test_bars_are_as_long_as_their_values_say():
    svg = bar_chart("x", [Bar("a", 2.0, ""), Bar("b", 1.0, ""), Bar("c", 0.0, "")])
    lengths = [float(n) for n in re.findall(r'<rect [^>]*width="([\d.]+)"', svg)]
    assert lengths[0] == 2 * lengths[1] > 0 == lengths[2]
    assert "axis begins at 0.5" in bar_chart("x", [Bar("a", 2.0, "")], start=0.5)
