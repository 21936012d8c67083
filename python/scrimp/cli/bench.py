"""`scrimp bench`: how fast the codecs are on this machine, beside copying memory.

Comparisons with other libraries are no part of the package; they live in the folder bench/ of its sources.
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrimp.cli.options import JsonFile, codec_spec
from scrimp.cli.outcome import check_outputs, console, progress, write_json

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from rich.table import Table

    from scrimp.codecs import Codec

LEAST_ROUNDS = 3
NEEDED_OPTIONS = {"step": "step:k=0.0625"}  # a step that holds all values of the sample in 8 bits
ACTIONS = ("encode", "decode", "decode_add")


@dataclass(frozen=True)
class Row:
    """Speed of a codec, in GB/s of the float32 values, and what it loses on normally distributed ones."""

    codec: str
    bits: float
    encode: float
    decode: float
    decode_add: float
    relative_mse: float


def bench(
    codecs: Annotated[
        list[Any] | None,
        typer.Argument(metavar="CODEC", parser=codec_spec, help="Default: all.", show_default=False),
    ] = None,
    megabytes: Annotated[
        int, typer.Option(metavar="N", min=1, help="Size of the float32 array; beyond the caches by default.")
    ] = 64,
    threads: Annotated[int, typer.Option(metavar="N", min=0, help="0: as many as there are cores.")] = 1,
    seconds: Annotated[
        float, typer.Option(metavar="X", min=0, help="Time for each codec; more is steadier.")
    ] = 0.5,
    json_file: JsonFile = None,
) -> None:
    """Measure the codecs on this machine: GB/s of float32 in and out, beside copying memory.

    Each figure is the best of several rounds; decode+ adds to an array, as an all-reduce does.

    Example: scrimp bench int8 int4 --json bench.json
    """
    import scrimp

    check_outputs(json_file)
    specs = codecs or [NEEDED_OPTIONS.get(name, name) for name in scrimp.codec_names()]
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = threads or cpus
    with progress("measuring:") as show:
        copy, rows = measure([scrimp.codec(spec) for spec in specs], megabytes, threads, seconds, show)
    result = {
        "cpu": _cpu(),
        "cpus": cpus,
        "isa": scrimp.isa(),
        "threads": threads,
        "nbytes": megabytes << 20,
        "unit": "GB/s",
        "copy": copy,
        "codecs": [asdict(row) for row in rows],
    }
    write_json(json_file, "bench", result)
    console().print(_table(result, rows))


def measure(
    codecs: list[Codec], megabytes: int, threads: int, seconds: float, show: Callable[[str], None]
) -> tuple[float, list[Row]]:
    """Return the speed of a copy of memory and of each codec, in GB/s (10⁹ bytes) of float32 values."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    n = megabytes << 18
    x = np.random.default_rng(0).standard_normal(n, np.float32)
    out, rows, copy = np.empty_like(x), [], math.inf
    with ThreadPoolExecutor(threads) as pool:
        for i, codec in enumerate(codecs, 1):
            show(f"{codec.spec} ({i} of {len(codecs)})")
            payload = codec.encode(x, threads=threads)
            actions: list[Callable[[], Any]] = [
                lambda: _copy(pool, x, out, threads),
                lambda c=codec, p=payload: c.encode(x, p, threads=threads),  # type: ignore[misc]
                lambda c=codec, p=payload: c.decode(p, n, out, threads=threads),  # type: ignore[misc]
                lambda c=codec, p=payload: c.decode(p, n, out, add=True, threads=threads),  # type: ignore[misc]
            ]
            best = _best(actions, seconds)
            copy = min(copy, best[0])
            encode, decode, decode_add = (x.nbytes / t / 1e9 for t in best[1:])
            codec.decode(payload, n, out, threads=threads)
            loss = float(np.square(out - x).mean(dtype=np.float64) / np.square(x).mean(dtype=np.float64))
            rows.append(Row(codec.spec, 8 * len(payload) / n, encode, decode, decode_add, loss))
    return x.nbytes / copy / 1e9, rows


def _best(actions: list[Callable[[], Any]], seconds: float) -> list[float]:
    """Return the shortest time of each action; they take turns."""
    best, end = [math.inf] * len(actions), time.perf_counter() + seconds
    rounds = 0
    while rounds < LEAST_ROUNDS or time.perf_counter() < end:
        for i, action in enumerate(actions):
            start = time.perf_counter()
            action()
            best[i] = min(best[i], time.perf_counter() - start)
        rounds += 1
    return best


def _copy(pool: Executor, x: Any, out: Any, threads: int) -> None:
    import numpy as np

    if threads == 1:
        np.copyto(out, x)
    else:
        parts = zip(np.array_split(out, threads), np.array_split(x, threads), strict=True)
        list(pool.map(lambda part: np.copyto(*part), parts))


def _cpu() -> str:
    """Return the name of the processor, as far as the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _table(result: dict[str, Any], rows: list[Row]) -> Table:
    from rich.table import Table

    where = f"{result['cpu']}, ISA {result['isa']}"
    many = "1 thread" if result["threads"] == 1 else f"{result['threads']} threads"
    title = f"{where}, {many}, {result['nbytes'] >> 20} MB of float32; GB/s (share of a copy of memory)"
    table = Table(title=title, title_justify="left")
    table.add_column("codec", overflow="fold")
    for name in ("bits", *(action.replace("_add", "+") for action in ACTIONS), "relative MSE"):
        table.add_column(name, justify="right")
    copy = result["copy"]
    table.add_row("copy of memory", "", f"{copy:.2f}", "", "", "")
    for row in rows:
        cells = (f"{speed:.2f} ({speed / copy:.0%})" for speed in (row.encode, row.decode, row.decode_add))
        table.add_row(row.codec, f"{row.bits:.3g}", *cells, f"{row.relative_mse:.1e}")
    return table
