"""What was promised of the wire suite, and what became of it."""

from __future__ import annotations

from typing import Any

LEAST_RATIOS = [
    ("int4", "gloo fp32", 7.0),
    ("int4", "fp16 hook", 3.8),
    ("rot2", "gloo fp32", 13.0),
    ("rot1", "gloo fp32", 22.0),
]
POWER_RATIOS = [
    ("scrimp PowerSGD-1", "PowerSGD-1 hook", 5.0),
    ("scrimp PowerSGD-2", "PowerSGD-2 hook", 14.0),
]
LEAST_RATIOS += [(f"{codec} no-undo", name, least) for codec, name, least in LEAST_RATIOS]
LINE_RATE = 0.90
LINE_CODECS = ("raw", "int8", "int4", "rot2", "rot1", "rot2 no-undo", "rot1 no-undo")
CPU_MS = ("int4", 60.0)
MEGABYTES = 256


def fastest(rows: list[dict[str, Any]], hosts: int, codec: str) -> dict[str, Any] | None:
    """Return the better of MPI and torch point-to-point."""
    case = f"all_reduce {MEGABYTES} MB, {hosts} hosts"
    mine = [r for r in rows if r["case"] == case and r["name"].startswith(f"scrimp {codec}, ")]
    return min(mine, key=lambda r: r["milliseconds"], default=None)


def peer(rows: list[dict[str, Any]], hosts: int, name: str) -> dict[str, Any] | None:
    case = f"all_reduce {MEGABYTES} MB, {hosts} hosts"
    return next((r for r in rows if r["case"] == case and r["name"] == name), None)


def lines(rows: list[dict[str, Any]]) -> list[tuple[str, float, str, bool]]:
    """Return (what, measured, target, met) for everything that was measured."""
    found = []
    for hosts in (2, 4):
        pairs = [(c, n, least, fastest(rows, hosts, c)) for c, n, least in LEAST_RATIOS]
        pairs += [(c, n, least, peer(rows, hosts, c)) for c, n, least in POWER_RATIOS]
        for codec, name, least, ours in pairs:
            theirs = peer(rows, hosts, name)
            if ours and theirs:
                ratio = theirs["milliseconds"] / ours["milliseconds"]
                what = f"{hosts} hosts: {codec} against {name}"
                found.append((what, ratio, f"≥ {least:g}", ratio >= least))
        for codec in LINE_CODECS:
            ours = fastest(rows, hosts, codec)
            if ours:
                share, what = ours["of_limit"], f"{hosts} hosts: {codec} of line rate"
                found.append((what, share, f"≥ {LINE_RATE}", share >= LINE_RATE))
        ours = fastest(rows, hosts, CPU_MS[0])
        if ours:
            cpu, what = ours["cpu_ms"], f"{hosts} hosts: {CPU_MS[0]} CPU-ms a rank"
            found.append((what, cpu, f"≤ {CPU_MS[1]:g}", cpu <= CPU_MS[1]))
    return found


def show(rows: list[dict[str, Any]]) -> None:
    for what, measured, target, met in lines(rows):
        print(f"{what:40} {measured:7.2f}  {target:8} {'met' if met else 'missed'}")
