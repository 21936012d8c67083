"""Markers by file, so that CI can run the kernels once per ISA and the peers where they are installed."""

from pathlib import Path

import pytest

# Programs, not tests: they need peers, or run for as long as they are told.
collect_ignore_glob = ["golden/*.py", "fuzz/*.py", "faults.py"]

KERNEL_FILES = {
    "test_codec_error",
    "test_codec_recorded",
    "test_codecs",
    "test_error_feedback",
    "test_golden",
    "test_gradient",
    "test_gram",
    "test_matmul",
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
