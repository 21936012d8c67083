"""Packets describe themselves and refuse every damaged byte."""

import struct
import tracemalloc

import numpy as np
import pytest

import scrimp
from scrimp import _core

X = np.random.default_rng(0).standard_normal((7, 61)).astype(np.float32).clip(-1.2, 1.2)
SPECS = [s if s != "step" else "step:k=0.01,bits=16" for s in scrimp.codec_names()]


def with_crc(packet: bytes) -> bytes:
    crc = _core.crc32c(packet[12:], _core.crc32c(packet[:8]))
    return packet[:8] + struct.pack("<I", crc) + packet[12:]


def test_crc32c_is_castagnoli():
    assert _core.crc32c(b"123456789") == 0xE3069283
    assert _core.crc32c(b"6789", _core.crc32c(b"12345")) == 0xE3069283
    assert _core.crc32c(b"") == 0


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_packet_keeps_shape_and_dtype(spec, dtype):
    x = X.astype(dtype)
    y = scrimp.unpack(scrimp.pack(x, spec))
    c = scrimp.codec(spec)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    decoded = x if spec == "raw" else c.decode(c.encode(x), x.size).reshape(x.shape).astype(dtype)
    assert np.array_equal(y, decoded)


@pytest.mark.parametrize(
    "x", [np.arange(6).reshape(2, 3), np.array(True), np.zeros((3, 0, 2)), np.float64(2.5)]
)
def test_raw_packets_hold_any_number_and_shape(x):
    y = scrimp.unpack(scrimp.pack(x, "raw"))
    assert y.dtype == x.dtype
    assert np.array_equal(y, x)
    assert y.shape == x.shape


@pytest.mark.parametrize("spec", SPECS)
def test_every_flipped_bit_and_every_cut_is_noticed(spec):
    packet = scrimp.pack(X[:2, :9], spec)
    for i in range(len(packet)):
        with pytest.raises(scrimp.CodecError):
            scrimp.unpack(packet[:i])
        for bit in (1, 16, 128):
            damaged = bytearray(packet)
            damaged[i] ^= bit
            with pytest.raises(scrimp.CodecError):
                scrimp.unpack(damaged)
    with pytest.raises(scrimp.CodecError):
        scrimp.unpack(packet + b"\0")


def most_allocated_by_refusing(packet: bytes) -> int:
    """Return the peak of what Python and NumPy allocate while `unpack` refuses the packet."""
    with pytest.raises(scrimp.CodecError):
        scrimp.unpack(packet)  # once before, so that only the packet counts
    tracemalloc.start()
    try:
        with pytest.raises(scrimp.CodecError):
            scrimp.unpack(packet)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_packet_of_20_bytes_that_claims_2_to_the_60_values_is_refused_without_allocating():
    for version, dtype_code, payload_nbytes in ((1, 1, 2**62), (1, 11, 2**60), (1, 1, 2**64 - 1)):
        packet = with_crc(struct.pack("<4sBBBBIQ", b"scrp", version, dtype_code, 0, 0, 0, payload_nbytes))
        assert len(packet) == 20
        assert most_allocated_by_refusing(packet) < 20_000


@pytest.mark.parametrize("shape", [(2**60,), (2**32, 2**32), (2**63, 2), (0, 2**62), (2**64 - 1,) * 32])
@pytest.mark.parametrize("spec", ["raw", "int8", "topk", "rot1"])
def test_a_small_packet_that_claims_much_is_refused_without_allocating(shape, spec):
    name = scrimp.codec(spec).spec.encode()
    head = struct.pack("<4sBBBBIQ", b"scrp", 1, 1, len(shape), len(name), 0, 0)
    packet = with_crc(head + struct.pack(f"<{len(shape)}Q", *shape) + name)
    assert most_allocated_by_refusing(packet) < 20_000


def test_headers_that_lie_are_refused_even_with_a_right_checksum():
    packet = scrimp.pack(X, "int4")
    for at, value in (
        (0, b"X"),
        (4, b"\2"),
        (5, b"\0"),
        (5, b"\4"),
        (5, b"\xff"),
        (6, b"\x21"),
        (7, b"\x00"),
        (36, b"q"),
    ):
        with pytest.raises(scrimp.CodecError):
            scrimp.unpack(with_crc(packet[:at] + value + packet[at + 1 :]))


def test_pack_refuses_what_it_cannot_describe():
    with pytest.raises(TypeError, match="floats"):
        scrimp.pack(np.array(["a"]), "raw")
    with pytest.raises(ValueError, match="unknown codec"):
        scrimp.pack(X, "int99")


def test_the_codec_of_a_packet_may_be_named():
    assert scrimp.pack(X, codec="int4") == scrimp.pack(X, scrimp.codec("int4"))
