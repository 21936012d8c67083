"""A short series of faults over gloo: ranks that are killed, stopped, cut off or garbled at random points."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.peers
@pytest.mark.parametrize("fault", ["kill", "stop", "close", "flip"])
def test_a_fault_over_gloo_is_named_by_all_survivors_and_leaves_whole_arrays(fault: str) -> None:
    pytest.importorskip("torch")
    program = Path(__file__).with_name("faults.py")
    done = subprocess.run(
        [sys.executable, program, "5", "gloo", fault], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"gloo {fault}: 5 faults")
