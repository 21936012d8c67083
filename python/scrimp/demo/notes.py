"""What the numbers of a ladder do not say by themselves. Most appear only where they apply."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from scrimp.cost import format_usd
from scrimp.demo.results import METRICS, RungResult, format_bytes


def notes(rungs: Sequence[RungResult], facts: dict[str, Any], metric: str) -> Iterator[str]:
    """Say where a rung does not pay on this machine, what is not in the table, and what the teacher took."""
    by_name = {rung.name: rung for rung in rungs}
    base, sharded, packed = (by_name[name] for name in ("baseline", "sharded", "compressed"))
    if sharded.usage.wall_s >= base.usage.wall_s:
        yield (
            "Sharding does not pay on one machine whose cores the baseline already uses: it is for the "
            f"memory and cores of a second. Its {sharded.usage.wall_s:.1f} s hold the start of the workers."
        )
    if packed.usage.wall_s >= sharded.usage.wall_s:
        yield (
            "Compression costs CPU here and saves bytes that shared memory gives away; it pays on a network "
            f"({format_bytes(packed.usage.wire_bytes)} instead of {format_bytes(packed.usage.raw_bytes)})."
        )
    quantizing = f", {facts['quantize_s']:.1f} s of it on quantizing rows" if "quantize_s" in facts else ""
    spent = facts["prepare_s"] + facts.get("quantize_s", 0.0)
    yield f"Before the first rung {spent:.1f} s went into preparing the data{quantizing}."
    if "random_split" in facts:
        yield facts["random_split"]
    yield from _about_distillation(by_name["distilled"], by_name["quantized-model"], METRICS[metric])


def _about_distillation(distilled: RungResult, hard: RungResult, metric: str) -> Iterator[str]:
    report = distilled.extras["distillation"]
    training = report["teacher"]["training"]
    yield (
        f"Teacher: {metric} {_side(report['teacher'])}. Student: {metric} {_side(report['student'])}, "
        f"features included; fidelity to the teacher {report['fidelity']:.4f}. Training the teacher took "
        f"{training['usage']['wall_s']:.1f} s and {format_usd(training['total_usd'])} more."
    )
    if distilled.score < hard.score:
        yield (
            f"With all labels at hand distillation does not help the score ({distilled.score:.4f} against "
            f"{hard.score:.4f}): it is for rows without labels, which a teacher can label."
        )


def _side(side: dict[str, Any]) -> str:
    return (
        f"{side['score']:.4f}, {format_bytes(side['nbytes'])}, {_micro(side['us_single'])} for one row alone "
        f"and {_micro(side['us_per_row'])} each in a batch"
    )


def _micro(us: float) -> str:
    return f"{us:.2g} µs" if us < 10 else f"{us:,.0f} µs"
