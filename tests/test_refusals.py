"""NaN, infinities and targets that do not suit the loss never pass silently through gradient and gram."""

from __future__ import annotations

import numpy as np
import pytest

import scrimp
from scrimp.errors import InputError

X, Y, W = np.ones((5, 2)), np.ones(5), np.zeros(2)


def spoilt(a, at, value):
    b = a.copy()
    b[at] = value
    return b


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("loss", ["squared", "logistic", "huber"])
def test_gradient_names_the_value_that_is_not_finite(loss, value):
    with pytest.raises(InputError, match=r"X\[3, 1\] is -?(nan|inf)"):
        scrimp.gradient(spoilt(X, (3, 1), value), Y, spoilt(W, 1, 0.5), loss=loss)
    with pytest.raises(InputError, match=r"^w\[1\] is -?(nan|inf): it must be a finite number"):
        scrimp.gradient(X, Y, spoilt(W, 1, value), loss=loss)
    with pytest.raises(InputError, match=r"y"):
        scrimp.gradient(X, spoilt(Y, 2, value), W, loss=loss)


def test_gradient_names_an_intercept_that_is_not_finite():
    with pytest.raises(InputError, match=r"^intercept is inf: it must be a finite number"):
        scrimp.gradient(X, Y, W, intercept=np.inf)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_gram_names_the_value_that_is_not_finite(value):
    with pytest.raises(InputError, match=r"X\[3, 1\] is"):
        scrimp.gram(spoilt(X, (3, 1), value), Y)
    with pytest.raises(InputError, match=r"^y\[2\] is (nan|inf): it must be a finite number"):
        scrimp.gram(X, spoilt(Y, 2, value))


def test_finite_values_whose_sums_overflow_are_said_to():
    with pytest.raises(InputError, match="sums over the rows overflow: rescale X or y"):
        scrimp.gradient(X * 1e200, Y, W + 1e200, precise=True)
    with pytest.raises(InputError, match="sums over the rows overflow"):
        scrimp.gram(np.arange(10.0).reshape(5, 2) * 1e200)


@pytest.mark.parametrize(
    ("loss", "y", "w", "said"),
    [
        ("logistic", [0, 1, 2, 0.5, 1], W, r"of the logistic loss must be 0, 1, or between, got y\[2\] = 2"),
        ("logistic", [0, 1, -1, 0.5, 1], W, r"got y\[2\] = -1"),
        ("softmax", [0, 1, 2, 3, 0], np.zeros((2, 3)), r"class numbers 0 … 2, got y\[3\] = 3"),
        ("softmax", [0, 1, 0.5, 2, 0], np.zeros((2, 3)), r"class numbers 0 … 2, got y\[2\] = 0.5"),
        ("softmax", np.full((5, 3), -1.0), np.zeros((2, 3)), r"must be probabilities, got y\[0, 0\] = -1"),
    ],
)
def test_targets_must_suit_the_loss(loss, y, w, said):
    with pytest.raises(InputError, match=said):
        scrimp.gradient(X, y, w, loss=loss)


def test_probabilities_at_the_ends_are_targets():
    assert scrimp.gradient(X, [0.0, 1.0, 0.25, 0.5, 1.0], W, loss="logistic")[2] == pytest.approx(np.log(2))
