"""Horizontal bars as inline SVG. Colours come from the page's style, so that it can be read in the dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

LABEL_WIDTH = 118
BAR_WIDTH = 230
TEXT_WIDTH = 92
ROW_HEIGHT = 24
BAR_HEIGHT = 14
TITLE_HEIGHT = 46


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Parameters
    ----------
    label : str
        Left of it.
    value : float
        Its length, at least 0.
    text : str
        Right of it: the value for people.
    tone : str
        `"reference"`, `"better"`, `"worse"` or `"plain"`: its colour.
    """

    label: str
    value: float
    text: str
    tone: str = "plain"


def bar_chart(title: str, bars: Sequence[Bar], *, caption: str = "", start: float = 0.0) -> str:
    """Draw bars below each other.

    Parameters
    ----------
    title, caption : str
        Two lines above; say in the caption what is good.
    bars : sequence of Bar
    start : float
        Value at the left edge. Anything but 0 exaggerates differences, so the chart says it.

    Returns
    -------
    str
        An `<svg>` element.

    Examples
    --------
    >>> bar_chart("time", [Bar("a", 2.0, "2 s"), Bar("b", 1.0, "1 s")]).count("<rect")
    2
    """
    largest = max((bar.value - start for bar in bars), default=0.0)
    height = TITLE_HEIGHT + ROW_HEIGHT * len(bars) + 4
    width = LABEL_WIDTH + BAR_WIDTH + TEXT_WIDTH
    note = caption if start == 0 else f"{caption} (axis begins at {start:g})".strip()
    head = (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f'<text x="0" y="16" class="title">{escape(title)}</text>'
        f'<text x="0" y="34" class="caption">{escape(note)}</text>'
    )
    rows = (
        _row(bar, i, max(bar.value - start, 0.0) / largest if largest else 0.0) for i, bar in enumerate(bars)
    )
    return head + "".join(rows) + "</svg>"


def _row(bar: Bar, index: int, share: float) -> str:
    top = TITLE_HEIGHT + ROW_HEIGHT * index
    middle = top + BAR_HEIGHT / 2 + 4
    length = round(share * BAR_WIDTH, 1) if share == 0 else max(round(share * BAR_WIDTH, 1), 1.5)
    return (
        f'<text x="{LABEL_WIDTH - 8}" y="{middle:g}" class="label">{escape(bar.label)}</text>'
        f'<rect x="{LABEL_WIDTH}" y="{top}" width="{length:g}" height="{BAR_HEIGHT}" rx="2" '
        f'class="{escape(bar.tone)}"/>'
        f'<text x="{LABEL_WIDTH + length + 6:g}" y="{middle:g}" class="value">{escape(bar.text)}</text>'
    )
