"""Every example runs from the command line and ends well."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "examples"
EXAMPLES = [path for path in sorted(FOLDER.glob("*.py")) if "torch" not in path.read_text()]


@cache
def run(path):
    with TemporaryDirectory() as folder:
        return subprocess.run([sys.executable, path], cwd=folder, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(path):
    done = run(path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout


def test_the_article_keeps_its_forty_lines_and_finds_the_weights():
    path = FOLDER / "article.py"
    code = [line for line in path.read_text().splitlines() if line.strip()]
    assert len(code) <= 40
    assert "w′ = [ 1. -1.]" in run(path).stdout
