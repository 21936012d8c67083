"""GGUF files that the `gguf` package reads back to the same bytes and numbers."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from scrimp.atomic import replacing
from scrimp.codecs import codec, codec_names
from scrimp.errors import InputError
from scrimp.tensor_file import SafetensorsWriter, TensorInfo, export_gguf

gguf = pytest.importorskip("gguf")

RNG = np.random.default_rng(3)
TENSORS = {
    "blk.weight": RNG.normal(size=(48, 64)).astype(np.float32),
    "odd.weight": RNG.normal(size=(3, 50)).astype(np.float32),
    "half.weight": RNG.normal(size=(2, 3, 32)).astype(np.float16),
    "norm": RNG.normal(size=64).astype(np.float32),
    "ids": np.arange(7, dtype=np.int32),
    "scalar": np.array(2.5, np.float32),
}
QUANTIZED = [name for name in ("q8_0", "q4_0") if name in codec_names()]


@pytest.fixture
def model(tmp_path):
    save_file(TENSORS, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def read(path):
    reader = gguf.GGUFReader(path)
    return {t.name: t for t in reader.tensors}, reader


@pytest.mark.parametrize("spec", [*QUANTIZED, "f16", "raw"])
def test_the_gguf_package_reads_every_tensor_back(model, tmp_path, spec):
    reports = {r.name: r for r in export_gguf(model, tmp_path / "m.gguf", spec)}
    tensors, _ = read(tmp_path / "m.gguf")
    assert list(tensors) == list(reports)
    for name, x in TENSORS.items():
        got = tensors[name]
        assert tuple(reversed(got.shape.tolist())) == (x.shape or (1,))
        plain = gguf.quants.dequantize(got.data, got.tensor_type) if x.dtype.kind == "f" else got.data
        used = reports[name].codec
        expected = x
        if used != "copied":
            c = codec(used)
            expected = c.decode(c.encode(x), x.size).reshape(x.shape)
        np.testing.assert_array_equal(plain.reshape(x.shape), expected.astype(plain.dtype))


@pytest.mark.parametrize("spec", QUANTIZED)
def test_quantized_bytes_are_those_of_the_gguf_package(model, tmp_path, spec):
    export_gguf(model, tmp_path / "m.gguf", spec)
    tensors, _ = read(tmp_path / "m.gguf")
    kind = gguf.GGMLQuantizationType[spec.upper()]
    for name in ("blk.weight", "half.weight"):
        assert tensors[name].tensor_type == kind
        theirs = gguf.quants.quantize(TENSORS[name].astype(np.float32), kind)
        assert tensors[name].data.tobytes() == theirs.tobytes()


def test_rows_that_are_no_whole_blocks_and_vectors_are_copied(model, tmp_path):
    reports = {
        r.name: r.codec for r in export_gguf(model, tmp_path / "m.gguf", QUANTIZED[0] if QUANTIZED else "f16")
    }
    if QUANTIZED:
        assert reports["odd.weight"] == reports["norm"] == "copied"
    assert reports["ids"] == "copied"


def test_metadata_says_layout_and_alignment(model, tmp_path):
    export_gguf(model, tmp_path / "m.gguf", "raw")
    tensors, reader = read(tmp_path / "m.gguf")
    assert reader.fields["general.alignment"].contents() == 32
    assert reader.fields["general.name"].contents() == "m"
    assert all(t.data_offset % 32 == 0 for t in tensors.values())


def test_bf16_stays_bf16(tmp_path):
    bits = RNG.integers(0, 2**15, 64, dtype=np.uint16)
    with replacing(tmp_path / "b.safetensors") as file:
        SafetensorsWriter(file, [TensorInfo("w", "BF16", (2, 32), 128)], {}).write("w", bits.tobytes())
    export_gguf(tmp_path / "b.safetensors", tmp_path / "b.gguf", "raw")
    tensors, _ = read(tmp_path / "b.gguf")
    assert tensors["w"].tensor_type == gguf.GGMLQuantizationType.BF16
    assert tensors["w"].data.tobytes() == bits.tobytes()


def test_what_gguf_does_not_have_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match="GGUF has no 'int4'; possible: q8_0"):
        export_gguf(model, tmp_path / "m.gguf", "int4")
    save_file({"w": np.ones((1, 1, 1, 1, 64), np.float32)}, tmp_path / "deep.safetensors")
    with pytest.raises(InputError, match="5 dimensions"):
        export_gguf(tmp_path / "deep.safetensors", tmp_path / "m.gguf", "raw")
    save_file({"w": np.ones(4, np.uint16)}, tmp_path / "u.safetensors")
    with pytest.raises(InputError, match="is U16, which GGUF does not have"):
        export_gguf(tmp_path / "u.safetensors", tmp_path / "m.gguf", "raw")
    assert not (tmp_path / "m.gguf").exists()
