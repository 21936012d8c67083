"""Measure scrimp beside its peers: `python bench/run.py [SUITE …|all] --json FILE`.

Every contestant lives in a process of its own; the runner asks one after the other to time the same case,
round by round, and takes the median of the rounds. Only ratios within one run mean anything. A peer that is
not installed is named in the header and on stderr, not skipped silently. What is measured by whom stands in
bench/contestants/. The matrices of `gradient gram fit` are written once into a temporary folder, or into
the existing one that SCRIMP_BENCH_DATA names, where the next run finds them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import wire
from contestants import datasets
from suites import SUITES, Case, Suite
from table import print_rows
from targets import print_targets

HERE = Path(__file__).resolve().parent
SETTLE_SECONDS = 0.1  # threads of the contestant before may still spin: ONNX Runtime's and OpenMP's do
ENOUGH_SECONDS = 3.0  # after three rounds, a contestant that is this slow is not asked again
FIRST_FIGURES = {"extra_mb"}  # the first call takes the most: later ones reuse what it mapped
UNFAIR = {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "SCRIMP_ISA"}


class Contestant:
    """A process that times cases on request and sleeps in between."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._worker = self._start()
        hello = self.ask({"do": "hello"})
        self.missing: str | None = hello.get("missing") or hello.get("error")
        self.version: str | None = hello.get("version")

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={key: value for key, value in os.environ.items() if key not in UNFAIR},
        )

    def prepare(self, case: Case) -> dict:
        """Make a case ready, in a new process if a case before has crashed this one."""
        if self._worker.poll() is not None:
            self._worker = self._start()
            self.ask({"do": "hello"})
        return self.ask({"do": "prepare", **case.request()})

    def ask(self, request: dict) -> dict:
        """Send a request; a peer that crashed answers with an error, and the others go on."""
        assert self._worker.stdin
        assert self._worker.stdout
        with contextlib.suppress(BrokenPipeError):
            self._worker.stdin.write(json.dumps(request) + "\n")
            self._worker.stdin.flush()
        line = self._worker.stdout.readline()
        return json.loads(line) if line else {"error": "the process ended"}

    def close(self) -> None:
        if self._worker.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._worker.stdin.close()
        self._worker.wait(timeout=60)


def measure(case: Case, contestants: list[Contestant], rounds: int) -> dict[str, dict]:
    """Time one case on every contestant that has it; return {variant: {"median", "error", …}}."""
    results: dict[str, dict] = {}
    entered = []
    for contestant in contestants:
        answer = contestant.prepare(case)
        for variant in answer.get("variants", []):
            results[variant] = {"times": []}
            entered.append((contestant, variant))
        if "error" in answer:
            results[contestant.name.strip("_")] = {"error": answer["error"]}
    for _ in range(rounds):
        for contestant, variant in entered:
            times, few = results[variant]["times"], 2 if case.first else 3
            if sum(times) > ENOUGH_SECONDS and len(times) >= few:
                continue
            time.sleep(SETTLE_SECONDS)
            answer = contestant.ask({"do": "time", "variant": variant})
            if "error" in answer:
                results[variant]["error"] = answer["error"]
            elif case.first and "first" not in results[variant]:
                results[variant]["first"] = answer.pop("seconds")
                results[variant].update(answer)
            else:
                results[variant]["times"].append(answer.pop("seconds"))
                results[variant].update({key: answer[key] for key in answer if key not in FIRST_FIGURES})
    for contestant in contestants:
        contestant.ask({"do": "release"})
    for result in results.values():
        if result.get("times"):
            result["median"] = statistics.median(result["times"])
            result["spread"] = max(result["times"]) / min(result["times"])
    return results


def in_unit(case: Case, result: dict) -> float | None:
    if "median" not in result:
        return None
    seconds = result["median"]
    return case.nbytes / seconds / 1e9 if case.unit == "GB/s" else seconds * 1e3


def figures(result: dict, prefix: str = "") -> dict:
    return {prefix + key: value for key, value in result.items() if key not in {"times", "median"}}


def rows_of(case: Case, results: dict[str, dict]) -> list[dict]:
    """One row per peer; `ratio` > 1 means that scrimp is faster, `of_limit` = 1 that it runs at the limit."""
    rows = []
    names = [name for name in results if not name.startswith("scrimp")]
    for ours_name in [name for name in results if name.startswith("scrimp")] or ["scrimp"]:
        ours = results.get(ours_name, {})
        variant = ours_name.removeprefix("scrimp").strip()
        limit_name = f"{case.limit} {variant}" if f"{case.limit} {variant}" in results else case.limit
        limit = results.get(limit_name or "", {})
        of_limit = limit["median"] / ours["median"] if "median" in limit and "median" in ours else None
        for name in names:
            if name.startswith(f"{case.limit} ") and name != limit_name:
                continue  # the limit of another variant
            peer = results[name]
            both = "median" in ours and "median" in peer
            rows.append(
                {
                    "suite": case.suite,
                    "case": f"{case.label} {variant}".strip(),
                    "threads": case.threads,
                    "unit": case.unit,
                    "ours": in_unit(case, ours),
                    "peer": in_unit(case, peer),
                    "peer_name": name,
                    "ratio": peer["median"] / ours["median"] if both else None,
                    "limit": in_unit(case, limit),
                    "of_limit": of_limit,
                    **figures(peer),
                    **figures(ours, "ours_"),
                }
            )
    return rows


def header(contestants: list[Contestant], rounds: int) -> dict:
    import scrimp

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True)
    lines = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line]
    cpu = {key.strip(): value.strip() for key, value in reversed(lines)}
    family = f" (family {cpu['cpu family']}, model {cpu['model']})" if "cpu family" in cpu else ""
    model = cpu.get("model name", "unknown") + family
    return {
        "schema": "scrimp.bench/1",
        "machine": f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "isa": scrimp.isa(),
        "commit": commit.stdout.strip(),
        "rounds": rounds,
        "peers": {c.name.strip("_"): c.version or f"missing: {c.missing}" for c in contestants},
    }


def run(suites: list[str], rounds: int, only: str, most_rows: int | None = None) -> dict:
    chosen = [SUITES[name].with_rows(most_rows) if most_rows else SUITES[name] for name in suites]
    with tempfile.TemporaryDirectory(prefix="scrimp-bench") as folder:
        os.environ.setdefault(datasets.FOLDER, folder)
        return run_suites(chosen, rounds, only)


def run_suites(suites: list[Suite], rounds: int, only: str) -> dict:
    cases = [case for suite in suites for case in suite.cases if only in case.label]
    for case in cases:
        if "data" in case.arguments:
            datasets.write(Path(os.environ[datasets.FOLDER]), **case.arguments)
    names = list(dict.fromkeys(name for suite in suites for name in suite.contestants))
    contestants = [Contestant(name) for name in names]
    try:
        present = [c for c in contestants if not c.missing]
        for absent in (c for c in contestants if c.missing):
            print(f"missing: {absent.name} ({absent.missing})", file=sys.stderr)
        report = header(contestants, rounds) | {"rows": []}
        for case in cases:
            rows = rows_of(case, measure(case, present, rounds))
            report["rows"] += rows
            print_rows(rows)
        print_targets(report["rows"])
        return report
    finally:
        for contestant in contestants:
            contestant.close()


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    choices = [*SUITES, "wire", "all"]
    parser.add_argument("suites", nargs="*", default=["all"], choices=choices, metavar="SUITE")
    parser.add_argument("--json", type=Path, help="write the header and the rows there")
    parser.add_argument("--rounds", type=int, default=7, help="timings per case and contestant (default 7)")
    parser.add_argument("--only", default="", help="only cases whose label contains this, e.g. '256 MB'")
    parser.add_argument("--rows", type=int, metavar="N", help="matrices of at most N rows, to try a suite")
    options = parser.parse_args()
    suites = [*SUITES, "wire"] if "all" in options.suites else options.suites
    report = run([s for s in suites if s != "wire"], options.rounds, options.only, options.rows)
    if "wire" in suites:  # hosts, not contestants: bench/wire
        report["rows"] += wire.run(options.only)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
