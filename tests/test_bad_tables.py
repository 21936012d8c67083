"""What `quantize_table` and `QuantizedTable.open` refuse, and that they name file, column and row."""

from __future__ import annotations

import json
import struct

import pandas as pd
import pytest

from scrimp import _core
from scrimp.data import QuantizedTable, TableEncoder, quantize_table, read_table
from scrimp.errors import CodecError, InputError

pytest.importorskip("pyarrow")


@pytest.fixture
def folder(tmp_path):
    """A folder of .parquet files; call it with a frame a file."""

    def write(*frames):
        path = tmp_path / "rows"
        path.mkdir()
        for i, frame in enumerate(frames):
            pd.DataFrame(frame).to_parquet(path / f"{i}.parquet")
        return path

    return write


def refusal(path, **options):
    out = path.parent / "t.scrimp"
    with pytest.raises(InputError) as caught:
        quantize_table(path, out, **{"target": "y", **options})
    assert not out.exists()
    return str(caught.value)


GOOD = {"a": [1.0, 2.0], "b": [3.0, 4.0], "y": [0.0, 1.0]}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"task": "regresion"}, r"task must be None or 'regression' or 'classification', got 'regresion'"),
        ({"missing": "dorp"}, r"missing must be 'error' or 'drop', got 'dorp'"),
    ],
)
def test_an_unknown_word_is_refused(folder, options, said):
    with pytest.raises(ValueError, match=said):
        quantize_table(folder(GOOD), folder, target="y", **options)


@pytest.mark.parametrize("changed", [{"task": "regresion"}, {"task": None}, {"target": 3}])
def test_a_file_of_an_unknown_task_is_damaged(folder, tmp_path, changed):
    path = tmp_path / "t.scrimp"
    quantize_table(folder(GOOD), path, target="y")
    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 8)[0]
    header = json.loads(data[16 : 16 + length])
    header["about"] |= changed
    text = json.dumps(header).encode().ljust(length)
    assert len(text) == length
    path.write_bytes(data[:12] + struct.pack("<I", _core.crc32c(text)) + text + data[16 + length :])
    with pytest.raises(CodecError, match="task must be 'regression' or 'classification'"):
        QuantizedTable.open(path)


def test_one_name_is_a_list_of_one(folder, tmp_path):
    path = folder({"cc": ["u", "v"], "dd": [1.0, 2.0], "y": [0.0, 1.0]})
    one = quantize_table(path, tmp_path / "1.scrimp", target="y", categorical="auto", drop="dd")
    assert one.encoder.features() == ["cc=u", "cc=v"]
    two = quantize_table(path, tmp_path / "2.scrimp", target="y", categorical="cc")
    assert two.encoder.features() == ["cc=u", "cc=v", "dd"]


def test_the_target_cannot_be_left_out(folder):
    assert "0.parquet: column 'y' is the target; drop cannot" in refusal(folder(GOOD), drop=["y"])


def test_what_is_categorical_must_be_a_feature(folder):
    assert "0.parquet: 'a' is declared categorical but is not" in refusal(
        folder(GOOD), categorical=["a"], drop=["a"]
    )


@pytest.mark.parametrize(("first", "second"), [([0, 1], ["u", "v"]), (["u", "v"], [0, 1])])
def test_classes_of_two_kinds_are_refused(folder, first, second):
    said = refusal(folder(GOOD | {"y": first}, GOOD | {"y": second}), task="classification")
    assert "1.parquet: target 'y' holds" in said
    assert "before it held" in said


def test_a_column_that_becomes_text_is_refused(folder):
    said = refusal(folder(GOOD, GOOD | {"b": ["u", "v"]}))
    assert "1.parquet: column 'b' holds text, before it held numbers" in said


@pytest.mark.parametrize(
    ("standardize", "value", "said"),
    [(False, 1e200, "beyond the range of float32"), (True, 1e200, "too large to standardise")],
)
def test_a_number_that_is_too_large_is_named(folder, standardize, value, said):
    text = refusal(folder(GOOD, GOOD | {"b": [3.0, -value]}), standardize=standardize)
    assert "1.parquet: column 'b' has -1e+200 in row 2" in text
    assert said in text


@pytest.mark.parametrize("odd", ["n/k", "1_000", "3;5", "0x10"])
def test_the_value_that_makes_a_column_text_is_shown(tmp_path, odd):
    (tmp_path / "a.csv").write_text(f"a,y\n1e3,2\n-.5,3\n{odd},4\n", encoding="utf-8")
    with pytest.raises(InputError, match=f"column 'a' holds text .such as '{odd}'"):
        TableEncoder.fit(read_table(tmp_path / "a.csv"))
