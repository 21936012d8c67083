"""Plots of a bench report: GB/s by codec beside the peers, and error against bits per value."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

OURS, PEERS, LIMIT = "#0b6e4f", ["#9aa5b1", "#c8a27a", "#b7a6c9", "#8fb8c9", "#d3a3a3"], "#222222"


def speeds(rows: list[dict], size: str, threads: int) -> dict[str, dict]:
    """Return {case: {"ours", "limit", "peers": {name: GB/s}}} of one size, fastest peers first."""
    found: dict[str, dict] = {}
    for row in rows:
        if (
            row["suite"] != "codecs"
            or row["threads"] != threads
            or size not in row["case"]
            or row["ours"] is None
        ):
            continue
        case = found.setdefault(
            row["case"].replace(f" {size}", ""), {"ours": row["ours"], "limit": row["limit"], "peers": {}}
        )
        if row["peer"] is not None and not row["peer_name"].startswith("limit"):
            case["peers"][row["peer_name"]] = row["peer"]
    return found


def bars(axes, cases: dict[str, dict], title: str) -> None:
    names = list(cases)[::-1]
    for y, name in enumerate(names):
        case = cases[name]
        peers = sorted(case["peers"].items(), key=lambda item: -item[1])[:3]
        height = 0.2
        axes.barh(y + 0.3, case["ours"], height, color=OURS)
        for k, (peer, value) in enumerate(peers):
            place = y + 0.3 - height * (k + 1)
            axes.barh(place, value, height, color=PEERS[k])
            axes.text(value * 1.05, place, peer, va="center", fontsize=5.5, color="#333333", zorder=3)
        if case["limit"]:
            axes.plot([case["limit"]] * 2, [y - 0.4, y + 0.4], color=LIMIT, lw=1.2)
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=7)
    axes.set_xscale("log")
    axes.set_xlim(0.02, 900)
    axes.set_xlabel("GB/s of fp32 (log scale)", fontsize=8)
    axes.set_title(title, fontsize=9)
    axes.grid(axis="x", color="#e5e5e5", lw=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def plot_speed(report: dict, path: Path) -> None:
    """Draw GB/s by codec: scrimp, up to three peers, and the limit of the memory as a black line."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 10), layout="constrained", sharey=False)
    bars(axes[0], speeds(report["rows"], "1 MB", 1), "in cache: 1 MB, one thread")
    bars(axes[1], speeds(report["rows"], "256 MB", 2), "in memory: 256 MB, two threads")
    figure.suptitle(
        f"scrimp green, fastest peers, limit of the memory black · {report['machine']} · {report['isa']}",
        fontsize=9,
    )
    figure.savefig(path)
    plt.close(figure)


def plot_error(rows: list[dict], path: Path) -> None:
    """Draw the relative squared error of a codec against its bits, and its range over the distributions."""
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    bits = [b / 10 for b in range(8, 170)]
    axes.plot(
        bits,
        [4.0**-b for b in bits],
        color="#bbbbbb",
        lw=1,
        label="rate-distortion bound of the normal distribution",
    )
    for k, row in enumerate(sorted(rows, key=lambda r: (r["bits"], -r["nmse"]["normal"]))):
        values = list(row["nmse"].values())
        color = OURS if row["spec"].startswith("rot") else "#c05621" if "mse" in row["spec"] else "#2b6cb0"
        axes.plot([row["bits"]] * 2, [min(values), max(values)], color=color, lw=1.2)
        axes.plot(row["bits"], row["nmse"]["normal"], "o", color=color, ms=4)
        left = row["spec"].startswith("rot") or (k % 2 == 1 and row["spec"] != "sign")
        axes.annotate(
            row["spec"],
            (row["bits"], row["nmse"]["normal"]),
            xytext=(-5 if left else 5, -2),
            textcoords="offset points",
            ha="right" if left else "left",
            fontsize=6,
        )
    axes.set_yscale("log")
    axes.set_xscale("log", base=2)
    axes.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
    axes.set_ylim(1e-8, 2)
    axes.set_xlabel("bits per value, scales included")
    axes.set_ylabel("‖x − decoded‖² / ‖x‖²")
    axes.set_title("dot: normal values; line: from best to worst of five distributions", fontsize=9)
    axes.grid(color="#eeeeee", lw=0.5)
    axes.legend(fontsize=7, frameon=False)
    figure.savefig(path)
    plt.close(figure)
