"""Files that need not fit into memory: batches, tables in few bits on disk, passes that let pages go."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import scrimp
from scrimp.cli import app
from scrimp.data import QuantizedTable, TableBatches, TableEncoder, quantize_table, read_table
from scrimp.errors import CodecError, InputError
from scrimp.linear_model import LogisticRegression, Ridge
from scrimp.matrix import LEAF_ROWS, QuantizedMatrix, column_ranges, gradient_sums, gram_sums
from scrimp.matrix.file_rows import FileRows

rng = np.random.default_rng(5)


def arrays(n=2 * LEAF_ROWS + 100, d=5):
    X = rng.standard_normal((n, d)).astype(np.float32) * np.arange(1, d + 1) + 3
    return X, X @ np.arange(1.0, d + 1) + rng.standard_normal(n)


@pytest.fixture
def folder(tmp_path):
    """Three .npy files of one table, the target last."""
    X, y = arrays()
    rows = np.column_stack([X, y])
    for i, part in enumerate(np.array_split(rows, 3)):
        np.save(tmp_path / f"part{i}.npy", part)
    return tmp_path, rows


@pytest.fixture
def parquet(tmp_path):
    """Numbers, text, gaps and a target."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    n = LEAF_ROWS + 500
    columns = {
        "km": rng.normal(500, 100, n),
        "by": np.array(["air", "sea", "rail"], object)[rng.integers(0, 3, n)],
        "month": rng.integers(1, 13, n),
        "price": rng.normal(10, 2, n),
    }
    columns["price"] += columns["km"] / 50 + 3 * (columns["by"] == "air")
    columns["km"][7] = np.nan
    path = tmp_path / "trips.parquet"
    parquet.write_table(pyarrow.table(columns), path, row_group_size=1000)
    return path


def test_batches_are_the_rows_of_the_files_in_order(folder):
    path, rows = folder
    batches = TableBatches(path)
    for _ in range(2):
        seen = [np.column_stack([b.column(name) for name in b.names]) for b in batches]
        assert np.array_equal(np.vstack(seen), rows)
    assert max(map(len, seen)) <= len(rows) // 3 + 1


def test_parquet_comes_in_batches(parquet, monkeypatch):
    monkeypatch.setattr("scrimp.data.batches.BATCH_BYTES", 1)
    batches = list(TableBatches(parquet))
    assert [b.n_rows for b in batches] == [LEAF_ROWS, 500]
    assert np.concatenate([b.column("month") for b in batches]).tolist() == (
        read_table(parquet).column("month").tolist()
    )


def test_batches_refuse_what_does_not_fit_together(folder):
    path, _ = folder
    np.save(path / "part9.npy", np.zeros((3, 2)))
    with pytest.raises(InputError, match=r"part9\.npy: has other columns"):
        list(TableBatches(path))
    (path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no"):
        TableBatches(path / "empty")


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantized_folder_is_the_quantized_array(folder, tmp_path, bits):
    path, rows = folder
    table = quantize_table(path, tmp_path / "x.scrimp", target="5", bits=bits, standardize=False, seed=3)
    Q = QuantizedMatrix.from_array(rows[:, :5].astype(np.float32), bits, seed=3)
    for name in ("codes", "scale", "offset", "noise_blocks", "sum_blocks", "weight_blocks"):
        assert np.array_equal(getattr(table.X, name), getattr(Q, name)), name
    assert np.array_equal(table.y, rows[:, 5])
    assert table.task == "regression"


def test_the_scan_learns_the_encoder_of_the_whole_table(parquet, tmp_path, monkeypatch):
    monkeypatch.setattr("scrimp.data.batches.BATCH_BYTES", 1)
    options = {"categorical": ("by", "month"), "missing": "drop"}
    table = quantize_table(parquet, tmp_path / "t.scrimp", target="price", **options)
    whole = read_table(parquet)
    whole = whole.without_missing(whole.names)
    encoder = TableEncoder.fit(whole, features=("km", "by", "month"), categorical=("by", "month"))
    assert table.encoder.features() == encoder.features()
    km, fitted = table.encoder.columns[0], encoder.columns[0]
    assert (km.mean, km.scale) == pytest.approx((fitted.mean, fitted.scale), rel=1e-12)
    assert table.X.shape == (whole.n_rows, 16)
    assert np.allclose(table.X.dequantize(), table.encoder.transform(whole), atol=table.X.scale.max())
    assert np.array_equal(table.X.dequantize()[:, 1:], table.encoder.transform(whole)[:, 1:])


def test_gaps_and_undeclared_text_are_refused(parquet, tmp_path):
    with pytest.raises(InputError, match="'by' holds text"):
        quantize_table(parquet, tmp_path / "t.scrimp", target="price")
    with pytest.raises(InputError, match="'km' has no value"):
        quantize_table(parquet, tmp_path / "t.scrimp", target="price", categorical=("auto",))
    with pytest.raises(InputError, match="more than 5 distinct"):
        quantize_table(
            parquet,
            tmp_path / "t.scrimp",
            target="price",
            categorical=("by", "month"),
            missing="drop",
            max_categories=5,
        )
    assert not (tmp_path / "t.scrimp").exists()


def test_classes_come_back_as_labels(parquet, tmp_path):
    options = {"categorical": ("month",), "missing": "drop"}
    table = quantize_table(parquet, tmp_path / "t.scrimp", target="by", **options)
    assert table.task == "classification"
    assert table.classes == ("air", "rail", "sea")
    whole = read_table(parquet)
    whole = whole.without_missing(whole.names)
    assert table.labels().tolist() == whole.column("by").tolist()
    assert LogisticRegression().fit(table.X, table.labels()).classes_.tolist() == ["air", "rail", "sea"]


def test_damaged_targets_are_refused(folder, tmp_path):
    path = tmp_path / "x.scrimp"
    quantize_table(folder[0], path, target="5")
    assert QuantizedTable.open(path, verify=True).X.shape == (len(folder[1]), 5)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(CodecError, match="targets are damaged"):
        QuantizedTable.open(path)
    path.write_bytes(good[:-8])
    with pytest.raises(CodecError, match="take"):
        QuantizedMatrix.open(path)
    QuantizedMatrix.from_array(rng.random((9, 3))).save(path)
    with pytest.raises(InputError, match="without a target"):
        QuantizedTable.open(path)


def test_mapped_rows_give_the_bits_of_rows_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("scrimp.matrix.gradients.FILE_BATCH_BYTES", 1)
    X, y = arrays(3 * LEAF_ROWS + 17)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    Q = QuantizedMatrix.from_array(X)
    Q.save(tmp_path / "X.scrimp")
    opened = QuantizedMatrix.open(tmp_path / "X.scrimp")
    for a, b in ((X, mapped), (Q, opened), (Q.leaves(1, 4), opened.leaves(1, 4))):
        rows = y[-a.shape[0] :]
        w = np.ones(5)
        assert gradient_sums(a, rows, w).to_bytes() == gradient_sums(b, rows, w).to_bytes()
        assert gram_sums(a, rows).to_bytes() == gram_sums(b, rows).to_bytes()
    assert np.array_equal(Ridge().fit(X, y).coef_, Ridge().fit(mapped, y).coef_)
    monkeypatch.setattr("scrimp.matrix.ranges.BATCH_BYTES", 1 << 12)
    assert column_ranges(X).to_bytes() == column_ranges(mapped).to_bytes()


def test_nan_in_a_mapped_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("scrimp.matrix.ranges.BATCH_BYTES", 1 << 12)
    X, y = arrays()
    X[6000, 2] = np.nan
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    with pytest.raises(InputError, match=r"X\[6000, 2\] is nan"):
        column_ranges(mapped)
    with pytest.raises(ValueError, match=r"X\[6000, 2\] is nan"):
        Ridge().fit(mapped, y)


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("scrimp-read")]


def held():
    """Reading threads and open files of this process."""
    return len(readers()), len(os.listdir("/proc/self/fd"))


def mapped_batches(path, leaves=6):
    """Rows of a file, and slices of one leaf each."""
    np.save(path, np.ones((leaves * LEAF_ROWS, 3), np.float32))
    file = FileRows.of(np.load(path, mmap_mode="r"))
    return file, [slice(i * LEAF_ROWS, (i + 1) * LEAF_ROWS) for i in range(leaves)]


def test_two_batches_are_read_ahead_and_each_once_in_order(tmp_path, monkeypatch):
    file, slices = mapped_batches(tmp_path / "X.npy")
    read = []
    monkeypatch.setattr(FileRows, "_read", lambda self, rows: read.append(rows))
    at_work = []
    for rows in file.batches(iter(slices)):
        at_work.append(rows)
        done = min(len(at_work) + 2, len(slices))
        for _ in range(500):
            if len(read) < done:
                readers()[0].join(0.01)
        assert read == slices[:done]
    assert at_work == slices


def test_readers_end_and_files_close_whatever_happens(tmp_path):
    file, slices = mapped_batches(tmp_path / "X.npy")
    before = held()
    assert list(file.batches(slices)) == slices
    assert held() == before
    batches = file.batches(slices)
    next(batches)
    assert held() == (1, before[1] + 1)
    batches.close()
    assert held() == before
    with pytest.raises(ZeroDivisionError):
        [1 // rows.start for rows in file.batches(slices)]
    assert held() == before


def test_a_file_that_is_cut_short_meanwhile_is_an_error_and_no_crash(tmp_path):
    path = tmp_path / "X.npy"
    file, slices = mapped_batches(path)
    before, size = held(), path.stat().st_size
    os.truncate(path, size - 1)
    said = rf"X\.npy: was cut short .* byte {size:,}, the file at {size - 1:,}"
    with pytest.raises(CodecError, match=said):
        list(file.batches(slices))
    assert held() == before


def test_private_changes_of_a_mapped_array_are_kept(tmp_path):
    X, y = arrays()
    np.save(tmp_path / "X.npy", X)
    changed = np.load(tmp_path / "X.npy", mmap_mode="c")
    changed[0] = 7
    for _ in range(2):
        gradient_sums(changed, y, np.ones(5))
    assert (changed[0] == 7).all()


MEMORY = """
import sys, numpy as np, scrimp
from pathlib import Path
from scrimp.linear_model import Ridge
def kilobytes(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))
Ridge().fit(np.eye(4, dtype=np.float32), np.arange(4.0))  # imports
table = scrimp.QuantizedTable.open(sys.argv[1]) if sys.argv[1].endswith("scrimp") else None
X = table.X if table else np.load(sys.argv[1], mmap_mode="r")
y = table.y if table else np.zeros(len(X)) + np.arange(len(X)) % 7
before = kilobytes("VmRSS")
Ridge().fit(X, y)
width = X.shape[1] * (1 if table else X.dtype.itemsize)
print(X.shape[0] * width / 2**20, (kilobytes("VmHWM") - before) / 1024)
"""


@pytest.mark.parametrize("kind", ["scrimp", "npy"])
def test_a_fit_holds_a_part_of_its_file(tmp_path, kind):
    n, d = (100 * LEAF_ROWS, 768) if kind == "scrimp" else (100 * LEAF_ROWS, 192)
    path = tmp_path / f"data.{kind}"
    block = np.random.default_rng(0).standard_normal((LEAF_ROWS, d)).astype(np.float32)
    if kind == "npy":
        rows = np.lib.format.open_memmap(path, "w+", np.float32, (n, d))
        for i in range(0, n, LEAF_ROWS):
            rows[i : i + LEAF_ROWS] = block
        rows.flush()
        del rows
    else:
        source = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", np.float32, (n // 100, d))
        source[:] = block
        source.flush()
        (tmp_path / "many").mkdir()
        for i in range(100):
            (tmp_path / "many" / f"{i:03}.npy").symlink_to(tmp_path / "rows.npy")
        quantize_table(tmp_path / "many", path, target="0")
    done = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    file_mb, growth_mb = map(float, done.stdout.split())
    assert file_mb >= 290
    assert growth_mb < 100


def test_padding_that_is_not_zero_is_refused_on_request(folder, tmp_path):
    path = tmp_path / "x.scrimp"
    table = quantize_table(folder[0], path, target="5")
    good = path.read_bytes()
    n, d = table.X.shape
    text_end = 16 + int.from_bytes(good[8:12], "little")
    targets_at = len(good) - 8 * n
    codes_at = (targets_at - n * d) // 4096 * 4096
    places = [text_end, codes_at - 1, targets_at - 1]
    assert [good[at] for at in places] == [0, 0, 0]
    for at in places:
        path.write_bytes(good[:at] + b"\1" + good[at + 1 :])
        with pytest.raises(CodecError, match="are padding and must be 0"):
            QuantizedMatrix.open(path, verify=True)
        assert QuantizedTable.open(path).X.shape == (n, d)


def run(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def test_quantize_and_train_on_the_command_line(folder, tmp_path):
    path, rows = folder
    data, model, said = tmp_path / "x.scrimp", tmp_path / "m.safetensors", tmp_path / "t.json"
    done = run("quantize", path, "--target", "5", "--out", data, "--json", tmp_path / "q.json")
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "q.json").read_text())
    assert (result["rows"], result["features"], result["bits"]) == (len(rows), 5, 8)
    assert result["file_bytes"] == Path(data).stat().st_size
    done = run("train", data, "--target", "5", "--test-size", "0.3", "--out", model, "--json", said)
    assert done.exit_code == 0, done.output
    result = json.loads(said.read_text())
    assert result["n_test"] == 100
    assert result["r2"] > 0.99
    np.save(tmp_path / "whole.npy", rows)
    done = run("evaluate", model, tmp_path / "whole.npy", "--json", said)
    assert json.loads(said.read_text())["r2"] > 0.99


def test_the_command_line_says_what_does_not_go_together(folder, tmp_path):
    data = tmp_path / "x.scrimp"
    assert run("quantize", folder[0], "--out", data).exit_code == 2
    assert run("quantize", folder[0], "--target", "5", "--out", tmp_path / "x.bin").exit_code == 4
    assert run("quantize", folder[0], "--target", "5", "--out", data).exit_code == 0
    out = ("--out", tmp_path / "m.safetensors")
    assert run("train", data, "--target", "4", *out).exit_code == 4
    assert run("train", data, "--target", "5", "--drop", "1", *out).exit_code == 2


def test_the_public_names_are_there():
    assert scrimp.QuantizedTable is QuantizedTable
    assert scrimp.quantize_table is quantize_table
    assert scrimp.TableBatches is TableBatches
