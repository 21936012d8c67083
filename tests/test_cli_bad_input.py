"""The command line on bad input: one clear line, the right exit code, and no file that was there changed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from scrimp.cli import app


def run(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def refused(*args, code=4):
    """Run a command that must fail, and return what it says in one line."""
    result = run(*args)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    said = " ".join(result.stderr.replace("│", " ").split())
    assert code == 2 or result.stderr.count("\n") == 1
    return said


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """d.csv, the same in 8 bits, and a model of it."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(rng.normal(size=(5000, 3)), columns=["a", "b", "y"])
    rows["y"] += rows["a"] - 2 * rows["b"]
    rows.to_csv(folder / "d.csv", index=False)
    done = run("quantize", folder / "d.csv", "--target", "y", "--out", folder / "d.scrimp")
    assert done.exit_code == 0, done.output
    done = run("train", folder / "d.scrimp", "--target", "y", "--out", folder / "m.safetensors")
    assert done.exit_code == 0, done.output
    return folder


def test_data_in_few_bits_is_not_quantized_again(files, tmp_path):
    said = refused("quantize", files / "d.scrimp", "--out", tmp_path / "x.safetensors")
    assert "is data in few bits already; `scrimp train` reads it" in said


def test_bits_that_the_rows_do_not_have_are_refused(files, tmp_path):
    args = ("train", files / "d.scrimp", "--target", "y", "--out", tmp_path / "m.safetensors", "--data-bits")
    assert "its rows have 8 bits, --data-bits 4 has no effect" in refused(*args, 4)
    assert run(*args, 8).exit_code == 0


def test_predict_evaluate_and_info_read_data_in_few_bits(files, tmp_path):
    done = run("predict", files / "m.safetensors", files / "d.scrimp", "--out", tmp_path / "p.npy")
    assert done.exit_code == 0, done.output
    run("predict", files / "m.safetensors", files / "d.csv", "--out", tmp_path / "plain.npy")
    assert np.abs(np.load(tmp_path / "p.npy") - np.load(tmp_path / "plain.npy")).max() < 0.1
    assert "on 5,000 rows" in run("evaluate", files / "m.safetensors", files / "d.scrimp").stdout
    assert "target of regression" in run("info", files / "d.scrimp").stdout


def test_rows_that_were_encoded_otherwise_are_refused(files, tmp_path):
    other = tmp_path / "other.scrimp"
    run("quantize", files / "d.csv", "--target", "y", "--raw-numbers", "--out", other)
    said = refused("predict", files / "m.safetensors", other, "--out", tmp_path / "p.csv")
    assert "its columns are encoded otherwise" in said
    assert "encoded otherwise" in refused("evaluate", files / "m.safetensors", other)


def test_more_columns_than_there_are_cannot_be_kept(files, tmp_path):
    args = ("prune", files / "m.safetensors", files / "d.csv", "--keep", 11)
    assert "--keep 11: the model has 2 columns" in refused(*args, "--out", tmp_path / "x", code=2)


@pytest.mark.parametrize(
    "command",
    [
        "quantize d.csv --target y --out d.csv",
        "quantize m.safetensors --out m.safetensors",
        "dequantize m.safetensors --out m.safetensors",
        "prune m.safetensors d.csv --out m.safetensors",
        "distill d.csv --target y --teacher m.safetensors --out m.safetensors",
        "report d.csv --out d.csv",
        "bill d.csv --json d.csv",
        "info d.csv --json d.csv",
    ],
)
def test_an_output_never_replaces_an_input(files, command):
    words = [files / word if "." in word else word for word in command.split()]
    before = {path: path.read_bytes() for path in files.iterdir()}
    assert "would replace the input" in refused(*words)
    assert before == {path: path.read_bytes() for path in files.iterdir()}


def test_two_outputs_never_go_to_one_file(files, tmp_path):
    out = tmp_path / "x.csv"
    args = ("predict", files / "m.safetensors", files / "d.csv", "--out", out, "--json", out)
    assert "two outputs would go to" in refused(*args)
    assert not out.exists()


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("quantize d.csv --target y --seed 99999999999999999999999 --out x.scrimp", 2, "--seed"),
        ("train d.csv --target y --workers 100000 --out x.st", 2, "--workers"),
        ("train d.csv --target y --alpha inf --out x.st", 2, "--alpha"),
        ("train d.csv --target y --drop y --out x.st", 4, "'y' is the target; --drop cannot"),
        ("distill d.csv --target y --temperature -1 --out x.st", 2, "must be a number above 0, got -1.0"),
        ("distill d.csv --target y --temperature nan --out x.st", 2, "must be a number above 0, got nan"),
        ("distill d.csv --target y --temperature 2 --out x.st", 2, "for numbers it must be 1, got 2.0"),
        ("distill d.csv --target y --test-size 0 --out x.st", 4, "no rows are held out"),
        ("plan d.csv --target y --reach nan", 2, "--reach"),
        ("plan d.csv --target y --reach 5", 2, "--reach"),
        ("plan d.scrimp --target y", 4, "data in few bits is read by train, predict, evaluate and info"),
        ("dequantize . --out x.st", 4, "is a folder, not a file"),
        ("prune m.safetensors . --out x.st", 4, "is a folder, not a file"),
    ],
)
def test_what_makes_no_sense_is_said_and_nothing_is_written(files, command, code, said):
    words = [files / word if "." in word and word[0] != "-" else word for word in command.split()]
    before = set(files.iterdir())
    assert said in refused(*words, code=code)
    assert before == set(files.iterdir())


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ([1, 2], "column 'odd' holds ndarray, expected one number or text a row"),
        ({"a": 1}, "column 'odd' holds dict, expected one number or text a row"),
        ([None, 2], "column 'odd' holds ndarray"),
    ],
)
def test_a_column_of_lists_is_named(tmp_path, cell, said):
    data = tmp_path / "t.parquet"
    pd.DataFrame({"odd": [cell] * 30, "y": np.arange(30.0)}).to_parquet(data)
    for command in ("train", "quantize"):
        out = tmp_path / ("m.safetensors" if command == "train" else "d.scrimp")
        assert said in refused(command, data, "--target", "y", "--out", out)
    assert said in refused("info", data)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--solver", "gram", "--compress", "int4", "--workers", 2), "solver='gram' sends exact sums"),
        (("--solver", "cg", "--compress", "int4"), "use solver='lbfgs' or 'sgd'"),
        (("--solver", "gram", "--shard", "zero"), "shard='zero' is for gradients"),
        (("--solver", "best"), "unknown solver 'best'; known: auto, gram, cg, lbfgs, sgd"),
        (("--solver", "cg", "--task", "classification"), "unknown solver 'cg'; known: auto, lbfgs, sgd"),
        (("--solver", "lbfgs", "--sync-every", 2), "sync_every above 1 needs solver='sgd'"),
        (("--solver", "sgd", "--sync-every", 2, "--shard", "zero"), "--shard zero allows no --sync-every"),
        (("--on-failure", "continue", "--shard", "zero"), "no --on-failure continue"),
        (("--on-failure", "pray"), "'pray'; known: raise, continue"),
        (("--feedback", "ef15"), "'ef15'; known: auto, none, ef14, ef21"),
    ],
)
def test_levers_that_do_not_go_together_are_wrong_usage(files, tmp_path, options, said):
    args = ("--target", "y", "--out", tmp_path / "m", *options)
    assert said in refused("train", files / "d.csv", *args, code=2)


@pytest.mark.parametrize(
    "command",
    [
        "train d.csv --target y --task classification --out x.safetensors",
        "plan d.csv --target y --task classification",
        "quantize d.csv --target y --task classification --out x.scrimp",
    ],
)
def test_numbers_that_are_not_whole_are_no_classes(files, tmp_path, command):
    words = [files / word if "." in word else word for word in command.split()]
    said = refused(*words)
    assert "classes are text or whole numbers, other numbers need the task regression" in said
    assert "in row 1" in said


def test_whole_numbers_beyond_int64_are_no_classes(tmp_path):
    data = tmp_path / "d.csv"
    pd.DataFrame({"a": np.arange(40.0), "y": np.where(np.arange(40) % 2, 1e300, 2)}).to_csv(data, index=False)
    args = ("train", data, "--target", "y", "--task", "classification", "--out", tmp_path / "m")
    assert "target 'y' holds 1e+300" in refused(*args)


def test_a_target_that_no_prediction_could_hold_is_refused(tmp_path):
    data = tmp_path / "d.csv"
    pd.DataFrame({"a": np.arange(40.0), "y": 1e300}).to_csv(data, index=False)
    said = refused("train", data, "--target", "y", "--out", tmp_path / "m", "--json", tmp_path / "j")
    assert "target 'y' holds 1e+300 in row 1, beyond the range of float32: rescale it" in said
    assert list(tmp_path.iterdir()) == [data]


@pytest.mark.parametrize("command", ["train", "plan", "distill"])
@pytest.mark.parametrize(
    ("task", "bad", "said"),
    [("classification", 1.5, "holds 1.5 in row"), ("regression", 1e300, "1e+300 in row")],
)
def test_a_bad_target_is_found_in_any_row_before_the_fit(tmp_path, monkeypatch, command, task, bad, said):
    monkeypatch.setattr("scrimp.linear_model.Ridge.fit", lambda *_: pytest.fail("came to the fit"))
    data = tmp_path / "d.csv"
    monkeypatch.setattr(
        "scrimp.linear_model.LogisticRegression.fit", lambda *_: pytest.fail("came to the fit")
    )
    out = () if command == "plan" else ("--out", tmp_path / "m")
    for row in range(10):
        y = np.arange(10.0) % 2
        y[row] = bad
        lines = [f"{a},{value!r}\n" for a, value in enumerate(y.tolist())]
        data.write_text("a,y\n,1\n" + "".join(lines))  # the first row has a gap and is left out
        args = (data, "--target", "y", "--task", task, "--missing", "drop", *out)
        assert f"{said} {row + 2}" in refused(command, *args)


def test_a_bad_held_out_target_of_a_quantized_file_is_found_before_the_fit(tmp_path, monkeypatch):
    data, coded = tmp_path / "d.npy", tmp_path / "d.scrimp"
    rows = np.arange(80_000.0).reshape(-1, 2)
    rows[-3, 1] = 1e300
    np.save(data, rows)
    assert run("quantize", data, "--target", "1", "--out", coded).exit_code == 0
    monkeypatch.setattr("scrimp.linear_model.Ridge.fit", lambda *_: pytest.fail("came to the fit"))
    said = refused("train", coded, "--target", "1", "--out", tmp_path / "m")
    assert "target '1' holds 1e+300 in its row 39,998, beyond the range of float32: rescale it" in said


def test_a_feature_beyond_float32_is_named_by_its_row_in_the_file(tmp_path):
    data = tmp_path / "d.csv"
    data.write_text(
        "a,b,y\n" + "".join(f"{'' if i < 2 else i},{1e300 if i == 6 else i},{i}\n" for i in range(20))
    )
    args = (data, "--target", "y", "--missing", "drop", "--raw-numbers", "--test-size", "0")
    assert "'b' in row 7 is beyond" in refused("train", *args, "--out", tmp_path / "m")
    args = (data, "--target", "y", "--missing", "drop", "--out", tmp_path / "x.scrimp")
    assert "in row 7" in refused("quantize", *args)


def test_the_error_of_a_small_target_is_shown(tmp_path):
    data, model = tmp_path / "d.csv", tmp_path / "m.safetensors"
    rng = np.random.default_rng(0)
    pd.DataFrame({"a": np.arange(99.0), "y": rng.normal(size=99) * 1e-6}).to_csv(data, index=False)
    shown = run("train", data, "--target", "y", "--out", model).stdout
    assert "e-0" in next(line for line in shown.splitlines() if "rmse" in line)
    assert "e-0" in run("evaluate", model, data).stdout


def test_half_precision_classes_are_read_without_a_word(tmp_path):
    data = tmp_path / "d.npy"
    np.save(data, (np.arange(120).reshape(40, 3) % 7 % 2).astype(np.float16))
    done = run("train", data, "--target", "2", "--task", "classification", "--out", tmp_path / "m")
    assert (done.exit_code, done.stderr) == (0, "")


def test_one_row_has_no_score_to_prune_by(files, tmp_path):
    data = tmp_path / "d.csv"
    data.write_text("a,b,y\n1,2,3\n")
    said = refused("prune", files / "m.safetensors", data, "--out", tmp_path / "m", "--json", tmp_path / "j")
    assert "2 rows at least are needed for a score, there is 1" in said
    assert list(tmp_path.iterdir()) == [data]


def test_a_model_whose_intercept_lost_its_shape_is_damaged(files, tmp_path):
    data = (files / "m.safetensors").read_bytes()
    broken = tmp_path / "m.safetensors"
    assert data.count(b'"shape":[1]') == 1
    broken.write_bytes(data.replace(b'"shape":[1]', b'"shape":[] '))
    assert "damaged Ridge model" in refused("evaluate", broken, files / "d.csv")


def test_a_warning_is_a_note_without_a_line_of_code(files, tmp_path):
    script = "import sys; from scrimp.cli import main; sys.argv[0] = 'scrimp'; main()"
    args = ["train", files / "d.csv", "--target", "y", "--solver", "lbfgs", "--max-iter", "1"]
    words = [sys.executable, "-c", script, *map(str, args), "--out", str(tmp_path / "m")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100)
    assert done.stderr == "note: stopped after 1 iterations: raise max_iter or tol\n"
