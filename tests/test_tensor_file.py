"""Checkpoints are recoded tensor by tensor, bit for bit where they are copied, and never half written."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from scrimp.atomic import replacing
from scrimp.codecs import codec, codec_names, pack, unpack
from scrimp.errors import InputError, OutputError
from scrimp.tensor_file import (
    SafetensorsReader,
    SafetensorsWriter,
    TensorInfo,
    dequantize_file,
    quantize_file,
)

RNG = np.random.default_rng(0)
TENSORS = {
    "layer.weight": RNG.normal(size=(64, 96)).astype(np.float32),
    "layer.bias": RNG.normal(size=96).astype(np.float32),
    "half.weight": RNG.normal(size=(300,)).astype(np.float16),
    "double.weight": RNG.normal(size=(7, 50)),
    "steps": np.arange(10),
    "mask": np.array([True, False]),
    "tiny": np.array([1.5], np.float32),
    "scalar": np.array(2.5, np.float32),
    "empty": np.empty((0, 5), np.float32),
}


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path, metadata={"format": "pt", "title": "Größe"})
    return path


def bf16_bits(values):
    return codec("bf16").encode(np.asarray(values, np.float32)).view(np.uint16)


def save_bf16(path, values):
    """NumPy has no bf16, so the file is written by the room's own writer."""
    info = TensorInfo("w", "BF16", values.shape, 2 * values.size)
    with replacing(path) as file:
        SafetensorsWriter(file, [info], {}).write("w", bf16_bits(values).tobytes())


def test_reader_sees_what_the_library_wrote(model):
    reader = SafetensorsReader(model)
    assert set(reader.tensors) == set(TENSORS)
    assert reader.metadata == {"format": "pt", "title": "Größe"}
    for name, expected in TENSORS.items():
        assert reader.tensors[name].shape == expected.shape
        assert reader.raw(name).tobytes() == expected.tobytes()
        if reader.tensors[name].is_float:
            np.testing.assert_array_equal(reader.values(name), expected)


def test_the_library_reads_what_the_writer_wrote(tmp_path):
    path = tmp_path / "w.safetensors"
    infos = [
        TensorInfo("a", "F32", (2, 3), 24),
        TensorInfo("e", "F32", (0,), 0),
        TensorInfo("b", "I64", (2,), 16),
    ]
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([1, -1])
    with replacing(path) as file:
        writer = SafetensorsWriter(file, infos, {"k": "v"})
        writer.write("a", a[:1].tobytes())
        writer.write("a", a[1:])
        writer.write("b", b)
        writer.finish()
    loaded = load_file(path)
    np.testing.assert_array_equal(loaded["a"], a)
    np.testing.assert_array_equal(loaded["b"], b)
    assert loaded["e"].shape == (0,)
    with safe_open(path, "np") as file:
        assert file.metadata() == {"k": "v"}


def test_bf16_is_read_exactly(tmp_path):
    values = RNG.normal(size=1000).astype(np.float32)
    save_bf16(tmp_path / "b.safetensors", values)
    read = SafetensorsReader(tmp_path / "b.safetensors").values("w")
    np.testing.assert_array_equal(bf16_bits(read), bf16_bits(values))
    assert np.abs(read - values).max() <= np.abs(values).max() / 256


def test_quantized_file_is_safetensors_and_smaller(model, tmp_path):
    reports = quantize_file(model, tmp_path / "q.safetensors", "int4")
    loaded = load_file(tmp_path / "q.safetensors")
    assert set(loaded) == set(TENSORS)
    by_name = {r.name: r for r in reports}
    assert by_name["layer.weight"].codec == "int4"
    assert by_name["layer.weight"].bytes_before > 7 * by_name["layer.weight"].bytes_after
    for name in ("steps", "mask", "tiny", "scalar", "empty"):
        assert by_name[name].codec == "copied"
        np.testing.assert_array_equal(loaded[name], TENSORS[name])
    with safe_open(tmp_path / "q.safetensors", "np") as file:
        assert file.metadata()["title"] == "Größe"


@pytest.mark.parametrize("spec", [*(n for n in codec_names() if n not in ("raw", "step")), "step:k=0.05"])
def test_round_trip_is_the_codec_and_the_report_is_its_error(model, tmp_path, spec):
    reports = quantize_file(model, tmp_path / "q.safetensors", spec)
    dequantize_file(tmp_path / "q.safetensors", tmp_path / "back.safetensors")
    back = load_file(tmp_path / "back.safetensors")
    for report in reports:
        x, got = TENSORS[report.name], back[report.name]
        assert (got.dtype, got.shape) == (x.dtype, x.shape)
        if report.codec == "copied":
            np.testing.assert_array_equal(got, x)
            continue
        assert report.codec == spec
        c = codec(spec)
        decoded = c.decode(c.encode(x), x.size).reshape(x.shape)
        np.testing.assert_array_equal(got, decoded.astype(x.dtype))
        difference = got.astype(np.float64) - x
        assert report.max_error == np.abs(difference).max()
        energy = (x.astype(np.float64) ** 2).sum()
        assert report.relative_mse == pytest.approx((difference**2).sum() / energy, rel=1e-9)
    with safe_open(tmp_path / "back.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt", "title": "Größe"}


def test_first_matching_rule_wins(model, tmp_path):
    rules = [("bias$", "raw"), ("^layer", "int8"), ("weight", "f16")]
    by_name = {r.name: r.codec for r in quantize_file(model, tmp_path / "q.safetensors", "int4", rules)}
    assert by_name["layer.bias"] == "copied"
    assert by_name["layer.weight"] == "int8"
    assert by_name["double.weight"] == "f16"
    assert by_name["half.weight"] == "copied"  # f16 in a packet is not smaller than f16


def test_bf16_tensors_round_trip_as_bf16(tmp_path):
    values = RNG.normal(size=(32, 64)).astype(np.float32)
    save_bf16(tmp_path / "b.safetensors", values)
    quantize_file(tmp_path / "b.safetensors", tmp_path / "q.safetensors", "int8")
    dequantize_file(tmp_path / "q.safetensors", tmp_path / "back.safetensors")
    reader = SafetensorsReader(tmp_path / "back.safetensors")
    assert reader.tensors["w"].dtype == "BF16"
    assert np.abs(reader.values("w") - values).max() < 0.04
    dequantize_file(tmp_path / "q.safetensors", tmp_path / "f32.safetensors", "F32")
    assert load_file(tmp_path / "f32.safetensors")["w"].dtype == np.float32


def test_a_file_may_be_quantized_in_place(model):
    quantize_file(model, model, "int8")
    dequantize_file(model, model)
    np.testing.assert_allclose(load_file(model)["layer.weight"], TENSORS["layer.weight"], atol=0.02)


def test_quantizing_twice_is_refused(model, tmp_path):
    quantize_file(model, tmp_path / "q.safetensors")
    with pytest.raises(InputError, match="quantized already"):
        quantize_file(tmp_path / "q.safetensors", tmp_path / "qq.safetensors")
    with pytest.raises(InputError, match="not a quantized file"):
        dequantize_file(model, tmp_path / "x.safetensors")


def test_nan_names_the_tensor_and_leaves_the_old_output(tmp_path):
    save_file(
        {"a": np.ones(500, np.float32), "b": np.full(500, np.nan, np.float32)}, tmp_path / "m.safetensors"
    )
    out = tmp_path / "q.safetensors"
    out.write_bytes(b"old")
    with pytest.raises(InputError, match=r"tensor 'b'.*name it in a rule to keep it"):
        quantize_file(tmp_path / "m.safetensors", out, "int4")
    assert out.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.safetensors", "q.safetensors"]
    quantize_file(tmp_path / "m.safetensors", out, "int4", [("b", "raw")])


def test_values_beyond_the_codec_are_refused_and_non_finite_ones_kept(tmp_path):
    path, out = tmp_path / "m.safetensors", tmp_path / "q.safetensors"
    save_file({"w": np.array([1.0, 1e6] * 100, np.float32)}, path)
    with pytest.raises(InputError, match="tensor 'w' holds values beyond the range of f16"):
        quantize_file(path, out, "f16")
    assert not out.exists()
    save_file({"w": np.array([1.0, np.inf, np.nan] * 100, np.float32)}, path)
    (report,) = quantize_file(path, out, "f16")
    assert report.max_error == 0
    dequantize_file(out, out)
    np.testing.assert_array_equal(load_file(out)["w"], load_file(path)["w"])


def test_every_truncation_is_an_input_error(model, tmp_path):
    whole = model.read_bytes()
    cut = tmp_path / "cut.safetensors"
    for size in (0, 1, 7, 8, 50, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"not a whole safetensors file|the file is empty"):
            SafetensorsReader(cut)
    with pytest.raises(InputError, match="No such file"):
        SafetensorsReader(tmp_path / "none.safetensors")


def damage_packet(path, at):
    reader = SafetensorsReader(path)
    start = reader._start["layer.weight"]
    data = bytearray(path.read_bytes())
    data[start + at] ^= 0x40
    path.write_bytes(data)


@pytest.mark.parametrize("at", [0, 4, 6, 9, 14, 22, 40, 1000])
def test_damaged_packet_names_the_tensor(model, tmp_path, at):
    quantize_file(model, tmp_path / "q.safetensors", "int4")
    damage_packet(tmp_path / "q.safetensors", at)
    with pytest.raises(InputError, match=r"tensor 'layer.weight' is damaged"):
        dequantize_file(tmp_path / "q.safetensors", tmp_path / "back.safetensors")
    assert not (tmp_path / "back.safetensors").exists()


def described(**dtypes):
    return json.dumps(
        {"schema": "scrimp.quantized/1", "dtypes": {k.replace("_", "."): v for k, v in dtypes.items()}}
    )


@pytest.mark.parametrize(
    "note",
    [
        "",
        "[]",
        "{}",
        '{"schema":"other/1"}',
        described(layer_weight="Q9"),
        described(gone="F32"),
        described(steps="F32"),
    ],
)
def test_damaged_description_is_an_input_error(tmp_path, note):
    save_file(TENSORS, tmp_path / "q.safetensors", metadata={"scrimp.quantized": note})
    with pytest.raises(InputError):
        dequantize_file(tmp_path / "q.safetensors", tmp_path / "back.safetensors")


def test_damage_anywhere_is_refused_or_a_file(model, tmp_path):
    quantize_file(model, tmp_path / "q.safetensors", "int8")
    rng, bad, out = np.random.default_rng(1), tmp_path / "bad.safetensors", tmp_path / "out"
    for whole, recode in ((model, quantize_file), (tmp_path / "q.safetensors", dequantize_file)):
        content = whole.read_bytes()
        for _ in range(150):
            at = int(rng.integers(len(content)))
            bad.write_bytes(
                content[:at] + rng.bytes(int(rng.integers(0, 4))) + content[at + int(rng.integers(0, 4)) :]
            )
            with contextlib.suppress(InputError):
                recode(bad, out)


# writing -----------------------------------------------------------------------------------------


def test_replacing_keeps_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"%d" % (1 // (file.write(b"half of the new") - 15)))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]
    with replacing(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_device_is_an_output_error():
    with (
        pytest.raises(OutputError, match=r"cannot write /dev/full: No space left"),
        replacing("/dev/full") as file,
    ):
        file.write(b"x" * 100_000)


def test_full_disk_leaves_the_old_file(tmp_path):
    """A process with a small file-size limit stands for the full disk."""
    path = tmp_path / "x"
    path.write_bytes(b"old")
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "from scrimp.atomic import replacing\n"
        "from scrimp.errors import OutputError\n"
        "try:\n"
        "    with replacing(sys.argv[1]) as file:\n"
        "        file.write(b'x' * 1_000_000)\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == f"cannot write {path}: File too large\n"
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_missing_folder_and_directory_are_output_errors(tmp_path):
    with pytest.raises(OutputError, match="there is no folder"), replacing(tmp_path / "no" / "x"):
        pass
    with pytest.raises(OutputError, match="it is a directory"), replacing(tmp_path):
        pass


def test_memory_stays_near_the_largest_tensor(tmp_path):
    """12 tensors of 4 MiB: the whole model would be 48 MiB more than one of them."""
    tensors = {f"w{i}": RNG.normal(size=(1024, 1024)).astype(np.float32) for i in range(12)}
    save_file(tensors, tmp_path / "m.safetensors")
    code = (
        "import json, sys, scrimp\n"
        "from scrimp.tensor_file import quantize_file, dequantize_file\n"
        "quantize_file(sys.argv[1], sys.argv[2], 'int8')\n"
        "dequantize_file(sys.argv[2], sys.argv[3])\n"
        "sizes = []\n"
        "for call in (lambda: quantize_file(sys.argv[1], sys.argv[2], 'int8'),\n"
        "             lambda: dequantize_file(sys.argv[2], sys.argv[3]), lambda: None):\n"
        "    with scrimp.Meter() as meter:\n"
        "        call()\n"
        "    sizes.append(meter.usage.peak_bytes)\n"
        "print(json.dumps(sizes))\n"
    )
    files = [str(tmp_path / name) for name in ("m.safetensors", "q.safetensors", "b.safetensors")]
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=True)
    quantizing, dequantizing, idle = json.loads(done.stdout)
    one = 4 * 2**20
    assert quantizing - idle < 8 * one
    assert dequantizing - idle < 6 * one


def test_a_model_keeps_being_one_with_its_packets_encoded_again(tmp_path):
    """Its weights are packets; its plain floats (intercepts) and its document stay as they are."""
    weights = RNG.normal(size=(300, 2))
    tensors = {"coef.packed": np.frombuffer(pack(weights, "raw"), np.uint8), "intercept": np.ones(100)}
    save_file(tensors, tmp_path / "m.safetensors", metadata={"scrimp": "{}"})
    reports = {
        r.name: r for r in quantize_file(tmp_path / "m.safetensors", tmp_path / "q.safetensors", "int8")
    }
    quantized = load_file(tmp_path / "q.safetensors")
    again = unpack(quantized["coef.packed"].tobytes())
    assert (again.dtype, again.shape) == (np.float64, (300, 2))
    assert reports["coef.packed"].max_error == np.abs(again - weights).max() > 0
    assert reports["coef.packed"].shape == (300, 2)
    assert reports["intercept"].codec == "copied"
    with safe_open(tmp_path / "q.safetensors", "np") as file:
        assert file.metadata() == {"scrimp": "{}"}
