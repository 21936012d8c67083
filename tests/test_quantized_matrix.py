"""QuantizedMatrix: its grid, its noise, its determinism, its file."""

import os

import numpy as np
import pytest

import scrimp
from scrimp.errors import OutputError
from scrimp.matrix import LEAF_ROWS, QuantizedMatrix, Ranges, gram_sums

BITS = [8, 4, 2, 1]
rng = np.random.default_rng(2)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (3, 7), (65, 9), (130, 33)])
def test_nearest_codes_are_half_a_step_away_at_most(bits, shape):
    X = rng.standard_normal(shape).astype(np.float32)
    Q = QuantizedMatrix.from_array(X, bits=bits, rounding="nearest")
    assert Q.shape == shape
    assert np.all(np.abs(Q.dequantize() - X) <= Q.scale * 0.5001 + 1e-6)
    assert not Q.noise.any()


@pytest.mark.parametrize("bits", BITS)
def test_smallest_and_largest_value_are_exact(bits):
    X = rng.standard_normal((50, 6)).astype(np.float32)
    back = QuantizedMatrix.from_array(X, bits=bits).dequantize()
    for j in range(6):
        for i in (X[:, j].argmin(), X[:, j].argmax()):
            assert back[i, j] == pytest.approx(X[i, j], rel=1e-6)


@pytest.mark.parametrize("bits", BITS)
def test_constant_zero_and_small_integer_columns_are_exact_and_noiseless(bits):
    levels = (1 << bits) - 1
    X = np.zeros((300, 4), np.float32)
    X[:, 1] = 3.7
    X[:, 2] = rng.integers(0, 2, 300)
    X[:, 3] = 1000 - rng.integers(0, levels + 1, 300)
    Q = QuantizedMatrix.from_array(X, bits=bits)
    assert np.array_equal(Q.dequantize(), X)
    assert not Q.noise.any()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("weighted", [False, True])
def test_values_beyond_the_ranges_go_to_the_nearer_end_however_far(bits, dtype, rounding, weighted):
    far = [2, 1e4, 3e7, 1e8, 2.0**31, 2.0**33, 1e30, 3e38, np.inf]
    X = np.full((4 * 8 + 3, 37), 0.25, dtype)
    X[:, : 2 * len(far)] = far + [-value for value in far]
    X[:, -1] = X[:, -20]  # in the columns that fill no register, too
    X[-5:, 20] = np.nan
    ranges = Ranges(np.full(37, -1.0), np.full(37, 1.0), np.zeros(37, np.bool_))
    weight = np.ones(len(X)) if weighted else None
    Q = QuantizedMatrix.from_array(X, bits, rounding=rounding, ranges=ranges, sample_weight=weight)
    held = np.where(np.isnan(X), -1, np.clip(X, -1, 1)).astype(dtype)
    Q_held = QuantizedMatrix.from_array(held, bits, rounding=rounding, ranges=ranges, sample_weight=weight)
    assert np.array_equal(Q.codes, Q_held.codes)
    assert np.array_equal(Q.noise, Q_held.noise)
    if not weighted:
        sums, of_held = (gram_sums(x, bits=bits, rounding=rounding, ranges=ranges).codes for x in (X, held))
        assert np.array_equal(sums, of_held)


@pytest.mark.parametrize("bits", BITS)
def test_noise_is_the_exact_variance_of_the_codes(bits):
    X, seeds = rng.random((40, 3)), 800
    Q = QuantizedMatrix.from_array(X, bits=bits)
    steps = (X - X.min(axis=0)) / Q.scale
    variance = Q.scale**2 * (steps - np.floor(steps)) * (1 - (steps - np.floor(steps)))
    np.testing.assert_allclose(Q.noise, variance.sum(axis=0), rtol=1e-3)
    runs = [QuantizedMatrix.from_array(X, bits=bits, seed=s).dequantize() for s in range(seeds)]
    values = np.array(runs, np.float64)
    error = np.abs(values.mean(axis=0) - X)
    assert np.all(error < 5 * np.sqrt(variance / seeds) + 6 * Q.scale / seeds)
    np.testing.assert_allclose(Q.noise, values.var(axis=0, ddof=1).sum(axis=0), rtol=0.05)


def test_weighted_noise_and_means():
    X, weight = rng.random((5000, 3)), rng.random(5000)
    Q = QuantizedMatrix.from_array(X, bits=4, sample_weight=weight)
    steps = (X - X.min(axis=0)) / Q.scale
    fraction = steps - np.floor(steps)
    expected = (weight[:, None] * Q.scale**2 * fraction * (1 - fraction)).sum(axis=0)
    np.testing.assert_allclose(Q.noise, expected, rtol=1e-3)
    assert Q.noise_blocks.shape == (2, 3)
    np.testing.assert_allclose(Q.mean, np.average(X, axis=0, weights=weight), rtol=1e-12)


@pytest.mark.parametrize("bits", BITS)
def test_codes_depend_on_seed_and_absolute_row_alone(bits):
    X = rng.standard_normal((2 * LEAF_ROWS, 5)).astype(np.float32)
    Q = QuantizedMatrix.from_array(X, bits=bits, seed=7, threads=1)
    for other in (
        QuantizedMatrix.from_array(X, bits=bits, seed=7, threads=3),
        QuantizedMatrix.from_array(X.astype(np.float64), bits=bits, seed=7),
        QuantizedMatrix.from_array(np.asfortranarray(X), bits=bits, seed=7),
    ):
        assert np.array_equal(Q.codes, other.codes)
        assert np.array_equal(Q.noise_blocks, other.noise_blocks)
    assert not np.array_equal(Q.codes, QuantizedMatrix.from_array(X, bits=bits, seed=8).codes)
    later = QuantizedMatrix.from_array(X, bits=bits, seed=7, first_row=LEAF_ROWS)
    assert not np.array_equal(Q.codes, later.codes)


def test_wide_rows_are_quantized_alike_in_pieces():
    X = rng.standard_normal((3, 2500)).astype(np.float32)
    Q = QuantizedMatrix.from_array(X, rounding="nearest")
    assert np.all(np.abs(Q.dequantize() - X) <= Q.scale * 0.5001 + 1e-6)
    np.testing.assert_allclose(Q.mean, X.mean(axis=0, dtype=float), rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-300, 1e-38, 1e-5, 1e30, 1e139])
def test_huge_and_tiny_scales(scale):
    X = rng.random((100, 2)) * scale
    Q = QuantizedMatrix.from_array(X, rounding="nearest")
    values = Q.offset + Q.scale * Q.codes
    assert np.all(np.abs(values - X) <= Q.scale * 0.5001)


def test_nbytes_of_int8_is_a_quarter_of_float32():
    X = np.ones((10_000, 64), np.float32)
    assert QuantizedMatrix.from_array(X).nbytes <= 0.26 * X.nbytes
    assert QuantizedMatrix.from_array(X, bits=1).nbytes <= 0.035 * X.nbytes


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_values_are_named_by_row_and_column(dtype, bad):
    X = np.zeros((300, 5), dtype)
    X[222, 3] = bad
    X[250, 0] = bad
    with pytest.raises(scrimp.InputError, match=rf"X\[222, 3\] is {bad}"):
        QuantizedMatrix.from_array(X)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 3}, "bits must be one of 8, 4, 2, 1, got 3"),
        ({"rounding": "up"}, "rounding must be 'stochastic' or 'nearest', got 'up'"),
        ({"first_row": 5}, "first_row must be a multiple of 4096, got 5"),
        ({"sample_weight": [1.0]}, r"sample_weight must have shape \(2,\), got \(1,\)"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        QuantizedMatrix.from_array(np.ones((2, 2)), **arguments)


def test_a_column_too_wide_is_named():
    with pytest.raises(scrimp.InputError, match=r"X\[:, 1\] spans"):
        QuantizedMatrix.from_array(np.array([[0.0, -1.5e308], [1.0, 1.5e308]]))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("n", [0, 1, LEAF_ROWS + 3])
def test_file_gives_the_matrix_back(tmp_path, bits, n):
    X = rng.standard_normal((n, 7)).astype(np.float32)
    Q = QuantizedMatrix.from_array(X, bits=bits, seed=9, first_row=LEAF_ROWS)
    Q.save(tmp_path / "data.scrimp")
    back = QuantizedMatrix.open(tmp_path / "data.scrimp", verify=True)
    for name in ("codes", "scale", "offset", "noise_blocks", "sum_blocks", "weight_blocks"):
        assert np.array_equal(getattr(back, name), getattr(Q, name))
    assert (back.bits, back.seed, back.first_row, back.rounding) == (bits, 9, LEAF_ROWS, "stochastic")
    if n:
        assert not back.codes.flags.writeable
        assert np.array_equal(scrimp.gram(back).xtx, scrimp.gram(Q).xtx)
    assert os.listdir(tmp_path) == ["data.scrimp"]


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "data.scrimp"
    QuantizedMatrix.from_array(rng.random((100, 3))).save(path)
    good = path.read_bytes()
    tables = good.index(b"}") + 100
    for damaged in (
        b"",
        b"x" * 100,
        good[:5],
        good[:40],
        good[:-1],
        good + b"\0",
        good.replace(b'"rows": 100', b'"rows": 101'),
        good[:tables] + bytes([good[tables] ^ 1]) + good[tables + 1 :],
    ):
        path.write_bytes(damaged)
        with pytest.raises(scrimp.CodecError, match=r"data\.scrimp"):
            QuantizedMatrix.open(path)
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    QuantizedMatrix.open(path)
    with pytest.raises(scrimp.CodecError, match="codes are damaged"):
        QuantizedMatrix.open(path, verify=True)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "data.scrimp"
    Q = QuantizedMatrix.from_array(rng.random((10, 3)))
    Q.save(path)
    good = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        Q.save(path)
    assert path.read_bytes() == good
    assert os.listdir(tmp_path) == ["data.scrimp"]


def test_saving_into_no_folder_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="there is no folder"):
        QuantizedMatrix.from_array(rng.random((10, 3))).save(tmp_path / "no" / "data.scrimp")


@pytest.mark.parametrize("rounding", ["stochastic", "nearest"])
@pytest.mark.parametrize("d", [1, 15, 16, 47, 137, 1057])
def test_rows_rounded_together_have_the_codes_of_rows_rounded_one_by_one(d, rounding):
    X = (rng.normal(size=(37, d)) * np.logspace(-3, 3, d) + 100).astype(np.float32)
    # with weights rows go one by one
    together = QuantizedMatrix.from_array(X, rounding=rounding)
    singly = QuantizedMatrix.from_array(X, rounding=rounding, sample_weight=np.ones(37))
    assert np.array_equal(together.codes, singly.codes)
    assert np.array_equal(together.sum_blocks, singly.sum_blocks)
    np.testing.assert_allclose(together.noise, singly.noise, rtol=1e-12)


def test_rows_to_dequantize_are_a_slice_or_an_array():
    Q = QuantizedMatrix.from_array(np.random.default_rng(0).normal(size=(50, 3)), 8)
    np.testing.assert_array_equal(Q.dequantize([1, 3]), Q.dequantize(slice(1, 4, 2)))
    for rows in (3, None, "a", [[1]]):
        with pytest.raises(TypeError, match="rows must be a slice or an array of row numbers, got"):
            Q.dequantize(rows)
