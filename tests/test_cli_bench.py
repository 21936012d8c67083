"""scrimp bench: every codec is measured, by the package alone, and what is said of it is true."""

from __future__ import annotations

import json
import math

import pytest
from typer.testing import CliRunner

import scrimp
from scrimp.cli.app import app
from scrimp.cli.bench import NEEDED_OPTIONS

QUICK = ["--megabytes", "1", "--seconds", "0"]


def bench(tmp_path, *args):
    path = tmp_path / "bench.json"
    result = CliRunner().invoke(app, ["bench", *QUICK, *args, "--json", str(path)])
    assert result.exit_code == 0, result.output
    return json.loads(path.read_text()), result.stdout


def test_without_arguments_every_codec_is_measured(tmp_path):
    document, text = bench(tmp_path)
    wanted = [scrimp.codec(NEEDED_OPTIONS.get(name, name)).spec for name in scrimp.codec_names()]
    assert document["schema"] == "scrimp.bench/1"
    assert [row["codec"] for row in document["codecs"]] == wanted
    assert all(spec in text for spec in wanted)
    speeds = [row[action] for row in document["codecs"] for action in ("encode", "decode", "decode_add")]
    assert all(0 < speed < math.inf for speed in [*speeds, document["copy"]])


@pytest.mark.parametrize("threads", [1, 2])
def test_bits_and_loss_are_those_of_the_codec(tmp_path, threads):
    document, _ = bench(tmp_path, "int8", "raw", "--threads", str(threads))
    int8, raw = document["codecs"]
    assert (int8["bits"], raw["bits"]) == (8.25, 32)
    assert raw["relative_mse"] == 0
    assert int8["relative_mse"] == pytest.approx(4.2e-5, rel=0.2)
    assert document["threads"] == threads


def test_no_threads_are_all_cores(tmp_path):
    document, _ = bench(tmp_path, "int4", "--threads", "0")
    assert document["threads"] == document["cpus"] >= 1


def test_an_unknown_codec_is_wrong_usage_and_the_known_are_named():
    result = CliRunner().invoke(app, ["bench", "int7"])
    assert result.exit_code == 2
    assert "int8" in result.stderr
