"""`scrimp distill` and `scrimp plan` on files."""

import json

import numpy as np
import pytest
import sklearn.ensemble  # noqa: F401  (its threads can be limited only once it is there)
from threadpoolctl import threadpool_limits
from typer.testing import CliRunner

from scrimp.cli import app

N = 1500
RNG = np.random.default_rng(7)
KM = RNG.uniform(0, 10, N)
BY = RNG.choice(["air", "sea"], N)
HOURS = KM * np.where(BY == "air", 0.5, 2.0) + RNG.normal(0, 0.3, N)


def run(*args, code=0):
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result


@pytest.fixture
def trips(tmp_path):
    rows = "".join(f"{k},{b},{h}\n" for k, b, h in zip(KM, BY, HOURS, strict=True))
    (tmp_path / "trips.csv").write_text("km,by,hours\n" + rows)
    return tmp_path / "trips.csv"


def read_json(path, command):
    document = json.loads(path.read_text())
    assert document["schema"] == f"scrimp.{command}/1"
    return document


def test_student_learns_from_boosting_and_is_a_model_file(trips, tmp_path):
    out, result = tmp_path / "student.safetensors", tmp_path / "d.json"
    args = ("--categorical", "auto", "-o", out, "--json", result)
    with threadpool_limits(1):  # boosting's OpenMP threads spin for long where cores are shared
        shown = run("distill", trips, "-t", "hours", *args).stdout
    report = read_json(result, "distill")["report"]
    assert report["fidelity"] > 0.7
    assert report["teacher"]["score"] > report["student"]["score"] > 0.6
    assert report["verdict"] in " ".join(shown.split())
    assert "r2" in run("evaluate", out, trips).stdout


def test_a_trained_model_may_teach(trips, tmp_path):
    teacher = tmp_path / "teacher.safetensors"
    run("train", trips, "-t", "hours", "--categorical", "auto", "-o", teacher)
    args = (
        "--teacher",
        teacher,
        "--categorical",
        "auto",
        "-o",
        tmp_path / "s",
        "--json",
        tmp_path / "d.json",
    )
    run("distill", trips, "-t", "hours", *args)
    assert read_json(tmp_path / "d.json", "distill")["report"]["fidelity"] > 0.99


def test_a_teacher_of_something_else_is_refused(trips, tmp_path):
    teacher = tmp_path / "teacher.safetensors"
    run("train", trips, "-t", "km", "--categorical", "auto", "-o", teacher)
    args = ("--teacher", teacher, "--categorical", "auto", "-o", tmp_path / "s")
    assert "predicts 'km'" in run("distill", trips, "-t", "hours", *args, code=4).stderr
    run("train", trips, "-t", "hours", "--drop", "by", "-o", teacher)
    assert "other columns" in run("distill", trips, "-t", "hours", *args, code=4).stderr
    assert not (tmp_path / "s").exists()


def test_classes_are_distilled(trips, tmp_path):
    args = ("--drop", "hours", "-o", tmp_path / "s", "--json", tmp_path / "d.json")
    with threadpool_limits(1):
        run("distill", trips, "-t", "by", *args)
    report = read_json(tmp_path / "d.json", "distill")["report"]
    assert report["metric"] == "accuracy"
    assert "accuracy" in run("evaluate", tmp_path / "s", trips).stdout


def test_plan_gives_reasons_and_a_command_that_works(trips, tmp_path):
    args = ("--categorical", "auto", "--reach", 0.5, "--json", tmp_path / "p.json")
    shown = run("plan", trips, "-t", "hours", *args).stdout
    document = read_json(tmp_path / "p.json", "plan")
    assert document["reaches"]
    assert document["reasons"]["solver"]
    assert "weighed, cheapest first" in shown
    command = document["command"].split()
    assert command[:3] == ["scrimp", "train", str(trips)]
    command[command.index("model.safetensors")] = str(tmp_path / "m.safetensors")
    run(*command[1:], "--json", tmp_path / "r.json")
    assert read_json(tmp_path / "r.json", "train")["r2"] > 0.5


def test_the_command_of_a_plan_repeats_what_was_said_of_the_data(trips, tmp_path):
    np.savez(tmp_path / "t.npz", X=np.c_[KM, HOURS], y=(BY == "air").astype(int))
    said = ["--task", "classification", "--raw-numbers", "--seed", "3", "--max-categories", "9"]
    run("plan", tmp_path / "t.npz", "-t", "y", *said, "--json", tmp_path / "p.json")
    command = read_json(tmp_path / "p.json", "plan")["command"]
    assert "--task classification" in command
    assert "--max-categories 9 --seed 3 --raw-numbers" in command


def test_plan_out_of_reach_is_a_note(trips):
    result = run("plan", trips, "-t", "hours", "--categorical", "auto", "--reach", 0.999)
    assert "not expected to be met" in result.stderr
