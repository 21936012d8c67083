"""Gradients and sums by leaves: right against float64, the same bits for any split, thread count and ISA."""

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

import scrimp
from scrimp.matrix import LEAF_ROWS, QuantizedMatrix, TreeSum, gradient_sums, loss_names, product

SHAPES = [(1, 1), (2, 3), (7, 16), (9, 17), (300, 5), (4097, 31), (9001, 64)]
rng = np.random.default_rng(0)


def targets(loss, n, k=3):
    if loss == "logistic":
        return rng.integers(0, 2, n).astype(float)
    return rng.integers(0, k, n) if loss == "softmax" else rng.standard_normal(n)


def reference(loss, X, y, W, b, delta=1.0):
    """Mean loss in float64, straight from its formula."""
    z = X @ W + b
    y = np.asarray(y, float)
    if loss == "squared":
        each = 0.5 * (z - y) ** 2
    elif loss == "logistic":
        each = np.logaddexp(0, z) - y * z
    elif loss == "huber":
        r = np.abs(z - y)
        each = np.where(r <= delta, 0.5 * r * r, delta * (r - 0.5 * delta))
    else:
        top = z.max(axis=1, keepdims=True)
        log_sum = top[:, 0] + np.log(np.exp(z - top).sum(axis=1))
        each = log_sum - z[np.arange(len(z)), y.astype(int)]
    return each.mean()


@pytest.mark.parametrize("precise", [False, True])
@pytest.mark.parametrize("loss", loss_names())
def test_gradient_is_the_derivative_of_the_value(loss, precise):
    n, d = 37, 6
    X, y = rng.standard_normal((n, d)).astype(np.float32), targets(loss, n)
    w = rng.standard_normal((d, 3) if loss == "softmax" else d)
    g, g0, value = scrimp.gradient(X, y, w, loss=loss, intercept=0.3, precise=precise)
    assert value == pytest.approx(reference(loss, X.astype(float), y, w, 0.3), rel=1e-6)
    step = 1e-6
    numeric = np.empty_like(w)
    for at in np.ndindex(w.shape):
        up, down = w.copy(), w.copy()
        up[at] += step
        down[at] -= step
        numeric[at] = (
            reference(loss, X.astype(float), y, up, 0.3) - reference(loss, X.astype(float), y, down, 0.3)
        ) / (2 * step)
    np.testing.assert_allclose(g, numeric, rtol=1e-5, atol=1e-6)
    shifts = (reference(loss, X.astype(float), y, w, 0.3 + e) for e in (step, -step))
    assert np.sum(g0) == pytest.approx((next(shifts) - next(shifts)) / (2 * step), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("loss", ["logistic", "softmax"])
@pytest.mark.parametrize("scale", [1e-3, 30.0, 1e4])
def test_losses_stay_finite_and_right_at_extreme_predictions(loss, scale):
    X, y = rng.standard_normal((50, 4)), targets(loss, 50)
    w = scale * rng.standard_normal((4, 3) if loss == "softmax" else 4)
    g, _, value = scrimp.gradient(X, y, w, loss=loss, precise=True)
    assert value == pytest.approx(reference(loss, X, y, w, 0.0), rel=1e-12)
    assert np.isfinite(g).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
def test_squared_gradient_equals_float64_formula(shape, dtype):
    n, d = shape
    X = rng.integers(-127, 128, shape) if dtype == np.int8 else rng.standard_normal(shape)
    X = X.astype(dtype)
    y, w = rng.standard_normal(n), rng.standard_normal(d)
    r = X.astype(float) @ w + 0.5 - y
    for precise, tolerance in [(False, 3e-6), (True, 1e-13)]:
        g, g0, value = scrimp.gradient(X, y, w, intercept=0.5, precise=precise)
        scale = np.abs(X.astype(float)).T @ np.abs(r) / n
        assert np.all(np.abs(g - X.astype(float).T @ r / n) <= tolerance * (scale + 1))
        assert g0 == pytest.approx(r.mean(), abs=tolerance * 100)
        assert value == pytest.approx(0.5 * (r**2).mean(), rel=tolerance * 10)


@pytest.mark.parametrize("bits", [8, 4, 2, 1])
@pytest.mark.parametrize(
    "shape", [(1, 1), (31, 2), (33, 63), (40, 65), (300, 129), (257, 200), (70, 4999), (9, 9001)]
)
@pytest.mark.parametrize("k", [1, 3])
def test_gradient_on_codes_of_any_width_equals_float64_formula(bits, shape, k):
    n, d = shape
    Q = QuantizedMatrix.from_array(rng.random(shape), bits=bits, rounding="nearest")
    X = Q.dequantize().astype(float)
    Y, W = rng.standard_normal((n, k)), rng.standard_normal((d, k))
    R = X @ W - Y
    g = gradient_sums(Q, Y, W).total()[: d * k].reshape(d, k)
    size = np.abs(X).T @ np.abs(R) + np.abs(X).T @ (np.abs(X) @ np.abs(W))
    assert np.all(np.abs(g - X.T @ R) <= 1e-6 * (size + 1))


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1e6, 1e12])
def test_gradient_on_codes_keeps_its_precision_at_any_size_of_weights_and_targets(size):
    X = rng.integers(-127, 128, (100, 70), np.int8)
    y, w = size * rng.standard_normal(100), size * rng.standard_normal(70)
    for codes in (X, QuantizedMatrix.from_array(X.astype(float), bits=4, rounding="nearest")):
        near, exact = (scrimp.gradient(codes, y, w, precise=precise)[0] for precise in (False, True))
        np.testing.assert_allclose(near, exact, rtol=0, atol=3e-7 * np.abs(exact).max())


def test_codes_at_their_limits_do_not_overflow():
    for sign in (-1, 1):
        X = np.full((4097, 5000), sign * 128 if sign < 0 else 127, np.int8)
        w, y = np.ones(5000), np.zeros(4097)
        g = scrimp.gradient(X, y, w)[0]
        np.testing.assert_allclose(g, 5000.0 * X[0].astype(float) ** 2, rtol=1e-6)


def test_a_target_of_codes_that_is_not_finite_is_named():
    X, y = rng.integers(-127, 128, (100, 5), np.int8), rng.standard_normal(100)
    y[41] = np.inf
    assert not np.isfinite(gradient_sums(X, y, np.ones(5)).total()[:5]).any()
    with pytest.raises(scrimp.InputError, match=r"y\[41\] is inf"):
        scrimp.gradient(X, y, np.ones(5))


def test_any_strides_give_the_contiguous_result():
    X = rng.standard_normal((600, 20)).astype(np.float32)
    y, w = rng.standard_normal(600), rng.standard_normal(20)
    expected = scrimp.gradient(X, y, w)[0]
    wide = np.zeros((1200, 40), np.float32)
    wide[::2, ::2] = X
    backwards = np.ascontiguousarray(X[::-1])[::-1]
    for view in (wide[::2, ::2], np.asfortranarray(X), backwards, X.astype(np.float64)):
        assert np.array_equal(scrimp.gradient(view, y, w)[0], expected)


def test_unaligned_rows_are_read():
    X = rng.standard_normal((40, 5)).astype(np.float32)
    raw = np.zeros(X.nbytes + 1, np.uint8)
    raw[1:] = X.view(np.uint8).reshape(-1)
    unaligned = raw[1:].view(np.float32).reshape(X.shape)
    y, w = np.ones(40), np.ones(5)
    assert np.array_equal(scrimp.gradient(unaligned, y, w)[0], scrimp.gradient(X, y, w)[0])


@pytest.mark.parametrize("precise", [False, True])
@pytest.mark.parametrize("kind", ["float32", "int8", "int4"])
@pytest.mark.parametrize(("n", "d", "k"), [(500, 33, 4), (300, 1000, 7), (9, 20, 50), (70, 40000, 2)])
def test_several_outputs_equal_one_at_a_time(n, d, k, kind, precise):
    X, Y, W = rng.standard_normal((n, d)), rng.standard_normal((n, k)), rng.standard_normal((d, k))
    X = X.astype(np.float32) if kind == "float32" else QuantizedMatrix.from_array(X, bits=int(kind[3:]))
    g, g0, value = scrimp.gradient(X, Y, W, intercept=np.arange(k), precise=precise)
    single = [scrimp.gradient(X, Y[:, o], W[:, o], intercept=float(o), precise=precise) for o in range(k)]
    assert np.array_equal(g, np.stack([s[0] for s in single], axis=1))
    assert np.array_equal(g0, [s[1] for s in single])
    assert value == pytest.approx(sum(s[2] for s in single))


def test_weights_equal_repeated_rows():
    X, y, w = rng.standard_normal((90, 7)), rng.standard_normal(90), rng.standard_normal(7)
    times = rng.integers(0, 4, 90)
    weighted = scrimp.gradient(X, y, w, sample_weight=times, precise=True)
    repeated = scrimp.gradient(np.repeat(X, times, axis=0), np.repeat(y, times), w, precise=True)
    np.testing.assert_allclose(weighted[0], repeated[0], rtol=1e-12)
    assert weighted[2] == pytest.approx(repeated[2])


def test_soft_targets_of_one_class_equal_class_numbers():
    X, y, W = rng.standard_normal((64, 5)), rng.integers(0, 3, 64), rng.standard_normal((5, 3))
    hard = scrimp.gradient(X, y, W, loss="softmax")
    soft = scrimp.gradient(X, np.eye(3)[y], W, loss="softmax")
    assert np.array_equal(hard[0], soft[0])
    assert hard[2] == soft[2]


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("kind", ["float32", "int8", "int4"])
def test_gradient_has_the_same_bits_for_any_threads_and_any_split_into_leaves(loss, kind):
    n = 5 * LEAF_ROWS + 123
    X = rng.standard_normal((n, 19)).astype(np.float32)
    y, w = targets(loss, n), rng.standard_normal(19)
    data = X if kind == "float32" else QuantizedMatrix.from_array(X, bits=int(kind[3:]))
    whole = gradient_sums(data, y, w, loss=loss, threads=1).total()
    for threads in (2, 3, 7):
        assert np.array_equal(gradient_sums(data, y, w, loss=loss, threads=threads).total(), whole)
    for cuts in ([1], [2, 3], [1, 2, 3, 4, 5]):
        bounds = [0, *(c * LEAF_ROWS for c in cuts), n]
        parts = []
        for a, b in pairwise(bounds):
            part = X[a:b] if kind == "float32" else data.leaves(a // LEAF_ROWS, -(-b // LEAF_ROWS))
            parts.append(gradient_sums(part, y[a:b], w, loss=loss, first_row=a))
        sent = [TreeSum.from_bytes(p.to_bytes()) for p in parts]
        assert np.array_equal(TreeSum.merge(sent[::-1]).total(), whole)


DIGEST = """
import hashlib, numpy as np, scrimp
from scrimp.matrix import QuantizedMatrix, gradient_sums, gram_sums, product
rng = np.random.default_rng(3)
X = rng.standard_normal((4200, 37)).astype(np.float32)
y = rng.standard_normal(4200)
h = hashlib.sha256()
for bits in (8, 4, 2, 1):
    Q = QuantizedMatrix.from_array(X, bits=bits, seed=5)
    for a in (Q.codes, Q.noise, Q.mean, Q.dequantize()): h.update(a.tobytes())
    g = gram_sums(Q, y).gram()
    for a in (g.codes, g.xtx, g.xty): h.update(a.tobytes())
for data in (X, X.astype(np.float64), Q, QuantizedMatrix.from_array(X)):
    for loss in ("squared", "logistic", "huber", "softmax"):
        for precise in (False, True):
            w = rng.standard_normal((37, 3)); t = y > 0 if loss in ("logistic", "softmax") else y
            t = t if loss == "softmax" else np.stack([t, t, t], axis=1)
            h.update(gradient_sums(data, t, w, loss=loss, precise=precise).total().tobytes())
    h.update(product(data, y[:37], 1.0).tobytes())
    h.update(gram_sums(data, y, sample_weight=np.abs(y)).gram().xtx.tobytes())
for n, d in ((300, 64), (33, 145), (40, 4999)):
    wide = rng.standard_normal((n, d)).astype(np.float32)
    for data in (wide, *(QuantizedMatrix.from_array(wide, bits=bits) for bits in (8, 4, 2))):
        for W in (rng.standard_normal(d), rng.standard_normal((d, 2))):
            h.update(gradient_sums(data, np.zeros((n, W.size // d)), W).total().tobytes())
print(scrimp.isa(), h.hexdigest())
"""


def test_every_isa_gives_the_same_bits():
    results = {}
    for isa in ("v2", "v3", "v4", "v4vnni"):
        run = subprocess.run(
            [sys.executable, "-c", DIGEST],
            env={**os.environ, "SCRIMP_ISA": isa},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if "not supported by this CPU" in run.stderr or "is unknown" in run.stderr:
            continue
        assert run.returncode == 0, run.stderr
        used, digest = run.stdout.split()
        assert used == isa
        results[isa] = digest
    assert len(set(results.values())) <= 1, results


@pytest.mark.parametrize("bits", [8, 4])
def test_gradient_on_stochastic_codes_is_unbiased_after_the_correction(bits):
    X, y, w = rng.random((1600, 5)), rng.standard_normal(1600), rng.standard_normal(5)
    exact, _, value = scrimp.gradient(X, y, w, precise=True)
    seeds = 200
    runs = [
        scrimp.gradient(QuantizedMatrix.from_array(X, bits=bits, seed=s), y, w, precise=True)
        for s in range(seeds)
    ]
    g = np.array([run[0] for run in runs])
    deviation = g.std(axis=0) / np.sqrt(seeds)
    assert np.all(np.abs(g.mean(axis=0) - exact) < 5 * deviation)
    values = np.array([run[2] for run in runs])
    assert abs(values.mean() - value) < 5 * values.std() / np.sqrt(seeds)
    noise = QuantizedMatrix.from_array(X, bits=bits).noise / len(X)
    if bits == 4:  # without the correction the test would fail
        assert np.any(np.abs(g.mean(axis=0) + noise * w - exact) > 5 * deviation)


def test_other_weights_than_the_matrix_own_use_leaf_means_of_the_noise():
    X, y, w = rng.random((2 * LEAF_ROWS, 3)), np.zeros(2 * LEAF_ROWS), np.ones(3)
    Q = QuantizedMatrix.from_array(X, bits=2)
    second = np.repeat([0.0, 1.0], LEAF_ROWS)
    masked = gradient_sums(Q, y, w, sample_weight=second).total()
    alone = gradient_sums(Q.leaves(1, 2), y[LEAF_ROWS:], w, first_row=0).total()
    np.testing.assert_allclose(masked, alone, rtol=1e-14)


def test_product_predicts_rows_alone_as_in_company():
    X = rng.standard_normal((100, 21)).astype(np.float32)
    W = rng.standard_normal((21, 3))
    together = product(X, W, [1.0, 2.0, 3.0])
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, X @ W + [1, 2, 3], rtol=1e-4, atol=1e-5)
    assert np.array_equal(together[50:51], product(X[50:51], W, [1.0, 2.0, 3.0]))
    Q = QuantizedMatrix.from_array(X)
    np.testing.assert_allclose(product(Q, W), Q.dequantize() @ W, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w": np.ones(4)}, r"w must have shape \(3,\)"),
        ({"y": np.ones(4)}, "y must have one row for each of the 5 rows"),
        ({"y": np.ones((5, 2))}, "y must have 1 columns"),
        ({"loss": "hinge"}, "unknown loss 'hinge'; known: squared, logistic"),
        ({"sample_weight": -np.ones(5)}, "sample_weight must hold finite numbers >= 0"),
        ({"sample_weight": np.ones(4)}, r"sample_weight must have shape \(5,\)"),
        ({"X": np.ones(5)}, "X must be a 2-D array"),
        ({"sample_weight": np.zeros(5)}, "at least one row of positive weight"),
        ({"threads": -1}, "threads must be >= 0"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    arguments = {"X": np.ones((5, 3)), "y": np.ones(5), "w": np.ones(3), **change}
    with pytest.raises(ValueError, match=message):
        scrimp.gradient(**arguments)


def test_no_rows_is_an_input_error_and_integers_a_type_error():
    with pytest.raises(scrimp.InputError, match="at least one row"):
        scrimp.gradient(np.ones((0, 3)), np.ones(0), np.ones(3))
    with pytest.raises(TypeError, match="bfloat16, float16, float32, float64 or int8"):
        scrimp.gradient(np.ones((2, 3), np.int64), np.ones(2), np.ones(3))


def test_tree_sum_refuses_gaps_overlaps_and_damage():
    leaves = rng.standard_normal((7, 2))
    tree = TreeSum.from_leaves(leaves, 0)
    with pytest.raises(ValueError, match="leaf 0 is missing"):
        TreeSum.from_leaves(leaves, 1).total()
    with pytest.raises(ValueError, match="leaf 3 is missing"):
        TreeSum.merge([TreeSum.from_leaves(leaves[:3], 0), TreeSum.from_leaves(leaves[4:], 4)]).total()
    with pytest.raises(ValueError, match="overlap"):
        TreeSum.merge([tree, TreeSum.from_leaves(leaves[3:5], 3)])
    data = tree.to_bytes()
    assert np.array_equal(TreeSum.from_bytes(data).total(), tree.total())
    for damaged in (b"", data[:-1], data + b"\0", b"x" + data[1:]):
        with pytest.raises(scrimp.CodecError):
            TreeSum.from_bytes(damaged)
    assert TreeSum.from_leaves(np.zeros((0, 4)), 0).total().tolist() == [0.0] * 4
