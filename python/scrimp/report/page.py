"""The page around text, tables and charts, and writing it in one piece."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from scrimp.atomic import replacing

STYLE = """
:root { --ink: #1b1f24; --soft: #5c6670; --line: #d9dee3; --paper: #fff; --card: #f6f8fa;
        --reference: #8b949e; --plain: #4c78b5; --better: #2f8f5b; --worse: #c8553d; }
@media (prefers-color-scheme: dark) { :root {
        --ink: #e6e9ec; --soft: #9aa4ae; --line: #333a42; --paper: #14181c; --card: #1c2126;
        --reference: #7d8790; --plain: #6f9bd8; --better: #4fb57d; --worse: #e0755d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 1180px;
       color: var(--ink); background: var(--paper);
       font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .7rem; }
p { margin: .4rem 0; max-width: 75ch; } .lead { color: var(--soft); font-size: 1.05rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .38rem .6rem; text-align: right; white-space: nowrap;
         border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child, th.text, td.text { text-align: left; }
td.text { white-space: normal; min-width: 14rem; }
td.better { color: var(--better); } td.worse { color: var(--worse); } td.reference { color: var(--soft); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(330px, 1fr)); gap: 1rem; }
.charts > div { background: var(--card); border-radius: 8px; padding: .9rem 1rem .6rem; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--ink); font-size: 12.5px; }
svg .title { font-size: 14px; font-weight: 600; } svg .caption { fill: var(--soft); font-size: 11.5px; }
svg .label { text-anchor: end; } svg .value { fill: var(--soft); }
rect.reference { fill: var(--reference); } rect.plain { fill: var(--plain); }
rect.better { fill: var(--better); } rect.worse { fill: var(--worse); }
code, pre { font: .86rem/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
pre { background: var(--card); padding: .8rem 1rem; border-radius: 8px; overflow-x: auto; }
footer { margin-top: 2.5rem; color: var(--soft); font-size: .85rem; }
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table; `tone` as in `scrimp.report.svg.Bar`, or `"text"` for a wide cell of words."""

    text: str
    tone: str = ""


@dataclass(slots=True)
class Page:
    """A page that grows downwards.

    Examples
    --------
    >>> page = Page("Bill & receipts")
    >>> page.paragraph("All of it.")
    >>> "<h1>Bill &amp; receipts</h1>" in page.html()
    True
    """

    title: str
    lead: str = ""
    parts: list[str] = field(default_factory=list)
    footer: str = ""

    def heading(self, text: str) -> None:
        """Begin a section."""
        self.parts.append(f"<h2>{escape(text)}</h2>")

    def paragraph(self, text: str) -> None:
        """Add plain text."""
        self.parts.append(f"<p>{escape(text)}</p>")

    def table(self, head: Sequence[Cell], rows: Sequence[Sequence[Cell]]) -> None:
        """Add a table; the first column is names."""
        lines = "".join(f"<tr>{''.join(_cell('td', cell) for cell in row)}</tr>" for row in rows)
        top = "".join(_cell("th", cell) for cell in head)
        body = f"<thead><tr>{top}</tr></thead><tbody>{lines}</tbody>"
        self.parts.append(f'<div class="scroll"><table>{body}</table></div>')

    def charts(self, svgs: Sequence[str]) -> None:
        """Add charts side by side, as many as fit."""
        self.parts.append('<div class="charts">' + "".join(f"<div>{svg}</div>" for svg in svgs) + "</div>")

    def html(self) -> str:
        """Return the whole document."""
        lead = f'<p class="lead">{escape(self.lead)}</p>' if self.lead else ""
        footer = f"<footer>{escape(self.footer)}</footer>" if self.footer else ""
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.title)}</title><style>{STYLE}</style></head>\n"
            f"<body><h1>{escape(self.title)}</h1>{lead}\n"
            + "\n".join(self.parts)
            + f"\n{footer}</body></html>\n"
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the document, all of it or nothing; OutputError if it cannot be put there."""
        with replacing(Path(path)) as file:
            file.write(self.html().encode(errors="xmlcharrefreplace"))


def _cell(tag: str, cell: Cell) -> str:
    tone = f' class="{escape(cell.tone)}"' if cell.tone else ""
    return f"<{tag}{tone}>{escape(cell.text)}</{tag}>"
