"""Run the benches on a quiet machine and write a section of docs/benchmarks.md, its plots and its JSON.

A machine without AVX-512 has a page of its own, docs/benchmarks_v3.md: ratios of one instruction set
say little of another.

`python bench/publish.py` measures the codecs (five minutes), `python bench/publish.py linear` gradients, Gram
matrices and fits (four minutes a suite), `python bench/publish.py collectives` all-reduces (four minutes),
`python bench/publish.py predict` products with weights in few bits (three minutes);
`--from FILE` writes the documents again from a report.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import collectives_page
import error
import linear_page
import plots
import predict_page
import scrimp
from run import run

DOCS = Path(__file__).resolve().parent.parent / "docs"
SUITES = {
    "codecs": ["codecs"],
    "linear": ["gradient", "gram", "fit"],
    "collectives": ["collectives"],
    "predict": ["predict"],
}
PAGES = {
    "linear": linear_page.document,
    "collectives": collectives_page.document,
    "predict": predict_page.document,
}


def speed_lines(rows: list[dict]) -> list[str]:
    lines = ["| case | threads | scrimp | of the limit | peers, GB/s |", "|---|---|---|---|---|"]
    for case, threads in dict.fromkeys((row["case"], row["threads"]) for row in rows if row["ours"]):
        mine = [r for r in rows if r["case"] == case and r["threads"] == threads and r["peer"]]
        peers = ", ".join(
            f"{r['peer_name']} {r['peer']:.3g}" for r in mine if not r["peer_name"].startswith("limit")
        )
        of_limit = f"{mine[0]['of_limit']:.0%}" if mine and mine[0]["of_limit"] else ""
        lines.append(f"| {case} | {threads} | {mine[0]['ours']:.3g} | {of_limit} | {peers} |")
    return lines


def error_lines(rows: list[dict]) -> list[str]:
    names = list(rows[0]["nmse"])
    lines = [f"| codec | bits | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for row in sorted(rows, key=lambda r: -r["bits"]):
        figures = " | ".join(f"{row['nmse'][name]:.2e}" for name in names)
        lines.append(f"| {row['spec']} | {row['bits']:.2f} | {figures} |")
    return lines


def stem_of(isa: str) -> str:
    """Return how the files begin that hold the reports of an instruction set."""
    return "benchmarks" if isa.startswith("v4") else f"benchmarks_{isa}"


def document(report: dict) -> str:
    peers = ", ".join(f"{name} {version}" for name, version in report["peers"].items())
    plot = f"![GB/s by codec]({stem_of(report['isa'])}_speed.svg)"
    parts = [
        f"Machine: {report['machine']}; ISA {report['isa']}; commit {report['commit']}; median of "
        f"{report['rounds']} rounds. {peers}.",
        "### Targets\n\n" + "\n".join(linear_page.target_lines(report["rows"])),
        f"### Speed\n\n{plot}\n\n" + "\n".join(speed_lines(report["rows"])),
    ]
    return "\n\n".join(parts)


def write_section(stem: str, name: str, text: str) -> None:
    """Replace what stands between the two marks of a section."""
    begin, end = f"<!-- bench/publish.py {name}: begin -->", f"<!-- bench/publish.py {name}: end -->"
    page = DOCS / f"{stem}.md"
    before, _, rest = page.read_text().partition(begin)
    after = rest.partition(end)[2]
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")


def publish_codecs(report: dict) -> None:
    stem = stem_of(report["isa"])
    plots.plot_speed(report, DOCS / f"{stem}_speed.svg")
    write_section(stem, "codecs", document(report))


def publish_errors() -> None:
    """Write the codecs' errors, which are the same on every machine."""
    errors = error.errors()
    plots.plot_error(errors, DOCS / "benchmarks_error.svg")
    text = "Relative squared error by distribution.\n\n![error against bits](benchmarks_error.svg)\n\n"
    write_section("benchmarks", "errors", text + "\n".join(error_lines(errors)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("section", nargs="?", default="codecs", choices=[*SUITES, "errors"])
    parser.add_argument(
        "--from", dest="saved", type=Path, help="a report of bench/run.py instead of measuring"
    )
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    name = options.section
    if name == "errors":
        publish_errors()
        return
    saved = json.loads(options.saved.read_text()) if options.saved else None
    isa = saved["isa"] if saved else scrimp.isa()
    stem = stem_of(isa)
    if not (DOCS / f"{stem}.md").exists():
        parser.error(f"docs/{stem}.md, the page of the instruction set {isa}, does not exist")
    report = saved or run(SUITES[name], options.rounds, "")
    data = DOCS / (f"{stem}.json" if name == "codecs" else f"{stem}_{name}.json")
    data.write_text(json.dumps(report, indent=1) + "\n")
    if name == "codecs":
        publish_codecs(report)
    else:
        write_section(stem, name, PAGES[name](report))


if __name__ == "__main__":
    main()
