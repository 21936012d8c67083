"""Error feedback loses nothing for good, and its state can be saved."""

import numpy as np
import pytest

import scrimp
from scrimp.comm import Comm

X = np.random.default_rng(1).standard_normal(1000).astype(np.float32)


@pytest.mark.parametrize("spec", ["int4", "sign"])
def test_ef14_residual_is_all_that_was_not_sent(spec):
    feedback, c = scrimp.ErrorFeedback(), scrimp.codec(spec)
    sent = np.zeros(1000)
    for _ in range(200):
        sent += c.decode(feedback.encode("w", X, c), 1000)
    np.testing.assert_allclose(sent + feedback.residual("w", 1000), 200.0 * X, atol=5e-3)
    assert np.abs(sent / 200 - X).mean() < 0.1


def test_without_feedback_sign_never_gets_there():
    c = scrimp.codec("sign")
    assert np.abs(c.decode(c.encode(X), 1000) - X).max() > 1


@pytest.mark.parametrize("spec", ["int4", "sign"])
def test_ef21_state_converges_to_a_constant_input(spec):
    feedback = scrimp.ErrorFeedback("ef21")
    for _ in range(1000):
        feedback.encode("w", X, spec)
    np.testing.assert_allclose(feedback.residual("w", 1000), X, atol=1e-3)


def test_state_dict_continues_to_the_bit():
    a = scrimp.ErrorFeedback()
    a.encode("w", X, "int4")
    state = a.state_dict()
    b = scrimp.ErrorFeedback()
    b.load_state_dict(state)
    assert np.array_equal(a.encode("w", X, "int4"), b.encode("w", X, "int4"))
    assert np.array_equal(state["residuals"]["w"], scrimp.ErrorFeedback().residual("w", 1000)) is False


def test_states_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="kind"):
        scrimp.ErrorFeedback("ef21").load_state_dict(scrimp.ErrorFeedback().state_dict())
    with pytest.raises(ValueError, match="keys"):
        scrimp.ErrorFeedback().load_state_dict({})


def test_a_failed_encode_leaves_the_residual_alone():
    feedback = scrimp.ErrorFeedback()
    feedback.encode("w", X, "int4")
    before = feedback.residual("w", 1000).copy()
    with pytest.raises(ValueError, match="cannot be encoded"):
        feedback.encode("w", np.where(np.arange(1000) == 900, np.float32(np.nan), X), "int4")
    assert np.array_equal(before, feedback.residual("w", 1000))


@pytest.mark.parametrize("kind", ["ef14", "ef21"])
@pytest.mark.parametrize("value", [7e4, np.inf, np.nan])
def test_what_f16_cannot_hold_once_does_not_stay_in_the_residual(kind, value):
    feedback, c = scrimp.ErrorFeedback(kind), scrimp.codec("f16")
    feedback.encode("w", X, c)
    before = feedback.residual("w", 1000).copy()
    worse = X.copy()
    worse[3] = value
    sent = c.decode(feedback.encode("w", worse, c), 1000)
    assert np.flatnonzero(~np.isfinite(sent)).tolist() == [3]
    lost_or_held = (X + before) - sent if kind == "ef14" else before + sent
    lost_or_held[3] = before[3]
    np.testing.assert_array_equal(feedback.residual("w", 1000), lost_or_held)
    assert np.isfinite(c.decode(feedback.encode("w", X, c), 1000)).all()


def test_receivers_that_keep_their_state_where_no_number_came_follow_the_sender():
    feedback, c = scrimp.ErrorFeedback("ef21"), scrimp.codec("f16")
    held = np.zeros(1000, np.float32)
    for step in range(4):
        x = X * (step + 1)
        if step == 1:
            x[3] = 1e6
        sent = c.decode(feedback.encode("w", x, c), 1000)
        np.add(held, sent, out=held, where=np.isfinite(sent))
        np.testing.assert_array_equal(held, feedback.residual("w", 1000))
    np.testing.assert_allclose(held, x, rtol=1e-2, atol=1e-2)


def test_a_block_that_is_propagated_as_nan_does_not_stay_in_the_residual():
    feedback, worse = scrimp.ErrorFeedback(), X.copy()
    worse[3] = np.inf
    feedback.encode("w", worse, "int8", nonfinite="propagate")
    assert np.isfinite(feedback.residual("w", 1000)).all()


def test_only_codecs_that_store_infinities_are_searched_for_them(monkeypatch):
    searched = []
    isfinite = np.isfinite
    monkeypatch.setattr(np, "isfinite", lambda x: searched.append(x) or isfinite(x))
    scrimp.ErrorFeedback().encode("w", X, "int8")
    assert not searched
    scrimp.ErrorFeedback().encode("w", X, "bf16")
    assert searched


def test_a_tensor_keeps_its_size():
    feedback = scrimp.ErrorFeedback()
    feedback.encode("w", X, "int4")
    with pytest.raises(ValueError, match="1000 values before, got 10"):
        feedback.encode("w", X[:10], "int4")


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="known: ef14, ef21"):
        scrimp.ErrorFeedback("ef99")


@pytest.mark.parametrize("spec", ["int2", "int3:rounding=stochastic", "rot1:scale=unbiased"])
def test_codecs_that_are_not_contractive_are_refused(spec):
    with pytest.raises(ValueError, match="not contractive"):
        scrimp.ErrorFeedback().encode("w", X, spec)


@pytest.mark.parametrize("spec", ["rot1", "int2:scale=mse", "nf4", "mxfp4"])
def test_feedback_recovers_what_a_coarse_codec_drops(spec):
    feedback, c = scrimp.ErrorFeedback(), scrimp.codec(spec)
    total = np.zeros(1000)
    for step in range(100):
        total += c.decode(feedback.encode("w", X, c, step=step), 1000)
    assert np.abs(total / 100 - X).mean() < 0.06


def too_large_for_blocks(comm: Comm) -> list[str]:
    """Each part can be encoded, their sum cannot: fp16 would not hold its scale."""
    outcomes = []
    for codec, large in (("q4_0", 4.5e5), ("q8_0", 7e6)):
        for world in (comm, Comm(comm.transport, native=False)):
            for kind in (None, "ef14", "ef21"):
                feedback = kind and scrimp.ErrorFeedback(kind)
                x = np.zeros(20_000, np.float32)
                x[[7_000, 15_000]] = large
                before = x.copy()
                with pytest.raises(ValueError, match="too large for its type; nothing was written") as error:
                    world.all_reduce(x, codec=codec, op="sum", raw_below=0, feedback=feedback, name="x")
                assert (x == before).all()
                outcomes.append(str(error.value))
                ones = np.ones(20_000, np.float32)  # no residual holds what was refused
                world.all_reduce(ones, codec=codec, op="sum", raw_below=0, feedback=feedback, name="x")
                np.testing.assert_allclose(ones, comm.size, rtol=0.01)
    return outcomes


@pytest.mark.parametrize("workers", [2, 3])
def test_a_sum_that_a_block_cannot_hold_is_refused_and_leaves_no_residual(workers: int) -> None:
    first, *others = scrimp.run(too_large_for_blocks, workers=workers)
    assert all(other == first for other in others)
