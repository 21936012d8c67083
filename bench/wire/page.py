"""Writes docs/scaling.md and its plots from a report of the wire suite.

`python bench/run.py wire --json wire.json && cd bench && python -m wire.page ../wire.json`; several reports
of parts (`--only "2 hosts torch"`, …) make one page too.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib

from wire import model, targets
from wire.model import Link

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
N = 64 << 20  # values of 256 MB
CODECS = ("raw", "int8", "int4", "rot2", "rot1")
COLORS = {"gloo fp32": "#8a8f98", "fp16 hook": "#c8a27a", "raw": "#9ccfb9", "int8": "#5fae8d"}
COLORS |= {"int4": "#0b6e4f", "rot2": "#2b6cb0", "rot1": "#1a365d", "PowerSGD-1": "#c05621"}
CORES = 2  # of the machine that plays all hosts


def measured(rows: list[dict[str, Any]], hosts: int, name: str, megabytes: float = 256) -> float | None:
    """Milliseconds; of scrimp's codecs, the better of torch and MPI."""
    names = (name, f"scrimp {name}, torch", f"scrimp {name}, mpi")
    same = [r for r in rows if (r.get("hosts"), r.get("megabytes")) == (hosts, megabytes)]
    return min((r["milliseconds"] for r in same if r["name"] in names), default=None)


class Fit:
    """The model's constants, from the measurements of two hosts and from the codecs alone."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        short = measured(rows, 2, "gloo fp32", 1 / 256) or 0.4
        gloo = next(r for r in rows if r["name"] == "gloo fp32" and r["megabytes"] == 256 and r["hosts"] == 2)
        per_byte = gloo["cpu_ms"] / 1e3 / (2 * gloo["interface_bytes"])
        self.link = Link(alpha_s=short / 2e3, socket_s_a_byte=per_byte)
        self.speeds = {spec: model.measure(spec) for spec in CODECS}
        self.cast_s = self._beyond("fp16 hook", model.ring_seconds(N, 2, self.link, 2))
        self.power_s = self._beyond("PowerSGD-1 hook", 0)
        self.own_power_s = self._beyond("scrimp PowerSGD-1", 0)

    def _beyond(self, name: str, seconds: float) -> float:
        found = measured(self.rows, 2, name)
        return max(0.0, (found or 0) / 1e3 - seconds) / N

    def seconds(self, name: str, hosts: int, n: int, link: Link) -> float:
        if name == "gloo fp32":
            return model.ring_seconds(n, hosts, link)
        if name == "fp16 hook":
            return model.ring_seconds(n, hosts, link, 2, self.cast_s)
        if "PowerSGD" in name:
            ours = name.startswith("scrimp") or name == "PowerSGD-1"
            pass_s, raw = (self.own_power_s, self.speeds["raw"]) if ours else (self.power_s, None)
            return model.power_seconds(n, hosts, link, 1, pass_s, raw)
        return model.scrimp_seconds(n, hosts, link, name, self.speeds[name])

    def emulated(self, hosts: int) -> Link:
        """Return the link of the bench: all hosts on the cores of one machine."""
        return Link(**{**vars(self.link), "hosts_a_core": hosts / CORES})


def check_table(fit: Fit) -> list[str]:
    lines = ["| all-reduce | hosts | measured, ms | model, ms | error |", "|---|---|---|---|---|"]
    errors = []
    for megabytes in (16, 256):
        for hosts in (2, 4):
            for name in ("gloo fp32", "fp16 hook", *CODECS, "PowerSGD-1 hook", "scrimp PowerSGD-1"):
                found = measured(fit.rows, hosts, name, megabytes)
                if found is None:
                    continue
                said = 1e3 * fit.seconds(name, hosts, megabytes << 18, fit.emulated(hosts))
                errors.append(abs(said / found - 1))
                row = f"{megabytes} MB, {name} | {hosts} | {found:.1f} | {said:.1f} | {said / found - 1:+.0%}"
                lines.append(f"| {row} |")
    return [*lines, "", f"Median error {statistics.median(errors):.0%}, largest {max(errors):.0%}."]


def measured_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| 256 MB | 2 hosts, ms | 4 hosts, ms | line rate, 2 / 4 hosts | CPU-ms a rank |"]
    lines.append("|---|---|---|---|---|")
    names = dict.fromkeys(r["name"] for r in rows if r.get("megabytes") == 256)
    for name in names:
        found = {r["hosts"]: r for r in rows if r["name"] == name and r.get("megabytes") == 256}
        times = " | ".join(f"{found[h]['milliseconds']:.0f}" if h in found else "–" for h in (2, 4))
        rates = [found[h]["of_limit"] if h in found else None for h in (2, 4)]
        shares = " / ".join(f"{rate:.0%}" if rate else "–" for rate in rates)
        cpu = next(iter(found.values()))["cpu_ms"]
        lines.append(f"| {name} | {times} | {shares} | {cpu:.0f} |")
    return lines


def target_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| target | measured | wanted | |", "|---|---|---|---|"]
    for what, value, wanted, met in targets.lines(rows):
        lines.append(f"| {what} | {value:.2f} | {wanted} | {'met' if met else '**missed**'} |")
    return lines


def loss_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| hook | seconds | steps | ms a step | MB sent a rank |", "|---|---|---|---|---|"]
    for r in rows:
        if "milliseconds_a_step" in r:
            seconds = f"{r['seconds']:.2f}" if r["seconds"] else f"not reached ({r['loss']:.2f})"
            step = f"{r['milliseconds_a_step']:.1f} | {r['megabytes_sent']:.1f}"
            lines.append(f"| {r['name']} | {seconds} | {r['steps']} | {step} |")
    return lines


def plot_check(fit: Fit, path: Path) -> None:
    """Model as lines, measurements as dots, over sizes, for two hosts."""
    figure, axes = plt.subplots(figsize=(8, 4.6), layout="constrained")
    sizes = [4**k / 256 for k in range(9)]
    for name in ("gloo fp32", "fp16 hook", "int8", "int4", "rot1"):
        said = [1e3 * fit.seconds(name, 2, int(mb * (1 << 18)), fit.emulated(2)) for mb in sizes]
        axes.plot(sizes, said, color=COLORS[name], lw=1.3, label=name)
        dots = [(mb, found) for mb in (1, 16, 256) if (found := measured(fit.rows, 2, name, mb))]
        axes.plot(*zip(*dots, strict=True), "o", color=COLORS[name], ms=4)
    finish(axes, "MB of fp32", "ms", "2 hosts at 1 Gbit/s. Dots: measured. Lines: model.")
    figure.savefig(path)
    plt.close(figure)


def plot_hosts(fit: Fit, path: Path) -> None:
    """Seconds of 256 MB against hosts, all modelled but two points a line."""
    figure, both = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained", sharey=True)
    hosts = [2**k for k in range(1, 11)]
    for axes, mbit in zip(both, (1000, 25_000), strict=True):
        link = model.faster(fit.link, mbit)
        for name in ("gloo fp32", "fp16 hook", "raw", "int8", "int4", "rot2", "rot1", "PowerSGD-1"):
            said = [1e3 * fit.seconds(name, h, N, link) for h in hosts]
            axes.plot(hosts, said, color=COLORS[name], lw=1.3, label=name)
            if mbit == 1000:
                for h in (2, 4):
                    if found := measured(fit.rows, h, name):
                        axes.plot(h, found, "o", color=COLORS[name], ms=4)
        axes.set_xscale("log", base=2)
        rate = f"{mbit // 1000} Gbit/s"
        dots = ". Dots: measured" if mbit == 1000 else ""
        title = f"256 MB at {rate}, one core a host: modelled{dots}"
        finish(axes, "hosts", "ms" if mbit == 1000 else "", title)
    figure.savefig(path)
    plt.close(figure)


def finish(axes, x: str, y: str, title: str) -> None:
    if axes.get_xscale() == "linear":
        axes.set_xscale("log", base=4)
    axes.set_xticks(ticks := [t for line in axes.lines[:1] for t in line.get_xdata()])
    axes.set_xticklabels([f"{t:g}" if t >= 1 else f"1/{round(1 / t)}" for t in ticks], fontsize=7)
    axes.set_yscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=9)
    axes.grid(color="#eeeeee", lw=0.5)
    axes.legend(fontsize=7, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def scale_table(fit: Fit) -> list[str]:
    lines = ["| 256 MB, 1 Gbit/s, modelled, ms | 2 | 8 | 32 | 128 | 1,024 hosts |"]
    lines.append("|---|---|---|---|---|---|")
    for name in ("gloo fp32", "fp16 hook", "raw", "int8", "int4", "rot2", "rot1", "PowerSGD-1"):
        said = " | ".join(f"{1e3 * fit.seconds(name, h, N, fit.link):.0f}" for h in (2, 8, 32, 128, 1024))
        lines.append(f"| {name} | {said} |")
    return lines


def main() -> None:
    reports = [json.loads(Path(path).read_text()) for path in sys.argv[1:]]
    report = reports[0]
    rows = [row for each in reports for row in each["rows"] if row["suite"] == "wire"]
    fit = Fit(rows)
    plot_check(fit, DOCS / "scaling-sizes.svg")
    plot_hosts(fit, DOCS / "scaling-hosts.svg")
    constants = (
        f"α = {1e6 * fit.link.alpha_s:.0f} µs a message's way, "
        f"τ = {1e6 * fit.link.message_s:.0f} µs CPU a message, "
        f"σ = {1e9 * fit.link.socket_s_a_byte:.2f} ns CPU a byte"
    )
    text = (Path(__file__).parent / "page.md").read_text()
    parts = {
        "machine": f"{report['machine']}, ISA {report['isa']}, commit {report['commit']}",
        "constants": constants,
        "measured": "\n".join(measured_table(rows)),
        "targets": "\n".join(target_table(rows)),
        "loss": "\n".join(loss_table(rows)),
        "check": "\n".join(check_table(fit)),
        "scale": "\n".join(scale_table(fit)),
    }
    for key, value in parts.items():
        text = text.replace(f"@{key}@", value)
    (DOCS / "scaling.md").write_text(text)


if __name__ == "__main__":
    main()
