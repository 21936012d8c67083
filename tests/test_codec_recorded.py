"""Bytes equal to those of the peers, as recorded by tests/golden/make_peers.py."""

from pathlib import Path

import numpy as np
import pytest

import scrimp

PEERS = np.load(Path(__file__).resolve().parent / "golden" / "peers.npz")
X = PEERS["x"]
ROWS, COLUMNS = X.shape


def blocks(spec: str, x: np.ndarray = X) -> np.ndarray:
    c = scrimp.codec(spec)
    return c.encode(x).reshape(-1, c.native.block_nbytes)


def test_int8_of_a_row_is_torchs_per_channel_code():
    codes = blocks("int8:block=256")[:, 4:].view(np.int8)
    assert np.array_equal(codes, PEERS["torch_int8"])


@pytest.mark.parametrize("spec", ["e4m3", "e5m2", "bf16", "f16"])
def test_casts_are_torchs_with_nonfinite_values(spec):
    theirs = PEERS[f"torch_{spec}"]
    ours = scrimp.codec(spec).encode(PEERS["casts"]).view(theirs.dtype)
    nan = np.isnan(PEERS["casts"])
    assert np.array_equal(ours[~nan], theirs[~nan])
    assert np.isnan(scrimp.codec(spec).decode(ours.view(np.uint8), ours.size)[nan]).all()
    if theirs.itemsize == 1:
        assert np.array_equal(ours, theirs)


def test_nf4_is_bitsandbytes():
    ours = blocks("nf4")
    assert np.array_equal(ours[:, :4].copy().view(np.float32).ravel(), PEERS["bnb_absmax"])
    assert np.array_equal(ours[:, 4:], PEERS["bnb_nf4"])


@pytest.mark.parametrize("spec", ["q8_0", "q4_0"])
def test_gguf_blocks_are_the_gguf_packages(spec):
    assert np.array_equal(scrimp.codec(spec).encode(X), PEERS[f"gguf_{spec}"].ravel())


def test_mxfp4_differs_from_gguf_in_ties_only():
    ours, theirs = blocks("mxfp4"), PEERS["gguf_mxfp4"].reshape(-1, 17)
    assert np.array_equal(ours[:, 0], theirs[:, 0])
    c = scrimp.codec("mxfp4")
    a, b = (c.decode(np.ascontiguousarray(v).ravel(), X.size).astype(np.float64) for v in (ours, theirs))
    x = X.ravel().astype(np.float64)
    assert np.array_equal(np.abs(a - x), np.abs(b - x))
    assert (np.abs(a) >= np.abs(b)).mean() > 0.5


def test_e2m1_elements_are_ml_dtypes():
    values = PEERS["e2m1_values"]
    padded = np.zeros((values.size, 32), np.float32)
    padded[:, 0], padded[:, 1] = values.clip(-6, 6), 6  # absmax 6: the scale is 1
    codes = blocks("mxfp4", padded)[:, 1] & 15
    assert np.array_equal(codes, PEERS["ml_dtypes_e2m1"])


@pytest.mark.parametrize("rule", ["floor", "rceil", "even"])
def test_microscales_are_torchaos(rule):
    nonzero = X.reshape(-1, 32).any(1)
    ours = blocks(f"mxfp8:scale={rule}")
    assert np.array_equal(ours[nonzero, 0], PEERS[f"ao_scale_{rule}"].ravel()[nonzero])
    assert np.array_equal(ours[nonzero, 1:], PEERS[f"ao_e4m3_{rule}"].reshape(-1, 32)[nonzero])
    ours = blocks(f"mxfp4:scale={rule}")
    assert np.array_equal(ours[nonzero, 0], PEERS[f"ao_fp4_scale_{rule}"].ravel()[nonzero])
