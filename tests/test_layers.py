"""The arrows of the house: who may import or include whom (CONTRIBUTING.md, "The map")."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "python" / "scrimp"

# A room may use the rooms on lower floors, and itself.
PYTHON_FLOORS = [
    {"errors", "usage"},
    {"atomic"},
    {"_core"},
    {"cost"},
    {"codecs"},
    {"tensor_file", "matrix", "comm"},
    {"data"},
    {"train"},
    {"model_file"},
    {"linear_model", "distillation", "torch"},
    {"planner", "report"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
NATIVE_FLOORS = [{"core"}, {"codecs", "losses.h"}, {"kernels"}, {"engine"}, {"bindings", "cuda"}]


def floor_of(room, floors):
    for height, rooms in enumerate(floors):
        if room in rooms:
            return height
    raise AssertionError(f"{room!r} is not a room of the house: add it to a floor in {__file__}")


def may_use(user, used, floors):
    return user == used or floor_of(used, floors) < floor_of(user, floors)


def imported_names(node, package):
    """Full dotted names that one statement imports; `package` resolves relative imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = list(package[: len(package) - node.level + 1]) if node.level else []
    base += node.module.split(".") if node.module else []
    return [".".join([*base, alias.name]) for alias in node.names]


def python_violations(source, room, package=("scrimp",)):
    names = [name for node in ast.walk(ast.parse(source)) for name in imported_names(node, package)]
    rooms = {name.split(".")[1] for name in names if name.startswith("scrimp.")} - {"__version__"}
    return sorted(used for used in rooms if not may_use(room, used, PYTHON_FLOORS))


def python_modules():
    return [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", python_modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_python_module_imports_only_lower_rooms(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    assert python_violations(path.read_text(), parts[0], ("scrimp", *parts[:-1])) == []


def test_an_import_against_the_arrows_is_found():
    assert python_violations("from scrimp.cli import main", "cost") == ["cli"]
    assert python_violations("from scrimp import train", "codecs") == ["train"]
    assert python_violations("def f():\n    from ..train import x", "comm", ("scrimp", "comm")) == ["train"]
    assert python_violations("import scrimp.comm.local", "matrix") == ["comm"]
    assert python_violations("from scrimp.errors import CodecError", "codecs") == []


def native_violations(source, room):
    used = {Path(name).parts[0] for name in re.findall(r'#include "([^"]+)"', source)}
    return sorted(name for name in used if not may_use(room, name, NATIVE_FLOORS))


def native_files():
    files = sorted((ROOT / "csrc").rglob("*"))
    return [f for f in files if f.suffix in {".h", ".cpp", ".cu", ".cuh"}]


@pytest.mark.parametrize("path", native_files(), ids=lambda p: str(p.relative_to(ROOT / "csrc")))
def test_native_file_includes_only_lower_rooms(path):
    room = path.relative_to(ROOT / "csrc").parts[0]
    assert native_violations(path.read_text(), room) == []


def test_an_include_against_the_arrows_is_found():
    assert native_violations('#include "engine/segment.h"', "kernels") == ["engine"]
    assert native_violations('#include "core/check.h"', "kernels") == []


def test_no_public_function_shares_its_name_with_a_module():
    import scrimp

    modules = {p.stem for p in PACKAGE.glob("*.py")} | {p.name for p in PACKAGE.iterdir() if p.is_dir()}
    assert modules.isdisjoint(scrimp._HOME)
