"""Gram matrices: exact in codes for any number of rows, unbiased after correction, one result an input."""

import numpy as np
import pytest

import scrimp
from scrimp.matrix import LEAF_ROWS, GramSums, QuantizedMatrix, column_ranges, gram_sums

rng = np.random.default_rng(1)


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (3, 2), (511, 5), (513, 17), (5000, 65), (700, 130)])
@pytest.mark.parametrize("bits", [8, 4, 2, 1])
def test_code_gram_is_exact(shape, bits):
    half = 1 << (bits - 1)
    codes = rng.integers(-half, half, shape).astype(np.int8)
    if bits < 8:
        grid = np.vstack([codes, np.full(shape[1], -half), np.full(shape[1], half - 1)]).astype(np.float32)
        Q = QuantizedMatrix.from_array(grid, bits=bits)
        codes = grid.astype(np.int8)
    else:
        Q = QuantizedMatrix.from_codes(codes)
    sums = gram_sums(Q)
    wide = codes.astype(np.int64)
    assert np.array_equal(sums.codes, wide.T @ wide)
    assert np.array_equal(sums.code_sums, wide.sum(axis=0))


@pytest.mark.parametrize("value", [127, -127, -128])
def test_code_gram_does_not_overflow_at_70000_rows(value):
    codes = np.full((70_000, 3), value, np.int8)
    codes[:, 1] = -codes[:, 1] if value != -128 else 127
    wide = codes.astype(np.int64)
    assert np.array_equal(gram_sums(codes).codes, wide.T @ wide)
    assert gram_sums(codes).codes[0, 0] == 70_000 * value * value


def test_int8_rows_with_any_strides():
    codes = rng.integers(-128, 128, (900, 34)).astype(np.int8)
    wide = codes[::3, 1::2].astype(np.int64)
    assert np.array_equal(gram_sums(codes[::3, 1::2]).codes, wide.T @ wide)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (200, 17), (9000, 33)])
def test_gram_of_floats_equals_float64_products(dtype, shape):
    X, y = (rng.standard_normal(shape) + 3).astype(dtype), rng.standard_normal((shape[0], 2))
    G = scrimp.gram(X, y)
    wide = X.astype(np.float64)
    np.testing.assert_allclose(G.xtx, wide.T @ wide, rtol=1e-12)
    np.testing.assert_allclose(G.xty, wide.T @ y, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(G.mean, wide.mean(axis=0), rtol=1e-12)
    assert G.n == shape[0]
    centred = wide - wide.mean(axis=0)
    xtx, xty = G.centered()
    np.testing.assert_allclose(xtx, centred.T @ centred, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(xty, centred.T @ (y - y.mean(axis=0)), rtol=1e-9, atol=1e-9)


def test_centering_keeps_accuracy_of_columns_with_a_large_mean():
    X = rng.standard_normal((5000, 4)) + 1e7
    centred = X - X.mean(axis=0)
    np.testing.assert_allclose(scrimp.gram(X).centered()[0], centred.T @ centred, rtol=1e-9, atol=1e-5)


@pytest.mark.parametrize("data", ["float32", "int8", "int4"])
def test_weights_equal_repeated_rows(data):
    X, y = rng.standard_normal((300, 6)), rng.standard_normal(300)
    times = rng.integers(0, 4, 300)
    if data == "float32":
        a = scrimp.gram(X, y, sample_weight=times)
        b = scrimp.gram(np.repeat(X, times, axis=0), np.repeat(y, times))
    else:
        Q = QuantizedMatrix.from_array(X, bits=int(data[3:]), sample_weight=times)
        a = scrimp.gram(Q, y, sample_weight=times)
        wide = Q.dequantize().astype(float)
        np.testing.assert_allclose(a.xtx + np.diag(Q.noise), (wide.T * times) @ wide, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(a.mean, np.average(X, axis=0, weights=times), rtol=1e-10)
        return
    np.testing.assert_allclose(a.xtx, b.xtx, rtol=1e-10)
    np.testing.assert_allclose(a.xty, b.xty, rtol=1e-9, atol=1e-9)
    assert a.n == b.n
    assert a.y_square == pytest.approx(b.y_square)


def test_quantized_gram_removes_the_noise_and_has_exact_means():
    X, y = rng.random((3000, 5)), rng.standard_normal(3000)
    Q = QuantizedMatrix.from_array(X, bits=4, seed=1)
    wide = Q.dequantize().astype(float)
    G = scrimp.gram(Q, y)
    np.testing.assert_allclose(G.xtx, wide.T @ wide - np.diag(Q.noise), rtol=1e-6)
    np.testing.assert_allclose(G.xty, wide.T @ y, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(G.mean, X.mean(axis=0), rtol=1e-13)


@pytest.mark.parametrize("centered", [False, True])
def test_quantized_gram_is_unbiased(centered):
    X, y, seeds = rng.random((300, 4)), rng.standard_normal(300), 300
    exact = scrimp.gram(X, y)
    expected = exact.centered() if centered else (exact.xtx, exact.xty)
    runs = []
    for seed in range(seeds):
        G = scrimp.gram(QuantizedMatrix.from_array(X, bits=4, seed=seed), y)
        runs.append(G.centered() if centered else (G.xtx, G.xty))
    for at in (0, 1):
        values = np.array([run[at] for run in runs])
        error = np.abs(values.mean(axis=0) - expected[at])
        assert np.all(error < 5 * values.std(axis=0) / np.sqrt(seeds) + 1e-9)
    naive = np.diag(expected[0]) + QuantizedMatrix.from_array(X, bits=4).noise
    deviation = np.array([run[0] for run in runs]).std(axis=0).diagonal() / np.sqrt(seeds)
    assert np.all(naive - np.diag(expected[0]) > 5 * deviation)


@pytest.mark.parametrize("kind", ["float32", "float64", "int8", "int4", "codes"])
def test_gram_has_the_same_bits_for_any_threads_and_any_split_into_leaves(kind):
    n = 4 * LEAF_ROWS + 77
    X = rng.standard_normal((n, 9)).astype(np.float32)
    y = rng.standard_normal(n)
    if kind == "float64":
        data = X.astype(np.float64)
    elif kind == "codes":
        data = rng.integers(-128, 128, X.shape).astype(np.int8)
    else:
        data = X if kind == "float32" else QuantizedMatrix.from_array(X, bits=int(kind[3:]))
    whole = gram_sums(data, y, threads=1)
    expected = whole.gram()
    for threads in (2, 3):
        again = gram_sums(data, y, threads=threads).gram()
        assert np.array_equal(again.xtx, expected.xtx)
        assert np.array_equal(again.xty, expected.xty)
    parts = []
    for first, last in [(0, 1), (1, 3), (3, 5)]:
        rows = slice(first * LEAF_ROWS, min(last * LEAF_ROWS, n))
        part = data.leaves(first, last) if isinstance(data, QuantizedMatrix) else data[rows]
        parts.append(gram_sums(part, y[rows], first_row=rows.start))
    merged = GramSums.merge([parts[0].from_bytes(p.to_bytes()) for p in parts[::-1]]).gram()
    assert np.array_equal(merged.xtx, expected.xtx)
    assert np.array_equal(merged.centered()[0], expected.centered()[0])
    assert np.array_equal(merged.xty, expected.xty)
    assert np.array_equal(merged.mean, expected.mean)


def test_shards_quantized_alone_on_shared_ranges_equal_the_whole():
    X = rng.standard_normal((2 * LEAF_ROWS + 5, 6))
    whole = QuantizedMatrix.from_array(X, bits=4, seed=3)
    halves = [X[:LEAF_ROWS], X[LEAF_ROWS:]]
    found = [column_ranges(half) for half in halves]
    ranges = type(found[0]).merge([type(r).from_bytes(r.to_bytes()) for r in found])
    shards = [
        QuantizedMatrix.from_array(half, bits=4, seed=3, first_row=first, ranges=ranges)
        for half, first in zip(halves, (0, LEAF_ROWS), strict=True)
    ]
    assert np.array_equal(np.vstack([s.codes for s in shards]), whole.codes)
    merged = GramSums.merge([gram_sums(s) for s in shards]).gram()
    assert np.array_equal(merged.xtx, scrimp.gram(whole).xtx)
    own_grid = gram_sums(QuantizedMatrix.from_array(X[:9]))
    with pytest.raises(ValueError, match="share grid and shift"):
        GramSums.merge([own_grid, gram_sums(shards[1])])


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rounding_on_the_way_equals_the_gram_of_the_stored_codes(bits, dtype):
    X, y = rng.standard_normal((LEAF_ROWS + 700, 35)).astype(dtype), rng.standard_normal((LEAF_ROWS + 700, 2))
    stored = gram_sums(QuantizedMatrix.from_array(X, bits=bits, seed=4), y).gram()
    for rows in (X, np.asfortranarray(X)):
        passing = gram_sums(rows, y, bits=bits, seed=4, threads=2).gram()
        for name in ("codes", "xtx", "xty", "mean", "noise", "y_mean", "y_square", "n"):
            assert np.array_equal(getattr(passing, name), getattr(stored, name)), name
    given = {"bits": bits, "seed": 4, "ranges": column_ranges(X)}
    second = gram_sums(X[LEAF_ROWS:], y[LEAF_ROWS:], first_row=LEAF_ROWS, **given)
    first = gram_sums(X[:LEAF_ROWS], y[:LEAF_ROWS], **given)
    assert np.array_equal(GramSums.merge([second, first]).gram().xtx, stored.xtx)


def test_rounding_on_the_way_takes_weights():
    X, y, weight = rng.standard_normal((300, 3)), rng.standard_normal(300), rng.random(300)
    a = gram_sums(X, y, bits=8, sample_weight=weight).gram()
    b = gram_sums(QuantizedMatrix.from_array(X, sample_weight=weight), y, sample_weight=weight).gram()
    assert np.array_equal(a.xtx, b.xtx)


def test_no_rows_and_damage_are_named():
    with pytest.raises(scrimp.InputError, match="at least one row"):
        scrimp.gram(np.ones((0, 2)))
    sums = gram_sums(np.ones((3, 2), np.int8))
    data = sums.to_bytes()
    for damaged in (b"", data[:-1], data[:30], b"y" + data[1:]):
        with pytest.raises(scrimp.CodecError):
            sums.from_bytes(damaged)
