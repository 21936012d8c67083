"""A report of the suite predict as tables in Markdown."""

from __future__ import annotations

from linear_page import target_lines

VARIANT = "int8-rows"


def document(report: dict) -> str:
    peers = ", ".join(f"{name.removeprefix('predict_')} {text}" for name, text in report["peers"].items())
    parts = [
        f"Machine: {report['machine']}; ISA {report['isa']}; commit {report['commit']}; median of up to "
        f"{report['rounds']} rounds. {peers}.",
        "### Targets of predictions\n\n" + "\n".join(target_lines(report["rows"])),
        "### Products\n\n" + "\n".join(product_lines(report["rows"])),
    ]
    return "\n\n".join(parts)


def times(rows: list[dict]) -> dict[tuple[str, str], dict]:
    """Return {(case, who): {1: ms, 2: ms, "error": …}}, scrimp's variants before the peers."""
    found: dict[tuple[str, str], dict] = {}
    for row in rows:
        case = row["case"].removesuffix(f" {VARIANT}")
        who = "**scrimp**, int8 rows" if row["case"] != case else "**scrimp**"
        entry = found.setdefault((case, who), {"error": row.get("ours_rel_error")})
        entry[row["threads"]] = row["ours"]
    for row in rows:
        if row["suite"] == "predict" and row["peer"]:
            case = row["case"].removesuffix(f" {VARIANT}")
            entry = found.setdefault((case, row["peer_name"]), {"error": row.get("rel_error")})
            entry[row["threads"]] = row["peer"]
    return found


def product_lines(rows: list[dict]) -> list[str]:
    lines = ["| weights | who | ms, 1 thread | ms, 2 threads | relative error |", "|---|---|---|---|---|"]
    found = times([row for row in rows if row["suite"] == "predict"])
    for case in dict.fromkeys(case for case, _ in found):
        for k, (who, entry) in enumerate((w, e) for (c, w), e in found.items() if c == case):
            figures = " | ".join(
                "–" if value is None else f"{value:.3g}" for value in (entry.get(1), entry.get(2))
            )
            error = "–" if entry["error"] is None else f"{entry['error']:.1e}"
            lines.append(f"| {'' if k else case} | {who} | {figures} | {error} |")
    return lines
