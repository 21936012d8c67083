"""`quantize(w, step)` is `np.round(w/step)*step`, to the bit, in shape and dtype of w."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import scrimp


@given(
    w=st.sampled_from([np.float16, np.float32, np.float64]).flatmap(
        lambda t: hnp.arrays(t, hnp.array_shapes(min_dims=0, min_side=0, max_side=9))
    ),
    step=st.floats(2**-10, 2**10),
)
def test_quantize_is_the_numpy_formula_to_the_bit(w, step):
    k = w.dtype.type(step)
    with np.errstate(all="ignore"):
        expected = np.asarray(np.round(w / k) * k)
    got = scrimp.quantize(w, step)
    assert got.dtype == w.dtype
    assert got.shape == w.shape
    assert got.tobytes() == expected.tobytes() or np.array_equal(got, expected, equal_nan=True)


def test_half_goes_to_even():
    assert scrimp.quantize([0.5, 1.5, 2.5, -0.5], 1).tolist() == [0.0, 2.0, 2.0, 0.0]


def test_integers_become_floats_and_input_is_kept():
    w = np.array([1, 2, 3])
    assert scrimp.quantize(w, 2).tolist() == [0.0, 2.0, 4.0]
    assert w.tolist() == [1, 2, 3]


def test_result_never_aliases_the_input():
    w = np.zeros(3)
    scrimp.quantize(w, 1)[:] = 9
    assert not w.any()


@pytest.mark.parametrize("step", [0, -1, np.nan, np.inf, 1e-60])
def test_step_must_be_positive_and_finite_in_the_dtype(step):
    with pytest.raises(ValueError, match="step must be positive and finite"):
        scrimp.quantize(np.ones(2, np.float32), step)


def test_other_types_are_refused():
    with pytest.raises(TypeError, match="floats"):
        scrimp.quantize(["a"], 1)
    with pytest.raises(TypeError, match="number"):
        scrimp.quantize([1.0], [1.0])
