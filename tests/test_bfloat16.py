"""Rows of bfloat16 are widened as they are read: every answer is that of the same numbers in float32."""

import numpy as np
import pytest

import scrimp
from scrimp.matrix import QuantizedMatrix, column_ranges, gram, product

ml_dtypes = pytest.importorskip("ml_dtypes")
rng = np.random.default_rng(0)


def halves(shape):
    return rng.standard_normal(shape).astype(ml_dtypes.bfloat16)


@pytest.mark.parametrize("precise", [False, True])
@pytest.mark.parametrize("stored", ["as they lie", "every other", "transposed"])
def test_a_gradient_of_bfloat16_rows_is_that_of_their_values(stored, precise):
    X = halves((700, 33))
    if stored == "every other":
        X = halves((1400, 66))[::2, ::2]
    elif stored == "transposed":
        X = halves((33, 700)).T
    y, w = rng.standard_normal(700), rng.standard_normal(33)
    g, g0, value = scrimp.gradient(X, y, w, precise=precise)
    wide = scrimp.gradient(X.astype(np.float32), y, w, precise=precise)
    assert np.array_equal(g, wide[0])
    assert (g0, value) == wide[1:]


def test_products_gram_matrices_ranges_and_codes_read_bfloat16():
    X, W = halves((300, 9)), rng.standard_normal((9, 2))
    wide = X.astype(np.float32)
    assert np.array_equal(product(X, W), product(wide, W))
    assert np.array_equal(gram(X, np.zeros(300)).moment, gram(wide, np.zeros(300)).moment)
    assert np.array_equal(column_ranges(X).high, wide.max(axis=0))
    assert np.array_equal(QuantizedMatrix.from_array(X).codes, QuantizedMatrix.from_array(wide).codes)


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-40, 3e38, np.inf, -np.inf])
def test_special_values_of_bfloat16_are_kept(value):
    X = np.full((1, 1), value, np.float32).astype(ml_dtypes.bfloat16)
    assert product(X, np.ones(1)).tobytes() == product(X.astype(np.float32), np.ones(1)).tobytes()


def test_a_bfloat16_row_that_is_not_finite_is_named():
    X = halves((20, 3))
    X[7, 2] = np.nan
    with pytest.raises(scrimp.InputError, match=r"X\[7, 2\] is nan"):
        scrimp.gradient(X, np.ones(20), np.ones(3))
