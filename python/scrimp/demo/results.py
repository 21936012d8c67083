"""What the rungs measured: numbers, JSON, the table. Where a rung is worse than the baseline, it says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scrimp.cost import format_usd
from scrimp.usage import Usage

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.text import Text

SCHEMA = "scrimp.demo/1"
NOISE = 0.05  # seconds and memory closer than this to the baseline count as equal
SCORE_NOISE = {"r2": 0.0005, "accuracy": 0.007}  # accuracy: a standard error of 600 pictures


@dataclass(frozen=True, slots=True)
class RungResult:
    """One rung, trained and measured in a process of its own.

    Attributes
    ----------
    name, adds : str
        The rung, and what it adds to the one below.
    score : float
        R² or accuracy on the held-out rows.
    usage : Usage
        Of the fit alone: starting workers is in it, loading the data is not.
    data_bytes, model_bytes : int
        The training rows as the fit reads them; the saved model.
    usd : float
        The bill of `usage`.
    settings : dict
        Arguments of the estimator.
    extras : dict
        Whatever else is worth telling: iterations, load time, teacher, …
    """

    name: str
    adds: str
    score: float
    usage: Usage
    data_bytes: int
    model_bytes: int
    usd: float
    settings: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)

    def to_dict(self, metric: str) -> dict[str, Any]:
        """Return one entry of `"rungs"` in schema `scrimp.demo/1`."""
        amounts = self.usage.to_dict()
        return {
            "name": self.name,
            metric: self.score,
            **{key: amounts[key] for key in ("wall_s", "cpu_s", "peak_bytes", "wire_bytes", "raw_bytes")},
            "model_bytes": self.model_bytes,
            "data_bytes": self.data_bytes,
            "usd": self.usd,
            **{key: amounts[key] for key in ("header_bytes", "joules", "joules_estimated")},
            "adds": self.adds,
            "settings": self.settings,
            **self.extras,
        }

    @classmethod
    def from_dict(cls, entry: dict[str, Any], metric: str) -> RungResult:
        """Undo `to_dict`."""
        entry = dict(entry)
        spent = ("wall_s", "cpu_s", "peak_bytes", "wire_bytes", "raw_bytes", "header_bytes", "joules")
        usage = Usage(**{key: entry.pop(key) for key in (*spent, "joules_estimated")})
        known = {
            key: entry.pop(key) for key in ("name", "adds", "data_bytes", "model_bytes", "usd", "settings")
        }
        return cls(score=entry.pop(metric), usage=usage, extras=entry, **known)


@dataclass(frozen=True, slots=True)
class Column:
    """One measured quantity of the table.

    Attributes
    ----------
    head : str
    value : callable
        RungResult → number.
    text : callable
        Number → what people read.
    noise : float
        Relative difference that counts as none; absolute for the score.
    higher_is_better : bool
    against : callable, optional
        (rung, baseline) → what the value is judged against, or None. Default: the baseline's value.
    """

    head: str
    value: Callable[[RungResult], float]
    text: Callable[[float], str]
    noise: float = 0.0
    higher_is_better: bool = False
    against: Callable[[RungResult, RungResult], float | None] | None = None

    def tone(self, rung: RungResult, baseline: RungResult) -> str:
        """Judge a cell: reference, better, worse or plain."""
        if rung is baseline:
            return "reference"
        ours = self.value(rung)
        theirs = self.against(rung, baseline) if self.against else self.value(baseline)
        if theirs is None:
            return "plain"
        margin = self.noise if self.higher_is_better else self.noise * abs(theirs)
        if abs(ours - theirs) <= margin:
            return "plain"
        return "better" if (ours > theirs) == self.higher_is_better else "worse"


def columns(metric: str) -> tuple[Column, ...]:
    """Return the columns of the table, the score first."""
    return (
        Column(
            METRICS[metric],
            lambda r: r.score,
            lambda v: f"{v:.4f}",
            SCORE_NOISE[metric],
            higher_is_better=True,
        ),
        Column("seconds", lambda r: r.usage.wall_s, lambda v: f"{v:.2f}", NOISE),
        Column("CPU-s", lambda r: r.usage.cpu_s, lambda v: f"{v:.2f}", NOISE),
        Column("peak memory", lambda r: r.usage.peak_bytes, format_bytes, NOISE),
        Column("wire raw", lambda r: r.usage.raw_bytes, format_bytes, against=lambda r, b: None),
        Column(
            "wire sent", lambda r: r.usage.wire_bytes, format_bytes, against=lambda r, b: r.usage.raw_bytes
        ),
        Column("data", lambda r: r.data_bytes, format_bytes),
        Column("model", lambda r: r.model_bytes, format_bytes, 0.01),
        Column("dollars", lambda r: r.usd, format_usd, NOISE),
    )


METRICS = {"r2": "R²", "accuracy": "accuracy"}


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The whole ladder.

    Attributes
    ----------
    dataset, metric : str
    rows, test_rows, features : int
    rungs : tuple of RungResult
        From `baseline` to `distilled`.
    notes : tuple of str
        What the numbers do not say by themselves.
    facts : dict
        Machine, versions, prices, seconds of preparation, the teacher.
    """

    dataset: str
    metric: str
    rows: int
    test_rows: int
    features: int
    rungs: tuple[RungResult, ...]
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return schema `scrimp.demo/1`."""
        return {
            "schema": SCHEMA,
            "dataset": self.dataset,
            "rows": self.rows,
            "features": self.features,
            "rungs": [rung.to_dict(self.metric) for rung in self.rungs],
            "test_rows": self.test_rows,
            "saved": {rung.name: saved(rung, self.rungs[0]) for rung in self.rungs[1:]},
            "notes": list(self.notes),
            **self.facts,
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> DemoResult:
        """Undo `to_dict`."""
        facts = {key: value for key, value in document.items() if key not in ("schema", "saved")}
        known = {key: facts.pop(key) for key in ("dataset", "rows", "test_rows", "features")}
        rungs, notes = facts.pop("rungs"), facts.pop("notes")
        metric = next(name for name in METRICS if name in rungs[0])
        climbed = tuple(RungResult.from_dict(rung, metric) for rung in rungs)
        return cls(metric=metric, rungs=climbed, notes=tuple(notes), facts=facts, **known)

    @property
    def title(self) -> str:
        """What was trained on what."""
        return f"{self.dataset}: {self.rows:,} rows × {self.features} features, {self.test_rows:,} held out"

    def __str__(self) -> str:
        head = ["", *(column.head for column in columns(self.metric))]
        body = [[rung.name, *(c.text(c.value(rung)) for c in columns(self.metric))] for rung in self.rungs]
        width = [max(len(row[i]) for row in (head, *body)) for i in range(len(head))]
        lines = (
            "  ".join(
                (row[0].ljust(width[0]), *(cell.rjust(w) for cell, w in zip(row[1:], width[1:], strict=True)))
            )
            for row in (head, *body)
        )
        savings = (f"{rung.name}: {saved_text(rung, self.rungs[0], self.metric)}" for rung in self.rungs[1:])
        return "\n".join((self.title, *lines, "", "against the baseline", *savings, "", *self.notes))

    def __rich__(self) -> Group:
        """Return the table in colours, what changed rung by rung, and the notes."""
        from rich.console import Group
        from rich.padding import Padding

        below: list[RenderableType] = [Padding(note, (0, 0, 0, 0)) for note in self.notes]
        return Group(_rich_table(self), "", _rich_changes(self), "", *below)


def saved(rung: RungResult, baseline: RungResult) -> dict[str, float | None]:
    """Return the share of each cost that a rung saved; negative is a cost, None where the baseline has none.

    `wire` is against what fp32 would have sent in the same fit.
    """
    pairs = {
        "wall_s": (rung.usage.wall_s, baseline.usage.wall_s),
        "cpu_s": (rung.usage.cpu_s, baseline.usage.cpu_s),
        "peak_bytes": (rung.usage.peak_bytes, baseline.usage.peak_bytes),
        "wire_bytes": (rung.usage.wire_bytes, rung.usage.raw_bytes),
        "data_bytes": (rung.data_bytes, baseline.data_bytes),
        "model_bytes": (rung.model_bytes, baseline.model_bytes),
        "usd": (rung.usd, baseline.usd),
    }
    return {name: 1.0 - ours / theirs if theirs else None for name, (ours, theirs) in pairs.items()}


WORDS = {
    "wall_s": "time",
    "cpu_s": "CPU",
    "peak_bytes": "memory",
    "wire_bytes": "wire",
    "data_bytes": "data",
    "model_bytes": "model",
    "usd": "dollars",
}


def saved_text(rung: RungResult, baseline: RungResult, metric: str) -> str:
    """Say in one line what a rung saved and what it cost; changes below a percent stay out."""
    parts = []
    for name, share in saved(rung, baseline).items():
        if share is not None and abs(share) >= 0.01:
            parts.append(f"{WORDS[name]} {factor_text(1.0 - share)}")
    difference = rung.score - baseline.score
    changed = "±0" if abs(difference) < 0.00005 else f"{'+' if difference > 0 else '−'}{abs(difference):.4f}"
    return ", ".join((f"{METRICS[metric]} {changed}", *parts))


def factor_text(factor: float) -> str:
    """Write a factor the way people say it.

    Examples
    --------
    >>> factor_text(0.25), factor_text(0.9), factor_text(1.3), factor_text(3.0)
    ('÷4.0', '−10 %', '+30 %', '×3.0')
    """
    if factor <= 0:
        return "−100 %"
    if factor <= 0.5:
        return f"÷{1 / factor:.1f}"
    if factor >= 2:
        return f"×{factor:.1f}"
    return f"{'−' if factor < 1 else '+'}{abs(factor - 1) * 100:.0f} %"


def format_bytes(n: float) -> str:
    """Write a number of bytes with a decimal unit.

    Examples
    --------
    >>> format_bytes(0), format_bytes(999), format_bytes(53_400), format_bytes(536_000_000)
    ('0', '999 B', '53.4 kB', '536 MB')
    """
    if n == 0:
        return "0"
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= 0.9995 * size:
            return f"{n / size:.3g} {unit}" if n < 999.5 * size else f"{n / size:.0f} {unit}"
    return f"{n:.0f} B"


TONES = {"reference": "dim", "better": "green", "worse": "red", "plain": ""}


def _rich_table(result: DemoResult) -> RenderableType:
    from rich import box
    from rich.table import Table

    table = Table(
        title=result.title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("", no_wrap=True)
    shown = columns(result.metric)
    for column in shown:
        table.add_column(column.head.replace(" ", "\n"), justify="right", no_wrap=True)
    for rung in result.rungs:
        cells = (
            _painted(column.text(column.value(rung)), column.tone(rung, result.rungs[0])) for column in shown
        )
        table.add_row(rung.name, *cells)
    return table


def _rich_changes(result: DemoResult) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("against the baseline", no_wrap=True)
    table.add_column("")
    for rung in result.rungs[1:]:
        table.add_row(rung.name, saved_text(rung, result.rungs[0], result.metric))
    return table


def _painted(text: str, tone: str) -> Text:
    from rich.text import Text

    return Text(text, style=TONES[tone])
