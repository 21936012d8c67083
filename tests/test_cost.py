"""Usage adds, meters measure, prices are checked, bills multiply, budgets stop in time."""

import io
import json
import mmap
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import scrimp
from scrimp.cost import memory
from scrimp.cost.billing import format_usd
from scrimp.cost.energy import EnergyCounter
from scrimp.usage import Usage

PRICES = scrimp.Prices(
    name="ours",
    source="contract",
    date="2026-01",
    cpu_hour=0.04,
    memory_gib_hour=0.005,
    wire_gib=0.02,
    stored_gib_month=0.03,
)
GIB = 2**30
MIB = 2**20


def test_usage_alongside_takes_the_longer_clock_and_adds_the_rest():
    a = Usage(wall_s=2, cpu_s=2, peak_bytes=10, wire_bytes=5, raw_bytes=20, joules=1)
    b = Usage(wall_s=3, cpu_s=1, peak_bytes=7, wire_bytes=6, raw_bytes=30, joules=2, joules_estimated=True)
    both = a.alongside(b)
    assert (both.wall_s, both.cpu_s, both.peak_bytes) == (3, 3, 17)
    assert (both.wire_bytes, both.raw_bytes, both.joules, both.joules_estimated) == (11, 50, 3, True)
    assert both == b.alongside(a)


# meter -------------------------------------------------------------------------------------------


def fresh_block():
    """64 MiB that were not resident before: an allocator may hand out memory that is."""
    block = mmap.mmap(-1, 64 * MIB)
    np.frombuffer(block, np.uint8)[:] = 1
    return block


def test_meter_sees_a_peak_that_is_gone_at_the_end():
    with scrimp.Meter() as before:
        pass
    with scrimp.Meter() as meter:
        fresh_block()
    assert meter.usage.peak_bytes - before.usage.peak_bytes > 56 * MIB
    assert meter.peak_source == "VmHWM" or sys.platform != "linux"


def test_meter_does_not_see_a_peak_from_before():
    fresh_block()
    with scrimp.Meter() as meter:
        pass
    with scrimp.Meter() as loaded:
        fresh_block()
    assert meter.usage.peak_bytes < loaded.usage.peak_bytes - 56 * MIB


def test_inner_meter_does_not_hide_the_peak_of_the_outer_one():
    with scrimp.Meter() as outer:
        fresh_block()
        with scrimp.Meter() as inner:
            pass
    assert outer.usage.peak_bytes - inner.usage.peak_bytes > 56 * MIB


def test_outer_meter_sees_the_peak_of_the_inner_one():
    with scrimp.Meter() as outer, scrimp.Meter() as inner:
        fresh_block()
    assert outer.usage.peak_bytes >= inner.usage.peak_bytes


def test_meter_samples_where_the_mark_cannot_be_reset(monkeypatch):
    monkeypatch.setattr(memory, "_reset_mark", lambda: False)
    with scrimp.Meter() as meter:
        block = fresh_block()
    assert meter.peak_source == "sampled"
    assert meter.usage.peak_bytes > len(block)


def test_meter_falls_back_to_the_lifetime_peak(monkeypatch):
    monkeypatch.setattr(memory, "_status_bytes", lambda field: 0)
    with scrimp.Meter() as meter:
        pass
    assert meter.peak_source == "ru_maxrss"
    assert meter.usage.peak_bytes > 0


def test_meter_counts_cpu_of_reaped_children():
    burn = "s=0\nimport time\nwhile time.process_time() < 0.3: s+=1"
    with scrimp.Meter() as meter:
        subprocess.run([sys.executable, "-c", burn], check=True)
    assert meter.usage.cpu_s >= 0.3
    assert meter.usage.wall_s > 0


def test_meter_adds_bytes_but_not_seconds_of_what_it_is_handed():
    with scrimp.Meter() as meter:
        meter.add(
            Usage(wall_s=1e6, cpu_s=1e6, wire_bytes=3, raw_bytes=4, header_bytes=5, stored_bytes=6, flops=7.0)
        )
    usage = meter.usage
    assert (usage.wire_bytes, usage.raw_bytes, usage.header_bytes) == (3, 4, 5)
    assert (usage.stored_bytes, usage.flops) == (6, 7.0)
    assert usage.wall_s < 1e5
    assert usage.cpu_s < 1e5


def test_meter_adds_the_peaks_of_workers_beside_its_own():
    with scrimp.Meter() as meter:
        meter.add(Usage(peak_bytes=1000 * GIB), worker=True)
        meter.add(Usage(peak_bytes=1000 * GIB), worker=True)
        meter.add(Usage(peak_bytes=1000 * GIB))
    assert 2000 * GIB < meter.usage.peak_bytes < 2999 * GIB


def test_meter_keeps_what_was_spent_when_the_block_raises():
    meter = scrimp.Meter()
    with pytest.raises(KeyError), meter:
        raise KeyError
    assert meter.usage.wall_s > 0
    assert memory._open_peaks == []


def fake_rapl(root: Path, energy_uj: int) -> Path:
    for zone in ("intel-rapl:0", "intel-rapl:0:0"):
        (root / zone).mkdir(exist_ok=True)
        (root / zone / "max_energy_range_uj").write_text("1000000000\n")
        (root / zone / "energy_uj").write_text(f"{energy_uj}\n")
    return root


def test_rapl_is_read_once_a_package_and_survives_an_overflow(tmp_path):
    counter = EnergyCounter()
    counter.start(fake_rapl(tmp_path, 990_000_000))
    fake_rapl(tmp_path, 5_000_000)
    assert counter.available
    assert counter.stop() == pytest.approx(15.0)


def test_unreadable_rapl_is_estimated_and_said_so(tmp_path, monkeypatch):
    monkeypatch.setattr(EnergyCounter.start, "__defaults__", (tmp_path,))
    with scrimp.Meter() as meter:
        sum(range(100_000))
    assert meter.usage.joules_estimated
    assert meter.usage.joules > 0


# prices ------------------------------------------------------------------------------------------


def test_shipped_prices_say_what_they_are():
    prices = scrimp.Prices.load()
    assert "example" in prices.name
    assert prices.source.startswith("https://")
    assert prices.date
    assert prices.cpu_hour > 0


def write_prices(path, **changes):
    document = {
        "schema": "scrimp.prices/1",
        "name": "ours",
        "source": "contract",
        "date": "2026-01",
        "usd_per": {"machine_hour": 2},
    } | changes
    path.write_text(json.dumps({k: v for k, v in document.items() if v is not None}))
    return path


def test_own_prices_are_read_from_json_and_toml(tmp_path):
    path = write_prices(tmp_path / "p.json")
    assert scrimp.Prices.load(path).machine_hour == 2.0
    toml = tmp_path / "p.toml"
    toml.write_text('schema="scrimp.prices/1"\nname="a"\nsource="b"\ndate=2026-01-02\n[usd_per]\nkwh=0.3\n')
    prices = scrimp.Prices.load(str(toml))
    assert (prices.kwh, prices.date) == (0.3, "2026-01-02")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": "scrimp.prices/9"}, "schema must be 'scrimp.prices/1', got 'scrimp.prices/9'"),
        ({"date": None}, "date is missing"),
        ({"source": " "}, "source is empty"),
        ({"usd_per": {"gpu_hour": 1}}, "unknown key 'gpu_hour'; known: cpu_hour"),
        ({"usd_per": {"cpu_hour": -1}}, "usd_per.cpu_hour must be a number from 0 to 1e+100, got -1"),
        ({"usd_per": {"cpu_hour": "1"}}, "usd_per.cpu_hour must be a number from 0 to 1e+100, got '1'"),
        ({"usd_per": {"cpu_hour": 10**400}}, "usd_per.cpu_hour must be a number from 0 to 1e+100, got 1000"),
        ({"usd_per": {"cpu_hour": 1e300}}, "usd_per.cpu_hour must be a number from 0 to 1e+100, got 1e+300"),
        ({"usd_per": {"cpu_hour": True}}, "usd_per.cpu_hour must be a number"),
        ({"usd_per": 3}, "usd_per must be a table, got 3"),
        ({"surprise": 1}, "unknown key 'surprise'"),
    ],
)
def test_price_file_errors_name_the_key(tmp_path, changes, said):
    path = write_prices(tmp_path / "p.json", **changes)
    with pytest.raises(scrimp.InputError) as error:
        scrimp.Prices.load(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)


def test_price_file_that_cannot_be_read_is_an_input_error(tmp_path):
    with pytest.raises(scrimp.InputError, match="cannot read the price file"):
        scrimp.Prices.load(tmp_path / "none.toml")
    for name, kind in (("p.json", "JSON"), ("p.toml", "TOML")):
        (tmp_path / name).write_bytes(b"\xff{{{")
        with pytest.raises(scrimp.InputError, match=f"is not {kind}"):
            scrimp.Prices.load(tmp_path / name)


# bill --------------------------------------------------------------------------------------------


def test_bill_is_usage_times_price():
    usage = Usage(
        wall_s=1800, cpu_s=7200, peak_bytes=4 * GIB, wire_bytes=GIB, header_bytes=GIB, stored_bytes=10 * GIB
    )
    lines = {line.name: line.usd for line in scrimp.bill(usage, PRICES).lines}
    assert lines == pytest.approx({"cpu": 0.08, "memory": 0.01, "wire": 0.04, "storage": 0.3})
    assert scrimp.bill(usage, PRICES).total_usd == pytest.approx(0.43)


def test_bills_add_like_the_invoices_they_are():
    """Memory is peak times time: the sum of two bills is not the bill of the summed usage."""
    long_thin = scrimp.bill(Usage(wall_s=3600, peak_bytes=GIB), PRICES)
    short_fat = scrimp.bill(Usage(wall_s=36, peak_bytes=100 * GIB), PRICES)
    total = long_thin + short_fat
    assert total.total_usd == pytest.approx(0.005 + 0.005)
    assert total.usage.peak_bytes == 100 * GIB
    assert sum([long_thin, short_fat]) == total
    assert [line.name for line in total.lines].count("memory") == 1


def test_bills_of_different_prices_keep_their_lines_apart():
    dear = scrimp.Prices(name="dear", source="x", date="2026-01", cpu_hour=1.0)
    total = scrimp.bill(Usage(cpu_s=3600), PRICES) + scrimp.bill(Usage(cpu_s=3600), dear)
    assert total.total_usd == pytest.approx(1.04)
    assert len(total.priced_by) == 2


def test_bill_is_json_and_text_and_table():
    from rich.console import Console

    one = scrimp.bill(Usage(cpu_s=3600, wall_s=3600, joules=7.2e6, joules_estimated=True), PRICES)
    document = json.loads(json.dumps(one.to_dict()))
    assert document["schema"] == "scrimp.bill/1"
    assert document["total_usd"] == pytest.approx(0.04)
    assert document["usage"]["cpu_s"] == 3600
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(one)
    for text in (str(one), console.export_text()):
        assert "$0.04" in text
        assert "energy (estimated)" in text
        assert "not billed" in text
        assert "ours (2026-01)" in text


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (0, "$0"),
        (1234.5, "$1,234.50"),
        (0.5, "$0.5"),
        (0.123456, "$0.123"),
        (1.2365e-6, "$0.00000124"),
        (0.9999, "$1"),
        (1e-12, "<$1e-9"),
    ],
)
def test_small_amounts_keep_three_digits(usd, text):
    assert format_usd(usd) == text


# budget ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "spent", "step"),
    [
        ({"seconds": 10}, Usage(wall_s=9), Usage(wall_s=1.5)),
        ({"bytes": 100}, Usage(wire_bytes=50, header_bytes=20), Usage(wire_bytes=31)),
        ({"joules": 5}, Usage(joules=5), Usage(joules=0.1)),
        ({"usd": 0.04, "prices": PRICES}, Usage(cpu_s=3500), Usage(cpu_s=200)),
    ],
)
def test_budget_stops_before_the_step_that_overspends(limit, spent, step):
    budget = scrimp.Budget(**limit)
    budget.check(spent)
    with pytest.raises(scrimp.BudgetExceeded, match=r"budget of .* the next step needs about"):
        budget.check(spent, step)


def test_budget_without_limits_never_stops():
    scrimp.Budget().check(Usage(wall_s=1e9, wire_bytes=10**18, joules=1e12), Usage(wall_s=1e9))


@pytest.mark.parametrize("bad", [0, -1, float("nan")])
def test_budget_refuses_a_limit_that_is_not_positive(bad):
    with pytest.raises(ValueError, match="budget: seconds must be above 0"):
        scrimp.Budget(seconds=bad)
