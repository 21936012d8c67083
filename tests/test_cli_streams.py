"""The command line where stdout is closed, names are no UTF-8, or the terminal knows few characters."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

SCRIPT = "import sys; from scrimp.cli import main; sys.argv[0] = 'scrimp'; main()"


def scrimp(*args, redirect="", **environment):
    """Run a command in a shell, with a redirection."""
    words = [sys.executable, "-c", SCRIPT, *args]
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirect}', "sh", *words],
        env=os.environ | environment,
        capture_output=True,
        timeout=100,
    )


@pytest.fixture
def strange(tmp_path):
    """A data file whose name is no UTF-8, with a column that ASCII cannot write."""
    data = tmp_path / os.fsdecode(b"bad\xff.csv")
    try:
        data.write_text("höhe,y\n" + "".join(f"{i},{2 * i}\n" for i in range(40)), encoding="utf-8")
    except OSError:
        pytest.skip("this file system takes no such name")
    return data


def test_a_closed_stdout_goes_nowhere_and_no_file_takes_its_place(strange, tmp_path):
    model, out, result = tmp_path / "m", tmp_path / "p.csv", tmp_path / "r.json"
    for command in (
        ["train", strange, "--target", "y", "--out", model],
        ["predict", model, strange, "--out", out, "--json", result],
        ["info", strange],
    ):
        done = scrimp(*command, redirect=">&-")
        assert (done.returncode, done.stderr) == (0, b"")
    assert len(out.read_text().splitlines()) == 41
    assert json.loads(result.read_text())["n_rows"] == 40


def test_a_closed_stderr_changes_nothing(tmp_path):
    done = scrimp("info", tmp_path / "none.csv", redirect="2>&-")
    assert (done.returncode, done.stdout) == (4, b"")


def test_a_name_that_is_no_utf8_is_read_shown_and_stored(strange, tmp_path):
    result, page = tmp_path / "r.json", tmp_path / "r.html"
    done = scrimp("info", strange, "--json", result)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"bad\\udcff.csv" in done.stdout
    assert json.loads(result.read_text())["file"] == str(strange)
    assert scrimp("report", result, "--out", page).returncode == 0
    assert "bad&#56575;.csv" in page.read_text()


def test_parquet_of_such_a_name_is_refused_with_the_reason(strange, tmp_path):
    data = strange.with_suffix(".parquet")
    with open(data, "wb") as file:
        pd.DataFrame({"a": [1.0, 2.0]}).to_parquet(file)
    for command in (["info", data], ["quantize", data, "--target", "a", "--out", tmp_path / "x.scrimp"]):
        done = scrimp(*command)
        assert done.returncode == 4
        assert b"pyarrow reads no file whose name is not UTF-8" in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin1"])
def test_a_character_that_the_terminal_lacks_is_escaped(strange, encoding):
    done = scrimp("info", strange, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (b"h\\xf6he" if encoding == "ascii" else b"h\xf6he") in done.stdout
