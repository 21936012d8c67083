"""Readers, the table encoder and the held-out split: what they accept, and how clearly they refuse."""

import importlib.util
import json
import sys

import numpy as np
import pytest

from scrimp.data import TableEncoder, as_table, held_out_split, read_table
from scrimp.data.csv_reader import _header, _read_with_arrow, _read_with_csv, read_csv
from scrimp.errors import InputError

CSV = "km,by,code\n1.5,air,7\n2,sea,8\n-3e2,air,7\n"


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(params=["plain", "pyarrow"])
def csv_way(request, monkeypatch):
    """Both readers of CSV: with pyarrow and without any extra."""
    if request.param == "plain":
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    else:
        pytest.importorskip("pyarrow")
    return request.param


def columns_of(table):
    return {name: list(table.column(name)) for name in table.names}


# readers -----------------------------------------------------------------------------------------


def test_csv_is_numbers_and_text(tmp_path, csv_way):
    table = read_table(write(tmp_path / "t.csv", CSV))
    assert columns_of(table) == {"km": [1.5, 2.0, -300.0], "by": ["air", "sea", "air"], "code": [7, 8, 7]}
    assert [table.is_text(name) for name in table.names] == [False, True, False]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_delimiter_is_taken_from_the_header(tmp_path, csv_way, delimiter):
    table = read_table(write(tmp_path / "t.csv", CSV.replace(",", delimiter)))
    assert table.names == ("km", "by", "code")


def test_csv_with_quotes_bom_blank_lines_and_crlf(tmp_path, csv_way):
    text = '\ufeff"a, first", b \r\n1,"x, ""y""\nz"\r\n\r\n2, w \r\n'
    table = read_table(write(tmp_path / "t.csv", text))
    assert columns_of(table) == {"a, first": [1, 2], "b": ['x, "y"\nz', "w"]}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv_names_with_quoted_line_breaks_are_one_record(tmp_path, csv_way, newline):
    text = '"price\nin EUR","a;b;c;d",e\n1,x,3\n"2","y\nz",4\n\n  \n'.replace("\n", newline)
    table = read_table(write(tmp_path / "t.csv", "\ufeff" + text))
    assert table.names == ("price in EUR", "a;b;c;d", "e")
    assert table.column("price in EUR").tolist() == [1.0, 2.0]
    assert table.column("a;b;c;d").tolist() == ["x", f"y{newline}z"]
    assert table.column("e").tolist() == [3.0, 4.0]


def test_csv_line_numbers_count_the_lines_of_quoted_names_and_cells(tmp_path, csv_way):
    path = write(tmp_path / "t.csv", '"a\nb",c\n"x\ny",2\n1,2,3\n')
    with pytest.raises(InputError, match="line 5 has 3 fields, the header has 2"):
        read_table(path)


def test_csv_name_whose_quote_is_not_closed_is_said_so(tmp_path, csv_way):
    with pytest.raises(InputError, match="a quote in the first line is never closed"):
        read_table(write(tmp_path / "t.csv", '"a,b\n1,2\n'))


def test_csv_numbers_are_plain_ascii_digits(tmp_path, csv_way):
    table = read_table(write(tmp_path / "t.csv", "a,b,c\n1_000,\u0661,\u00a05\n2,3,6\n"))
    assert [table.is_text(name) for name in "abc"] == [True, True, False]


def test_csv_missing_fields_are_nan_or_none(tmp_path, csv_way):
    table = read_table(write(tmp_path / "t.csv", "a,b\n1,x\n,NA\nNA,\n"))
    assert table.missing() == {"a": 2, "b": 2}
    assert columns_of(table)["b"] == ["x", None, None]


def test_csv_column_that_becomes_text_late_keeps_its_early_values_as_text(tmp_path, csv_way, monkeypatch):
    monkeypatch.setattr("scrimp.data.csv_reader.CHUNK_ROWS", 2)
    table = read_table(write(tmp_path / "t.csv", "a,b\n01,1\n02,2\n03,3\nx,4\n05,5\n"))
    assert columns_of(table) == {"a": ["01", "02", "03", "x", "05"], "b": [1, 2, 3, 4, 5]}


def test_both_csv_ways_agree_on_odd_tokens(tmp_path):
    pytest.importorskip("pyarrow")
    path = write(tmp_path / "t.csv", "a,b,c\n 1 ,nan,true\n1e5,inf,0x1\n-0,null,\n")
    header = _header(path)
    for mine, arrow in zip(_read_with_csv(path, *header[:2]), _read_with_arrow(path, header), strict=True):
        assert mine.dtype == arrow.dtype
        np.testing.assert_array_equal(mine, arrow)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n3\n", "line 3 has 1 field, the header has 2"),
        ("a,b\n1,2\n3,4,5\n", "line 3 has 3 fields, the header has 2"),
        ("", "the file is empty"),
        ("\n1,2\n", "the first line is empty"),
        ("a,b\n", "there is no row below the header"),
        ("1,2\n3,4\n", "the first line holds only numbers"),
        ("a,,b\n1,2,3\n", "column 2 of 3 has no name"),
        ("a,b,a\n1,2,3\n", "column name 'a' occurs more than once"),
    ],
)
def test_csv_that_cannot_be_used_is_one_clear_line(tmp_path, csv_way, text, said):
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(InputError) as error:
        read_table(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_binary_named_csv_is_an_input_error(tmp_path, csv_way):
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\n1,\xff\xfe\n")
    with pytest.raises(InputError, match="not UTF-8 text"):
        read_csv(path)


def test_npy_is_mapped_not_read(tmp_path):
    np.save(tmp_path / "t.npy", np.arange(12, dtype=np.float32).reshape(4, 3))
    table = read_table(tmp_path / "t.npy")
    assert table.names == ("0", "1", "2")
    assert isinstance(table.column("1"), np.memmap)
    assert list(table.column("1")) == [1, 4, 7, 10]


def test_structured_npy_has_named_columns(tmp_path):
    np.save(tmp_path / "t.npy", np.array([(1.0, "x"), (2.0, "y")], [("km", "f4"), ("by", "U3")]))
    assert columns_of(read_table(tmp_path / "t.npy")) == {"km": [1, 2], "by": ["x", "y"]}


def test_npz_is_one_matrix_and_named_columns(tmp_path):
    np.savez(tmp_path / "t.npz", X=np.eye(3), y=np.arange(3), by=np.array(["a", "b", "c"]))
    table = read_table(tmp_path / "t.npz")
    assert table.names == ("0", "1", "2", "y", "by")
    assert list(table.column("y")) == [0, 1, 2]


def test_parquet_keeps_numbers_text_and_missing(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    frame = pa.table({"km": [1.0, None], "n": pa.array([1, 2], pa.int8()), "by": ["air", None]})
    parquet.write_table(frame, tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert table.missing() == {"km": 1, "by": 1}
    assert list(table.column("n")) == [1, 2]


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet"])
@pytest.mark.parametrize("keep", [0, 3, 0.5, 0.95])
def test_truncated_file_is_an_input_error(tmp_path, suffix, keep):
    path = tmp_path / f"t{suffix}"
    X = np.random.default_rng(0).normal(size=(64, 4))
    if suffix == ".parquet":
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pa.table({"a": X[:, 0]}), path)
    else:
        (np.save if suffix == ".npy" else np.savez)(path, X)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(InputError, match=r"empty|not a whole") as error:
        read_table(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet"])
def test_text_under_another_name_is_an_input_error(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    with pytest.raises(InputError, match="not a whole"):
        read_table(write(tmp_path / f"t{suffix}", CSV))


def damaged(content, rng):
    """Flip, cut, insert or overwrite, up to three times."""
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(content))) if content else 0
        content = [
            lambda c, i: c[:i] + bytes([c[i] ^ (1 << rng.integers(8))]) + c[i + 1 :] if c else c,
            lambda c, i: c[:i],
            lambda c, i: c[:i] + rng.bytes(int(rng.integers(1, 9))) + c[i:],
            lambda c, i: c[:i] + b"\xff" * 4 + c[i + 4 :],
        ][rng.integers(4)](content, at)
    return content


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".parquet"])
def test_damage_anywhere_is_a_table_or_one_line(tmp_path, suffix):
    whole, rng = tmp_path / f"whole{suffix}", np.random.default_rng(1)
    X = rng.normal(size=(20, 3))
    if suffix == ".parquet":
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pa.table({"a": X[:, 0], "b": [str(i) for i in range(20)]}), whole)
    elif suffix == ".csv":
        whole.write_text("a,b\n" + "".join(f'{x},"t{i}"\n' for i, x in enumerate(X[:, 0])))
    else:
        (np.save if suffix == ".npy" else np.savez_compressed)(whole, X)
    refused = []
    for _ in range(200):
        path = tmp_path / f"x{suffix}"
        path.write_bytes(damaged(whole.read_bytes(), rng))
        try:
            table = read_table(path)
            [np.asarray(table.column(name)) for name in table.names]
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert not any("\n" in line for line in refused)


def test_array_and_archive_under_each_others_name_are_input_errors(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(2))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(InputError, match=r"not a whole \.npz file"):
        read_table(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", X=np.eye(2))
    (tmp_path / "b.npz").rename(tmp_path / "b.npy")
    with pytest.raises(InputError, match=r"not a whole \.npy file"):
        read_table(tmp_path / "b.npy")


def test_pickled_objects_are_refused_not_run(tmp_path):
    np.save(tmp_path / "t.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(InputError, match="not a whole"):
        read_table(tmp_path / "t.npy")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"X": np.eye(3), "y": np.arange(4)}, "column 'y' has 4 rows, '0' has 3"),
        ({"X": np.eye(3), "Z": np.eye(3)}, "more than one 2-D array (X, Z)"),
        ({"X": np.eye(2) * 1j}, "holds complex128"),
    ],
)
def test_npz_that_does_not_fit_says_why(tmp_path, arrays, said):
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(InputError) as error:
        read_table(tmp_path / "t.npz")
    assert said in str(error.value)


def test_unknown_extension_and_missing_file_are_input_errors(tmp_path):
    with pytest.raises(InputError, match=r"cannot tell the format from '\.xlsx'; known: \.npy"):
        read_table("data.xlsx")
    with pytest.raises(InputError, match="No such file"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "dir.csv").mkdir()
    with pytest.raises(InputError, match="is a folder, not a file"):
        read_table(tmp_path / "dir.csv")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match="scrimp\\[parquet\\]"):
        read_table(write(tmp_path / "t.parquet", "x"))


# frames ------------------------------------------------------------------------------------------


def frames():
    km, by = [1.0, None], ["air", None]
    for name in ("pandas", "polars"):
        if importlib.util.find_spec(name):
            yield name, lambda name=name: importlib.import_module(name).DataFrame({"km": km, "by": by})
    if importlib.util.find_spec("pyarrow"):
        yield "pyarrow", lambda: importlib.import_module("pyarrow").table({"km": km, "by": by})
    yield "mapping", lambda: {"km": np.array([1.0, np.nan]), "by": np.array(["air", None], object)}


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in frames()])
def test_every_frame_gives_the_same_table(make):
    table = as_table(make())
    assert table.names == ("km", "by")
    assert table.missing() == {"km": 1, "by": 1}
    assert table.is_text("by")
    assert table.column("km")[0] == 1.0


def test_pandas_categories_bools_and_nullable_numbers():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "c": pd.Categorical(["x", None, "y"]),
            "b": [True, False, True],
            "n": pd.array([1, None, 3], dtype="Int64"),
        }
    )
    table = as_table(frame)
    assert list(table.column("c")) == ["x", None, "y"]
    assert table.column("b").dtype == bool
    assert table.missing() == {"c": 1, "n": 1}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (np.zeros(3), r"expected a 2-D array \(rows x columns\), got shape \(3,\)"),
        (np.zeros((3, 0)), "no columns"),
        ({"a": np.array(["2020-01-01"], "M8[D]")}, "'a' holds dates"),
        ({"a": np.array([1, "x"], object)}, "'a' holds int and str, expected numbers or text"),
        ({"a": np.zeros((2, 2))}, r"'a' has shape \(2, 2\)"),
        ([[1, 2]], "got list"),
    ],
)
def test_what_is_not_a_table_is_refused(data, said):
    with pytest.raises(InputError, match=said):
        as_table(data)


def test_sparse_is_refused_with_a_reason():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(InputError, match="sparse matrices are not supported"):
        as_table(sparse.eye_array(3))


# encoder -----------------------------------------------------------------------------------------

TABLE = as_table(
    {
        "km": np.array([1.0, 2.0, 3.0, 6.0]),
        "by": np.array(["sea", "air", "air", "road"], object),
        "month": np.array([1, 12, 1, 2]),
        "same": np.full(4, 5.0),
    }
)


def test_encoder_standardizes_numbers_and_one_hots_categories():
    encoder = TableEncoder.fit(TABLE, categorical=["by", "month"])
    X = encoder.transform(TABLE)
    assert encoder.features() == [
        "km", "by=air", "by=road", "by=sea", "month=1", "month=2", "month=12", "same",
    ]  # fmt: skip
    assert X.dtype == np.float32
    np.testing.assert_allclose(X[:, 0], (np.array([1, 2, 3, 6]) - 3) / np.sqrt(3.5), rtol=1e-6)
    np.testing.assert_array_equal(X[:, 1:4], [[0, 0, 1], [1, 0, 0], [1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(X[:, 4:7], [[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(X[:, 7], 0)


def test_raw_numbers_stay_as_they_are():
    X = TableEncoder.fit(TABLE, features=["km", "month"], standardize=False).transform(TABLE)
    np.testing.assert_array_equal(X, [[1, 1], [2, 12], [3, 1], [6, 2]])


def test_auto_encodes_text_only():
    encoder = TableEncoder.fit(TABLE, categorical="auto")
    assert encoder.features()[:4] == ["km", "by=air", "by=road", "by=sea"]
    assert "month" in encoder.features()


def test_encoder_survives_json():
    encoder = TableEncoder.fit(TABLE, categorical=["by", "month"])
    again = TableEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    assert again == encoder
    np.testing.assert_array_equal(again.transform(TABLE), encoder.transform(TABLE))


def test_unseen_category_gives_zeros_and_is_counted():
    encoder = TableEncoder.fit(TABLE, features=["by"], categorical="auto")
    new = as_table({"by": np.array(["rail", "air", "rail"], object)})
    np.testing.assert_array_equal(encoder.transform(new), [[0, 0, 0], [1, 0, 0], [0, 0, 0]])
    assert encoder.unseen(new) == {"by": 2}
    assert encoder.unseen(TABLE) == {}


def test_a_number_is_the_same_category_from_any_file():
    encoder = TableEncoder.fit(TABLE, features=["month"], categorical=["month"])
    expected = encoder.transform(TABLE)
    for other in (np.array([1.0, 12.0, 1.0, 2.0]), np.array(["1", "12", "1", "2"], object)):
        np.testing.assert_array_equal(encoder.transform(as_table({"month": other})), expected)


def test_chunks_do_not_show(monkeypatch):
    encoder = TableEncoder.fit(TABLE, categorical="auto")
    whole = encoder.transform(TABLE)
    monkeypatch.setattr("scrimp.data.encoder.CHUNK_ROWS", 3)
    np.testing.assert_array_equal(encoder.transform(TABLE), whole)


def test_encoder_ignores_other_columns_and_their_order():
    encoder = TableEncoder.fit(TABLE, features=["km", "by"], categorical="auto")
    turned = TABLE.select(["by", "month", "km"])
    np.testing.assert_array_equal(encoder.transform(turned), encoder.transform(TABLE))


TEXT = np.array(["x", "y"], object)


@pytest.mark.parametrize(
    ("km", "by", "said"),
    [
        (np.ones(2), None, r"no column 'by'; columns: km"),
        (TEXT, TEXT, r"'km' holds text .such as 'x'.*expected numbers"),
        (np.array([1, np.nan]), TEXT, r"'km' has no value .* in 1 of 2 rows, first in row 2"),
        (np.array([1, np.inf]), TEXT, r"'km' has an infinite value in 1 of 2 rows"),
        (np.array([1, 1e300]), TEXT, r"'km' in row 2 is beyond the range of float32"),
        (np.ones(2), np.array(["x", None], object), r"'by' has no value"),
    ],
)
def test_table_that_does_not_fit_the_encoder_is_refused(km, by, said):
    encoder = TableEncoder.fit(TABLE, features=["km", "by"], categorical="auto")
    with pytest.raises(InputError, match=said):
        encoder.transform(as_table({"km": km} | ({} if by is None else {"by": by})))


def test_fit_refuses_text_that_is_not_declared():
    with pytest.raises(InputError, match=r"column 'by' holds text .such as 'sea'.*declare it categorical"):
        TableEncoder.fit(TABLE)


def test_fit_refuses_too_many_categories():
    table = as_table({"id": np.array([f"N{i}" for i in range(300)], object)})
    with pytest.raises(InputError, match="'id' has 300 distinct values, more than 256"):
        TableEncoder.fit(table, categorical="auto")
    assert TableEncoder.fit(table, categorical="auto", max_categories=300).width == 300


def test_fit_refuses_a_categorical_name_that_is_not_there():
    with pytest.raises(InputError, match="no column 'bye'"):
        TableEncoder.fit(TABLE, categorical=["bye"])


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        {"schema": "x"},
        {"schema": "scrimp.encoder/1"},
        {"schema": "scrimp.encoder/1", "columns": [{"kind": "odd"}]},
    ],
)
def test_damaged_encoder_description_is_an_input_error(document):
    with pytest.raises(InputError, match="encoder"):
        TableEncoder.from_dict(document)


# rows --------------------------------------------------------------------------------------------


def test_held_out_rows_and_training_rows_are_all_rows_once():
    train, test = held_out_split(1001, 0.2, seed=3)
    assert len(test) == 200
    np.testing.assert_array_equal(np.sort(np.r_[train, test]), np.arange(1001))
    assert (np.diff(train) > 0).all()
    assert (np.diff(test) > 0).all()


def test_equal_seeds_hold_out_equal_rows():
    assert np.array_equal(held_out_split(50, seed=1)[1], held_out_split(50, seed=1)[1])
    assert not np.array_equal(held_out_split(50, seed=1)[1], held_out_split(50, seed=2)[1])


def test_one_row_cannot_be_split():
    with pytest.raises(InputError, match="too few"):
        held_out_split(1, 0.2)
    assert [len(part) for part in held_out_split(1, 0)] == [1, 0]


def test_rows_without_values_can_be_left_out():
    table = as_table({"a": np.array([1, np.nan, 3]), "b": np.array(["x", "y", None], object)})
    assert table.without_missing(["a"]).n_rows == 2
    assert table.without_missing(["a", "b"]).n_rows == 1
    assert table.without_missing([]) is table
