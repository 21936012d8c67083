"""`scrimp prune` from the command line: files in, a smaller model out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import scrimp
from scrimp.cli import app


def run(*args, code=0):
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result


@pytest.fixture
def files(tmp_path):
    """A table of eight columns, of which two matter, and a model of all."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 8))
    y = 3 * x[:, 2] - 2 * x[:, 5] + 0.1 * rng.normal(size=500)
    names = [f"c{i}" for i in range(8)]
    lines = [",".join([*names, "y"]), *(",".join(map(str, row)) for row in np.column_stack([x, y]))]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    run("train", tmp_path / "rows.csv", "--target", "y", "--out", tmp_path / "model")
    return tmp_path


@pytest.mark.parametrize("method", ["magnitude", "l1"])
@pytest.mark.parametrize("keep", ["2", "0.25"])
def test_the_columns_that_matter_are_kept_and_named(files, method, keep):
    out, result = files / "few", files / "few.json"
    args = ("--keep", keep, "--method", method, "--out", out, "--json", result)
    shown = run("prune", files / "model", files / "rows.csv", *args).stdout
    assert "c2, c5" in shown
    document = json.loads(result.read_text())
    assert document["schema"] == "scrimp.prune/1"
    assert document["kept"] == ["c2", "c5"]
    assert document["score_after"] > document["score_before"] - 1e-3
    assert np.flatnonzero(scrimp.load(out).coef_).tolist() == [2, 5]
    run("evaluate", out, files / "rows.csv")


def test_wrong_uses_say_what_is_wrong(files):
    assert (
        "known: magnitude, l1"
        in run(
            "prune", files / "model", files / "rows.csv", "--method", "luck", "--out", files / "m", code=2
        ).stderr
    )
    assert (
        "number of columns"
        in run(
            "prune", files / "model", files / "rows.csv", "--keep", "0", "--out", files / "m", code=2
        ).stderr
    )
    assert not (files / "m").exists()
