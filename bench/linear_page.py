"""A report of the suites gradient, gram and fit as tables in Markdown."""

from __future__ import annotations

from targets import outcomes

FIGURES = {
    "first": "first call, s",
    "extra_mb": "extra MB",
    "coef_error": "coefficient error",
    "r2": "R²",
    "log_loss": "log-loss",
}


def document(report: dict) -> str:
    peers = ", ".join(f"{name.removeprefix('linear_')} {text}" for name, text in report["peers"].items())
    rows = report["rows"]
    parts = [
        f"Machine: {report['machine']}; ISA {report['isa']}; commit {report['commit']}; median of up to "
        f"{report['rounds']} rounds, two threads. {peers}.",
        "### Targets of linear models\n\n" + "\n".join(target_lines(rows)),
        "### Gradients and Gram matrices\n\n" + "\n".join(speed_lines(rows)),
        "### Fits\n\n" + "\n".join(fit_lines(rows)),
    ]
    return "\n\n".join(parts)


def target_lines(rows: list[dict]) -> list[str]:
    lines = ["| case | figure | value | target |", "|---|---|---|---|"]
    for target, case, value in outcomes(rows):
        met = "–" if value is None else "met" if target.met(value) else "**missed**"
        shown = "–" if value is None else f"{value:.3g}"
        lines.append(f"| {case} | {target.what} | {shown} | {target.promise()}, {met} |")
    return lines


def speed_lines(rows: list[dict]) -> list[str]:
    lines = ["| case | scrimp, ms | of the limit | peers, ms |", "|---|---|---|---|"]
    mine = [row for row in rows if row["suite"] != "fit" and row["ours"]]
    for case in dict.fromkeys(row["case"] for row in mine):
        same = [row for row in mine if row["case"] == case and row["peer"]]
        limit = f"{same[0]['of_limit']:.0%}" if same and same[0]["of_limit"] else ""
        shown = ", ".join(f"{row['peer_name']} {row['peer']:.3g} (×{row['ratio']:.2g})" for row in same)
        lines.append(f"| {case} | {same[0]['ours']:.3g} | {limit} | {shown} |")
    return lines


def fit_lines(rows: list[dict]) -> list[str]:
    head = f"| case | who | warm, s | {' | '.join(FIGURES.values())} |"
    lines = [head, "|---|---|---|" + "---|" * len(FIGURES)]
    mine = [row for row in rows if row["suite"] == "fit"]
    for case in dict.fromkeys(row["case"] for row in mine):
        same = [row for row in mine if row["case"] == case]
        lines.append(fit_line(case, "**scrimp**", same[0]["ours"], same[0], "ours_"))
        if case.endswith(" alone"):
            continue  # a variant: its peers stand with the case itself
        lines += [fit_line("", row["peer_name"], row["peer"], row, "") for row in same]
    return lines


def fit_line(case: str, who: str, milliseconds: float | None, row: dict, prefix: str) -> str:
    time = "–" if milliseconds is None else f"{milliseconds / 1e3:.3f}"
    cells = [shown(row.get(prefix + name)) for name in FIGURES]
    return f"| {case} | {who} | {time} | {' | '.join(cells)} |"


def shown(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}" if value < 1 else f"{value:.3g}"
