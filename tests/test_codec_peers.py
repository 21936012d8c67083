"""Bytes equal to those of PyTorch as it is installed; test_codec_recorded.py needs no peer."""

import numpy as np
import pytest

import scrimp

torch = pytest.importorskip("torch")


@pytest.mark.filterwarnings("ignore:.*deprecated.*:UserWarning")
def test_int8_is_torch_on_a_million_values():
    x = np.random.default_rng(11).standard_normal((8192, 128)).astype(np.float32)
    c = scrimp.codec("int8")
    payload = c.encode(x).reshape(-1, 132)
    scale = torch.from_numpy(payload[:, :4].copy().view(np.float32).ravel())
    theirs = torch.quantize_per_channel(torch.from_numpy(x), scale, torch.zeros(8192).long(), 0, torch.qint8)
    assert np.array_equal(payload[:, 4:].view(np.int8), theirs.int_repr().numpy())
    assert np.array_equal(c.decode(payload.ravel(), x.size).reshape(x.shape), theirs.dequantize().numpy())


def test_small_floats_are_torchs_on_every_upper_half():
    x = (np.arange(1 << 22, dtype=np.uint32) << 10).view(np.float32)
    for spec, dtype in (("e4m3", torch.float8_e4m3fn), ("e5m2", torch.float8_e5m2)):
        theirs = torch.from_numpy(x).to(dtype)
        ours = scrimp.codec(spec).encode(x)
        assert np.array_equal(ours, theirs.view(torch.uint8).numpy())
        decoded = scrimp.codec(spec).decode(ours, x.size)
        assert np.array_equal(decoded, theirs.float().numpy(), equal_nan=True)
