"""Arguments of paths, pruning and quantized layers that make no sense: what is said of them."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest

import scrimp
from scrimp import QuantizedLinear
from scrimp.errors import InputError
from scrimp.linear_model import Ridge, enet_path, prune, ridge_path

X = np.random.default_rng(0).normal(size=(50, 10))
Y = X[:, 0] - X[:, 3]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"l1_ratio": "a"}, "l1_ratio must be a number in 0 … 1, got 'a'"),
        ({"l1_ratio": 2}, "l1_ratio must be a number in 0 … 1, got 2"),
        ({"eps": 0}, "eps must be a number above 0 and below 1, got 0"),
        ({"eps": 2.0}, "eps must be a number above 0 and below 1, got 2.0"),
        ({"eps": "a"}, "eps must be a number above 0 and below 1, got 'a'"),
        ({"n_alphas": 0}, "n_alphas must be a whole number >= 1, got 0"),
        ({"n_alphas": 2.5}, "n_alphas must be a whole number >= 1, got 2.5"),
        ({"alphas": 0}, "alphas must be a whole number >= 1, got 0"),
        ({"alphas": True}, "alphas must be a whole number >= 1, got True"),
        ({"alphas": [-1.0]}, r"alphas must be a list of numbers above 0, got \[-1.0\]"),
        ({"alphas": [0.0]}, r"alphas must be a list of numbers above 0, got \[0.0\]"),
        ({"alphas": ["a"]}, r"alphas must be a list of numbers above 0, got \['a'\]"),
        ({"alphas": []}, r"alphas must be a list of numbers above 0, got \[\]"),
    ],
)
def test_enet_path_says_what_it_needs(options, said):
    with pytest.raises(ValueError, match=said):
        enet_path(X, Y, **options)


def test_ridge_path_takes_0_and_nothing_below():
    assert ridge_path(X, Y, [0.0, 1.0]).alphas.tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match=r"alphas must be a list of numbers >= 0, got \[-1.0\]"):
        ridge_path(X, Y, [-1.0])


def test_prune_cannot_keep_more_columns_than_there_are():
    with pytest.raises(ValueError, match="keep must be at most the number of columns, 10, got 11"):
        prune(Ridge().fit(X, Y), X, Y, keep=11)
    assert prune(Ridge().fit(X, Y), X, Y, keep=10).kept.all()


def test_init_without_names_is_said_in_the_right_number():
    with pytest.raises(ValueError, match="but init and X have no names"):
        Ridge().fit(X[:, :3], Y, init=Ridge().fit(X, Y))


def test_weights_must_be_real_numbers():
    with pytest.raises(TypeError, match=r"W must hold real numbers, got complex64\(2, 3\)"):
        QuantizedLinear.from_array(np.ones((2, 3), np.complex64))
    with pytest.raises(TypeError, match=r"bias must hold real numbers, got complex128\(2,\)"):
        QuantizedLinear.from_array(np.ones((2, 3)), bias=[1j, 0])


def test_weights_beyond_float32_are_named():
    weights = np.ones((2, 3))
    weights[1, 2] = -1e200
    with pytest.raises(InputError, match=r"W\[1, 2\] is -1e\+200: beyond the range of float32"):
        QuantizedLinear.from_array(weights, "raw")
    with pytest.raises(InputError, match=r"bias\[0\] is 1e\+200"):
        QuantizedLinear.from_array(np.ones((2, 3)), bias=[1e200, 0])


def test_scale_is_a_list_of_one_number_a_column():
    layer = QuantizedLinear.from_array(np.ones((2, 3)), "raw")
    rows = np.ones((1, 3), np.float32)
    assert layer(rows, scale=[1.0, 2.0, 3.0]).tolist() == [[6.0, 6.0]]
    for scale in (np.ones((1, 3)), [1.0, 2.0], 1.0):
        with pytest.raises(ValueError, match=r"scale must have shape \(3,\), got \("):
            layer(rows, scale=scale)
    with pytest.raises(TypeError, match="scale must hold real numbers"):
        layer(rows, scale=["a", "b", "c"])


def test_bias_and_payload_are_told_apart():
    layer = QuantizedLinear.from_array(np.ones((2, 3)), "int8")
    with pytest.raises(ValueError, match=r"bias must have shape \(2,\), got \(3,\)"):
        QuantizedLinear(layer.payload, layer.codec, layer.shape, np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="payload must have the 10 bytes of 2×3 values in int8"):
        QuantizedLinear(layer.payload[1:], layer.codec, layer.shape, layer.bias)


def _half_squared(w, rows):
    error = rows @ w - 1
    return 0.5 * float(error @ error) / len(rows), rows.T @ error / len(rows)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("max_iter", 2.5, "max_iter must be a whole number of at least 1, got 2.5"),
        ("max_iter", True, "max_iter must be a whole number of at least 1, got True"),
        ("batch_size", "many", "batch_size must be a whole number of at least 1, got 'many'"),
        ("sync_every", 1.5, "sync_every must be a whole number of at least 1, got 1.5"),
        ("seed", 2**64, f"seed must be at most {2**63 - 1}, got {2**64}"),
        ("seed", -1, "seed must be a whole number of at least 0, got -1"),
        ("workers", 1.5, "workers must be a whole number of at least 1, got 1.5"),
        ("raw_below", -1, "raw_below must be >= 0"),
        ("raw_below", 1.5, "raw_below must be a whole number, got 1.5"),
        ("learning_rate", "auto", "learning_rate must be a number above 0, got 'auto'"),
        ("learning_rate", np.inf, "learning_rate must be a number above 0, got inf"),
        ("momentum", "much", "momentum must be at least 0 and below 1, got 'much'"),
        ("tol", np.complex64(1), "tol must be a number >= 0, got"),
        ("tol", None, "tol must be a number >= 0, got None"),
        ("gradient_scale", np.nan, "gradient_scale must be a number >= 0, got nan"),
        ("nesterov", "yes", "nesterov must be True or False, got 'yes'"),
        ("schedule", "slow", "unknown schedule 'slow'; known: constant, linear, cosine"),
        ("timeout", 0, "timeout must be a number of seconds above 0, got 0"),
        ("budget", 5, "budget must be a scrimp.Budget or None, got int"),
        ("callback", 3, "callback must be callable or None, got 3"),
        ("compress", None, "compress must be a codec, or one for gradients and one for weights, got None"),
    ],
)
@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_minimize_says_what_it_takes(solver, option, value, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        scrimp.minimize(_half_squared, np.zeros(2), np.ones((5, 2)), **{"solver": solver, option: value})


def test_steps_that_are_too_long_diverge_in_so_many_words():
    rows = np.full((300, 2), 1e20, np.float32)
    diverged = pytest.raises(FloatingPointError, match=r"diverged in epoch \d+: .*; lower the learning_rate")
    with diverged, np.errstate(all="ignore"):
        scrimp.minimize(_half_squared, np.zeros(2, np.float32), rows, learning_rate=1e3)


@pytest.mark.parametrize("options", [{}, {"compress": "int8", "raw_below": 0}])
def test_ranks_whose_own_gradient_is_finite_say_the_same(options):
    rows = np.ones((400, 2))
    rows[10] = np.nan  # of the second rank, or of the first
    for own in (rows, rows[::-1].copy()):
        with pytest.raises(FloatingPointError, match="diverged in epoch 0: a gradient that is not finite"):
            scrimp.minimize(_half_squared, np.zeros(2), own, workers=2, batch_size=400, **options)


def test_options_may_be_of_any_type_of_number(tmp_path):
    options = {"batch_size": np.uint8(200), "max_iter": np.int8(3), "timeout": np.inf}
    options |= {"momentum": np.float32(0.5), "tol": Fraction(1, 10**6), "checkpoint": tmp_path / "state"}
    fit = scrimp.minimize(_half_squared, np.zeros(2), np.ones((500, 2)), **options)
    assert fit.n_iter <= 3
