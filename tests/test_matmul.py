"""Products with weights in few bits: the bits of the definition for any shape, codec, threads and ISA."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scrimp
from scrimp import QuantizedLinear, QuantizedMatrix
from scrimp.matrix import product

CODECS = ["int8", "int4", "int4:scale=mse", "int8:block=32", "int4:block=256", "int4:block=64"]
SHAPES = [(4, 128), (1, 512), (17, 256), (33, 640), (5, 100), (3, 1300), (40, 31), (1, 1), (2, 129)]


def rng(seed=0):
    return np.random.default_rng(seed)


def lane_sum(lanes):
    """Add the last axis of 16 in pairs: 0+8, 1+9, … as docs/formats.md has it."""
    for width in (8, 4, 2, 1):
        lanes = lanes[..., :width] + lanes[..., width : 2 * width]
    return lanes[..., 0]


def by_definition(X, W, bias):
    """x·w in float32, lane j mod 16 first, then the lanes pairwise."""
    d = X.shape[1]
    pad = [(0, 0), (0, -d % 16)]
    x, w = np.pad(X, pad), np.pad(W, pad)
    lanes = np.zeros((len(X), len(W), 16), np.float32)
    for j in range(0, d, 16):
        lanes += x[:, None, j : j + 16] * w[None, :, j : j + 16]
    return lane_sum(lanes) + bias


def row_codes(X):
    """Each row by the codec int8 as one block: codes and scales."""
    top = np.abs(X).max(axis=1, initial=0)
    scale = (top / np.float32(127)).astype(np.float32)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale > 0)
    return np.rint(X * inverse[:, None]).astype(np.int64), scale


def weight_codes(layer):
    """Codes and scales of all weights, from the bytes."""
    (k, d), block = layer.shape, layer.codec.native.block
    bits = 8 if layer.codec.spec.startswith("int8") else 4
    codes, scales, at = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)], 0
    for begin in range(0, k * d, block):
        n = min(block, k * d - begin)
        scale = layer.payload[at : at + 4].view(np.float32)
        stored = layer.payload[at + 4 : at + 4 + -(-n * bits // 8)]
        at += 4 + stored.size
        nibbles = np.concatenate([stored & 15, stored >> 4])[:n].astype(np.int64) - 8
        codes.append(stored.view(np.int8).astype(np.int64) if bits == 8 else nibbles)
        scales.append(np.repeat(scale, n))
    return np.concatenate(codes), np.concatenate(scales), min(block, 128)


def code_product_by_definition(X, layer):
    """Exact sums of codes in 16 lanes of four, times the block's scale, stretch by stretch."""
    (k, d), (codes, scales, piece) = layer.shape, weight_codes(layer)
    x, row_scale = row_codes(X)
    lanes = np.zeros((len(X), k, 16), np.float32)
    for o in range(k):
        begin = o * d
        while begin < (o + 1) * d:
            end = min((o + 1) * d, begin // piece * piece + piece)
            exact = np.zeros((len(X), 16), np.int64)
            terms = x[:, begin - o * d : end - o * d] * codes[begin:end]
            np.add.at(exact.T, (np.arange(end - begin) // 4) % 16, terms.T)
            lanes[:, o] += exact.astype(np.float32) * scales[begin]
            begin = end
    return lane_sum(lanes) * row_scale[:, None] + layer.bias


def data(n, k, d, spec, seed=0):
    X = rng(seed).standard_normal((n, d)).astype(np.float32)
    W = rng(seed + 1).standard_normal((k, d)).astype(np.float32)
    return X, QuantizedLinear.from_array(W, spec, rng(seed + 2).standard_normal(k))


@pytest.mark.parametrize("spec", CODECS)
@pytest.mark.parametrize(("k", "d"), SHAPES)
def test_results_have_the_bits_of_the_definition(spec, k, d):
    for n in (0, 1, 2, 7, 65):
        X, layer = data(n, k, d, spec)
        np.testing.assert_array_equal(layer(X), by_definition(X, layer.dequantize(), layer.bias))
        rounded = layer(X, activations="int8")
        np.testing.assert_array_equal(rounded, code_product_by_definition(X, layer))


@pytest.mark.parametrize(
    "spec", ["nf4", "mxfp4", "q8_0", "rot4", "f16", "raw", "int3", "sign", "topk:ratio=0.05"]
)
def test_every_codec_multiplies_as_it_decodes(spec):
    for n, k, d in ((1, 5, 1024), (9, 3, 700)):
        X, layer = data(n, k, d, spec)
        np.testing.assert_array_equal(layer(X), by_definition(X, layer.dequantize(), layer.bias))
        with pytest.raises(ValueError, match="int8 activations need int8 or int4 weights"):
            layer(X, activations="int8")


@pytest.mark.parametrize("activations", ["float32", "int8"])
@pytest.mark.parametrize("spec", ["int8", "int4"])
@pytest.mark.parametrize(
    ("n", "k", "d"), [(1000, 37, 256), (1000, 1, 512), (3, 300, 1280), (1, 300, 1280), (130, 40, 77)]
)
def test_threads_and_other_rows_change_no_bit(spec, activations, n, k, d):
    X, layer = data(n, k, d, spec)
    alone = layer(X, activations=activations, threads=1)
    for threads in (2, 3, 5):
        np.testing.assert_array_equal(layer(X, activations=activations, threads=threads), alone)
    for i in (0, n // 2, n - 1):
        np.testing.assert_array_equal(layer(X[i], activations=activations), alone[i])


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(0, 9),
    k=st.integers(0, 20),
    d=st.integers(0, 600),
    spec=st.sampled_from(CODECS),
    threads=st.integers(1, 3),
)
def test_any_shape_has_the_bits_of_the_definition(n, k, d, spec, threads):
    X, layer = data(n, k, d, spec, seed=n + k + d)
    np.testing.assert_array_equal(layer(X, threads=threads), by_definition(X, layer.dequantize(), layer.bias))
    rounded = layer(X, activations="int8", threads=threads)
    np.testing.assert_array_equal(rounded, code_product_by_definition(X, layer))


@pytest.mark.parametrize("activations", ["float32", "int8"])
def test_strides_and_dtypes_give_the_result_of_contiguous_float32(activations):
    wide, layer = data(20, 6, 256, "int4")
    X = np.repeat(np.repeat(wide, 2, axis=0), 3, axis=1)[::2, ::3]
    expected = layer(wide, activations=activations)
    for same in (X, np.asfortranarray(wide), wide.astype(np.float64), wide[::-1][::-1]):
        np.testing.assert_array_equal(layer(same, activations=activations), expected)
    half = wide.astype(np.float16)
    np.testing.assert_array_equal(layer(half), layer(half.astype(np.float32)))
    whole = rng().integers(-128, 128, (7, 256), dtype=np.int8)
    np.testing.assert_array_equal(layer(whole), layer(whole.astype(np.float32)))


def test_result_goes_where_it_is_told():
    X, layer = data(5, 3, 256, "int8")
    out = np.empty((5, 3), np.float32)
    assert layer(X, out) is out
    np.testing.assert_array_equal(out, layer(X))
    with pytest.raises(ValueError, match=r"out must have shape \(5, 3\), got \(3, 5\)"):
        layer(X, np.empty((3, 5), np.float32))
    with pytest.raises(ValueError, match="out must be a contiguous"):
        layer(X, np.empty((10, 3), np.float32)[::2])


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_quantized_rows_multiply_as_they_decode(bits):
    X, layer = data(300, 5, 256, "int4")
    Q = QuantizedMatrix.from_array(X, bits)
    for activations in ("float32", "int8"):
        expected = layer(Q.dequantize(), activations=activations)
        np.testing.assert_array_equal(layer(Q, activations=activations), expected)


@pytest.mark.parametrize("spec", ["int8", "int4"])
def test_bits_are_those_of_the_product_with_decoded_weights(spec):
    X, layer = data(70, 6, 384, spec)
    decoded = product(X, layer.dequantize().T, layer.bias)
    np.testing.assert_array_equal(layer(X), decoded)


def test_columns_are_scaled_before_the_product():
    X, layer = data(9, 3, 256, "int8")
    scale = np.exp2(rng(4).integers(-3, 4, 256)).astype(np.float64)
    np.testing.assert_array_equal(layer(X, scale=scale), layer(X * scale.astype(np.float32)))
    with pytest.raises(ValueError, match="has its own"):
        layer(QuantizedMatrix.from_array(X), scale=scale)


@pytest.mark.parametrize("spec", ["int8", "int4"])
@pytest.mark.parametrize("d", [256, 100])
def test_what_is_not_finite_stays_in_its_row(spec, d):
    X, layer = data(9, 5, d, spec)
    clean = layer(X)
    X[3, 7], X[5, 0] = np.nan, np.inf
    for activations in ("float32", "int8"):
        got = layer(X, activations=activations)
        assert np.isnan(got[3]).all()
        rest = [0, 1, 2, 4, 6, 7, 8]
        np.testing.assert_array_equal(got[rest], layer(X[rest], activations=activations))
        assert np.isnan(got[5]).all() or activations == "float32"
    np.testing.assert_array_equal(layer(X)[0], clean[0])


def test_weights_of_a_poisoned_block_make_their_output_nan():
    W = np.ones((3, 256), np.float32)
    W[1, 200] = np.nan
    layer = QuantizedLinear.from_array(W, "int4", nonfinite="propagate")
    for activations in ("float32", "int8"):
        got = layer(np.ones((4, 256), np.float32), activations=activations)
        np.testing.assert_array_equal(np.isfinite(got).all(axis=0), [True, False, True])


@pytest.mark.parametrize("factor", [1e-44, 1e-38, 1e-30, 1e30])
def test_rounded_rows_of_any_size_keep_their_precision(factor):
    X, layer = data(4, 8, 256, "int8")
    X = (X * np.float64(factor)).astype(np.float32)
    exact = X.astype(np.float64) @ layer.dequantize().T.astype(np.float64)
    plain = QuantizedLinear(layer.payload, layer.codec, layer.shape, np.zeros(8, np.float32))
    got = plain(X, activations="int8")
    weight = np.abs(layer.dequantize()).sum(axis=1)
    limit = (np.abs(X).max(axis=1)[:, None] / 250 + 127 * 2.0**-150) * weight  # a scale may be denormal
    assert (np.abs(got - exact) <= limit + 2.0**-148).all()


def test_stored_minus_128_is_multiplied_exactly():
    layer = QuantizedLinear.from_array(np.full((2, 128), -1, np.float32), "int8")
    hostile = layer.payload.copy()
    hostile[4:132] = 0x80
    damaged = QuantizedLinear(hostile, layer.codec, layer.shape, layer.bias)
    X = np.full((5, 128), 127, np.float32)
    np.testing.assert_array_equal(damaged(X, activations="int8"), code_product_by_definition(X, damaged))


def test_error_of_rounded_rows_stays_below_its_bound():
    X, layer = data(50, 20, 1000, "int4")
    decoded = layer.dequantize().astype(np.float64)
    error = np.abs(layer(X, activations="int8") - layer.bias - X.astype(np.float64) @ decoded.T)
    bound = np.abs(X).max(axis=1)[:, None] / 254 * np.abs(decoded).sum(axis=1)
    assert (error <= bound * 1.001 + 1e-4).all()


def test_shapes_and_options_that_do_not_fit_are_named():
    X, layer = data(3, 2, 128, "int4")
    with pytest.raises(ValueError, match=r"X must have shape \(n, 128\) or \(128,\), got \(3, 127\)"):
        layer(X[:, 1:])
    with pytest.raises(ValueError, match="activations must be 'float32' or 'int8', got 'int4'"):
        layer(X, activations="int4")
    with pytest.raises(ValueError, match=r"bias must have shape \(2,\), got \(3,\)"):
        QuantizedLinear.from_array(np.ones((2, 5)), "int4", [1, 2, 3])
    with pytest.raises(ValueError, match="W must be a 2-D array"):
        QuantizedLinear.from_array(np.ones(5), "int4")
    with pytest.raises(ValueError, match="2-D float array"):
        QuantizedLinear.from_packet(scrimp.pack(np.ones(5), "int4"))
    with pytest.raises(scrimp.CodecError):
        QuantizedLinear.from_packet(scrimp.pack(np.ones((2, 5)), "int4")[:-1])
    with pytest.raises(TypeError, match="X must be a bfloat16, float16"):
        layer(np.ones((3, 128), np.int64))
