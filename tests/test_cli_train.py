"""`scrimp train`, `predict`, `evaluate`: from files to models and back, and every way a file can be wrong."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

import scrimp
from scrimp.cli import app
from scrimp.cli.tabular import TabularModel
from scrimp.data import TableEncoder, read_table

N = 600
RNG = np.random.default_rng(5)
KM = RNG.normal(100, 30, N)
BY = RNG.choice(["air", "rail", "sea"], N)
HOURS = KM / 50 + np.where(BY == "air", -1.0, np.where(BY == "sea", 3.0, 0.0)) + RNG.normal(0, 0.1, N)


def run(*args, code=0):
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result


def refused(*args, code=4):
    result = run(*args, code=code)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("error: ")
    return result.stderr


def write_csv(path, columns):
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


@pytest.fixture
def trips(tmp_path):
    return write_csv(tmp_path / "trips.csv", {"km": KM, "by": BY, "hours": HOURS})


@pytest.fixture
def model(tmp_path, trips):
    path = tmp_path / "model.safetensors"
    run("train", trips, "--target", "hours", "--categorical", "auto", "--out", path)
    return path


def read_json(path, command):
    document = json.loads(path.read_text())
    assert document["schema"] == f"scrimp.{command}/1"
    return document


def test_train_scores_held_out_rows_and_shows_the_bill(trips, tmp_path):
    result = tmp_path / "r.json"
    args = ("--categorical", "by", "--out", tmp_path / "m", "--json", result)
    shown = run("train", trips, "-t", "hours", *args).stdout
    document = read_json(result, "train")
    assert document["r2"] > 0.99
    assert document["rmse"] == pytest.approx(0.1, rel=0.3)
    assert (document["n_train"], document["n_test"], document["n_features"]) == (480, 120, 4)
    assert document["task"] == "regression"
    assert document["model_bytes"] == (tmp_path / "m").stat().st_size
    assert document["bill"]["usage"]["stored_bytes"] == document["model_bytes"]
    assert document["usd"] > 0
    for text in ("r2", "held out", "US dollars", "cpu"):
        assert text in shown


def test_model_carries_its_encoder(model, trips, tmp_path):
    loaded = TabularModel.load(model)
    assert (loaded.target, loaded.task) == ("hours", "regression")
    assert loaded.encoder.features() == ["km", "by=air", "by=rail", "by=sea"]
    np.testing.assert_allclose(loaded.predict(read_table(trips)), HOURS, atol=0.6)
    assert type(scrimp.load(model)).__name__ == "Ridge"


def test_predict_writes_one_prediction_a_row(model, trips, tmp_path):
    run("predict", model, trips, "--out", tmp_path / "p.csv", "--json", tmp_path / "p.json")
    run("predict", model, trips, "--out", tmp_path / "p.npy")
    predicted = read_table(tmp_path / "p.csv").column("hours")
    np.testing.assert_allclose(predicted, HOURS, atol=0.6)
    np.testing.assert_allclose(np.load(tmp_path / "p.npy"), predicted, rtol=1e-6)
    assert read_json(tmp_path / "p.json", "predict")["n_rows"] == N


def test_predict_holds_one_batch_at_a_time(model, trips, tmp_path, monkeypatch):
    from pyarrow import csv, parquet

    parquet.write_table(csv.read_csv(trips), tmp_path / "t.parquet")
    run("predict", model, tmp_path / "t.parquet", "--out", tmp_path / "whole.npy")
    sizes, transform = [], TableEncoder.transform
    monkeypatch.setattr("scrimp.data.batches._batch_rows", lambda columns: 70)
    monkeypatch.setattr(
        TableEncoder, "transform", lambda self, table: sizes.append(table.n_rows) or transform(self, table)
    )
    run("predict", model, tmp_path / "t.parquet", "--out", tmp_path / "parts.npy")
    assert max(sizes) <= 70
    assert sum(sizes) == N
    np.testing.assert_array_equal(np.load(tmp_path / "parts.npy"), np.load(tmp_path / "whole.npy"))


def test_evaluate_scores_a_file(model, trips, tmp_path):
    shown = run("evaluate", model, trips, "--json", tmp_path / "e.json").stdout
    assert "r2 0.99" in shown
    assert read_json(tmp_path / "e.json", "evaluate")["r2"] > 0.99


def test_predict_needs_no_target_column_and_ignores_others(model, tmp_path):
    new = write_csv(tmp_path / "new.csv", {"note": ["x", "y"], "by": ["air", "sea"], "km": [100, 50]})
    run("predict", model, new, "--out", tmp_path / "p.npy")
    np.testing.assert_allclose(np.load(tmp_path / "p.npy"), [1.0, 4.0], atol=0.2)


def test_unseen_category_is_a_note_not_an_error(model, tmp_path):
    new = write_csv(tmp_path / "new.csv", {"by": ["mule", "air", "mule"], "km": [100, 50, 1]})
    result = run("predict", model, new, "--out", tmp_path / "p.npy")
    assert "note: 2 rows have a value of 'by' that was not there in training" in result.stderr


def test_classification_of_text_labels(tmp_path):
    label = np.where(KM + RNG.normal(0, 2, N) > 100, "far", "near")
    data = write_csv(tmp_path / "t.csv", {"km": KM, "by": BY, "label": label})
    out = tmp_path / "m.safetensors"
    run("train", data, "-t", "label", "--categorical", "auto", "-o", out, "--json", tmp_path / "r.json")
    document = read_json(tmp_path / "r.json", "train")
    assert document["task"] == "classification"
    assert document["accuracy"] > 0.93
    run("predict", out, data, "--out", tmp_path / "p.csv")
    predicted = read_table(tmp_path / "p.csv").column("label")
    assert np.mean(predicted == label) > 0.93
    assert "accuracy 0.9" in run("evaluate", out, data).stdout


def test_classification_of_whole_numbers_gives_whole_numbers(tmp_path):
    np.savez(tmp_path / "t.npz", X=np.c_[KM, HOURS].astype(np.float32), y=(KM > 100).astype(np.float64))
    out = tmp_path / "m.safetensors"
    run("train", tmp_path / "t.npz", "-t", "y", "--task", "classification", "-o", out)
    run("predict", out, tmp_path / "t.npz", "-o", tmp_path / "p.csv")
    assert set((tmp_path / "p.csv").read_text().split()) == {"y", "0", "1"}


def test_levers_change_bits_and_keep_the_score(trips, tmp_path):
    out, result = tmp_path / "m.safetensors", tmp_path / "r.json"
    levers = ("--data-bits", 8, "--weight-bits", 8)
    run("train", trips, "-t", "hours", "--categorical", "auto", *levers, "-o", out, "--json", result)
    assert read_json(result, "train")["r2"] > 0.98


def test_workers_train_in_processes(trips, tmp_path):
    out, result = tmp_path / "m.safetensors", tmp_path / "r.json"
    levers = ["--workers", "2", "--solver", "lbfgs", "--compress", "int8", "--raw-below", "0"]
    command = [sys.executable, "-m", "scrimp", "train", str(trips), "-t", "hours", "--categorical", "by"]
    command += [*levers, "-o", str(out)]
    done = subprocess.run([*command, "--json", str(result)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    document = read_json(result, "train")
    assert document["r2"] > 0.98
    assert 0 < document["bill"]["usage"]["wire_bytes"] < document["bill"]["usage"]["raw_bytes"]


def test_workers_may_exchange_seldom_and_go_on_without_one(trips, tmp_path):
    levers = ["--workers", "2", "--solver", "sgd", "--compress", "int8", "--raw-below", "0"]
    sent = []
    for every in (1, 4):
        result = tmp_path / f"{every}.json"
        more = ("--sync-every", every, "--feedback", "none", "--on-failure", "continue", "--json", result)
        run("train", trips, "-t", "hours", "--categorical", "by", *levers, *more, "-o", tmp_path / "m")
        sent.append(read_json(result, "train")["bill"]["usage"]["raw_bytes"])
    assert sent[1] < sent[0]


def test_compression_that_does_not_apply_is_a_note(trips, tmp_path):
    levers = ("--workers", 2, "--compress", "int4", "--categorical", "auto")
    result = run("train", trips, "-t", "hours", *levers, "-o", tmp_path / "m")
    assert result.stderr.startswith("note: nothing was compressed")


def test_a_quantized_model_still_predicts(model, trips, tmp_path):
    run("quantize", model, "--codec", "int8", "-o", tmp_path / "small.safetensors")
    assert "r2 0.9" in run("evaluate", tmp_path / "small.safetensors", trips).stdout


def test_rows_may_be_sampled(trips, tmp_path):
    args = ("--categorical", "auto", "--max-rows", 100, "-o", tmp_path / "m", "--json", tmp_path / "r.json")
    run("train", trips, "-t", "hours", *args)
    document = read_json(tmp_path / "r.json", "train")
    assert (document["n_train"], document["n_test"]) == (100, 120)


def test_budget_stops_with_3_and_writes_no_model(trips, tmp_path):
    out = tmp_path / "m.safetensors"
    limits = ("--solver", "sgd", "--max-seconds", 1e-6)
    assert "budget of 1e-06 seconds" in refused(
        "train", trips, "-t", "hours", "--categorical", "auto", *limits, "-o", out, code=3
    )
    assert not out.exists()


def test_info_says_what_a_model_predicts_from_what(model, tmp_path):
    shown = " ".join(run("info", model, "--json", tmp_path / "i.json").stdout.split())
    assert "Ridge of 'hours' (regression) from km, by" in shown
    document = read_json(tmp_path / "i.json", "info")
    assert document["model"] == {
        "kind": "Ridge",
        "target": "hours",
        "task": "regression",
        "columns": ["km", "by"],
    }
    assert {t["name"]: t["type"] for t in document["tensors"]}["coef.packed"] == "raw"


def test_evaluate_can_leave_out_rows_without_a_value(model, tmp_path):
    new = tmp_path / "new.csv"
    new.write_text("km,by,hours\n100,air,1\n,air,1\n50,sea,4\n100,rail,\n")
    assert "has no value" in refused("evaluate", model, new)
    assert "2 rows" in run("evaluate", model, new, "--missing", "drop").stdout
    new.write_text("km,by,hours\n,air,1\n1,air,\n")
    assert "every row has a missing value" in refused("evaluate", model, new, "--missing", "drop")


# bad input: one clear line, exit 4, nothing overwritten ------------------------------------------

BAD_DATA = {
    "missing target": ("km,by\n1,air\n2,sea\n", "no column 'hours'; columns: km, by"),
    "text": (
        "km,by,hours\n1,x,1\n2,y,2\n3,z,3\n",
        "column 'by' holds text, such as 'x'; use --categorical by",
    ),
    "nan": ("km,by,hours\n1,1,1\n,2,2\n3,3,\n", "rows without a value: km 1, hours 1; leave such rows out"),
    "ragged": ("km,by,hours\n1,1,1\n2,2\n", "line 3 has 2 fields, the header has 3"),
    "empty": ("", "the file is empty"),
    "only a header": ("km,by,hours\n", "no row below the header"),
    "one row": ("km,by,hours\n1,1,1\n", "too few to hold out"),
    "target only": ("hours\n1\n2\n3\n", "no column beside the target"),
    "text target": ("km,hours\n1,x\n2,y\n3,z\n", "target 'hours' holds text; use --task classification"),
}


@pytest.mark.parametrize(("content", "said"), BAD_DATA.values(), ids=BAD_DATA)
def test_training_data_that_cannot_be_used(tmp_path, content, said):
    data, out = tmp_path / "t.csv", tmp_path / "m.safetensors"
    data.write_text(content)
    out.write_bytes(b"old")
    task = ("--task", "regression") if "x\n2,y" in content and "by" not in content else ()
    assert said in refused("train", data, "-t", "hours", *task, "-o", out)
    assert out.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["m.safetensors", "t.csv"]


def test_missing_rows_can_be_left_out(tmp_path):
    data = tmp_path / "t.csv"
    data.write_text("km,hours\n" + "".join(f"{k},{2 * k}\n" for k in range(50)) + ",5\n7,\n")
    args = ("--missing", "drop", "-o", tmp_path / "m", "--json", tmp_path / "r.json")
    run("train", data, "-t", "hours", *args)
    document = read_json(tmp_path / "r.json", "train")
    assert document["n_train"] + document["n_test"] == 50


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--drop", "nothing"), "no column 'nothing'"),
        (("--categorical", "by,nothing"), "no column 'nothing'"),
        (("--categorical", "auto", "--max-categories", 2), "'by' has 3 distinct values, more than 2"),
    ],
)
def test_options_that_name_other_columns(trips, tmp_path, args, said):
    assert said in refused("train", trips, "-t", "hours", *args, "-o", tmp_path / "m")


def test_wrong_length_and_truncated_arrays(tmp_path):
    np.savez(tmp_path / "wrong.npz", X=np.ones((10, 2)), y=np.ones(9))
    assert "column 'y' has 9 rows, '0' has 10" in refused(
        "train", tmp_path / "wrong.npz", "-t", "y", "-o", tmp_path / "m"
    )
    np.save(tmp_path / "cut.npy", np.ones((100, 3)))
    whole = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-10])
    assert "not a whole .npy file" in refused("train", tmp_path / "cut.npy", "-t", "2", "-o", tmp_path / "m")


@pytest.mark.parametrize(
    "option", [("--data-bits", "7"), ("--task", "guess"), ("--workers", "0"), ("--test-size", "2")]
)
def test_option_values_that_cannot_be_are_wrong_usage(trips, tmp_path, option):
    run("train", trips, "-t", "hours", *option, "-o", tmp_path / "m", code=2)


def test_what_is_not_a_model_is_refused(model, trips, tmp_path):
    out = tmp_path / "p.csv"
    out.write_bytes(b"old")
    whole = model.read_bytes()
    bad = tmp_path / "bad.safetensors"
    for content in (b"", b"no model", whole[: len(whole) // 2], whole[:-3]):
        bad.write_bytes(content)
        assert str(bad) in refused("predict", bad, trips, "--out", out)
        assert str(bad) in refused("evaluate", bad, trips)
    save_file({"w": np.ones(3, np.float32)}, bad)
    assert str(bad) in refused("predict", bad, trips, "--out", out)
    assert str(trips) in refused("predict", trips, trips, "--out", out)
    assert "no such file" in refused("predict", tmp_path / "none", trips, "--out", out).lower()
    assert out.read_bytes() == b"old"


def test_model_without_encoder_says_so(tmp_path, trips):
    from scrimp.linear_model import Ridge

    Ridge().fit(np.eye(5), np.arange(5.0)).save(tmp_path / "bare.safetensors")
    assert "holds no table encoder" in refused(
        "predict", tmp_path / "bare.safetensors", trips, "-o", tmp_path / "p.csv"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("km\n1\n", "no column 'by'; columns: km"),
        ("km,by\nfar,air\n", "'km' holds text"),
        ("km,by\n1,air\n,sea\n", "'km' has no value (NaN or empty) in 1 of 2 rows, first in row 2"),
        ("km,by\n1e300,air\n", "'km' in row 1 is beyond the range of float32"),
    ],
)
def test_new_data_that_does_not_fit_the_model(model, tmp_path, content, said):
    data, out = tmp_path / "new.csv", tmp_path / "p.csv"
    data.write_text(content)
    out.write_bytes(b"old")
    assert said in refused("predict", model, data, "--out", out)
    assert out.read_bytes() == b"old"


def test_evaluate_needs_the_target(model, tmp_path):
    new = write_csv(tmp_path / "new.csv", {"by": ["air"], "km": [1]})
    assert "no column 'hours'" in refused("evaluate", model, new)


def test_prediction_format_is_known_before_the_work(model, trips, tmp_path):
    assert "known: .csv .npy" in refused("predict", model, trips, "--out", tmp_path / "p.xlsx")


@pytest.mark.parametrize(
    ("content", "options", "code", "said"),
    [
        ("a,y\n1,x\n2,x\n3,x\n4,x\n5,x\n", [], 4, "at least two classes"),
        ("a,y\n1e300,2\n2e300,3\n3e300,4\n4e300,1\n5e300,2\n", [], 4, "column 'a' has values up to"),
        ("a,y\n1,2\n2,3\n3,4\n4,1\n5,2\n", ["--max-seconds", "-1"], 2, "above 0, got -1"),
        ("a,y\n1,2\n2,3\n3,4\n4,1\n5,2\n", ["--max-seconds", "0"], 2, "above 0, got 0"),
    ],
)
def test_what_cannot_be_trained_on_is_no_traceback(tmp_path, content, options, code, said):
    data = tmp_path / "data.csv"
    data.write_text(content)
    arguments = ["train", str(data), "--target", "y", "--out", str(tmp_path / "m"), *options]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("option", ["--out", "--json"])
def test_an_output_never_replaces_the_data(tmp_path, option):
    data = tmp_path / "data.csv"
    data.write_text("a,y\n1,2\n2,3\n3,4\n4,1\n5,2\n")
    outputs = {"--out": str(tmp_path / "m"), option: f"{tmp_path}/../{tmp_path.name}/data.csv"}
    words = [word for pair in outputs.items() for word in pair]
    result = CliRunner().invoke(app, ["train", str(data), "--target", "y", *words])
    assert result.exit_code == 4
    assert "would replace the input" in result.stderr
    assert data.read_text().startswith("a,y")
