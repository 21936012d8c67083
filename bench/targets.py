"""What was promised of the suites, and whether a report keeps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Target(NamedTuple):
    """A figure of one row that must be at least, or at most, a bound.

    The words of `case` are in the row's case, `peer` begins its peer's name, `threads` (0: any) are its
    threads; `value` takes the row and all rows of its case, or of its suite with `across`.
    """

    suite: str
    case: str
    peer: str
    what: str
    value: Callable[[dict, list[dict]], float | None]
    bound: float
    at_most: bool = False
    threads: int = 0
    across: bool = False

    def met(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound

    def promise(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.bound:g}"


def ratio(row: dict, _rows: list[dict]) -> float | None:
    return row["ratio"]


def first_ratio(row: dict, _rows: list[dict]) -> float | None:
    ours, peer = row.get("ours_first"), row.get("first")
    return peer / ours if ours and peer else None


def time_over(other: str) -> Callable[[dict, list[dict]], float | None]:
    """Return our time over our time of another variant."""

    def value(row: dict, rows: list[dict]) -> float | None:
        times = [r["ours"] for r in rows if r["case"].endswith(f" {other}") and r["ours"]]
        return row["ours"] / times[0] if times and row["ours"] else None

    return value


def own(figure: str) -> Callable[[dict, list[dict]], float | None]:
    return lambda row, _rows: row.get(f"ours_{figure}")


def excess(figure: str) -> Callable[[dict, list[dict]], float | None]:
    """Return our figure minus the peer's."""

    def value(row: dict, _rows: list[dict]) -> float | None:
        ours, peer = row.get(f"ours_{figure}"), row.get(figure)
        return None if ours is None or peer is None else ours - peer

    return value


def time_over_limit(row: dict, _rows: list[dict]) -> float | None:
    return 1 / row["of_limit"] if row["of_limit"] else None


def shortfall(figure: str) -> Callable[[dict, list[dict]], float | None]:
    """Return the peer's R² minus ours."""

    def value(row: dict, _rows: list[dict]) -> float | None:
        ours, peer = row.get(f"ours_{figure}"), row.get("r2")
        return None if ours is None or peer is None else peer - ours

    return value


def time_of_nearest(row: dict, rows: list[dict]) -> float | None:
    """Return the time of stochastic rounding over that of rounding to nearest."""
    nearest = row["case"].replace("_stochastic", ""), row["threads"]
    speeds = [r["ours"] for r in rows if (r["case"], r["threads"]) == nearest and r["ours"]]
    return speeds[0] / row["ours"] if speeds and row["ours"] else None


def codec_target(case: str, peer: str, bound: float, threads: int = 1) -> Target:
    what = f"{peer} time / ours, {threads}T"
    return Target("codecs", case, peer, what, ratio, bound, threads=threads)


def stochastic_target(name: str, size: str, bound: float, threads: int) -> Target:
    case, what = f"{name}_encode_stochastic {size}", f"stochastic / nearest time, {threads}T"
    return Target("codecs", case, "limit: read", what, time_of_nearest, bound, True, threads, across=True)


CODEC_TARGETS = [
    codec_target("int8_encode 1 MB", "torch per_tensor", 1.7),
    codec_target("int8_encode 1 MB", "torch per_channel", 50),
    codec_target("int8_encode 256 MB", "limit: read", 0.80),
    codec_target("int8_encode 256 MB", "limit: convert", 0.95, threads=2),
    codec_target("int4_encode 1 MB", "torch fbgemm 4bit", 3),
    codec_target("int4_encode 1 MB", "faiss SQ4", 20),
    *(stochastic_target(name, "1 MB", 1.7, 1) for name in ("int8", "int4")),
    *(stochastic_target(name, "256 MB", 1.2, threads) for name in ("int8", "int4") for threads in (1, 2)),
    codec_target("int8_decode 1 MB", "ggml q8_0", 1.3),
    codec_target("int4_decode 1 MB", "ggml q4_0", 1.3),
    codec_target("int8_decode 1 MB", "torch dequantize", 2.5),
    codec_target("int4_decode 1 MB", "torch fbgemm 4bit", 2.5),
    codec_target("int8_decode 256 MB", "limit: memset", 0.85),
    codec_target("int4_decode 256 MB", "limit: memset", 0.85),
    codec_target("int8_decode_add 1 MB", "torch add_", 3),
    codec_target("int8_decode_add 256 MB", "torch add_", 8),
    codec_target("nf4_encode 1 MB", "bitsandbytes nf4", 100),
    codec_target("e4m3_encode 1 MB", "torch .to(float8_e4m3fn)", 5),
    codec_target("mxfp4_encode 1 MB", "ggml mxfp4", 10),
    codec_target("int4_encode_mse 1 MB", "ggml q4_K", 25),
    codec_target("q8_0_encode 1 MB", "gguf Q8_0", 30),
]


def collective(size: str, ours: str, peer: str, bound: float) -> Target:
    case = f"all_reduce {size} ranks=2 {ours}"
    return Target("collectives", case, peer, f"{peer} time / ours", ratio, bound)


def own_collective(ours: str, what: str, value: Callable, bound: float) -> Target:
    return Target("collectives", f"all_reduce 256MB ranks=2 {ours}", "gloo", what, value, bound, True)


def predict_target(case: str, peer: str, bound: float) -> Target:
    return Target("predict", case, peer, f"{peer} time / ours, 2T", ratio, bound, threads=2)


PLAIN, SIZES = ("fp32", "fp32-no-undo"), ("1MB", "16MB", "256MB")
MPI = ("MPICH", "Open MPI")
LONG, RIDGE = "1e6x256", "ridge 1e6x256"
TARGETS = [
    *CODEC_TARGETS,
    Target("gradient", f"gradient {LONG} fp32", "numpy", "numpy time / ours", ratio, 2),
    Target("gradient", f"gradient {LONG} fp32", "torch", "torch time / ours", ratio, 4),
    Target("gradient", f"gradient {LONG} fp32", "limit", "time / read limit", time_over_limit, 1.1, True),
    Target("gradient", f"gradient {LONG} int8", "numpy", "numpy fp32 time / ours", ratio, 10),
    Target("gradient", f"gradient {LONG} int8", "torch", "torch fp32 time / ours", ratio, 20),
    Target("gradient", f"gradient {LONG} int4", "numpy", "numpy fp32 time / ours", ratio, 13),
    Target("gradient", f"gradient {LONG} int4", "limit", "time / int8 time", time_over("int8"), 1.0, True),
    Target("gram", f"gram {LONG} int8", "numpy", "numpy fp32 time / ours", ratio, 2.5),
    Target("gram", f"gram {LONG} int8", "torch _int_mm", "torch._int_mm time / ours", ratio, 1),
    Target("gram", f"gram {LONG} int8", "torch _int_mm", "torch._int_mm time / ours", ratio, 1.6),
    Target("gram", "gram_float64", "numpy float64 of", "numpy float64 time / ours", ratio, 1),
    Target("fit", RIDGE, "sklearnex", "sklearnex time / ours", ratio, 3.5),
    Target("fit", RIDGE, "sklearn Ridge", "sklearn first call / ours", first_ratio, 12),
    Target("fit", RIDGE, "sklearn Ridge", "coefficient error", own("coef_error"), 1e-6, True),
    Target("fit", RIDGE, "sklearn Ridge", "extra MB", own("extra_mb"), 5, True),
    Target("fit", "logistic", "sklearn Log", "sklearn time / ours", ratio, 10),
    Target("fit", "logistic", "sklearnex", "sklearnex time / ours", ratio, 6),
    Target("fit", "logistic", "sklearn Log", "log-loss − sklearn's", excess("log_loss"), 1e-4, True),
    Target("fit", "flights int4", "sklearn Ridge", "R² lost, mean of 5", shortfall("r2_mean"), 0.002, True),
    Target("fit", "flights int4", "sklearn Ridge", "R² lost, worst of 5", shortfall("r2_worst"), 0.003, True),
    predict_target("int4 rows=1", "ONNX Runtime MatMulNBits 4 fp32", 1),
    predict_target("int4 rows=1 int8-rows", "ONNX Runtime MatMulNBits 4 int8", 1),
    predict_target("int4 rows=1", "torch fp32 linear", 4),
    predict_target("int8 rows=1", "torch fp32 linear", 4),
    # No peer keeps what was in the array: without undo is what they do.
    *(collective(size, kind, "gloo", 7) for kind in PLAIN for size in SIZES),
    *(collective(size, kind, mpi, 2) for kind in PLAIN for size in SIZES for mpi in MPI),
    *(collective("256MB", "comm.empty", mpi, 3) for mpi in MPI),
    own_collective("int8", "time / own fp32 time", time_over("fp32"), 1.15),
    own_collective("int4", "time / own fp32 time", time_over("fp32"), 1.15),
    own_collective("int4", "CPU-ms a rank", own("cpu_ms"), 60),
    own_collective("int4+ef14", "CPU-ms a rank", own("cpu_ms"), 60),
    collective("256MB", "int8", "torch fp16 hook", 9),
    collective("256MB", "int4", "torch PowerSGD-1", 13),
]


class Outcome(NamedTuple):
    """A target, the case that it was measured on, and the value; None where something is missing."""

    target: Target
    case: str
    value: float | None


def outcomes(rows: list[dict]) -> list[Outcome]:
    """Hold a report's rows against the targets of its suites."""
    found = []
    for target in TARGETS:
        mine = [row for row in rows if row["suite"] == target.suite]
        if not mine:
            continue
        row = next((r for r in mine if matches(target, r)), None)
        same = mine if target.across else [r for r in mine if row and base(r) == base(row)]
        value = target.value(row, same) if row else None
        found.append(Outcome(target, row["case"] if row else target.case, value))
    return found


def base(row: dict) -> str:
    return " ".join(row["case"].split()[:2])


def matches(target: Target, row: dict) -> bool:
    words = row["case"].split()
    fits = target.threads in (0, row["threads"]) and row["peer_name"].startswith(target.peer)
    return fits and all(word in words for word in target.case.split())


def print_targets(rows: list[dict]) -> None:
    for target, case, value in outcomes(rows):
        verdict = "missing" if value is None else "met" if target.met(value) else "MISSED"
        shown = "–" if value is None else f"{value:.3g}"
        print(f"target  {case:34} {target.what:44} {shown:>8} {target.promise():>8}  {verdict}", flush=True)
