"""Packets that were written once decode forever, and are still written to the byte."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import scrimp

HERE = Path(__file__).resolve().parent / "golden"
_spec = importlib.util.spec_from_file_location("golden_make", HERE / "make.py")
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)
PACKETS = sorted(HERE.glob("*.packet"))


def test_every_codec_has_golden_bytes():
    specs = {spec for name in scrimp.codec_names() for spec in make.specs_of(name)}
    assert len(PACKETS) >= len(specs)


@pytest.mark.parametrize("path", PACKETS, ids=lambda p: p.stem)
def test_golden_packets_decode_and_are_written_to_the_byte(path):
    packet = path.read_bytes()
    length = packet[7]
    spec = packet[28 : 28 + length].decode()
    x = make.values()
    y = scrimp.unpack(packet)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    assert np.max(np.abs(y.astype(np.float64) - x)) <= scrimp.codec(spec).bound(x)
    assert scrimp.pack(x, spec, seed=7, step=3) == packet
