"""Started many times by mpiexec or torchrun, `scrimp train` is one training."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from scrimp.cli.launched import launch
from scrimp.cli.tabular import TabularModel
from scrimp.train.ranks import joining, on_ranks

RNG = np.random.default_rng(9)


@pytest.fixture
def data(tmp_path):
    X = RNG.normal(size=(10_000, 5)).astype(np.float32)
    np.savez(tmp_path / "t.npz", X=X, y=X @ np.arange(5.0) + RNG.normal(size=len(X)))
    return tmp_path / "t.npz"


def train_on_two(launcher, data, out, *more):
    command = [
        *launcher,
        "scrimp",
        "train",
        str(data),
        "-t",
        "y",
        "--out",
        str(out),
        "--json",
        f"{out}.json",
        *more,
    ]
    environment = os.environ | {"PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110)


def check_one_training(launcher, data, tmp_path):
    """The model has the bits of one process, one rank speaks, bytes were sent."""
    done = train_on_two(launcher, data, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("held out") == 1
    document = json.loads((tmp_path / "two.json").read_text())
    assert document["bill"]["usage"]["wire_bytes"] > 0
    subprocess.run(
        [sys.executable, "-m", "scrimp", "train", data, "-t", "y", "-o", tmp_path / "one"], check=True
    )
    one, two = (TabularModel.load(tmp_path / name).model for name in ("one", "two"))
    np.testing.assert_array_equal(one.coef_, two.coef_)


@pytest.mark.peers
def test_torchrun_ranks_train_together(data, tmp_path):
    pytest.importorskip("torch")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    check_one_training(launcher, data, tmp_path)


@pytest.mark.peers
def test_mpi_ranks_train_together(mpi, data, tmp_path):
    check_one_training([*mpi, "-n", "2", sys.executable, "-m"], data, tmp_path)


@pytest.mark.peers
@pytest.mark.parametrize("at", ["the output", "the data", "a bug"])
def test_a_rank_that_fails_before_it_joins_ends_the_job_of_mpi(mpi, data, tmp_path, at):
    """Rank 1 is on its way to the fit, or waits there."""
    given, out, begin, code = data, tmp_path / "m", "", 1
    if at == "the output":  # which rank 0 alone looks at
        out = tmp_path / "none" / "m"
    elif at == "the data":
        given, code = tmp_path / "none.npz", 4
    else:
        begin = "import scrimp.cli.tabular as t; t.Split.read = None;"
    program = tmp_path / "rank.py"
    program.write_text(
        "import os, sys\n"
        "if os.environ.get('PMI_RANK', os.environ.get('OMPI_COMM_WORLD_RANK')) == '0':\n"
        f"    {begin} sys.argv[2] = {str(given)!r}\n"
        "from scrimp.cli import main\nmain()\n"
    )
    command = [*mpi, "-n", "2", sys.executable, program, "train", data, "-t", "y", "-o", out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert ("Traceback" if at == "a bug" else "error: rank 0: cannot ") in done.stderr
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_what_would_run_once_a_rank_is_refused(monkeypatch, data, tmp_path, command):
    from typer.testing import CliRunner

    from scrimp.cli import app

    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "2")
    more = ["-o", str(tmp_path / "p.csv")] if command == "predict" else []
    result = CliRunner().invoke(app, [command, str(data), str(data), *more])
    assert result.exit_code == 2
    assert f"{command} runs in one process, MPICH started 2" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ("", 0, 1)),
        ({"RANK": "1", "WORLD_SIZE": "3"}, ("torchrun", 1, 3)),
        ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4"}, ("Open MPI", 2, 4)),
        ({"PMI_RANK": "0", "PMI_SIZE": "2"}, ("MPICH", 0, 2)),
        ({"PMIX_RANK": "1", "SLURM_STEP_NUM_TASKS": "2"}, ("Slurm", 1, 2)),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, ("", 0, 1)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, ("", 0, 1)),
        ({"RANK": "x", "WORLD_SIZE": "2"}, ("", 0, 1)),
        ({"WORLD_SIZE": "2"}, ("", 0, 1)),
    ],
)
def test_the_environment_tells_rank_and_size(monkeypatch, variables, expected):
    for name in (
        "RANK",
        "WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "PMI_RANK",
        "PMI_SIZE",
        "PMIX_RANK",
        "SLURM_STEP_NUM_TASKS",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = launch()
    assert (found.launcher, found.rank, found.size) == expected


def test_workers_inside_ranks_are_wrong_usage(monkeypatch, data, tmp_path):
    from typer.testing import CliRunner

    from scrimp.cli import app

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    args = ["train", str(data), "-t", "y", "--workers", "2", "-o", str(tmp_path / "m")]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 2
    assert "torchrun started 2 ranks" in " ".join(result.stderr.split())


def test_fits_join_only_inside_the_block():
    from scrimp.comm import single

    comm = single()
    with joining(comm):
        joined, _ = on_ranks(lambda found: found, ())
    alone, _ = on_ranks(lambda found: found, ())
    assert joined is comm
    assert alone is not comm
