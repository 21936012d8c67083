"""One self-contained HTML page: text, tables, inline SVG. It needs no script, no font and no network."""

from scrimp.report.page import Page
from scrimp.report.svg import Bar, bar_chart

__all__ = ["Bar", "Page", "bar_chart"]
