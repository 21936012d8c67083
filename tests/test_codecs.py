"""The contract that every codec keeps. It runs over the registry: a new codec is tested by being listed."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import scrimp

EXAMPLES = {"step": ["step:k=0.01,bits=16", "step:k=0.125"]}
SPECS = [spec for name in scrimp.codec_names() for spec in EXAMPLES.get(name, [name])]
STOCHASTIC = [f"int{bits}:rounding=stochastic" for bits in (8, 6, 4, 3, 2)]
OPTIONS = ["int8:block=32", "int4:scale=mse", "int4:block=256", "int2:scale=mse", "sign:block=32"]
OPTIONS += ["nf4:block=128", "mxfp4:scale=rceil", "mxfp8:scale=even", "rot1:scale=unbiased", "rot4:block=256"]
ALL = SPECS + STOCHASTIC + OPTIONS
SIZES = [0, 1, 2, 3, 31, 127, 128, 129, 257, 1024, 16384, 16385, 40009]
LEVELS = np.float32(1.2)


def sample(n: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal(n).astype(np.float32)
    return np.clip(x, -LEVELS, LEVELS)


def roundtrip(codec: scrimp.Codec, x: np.ndarray, **key) -> np.ndarray:
    return codec.decode(codec.encode(x, **key), x.size).reshape(x.shape)


@pytest.fixture(params=ALL)
def codec(request) -> scrimp.Codec:
    return scrimp.codec(request.param)


def test_spec_is_canonical_and_round_trips(codec):
    again = scrimp.codec(codec.spec)
    assert again == codec
    assert hash(again) == hash(codec)
    assert again.spec == codec.spec
    assert codec.spec in repr(codec)
    assert pickle.loads(pickle.dumps(codec)) == codec


@pytest.mark.parametrize("n", SIZES)
def test_payload_has_exactly_nbytes(codec, n):
    payload = codec.encode(sample(n))
    assert payload.dtype == np.uint8
    assert payload.shape == (codec.nbytes(n),)
    assert codec.decode(payload, n).shape == (n,)


def test_bits_is_the_long_run_of_nbytes(codec):
    n = 1 << 20
    assert codec.nbytes(n) * 8 / n == pytest.approx(codec.bits, rel=1e-9)


@pytest.mark.parametrize("n", SIZES)
def test_error_is_within_bound(codec, n):
    x = sample(n)
    error = np.max(np.abs(roundtrip(codec, x).astype(np.float64) - x), initial=0.0)
    assert error <= codec.bound(x)


@pytest.mark.parametrize("scale", [1e-45, 1e-42, 1e-38, 1e-20])
def test_tiny_and_denormal_values_are_within_bound(codec, scale):
    x = (sample(300).astype(np.float64) * scale).astype(np.float32)
    error = np.max(np.abs(roundtrip(codec, x).astype(np.float64) - x))
    assert error <= codec.bound(x)


def test_zeros_decode_to_zeros(codec):
    assert not roundtrip(codec, np.zeros(300, np.float32)).any()


def test_bytes_do_not_depend_on_threads(codec):
    x = sample(200_003)
    assert np.array_equal(codec.encode(x, threads=1, seed=5), codec.encode(x, threads=4, seed=5))
    payload = codec.encode(x)
    assert np.array_equal(codec.decode(payload, x.size, threads=1), codec.decode(payload, x.size, threads=3))


def test_bytes_do_not_depend_on_chunking(codec):
    x, cut = sample(5000), 3 * 1024
    whole = codec.encode(x, seed=3, step=9, first_index=1 << 33)
    parts = [codec.encode(x[:cut], seed=3, step=9, first_index=1 << 33)]
    parts.append(codec.encode(x[cut:], seed=3, step=9, first_index=(1 << 33) + cut))
    assert np.array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_bytes_do_not_depend_on_strides(codec, dtype):
    if codec.spec == "raw" and dtype != np.float32:
        pytest.skip("raw keeps the dtype of its input")
    x = sample(6 * 50 * 7).astype(np.float16).astype(dtype).reshape(6, 50, 7)
    for view in (x.transpose(2, 0, 1), x[::2, ::-3], x[:, 1:2], np.broadcast_to(x[0, 0], (9, 7)), x[2, 3, 4]):
        assert np.array_equal(codec.encode(view), codec.encode(np.ascontiguousarray(view, np.float32)))


def test_out_is_used_and_add_adds(codec):
    x = sample(1000)
    out = np.full(codec.nbytes(1000), 255, np.uint8)
    assert codec.encode(x, out) is out
    assert np.array_equal(out, codec.encode(x))
    values = np.ones(1000, np.float32)
    assert codec.decode(out, 1000, values, add=True) is values
    assert np.array_equal(values, np.float32(1) + codec.decode(out, 1000))


def test_wrong_sizes_and_dtypes_are_refused(codec):
    x = sample(100)
    payload = codec.encode(x)
    with pytest.raises(ValueError, match="must hold"):
        codec.decode(payload[:-1], 100)
    with pytest.raises(ValueError, match="must hold"):
        codec.decode(payload, 100, np.empty(99, np.float32))
    with pytest.raises(ValueError, match=r"must hold|must be"):
        codec.encode(x, np.empty(payload.size + 1, np.uint8))
    with pytest.raises(ValueError, match="n must be >= 0"):
        codec.nbytes(-1)
    with pytest.raises(TypeError):
        codec.encode(x.astype(complex))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_raise_names_the_first_index(codec, bad):
    x = sample(3000)
    x[[2111, 2500]] = bad
    with pytest.raises(ValueError, match="2111"):
        codec.encode(x, nonfinite="raise", threads=2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_saturate_decodes_finite_and_propagate_does_not(codec, bad):
    if codec.spec.startswith("step"):
        pytest.skip("a lattice code has no room for it: it always raises")
    x = sample(300)
    x[140] = bad
    y = roundtrip(codec, x, nonfinite="propagate")
    has_infinity = codec.spec != "e4m3"
    assert not np.isfinite(y[140]) or (np.isinf(bad) and not has_infinity)
    if not codec.native.passes_nonfinite:
        y = roundtrip(codec, x, nonfinite="saturate")
        assert np.isfinite(y).all()
        finite = x.copy()
        finite[140] = np.sign(np.nan_to_num(bad)) * np.max(np.abs(x[128:256][np.isfinite(x[128:256])]))
        assert np.array_equal(y, roundtrip(codec, finite))


def test_the_largest_floats_stay_finite_and_within_bound(codec):
    if codec.spec.startswith("step"):
        pytest.skip("beyond its width")
    x = np.array([3.4028235e38, -3.4028235e38, 1e38, -0.0, 3.4028233e38], np.float32)
    with np.errstate(invalid="ignore"):
        y = roundtrip(codec, x, nonfinite="saturate")
        error = np.max(np.abs(y.astype(np.float64) - x))
    assert error <= codec.bound(x)
    assert np.isfinite(y).all() or np.isinf(codec.bound(x))


@pytest.mark.parametrize("kind", ["ef14", "ef21"])
@pytest.mark.parametrize("n", [1, 127, 1000, 70_001])
def test_encode_with_feedback_is_the_three_steps_in_one(codec, kind, n):
    x, state = sample(n) / 2, sample(n, seed=1) / 2
    sent = x + state if kind == "ef14" else x - state
    payload = codec.encode(sent, seed=4)
    received = codec.decode(payload, n)
    expected = sent - received if kind == "ef14" else state + received
    fused = codec.encode(x, seed=4, feedback=kind, state=state, threads=2)
    assert np.array_equal(fused, payload)
    assert np.array_equal(state, expected)


def test_contractive_codecs_shrink_every_input(codec):
    if not codec.contractive:
        pytest.skip("does not claim it")
    rng = np.random.default_rng(7)
    shapes = [
        rng.standard_normal(512),
        rng.laplace(size=512),
        rng.standard_t(3, 512),
        np.eye(1, 512)[0],
        np.ones(512),
    ]
    for x in shapes:
        x = (x / np.abs(x).max()).astype(np.float32)
        assert np.sum((roundtrip(codec, x) - x) ** 2) < np.sum(x**2)


_ISA_SCRIPT = """
import hashlib, numpy as np, scrimp, sys
x = np.random.default_rng(0).standard_normal(5001).astype(np.float32).clip(-1.2, 1.2)
x[:256] *= np.float32(1e-40)
for spec in sys.argv[1:]:
    c = scrimp.codec(spec)
    payload = c.encode(x, seed=1, step=2)
    print(spec, hashlib.sha256(payload.tobytes() + c.decode(payload, x.size).tobytes()).hexdigest())
"""


def test_every_isa_writes_the_same_bytes():
    answers = {}
    for isa in ("v2", "v3", "v4", "v4vnni", "neon"):
        done = subprocess.run(
            [sys.executable, "-c", _ISA_SCRIPT, *ALL],
            env={**os.environ, "SCRIMP_ISA": isa},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode == 0:
            answers[isa] = done.stdout
        else:
            assert "SCRIMP_ISA" in done.stderr, done.stderr
    assert len(answers) >= 1
    assert len(set(answers.values())) == 1, answers


@pytest.mark.parametrize("spec", STOCHASTIC)
def test_stochastic_rounding_is_a_function_of_seed_step_and_index(spec):
    c, x = scrimp.codec(spec), sample(4096)
    base = c.encode(x, seed=1, step=1)
    assert np.array_equal(base, c.encode(x, seed=1, step=1))
    for other in (
        {"seed": 2, "step": 1},
        {"seed": 1, "step": 2},
        {"seed": 1, "step": 1, "first_index": 4096},
    ):
        assert not np.array_equal(base, c.encode(x, **other))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int7", "unknown codec 'int7'; known: .*int8"),
        ("int4:foo=1", "no option 'foo'; possible: .*rounding"),
        ("int4:rounding=up", "rounding must be one of nearest, stochastic, got 'up'"),
        ("int4:rounding", "option=value"),
        ("int4:rounding=nearest,rounding=nearest", "twice"),
        ("step", "needs k"),
        ("step:k=-1", "positive"),
        ("step:k=nan", "positive"),
        ("step:k=1,bits=7", "bits must be one of 8, 16, got '7'"),
    ],
)
def test_bad_specs_say_what_is_possible(text, message):
    with pytest.raises(ValueError, match=message):
        scrimp.codec(text)


def test_spec_must_be_text():
    with pytest.raises(TypeError, match="string"):
        scrimp.codec(4)


def test_step_overflow_raises_and_names_the_index():
    with pytest.raises(ValueError, match=r"x\[2\]"):
        scrimp.codec("step:k=0.01,bits=8").encode([0.1, 1.27, 1.28, 0.0])


@pytest.mark.parametrize("dtype", ["f8", "f2", "i8", "i4", "u1", "?"])
def test_raw_keeps_the_dtype(dtype):
    x = (np.arange(24).reshape(4, 6)[:, ::2] % 2).astype(dtype)
    c = scrimp.codec("raw")
    payload = c.encode(x)
    assert payload.size == c.nbytes(12, dtype) == x.nbytes
    assert np.array_equal(c.decode(payload, 12, dtype=dtype), x.ravel())


def test_raw_encode_never_aliases_its_input():
    x = np.arange(5.0)
    payload = scrimp.codec("raw").encode(x)
    x[:] = 7
    assert scrimp.codec("raw").decode(payload, 5, dtype="f8").tolist() == [0, 1, 2, 3, 4]


floats = st.sampled_from([np.float16, np.float32, np.float64])


@given(
    x=floats.flatmap(
        lambda t: hnp.arrays(
            t, hnp.array_shapes(max_side=40), elements={"allow_nan": False, "allow_infinity": False}
        )
    ),
    data=st.data(),
)
def test_any_finite_array_stays_within_bound(x, data):
    c = scrimp.codec(data.draw(st.sampled_from([s for s in ALL if not s.startswith("step")])))
    if c.spec == "raw":
        return
    with np.errstate(over="ignore"):
        reachable = np.isfinite(x.astype(np.float32)).all()
    if not reachable:
        return
    if np.isinf(c.bound(x)):  # beyond the format: stored as infinite, or refused
        return
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.max(np.abs(roundtrip(c, x).astype(np.float64) - x.astype(np.float64)), initial=0.0)
    assert error <= c.bound(x)


def test_an_output_that_shares_bytes_with_an_input_is_refused():
    c, memory = scrimp.codec("int8"), np.zeros(4000, np.float32)
    bytes_ = memory.view(np.uint8)
    x, state = memory[1000:2000], memory[2000:3000]
    size = c.nbytes(1000)
    for start in (4000, 4000 - size + 1, 7999):
        with pytest.raises(ValueError, match="out must not overlap x"):
            c.encode(x, bytes_[start : start + size])
    with pytest.raises(ValueError, match="out must not overlap x"):
        c.encode(memory[3000:1000:-2], bytes_[8000 : 8000 + size])
    with pytest.raises(ValueError, match="out must not overlap state"):
        c.encode(x, bytes_[8000 : 8000 + size], feedback="ef14", state=state)
    with pytest.raises(ValueError, match="out must not overlap buf"):
        c.decode(bytes_[4000 - 4 : 4000 - 4 + size], 1000, x)
    for start in (4000 - size, 8000):  # right before and after
        c.encode(x, bytes_[start : start + size])
        c.decode(bytes_[start : start + size], 1000, x)
