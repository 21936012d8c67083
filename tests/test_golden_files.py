"""Files that were written once are read forever; headers that lie are refused without allocating."""

import importlib.util
import json
import struct
from pathlib import Path

import numpy as np
import pytest

import scrimp
from scrimp import QuantizedMatrix, _core

HERE = Path(__file__).resolve().parent / "golden"
_spec = importlib.util.spec_from_file_location("golden_make_files", HERE / "make_files.py")
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)


@pytest.mark.parametrize("bits", [8, 4, 2, 1])
def test_golden_rows_are_read_and_written_to_the_byte(bits, tmp_path):
    path = HERE / f"rows-int{bits}.scrimp"
    Q, X = QuantizedMatrix.open(path, verify=True), make.rows()
    assert Q.shape == X.shape
    assert (np.abs(Q.dequantize() - X) <= Q.scale + 1e-6).all()
    np.testing.assert_allclose(Q.mean, X.mean(axis=0, dtype=np.float64), rtol=1e-12)
    make.matrix(bits).save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_golden_models_predict_what_they_always_did(bits):
    model = scrimp.load(HERE / f"ridge-{bits}.safetensors")
    frame, expected = make.frame(), make.predictions(bits)
    np.testing.assert_allclose(model.predict(frame), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(model.predict(frame.astype(np.float64)), expected, rtol=1e-5, atol=1e-5)
    assert model.get_params()["weight_bits"] == bits
    assert model.feature_names_in_.tolist() == list("abcde")


def header_file(path, fields, tail=b"", text=None):
    """Write a file whose header has a right checksum, whatever it says."""
    good = {"rows": 1, "columns": 1, "bits": 8, "rounding": "nearest", "seed": 0, "first_row": 0}
    good |= {"tables_crc32c": 0, "codes_crc32c": 0}
    text = json.dumps(good | fields).encode() if text is None else text
    path.write_bytes(struct.pack("<8sII", b"scrimpQ1", len(text), _core.crc32c(text)) + text + tail)
    return path


HUGE = [2**31, 2**60, 2**63 - 1, 2**64, 10**4000, -1, -(2**63), True, 1.5, "1", None]


@pytest.mark.parametrize("name", ["rows", "columns", "first_row", "seed", "bits", "tables_crc32c"])
@pytest.mark.parametrize("value", HUGE, ids=lambda v: str(v)[:12])
def test_any_size_in_a_header_is_refused_without_allocating(tmp_path, name, value):
    path = header_file(tmp_path / "x.scrimp", {name: value}, tail=b"\0" * 5000)
    with pytest.raises(scrimp.CodecError, match=r"x\.scrimp"):
        QuantizedMatrix.open(path)


def test_sizes_whose_product_overflows_are_refused(tmp_path):
    for rows, columns in ((2**32, 2**32), (2**59, 2**59), (2**59, 8), (10**2500, 10**2500)):
        path = header_file(tmp_path / "x.scrimp", {"rows": rows, "columns": columns}, tail=b"\0" * 5000)
        with pytest.raises(scrimp.CodecError, match=r"x\.scrimp"):
            QuantizedMatrix.open(path)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b'"rows"', b"\xff\xfe", b"[" * 200_000, b'{"a":' * 100_000, b"{}" + b"x"],
    ids=lambda text: repr(text[:12]),
)
def test_a_header_that_is_no_description_is_refused(tmp_path, text):
    path = header_file(tmp_path / "x.scrimp", {}, tail=b"\0" * 5000, text=text)
    with pytest.raises(scrimp.CodecError, match=r"x\.scrimp"):
        QuantizedMatrix.open(path)


def test_a_flipped_bit_anywhere_that_is_read_is_noticed(tmp_path):
    whole = (HERE / "rows-int4.scrimp").read_bytes()
    text_end = 16 + struct.unpack_from("<I", whole, 8)[0]
    tables_at, codes_at = -(-text_end // 64) * 64, len(whole) - 40 * 3
    tables_end = tables_at + 8 * (2 * 5 + 2 * 5 + 2)
    read = [*range(text_end), *range(tables_at, tables_end), *range(codes_at, len(whole))]
    path = tmp_path / "x.scrimp"
    for at in read:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        with pytest.raises(scrimp.CodecError, match=r"x\.scrimp"):
            QuantizedMatrix.open(path, verify=True)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    whole, path = (HERE / "rows-int8.scrimp").read_bytes(), tmp_path / "x.scrimp"
    for length in [*range(0, 400, 7), *range(400, len(whole), 301), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(scrimp.CodecError, match=r"x\.scrimp"):
            QuantizedMatrix.open(path)
