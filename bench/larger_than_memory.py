"""Fit to a file of int8 rows under a memory limit, and hold its speed against reading the same file.

`python bench/larger_than_memory.py` writes 6 GB into a temporary folder (--folder), fits in a process of its
own that may hold --limit GB, prints what it took, and removes the file. The kernel limits private memory
(RLIMIT_DATA); the pages of the file that are mapped count in the peak that is printed. The page cache is
asked to drop the file before it is read.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import scrimp
from scrimp.atomic import replacing
from scrimp.data import QuantizedTable, TableEncoder
from scrimp.data.encoder import NumericColumn
from scrimp.data.quantized_table import SCHEMA
from scrimp.linear_model import Ridge
from scrimp.matrix import LEAF_ROWS, QuantizedMatrix
from scrimp.matrix.storage import Writer

COLUMNS, CHUNK = 128, 64 * LEAF_ROWS
SHARE = 0.8  # of the speed of reading, at least
TURNS = 2


def make(path: Path, gigabytes: float) -> None:
    """Write int8 rows and y = x·w + noise; the same chunk of rows over and over, with other noise."""
    n = max(1, round(gigabytes * 1e9 / COLUMNS / CHUNK)) * CHUNK
    rng = np.random.default_rng(0)
    chunk = QuantizedMatrix.from_codes(rng.integers(-128, 128, (CHUNK, COLUMNS), np.int8), 0.01)
    weight = rng.standard_normal(COLUMNS)
    clean = scrimp.matrix.product(chunk, weight).astype(np.float64)
    encoder = TableEncoder(tuple(NumericColumn(f"x{j}") for j in range(COLUMNS)))
    about = {"schema": SCHEMA, "encoder": encoder.to_dict(), "target": "y", "task": "regression"}
    about["classes"] = []
    facts = {"bits": 8, "rounding": "stochastic", "seed": 0, "first_row": 0}
    with replacing(path) as file:
        writer = Writer(file, (n, COLUMNS), facts, has_targets=True, about=about)
        for _ in range(n // CHUNK):
            writer.add(chunk, clean + 0.1 * rng.standard_normal(CHUNK, dtype=np.float32))
        writer.finish()


def forget(path: Path) -> None:
    """Ask the kernel to drop the file from its page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_seconds(path: Path) -> float:
    """Read the whole file with large reads, as one thread does it."""
    scratch, start, at = bytearray(4 << 20), time.perf_counter(), 0
    with path.open("rb", buffering=0) as file:
        while got := os.preadv(file.fileno(), [scratch], at):
            at += got
    return time.perf_counter() - start


def kilobytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def fit(path: Path) -> dict:
    """Fit in this process; return seconds and the peak of resident memory, file pages included."""
    Ridge().fit(np.eye(4, dtype=np.float32), np.arange(4.0))  # imports and threads
    start = time.perf_counter()
    table = QuantizedTable.open(path)
    model = Ridge().fit(table.X, table.y)
    seconds = time.perf_counter() - start
    weight = np.random.default_rng(0)
    weight.integers(-128, 128, (CHUNK, COLUMNS), np.int8)
    truth = weight.standard_normal(COLUMNS)
    error = float(np.linalg.norm(model.coef_ - truth) / np.linalg.norm(truth))
    return {"seconds": seconds, "peak_mb": kilobytes("VmHWM") / 1024, "error": error}


def limited_fit(path: Path, nbytes: int) -> dict:
    """Fit in a process that is limited."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (nbytes, nbytes))

    command = [sys.executable, __file__, "--fit", str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, preexec_fn=limit)
    return json.loads(done.stdout)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--gigabytes", type=float, default=6.0)
    parser.add_argument("--limit", type=float, default=1.0, help="GB that the fit may hold (default 1)")
    parser.add_argument("--folder", type=Path, help="where to write; default: the temporary folder")
    parser.add_argument("--fit", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fit:
        print(json.dumps(fit(options.fit)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="scrimp-bench") as folder:
        path = Path(folder) / "rows.scrimp"
        start = time.perf_counter()
        make(path, options.gigabytes)
        gigabytes = path.stat().st_size / 1e9
        print(f"wrote {gigabytes:.2f} GB in {time.perf_counter() - start:.1f} s", flush=True)
        report(path, gigabytes, options.limit)


def report(path: Path, gigabytes: float, limit: float) -> None:
    reading = fitting = 0.0
    for _ in range(TURNS):  # in turn: the speed of a disk is not the same from minute to minute
        forget(path)
        seconds = read_seconds(path)
        forget(path)
        result = limited_fit(path, int(limit * 1e9))
        reading, fitting = reading + seconds, fitting + result["seconds"]
        print(
            f"read {gigabytes / seconds:.2f} GB/s; fit {gigabytes / result['seconds']:.2f} GB/s "
            f"in {result['seconds']:.2f} s, "
            f"peak {result['peak_mb']:.0f} MB, coefficient error {result['error']:.1e}",
            flush=True,
        )
    verdict = "met" if reading / fitting >= SHARE else "MISSED"
    print(f"target  fit / read speed, all turns {reading / fitting:.2f} ≥ {SHARE}: {verdict}")
    verdict = "met" if result["peak_mb"] <= limit * 1e9 / 2**20 else "MISSED"
    print(f"target  peak {result['peak_mb']:.0f} MB ≤ {limit * 1e9 / 2**20:.0f} MB: {verdict}")


if __name__ == "__main__":
    main()
