"""Rules of the house that a machine can check: sizes of files and functions, per-ISA files, imports."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [
    p
    for folder in ("csrc", "python", "tests", "bench", "examples")
    for p in sorted((ROOT / folder).rglob("*"))
    if p.suffix in {".py", ".h", ".cpp", ".cu", ".cuh", ".pyi"}
]
PYTHON = [p for p in SOURCES if p.suffix == ".py" and "tests" not in p.relative_to(ROOT).parts]


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_file_has_at_most_500_lines(path):
    assert len(path.read_text().splitlines()) <= 500


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_function_has_at_most_60_lines_without_docstring(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body
            has_docstring = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
            first = body[1].lineno if has_docstring and len(body) > 1 else node.lineno
            assert node.end_lineno - first < 60, node.name


def files_compiled_per_isa():
    found, todo = set(), list((ROOT / "csrc" / "kernels").glob("target_*.cpp"))
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo += [ROOT / "csrc" / name for name in re.findall(r'#include "([^"]+)"', path.read_text())]
    return sorted(found)


@pytest.mark.parametrize("path", files_compiled_per_isa(), ids=name_of)
def test_file_compiled_per_isa_includes_no_std_template(path):
    plain = {"cmath", "cstddef", "cstdint", "cstring"}
    intrinsics = {"immintrin.h", "nmmintrin.h", "arm_neon.h", "arm_acle.h"}
    assert set(re.findall(r"#include <([^>]+)>", path.read_text())) <= plain | intrinsics


def test_importing_scrimp_starts_nothing_and_loads_nothing_heavy():
    heavy = {"numpy", "sklearn", "scipy", "pandas", "torch", "typer", "rich", "scrimp._core"}
    code = (
        f"import sys, threading, scrimp; heavy = {heavy} & set(sys.modules); "
        "assert not heavy, heavy; assert threading.active_count() == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_versions_of_package_and_project_agree():
    import scrimp

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == scrimp.__version__
