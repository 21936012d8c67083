"""Bytes equal to those of the peers as they are installed; test_codec_recorded.py needs no peer."""

import numpy as np
import pytest

import scrimp

torch = pytest.importorskip("torch")
deprecated = pytest.mark.filterwarnings("ignore:.*deprecated.*:UserWarning")


def floats_of_every_upper_half():
    """Every upper half of a float's bits with the lower halves around ties, and with random ones."""
    upper = np.arange(1 << 16, dtype=np.uint32)[:, None] << 16
    around = np.array([0, 1, 0x3FFF, 0x4000, 0x7FFF, 0x8000, 0x8001, 0xC000, 0xFFFF], np.uint32)
    drawn = np.random.default_rng(7).integers(0, 1 << 16, (1 << 16, 7), np.uint32)
    return np.hstack([upper | around, upper | drawn]).view(np.float32).ravel()


@deprecated
def test_int8_is_torch_per_channel_on_a_million_values():
    x = np.random.default_rng(11).standard_normal((8192, 128)).astype(np.float32)
    c = scrimp.codec("int8")
    payload = c.encode(x).reshape(-1, 132)
    scale = torch.from_numpy(payload[:, :4].copy().view(np.float32).ravel())
    theirs = torch.quantize_per_channel(torch.from_numpy(x), scale, torch.zeros(8192).long(), 0, torch.qint8)
    assert np.array_equal(payload[:, 4:].view(np.int8), theirs.int_repr().numpy())
    assert np.array_equal(c.decode(payload.ravel(), x.size).reshape(x.shape), theirs.dequantize().numpy())


@deprecated
@pytest.mark.parametrize("absmax", [3.7, 127.0, 1e-20, 2e30])
def test_int8_is_torch_per_tensor_where_the_blocks_have_one_range(absmax):
    x = np.random.default_rng(12).uniform(-absmax, absmax, (1000, 128)).astype(np.float32)
    x[:, 5] = np.float32(absmax)
    scale = np.float32(absmax) / np.float32(127)
    x[:256, 9] = (np.arange(256) / 2 - 64).astype(np.float32) * scale  # ties, as far as fp32 has them
    c = scrimp.codec("int8")
    payload = c.encode(x).reshape(-1, 132)
    theirs = torch.quantize_per_tensor(torch.from_numpy(x), float(scale), 0, torch.qint8)
    assert (payload[:, :4].copy().view(np.float32) == scale).all()
    assert np.array_equal(payload[:, 4:].view(np.int8), theirs.int_repr().numpy())
    assert np.array_equal(c.decode(payload.ravel(), x.size).reshape(x.shape), theirs.dequantize().numpy())


@deprecated
def test_a_step_is_the_scale_of_torch_per_tensor():
    x = np.random.default_rng(13).uniform(-15.9, 15.9, 100_000).astype(np.float32)
    x[:509] = np.arange(-254, 255) / 16  # every tie
    theirs = torch.quantize_per_tensor(torch.from_numpy(x), 0.125, 0, torch.qint8)
    c = scrimp.codec("step:k=0.125")
    payload = c.encode(x)
    assert np.array_equal(payload.view(np.int8), theirs.int_repr().numpy())
    assert np.array_equal(c.decode(payload, x.size), theirs.dequantize().numpy())


@pytest.mark.parametrize(
    ("spec", "dtype"),
    [
        ("e4m3", torch.float8_e4m3fn),
        ("e5m2", torch.float8_e5m2),
        ("f16", torch.float16),
        ("bf16", torch.bfloat16),
    ],
)
def test_casts_are_torchs_on_every_upper_half(spec, dtype):
    x = floats_of_every_upper_half()
    theirs, c = torch.from_numpy(x).to(dtype), scrimp.codec(spec)
    bits = theirs.view(torch.uint8 if theirs.itemsize == 1 else torch.uint16).numpy()
    ours = c.encode(x)
    same = ours.view(bits.dtype) == bits
    assert same[np.isfinite(x) | np.isinf(x)].all()
    assert same.all() or theirs.itemsize == 2  # the bits that a NaN keeps differ there
    decoded = c.decode(ours, x.size)
    assert np.array_equal(decoded, theirs.float().numpy(), equal_nan=True)
    codes = np.arange(256**theirs.itemsize).astype(bits.dtype)
    expected = torch.from_numpy(codes).view(dtype).float().numpy()
    assert np.array_equal(c.decode(codes.view(np.uint8), codes.size), expected, equal_nan=True)


def test_e2m1_elements_are_ml_dtypes_for_every_float_of_a_block():
    """An absmax in 4 … 8 means a scale of 1: every float below 8 is an element, the largest are clamped."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = floats_of_every_upper_half()
    x = x[np.abs(x) < 8]
    edges = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 6], np.float32)
    edges = np.concatenate([edges, np.nextafter(edges, np.float32(0)), np.nextafter(edges, np.float32(9))])
    x = np.concatenate([edges, -edges, x])
    x = np.append(x, np.zeros(-x.size % 31, np.float32)).reshape(-1, 31)
    x = np.hstack([np.full((len(x), 1), 4, np.float32), x])
    payload = scrimp.codec("mxfp4").encode(x).reshape(-1, 17)
    assert (payload[:, 0] == 127).all()
    codes = np.hstack([payload[:, 1:] & 15, payload[:, 1:] >> 4])
    assert np.array_equal(codes, x.astype(ml_dtypes.float4_e2m1fn).view(np.uint8))


@pytest.mark.parametrize(("spec", "element"), [("mxfp4", "float4_e2m1fn"), ("mxfp8", "float8_e4m3fn")])
def test_every_scale_and_element_decodes_as_ml_dtypes_has_them(spec, element):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    c, bits = scrimp.codec(spec), 4 if spec == "mxfp4" else 8
    codes = np.arange(1 << bits, dtype=np.uint8).reshape(-1, 32 if bits == 8 else 16)
    packed = codes if bits == 8 else codes | codes[:, ::-1] << 4
    elements = codes if bits == 8 else np.hstack([codes, codes[:, ::-1]])
    for e in range(256):
        payload = np.hstack([np.full((len(packed), 1), e, np.uint8), packed])
        scale = np.uint8(e).view(ml_dtypes.float8_e8m0fnu).astype(np.float64)
        with np.errstate(over="ignore"):
            exact = (elements.view(getattr(ml_dtypes, element)).astype(np.float64) * scale).astype(np.float32)
        ours = c.decode(np.ascontiguousarray(payload).ravel(), elements.size)
        assert np.array_equal(ours, exact.ravel(), equal_nan=True), e
