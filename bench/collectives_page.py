"""A report of the suite collectives as tables in Markdown."""

from __future__ import annotations

from linear_page import target_lines

OURS = ["fp32", "fp32-no-undo", "comm.empty", "int8", "int4", "int4+ef14", "rot2"]


def document(report: dict) -> str:
    peers = ", ".join(f"{name.removeprefix('collectives_')} {text}" for name, text in report["peers"].items())
    rows = report["rows"]
    return "\n\n".join(
        [
            f"Machine: {report['machine']}; ISA {report['isa']}; commit {report['commit']}; median of up to "
            f"{report['rounds']} rounds, one thread a rank. {peers}.",
            "### Targets of collectives\n\n" + "\n".join(target_lines(rows)),
            "### All-reduce of fp32 in place, ms\n\n" + "\n".join(time_lines(rows)),
        ]
    )


def time_lines(rows: list[dict]) -> list[str]:
    """One line a case: our variants, then the peers."""
    peers = list(dict.fromkeys(row["peer_name"] for row in rows))
    names = [f"**{name}**" for name in OURS] + peers
    lines = [f"| case | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for case in dict.fromkeys(row["case"].rpartition(" ")[0] for row in rows):
        same = [row for row in rows if row["case"].rpartition(" ")[0] == case]
        ours = {row["case"].rpartition(" ")[2]: row["ours"] for row in same}
        theirs = {row["peer_name"]: row["peer"] for row in same}
        cells = [shown(ours.get(name)) for name in OURS] + [shown(theirs.get(name)) for name in peers]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return lines


def shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
