"""PowerSGD: low-rank means with a lazy error memory, equal on all ranks, ISAs and thread counts."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

import scrimp
from scrimp import _core
from scrimp.comm import Comm, PowerSGD, power_sgd, single

ISAS = ("v2", "v3", "v4", "v4vnni", "neon")


def low_rank(rows, columns, rank, seed):
    rng = np.random.default_rng(seed)
    p, q = rng.standard_normal((rows, rank)), rng.standard_normal((rank, columns))
    return (p @ q).astype(np.float32)


@pytest.mark.parametrize("rank", [1, 2, 3, 5, 16])
@pytest.mark.parametrize("shape", [(64, 40), (37, 51), (1000, 33), (40, 3, 3, 7)])
def test_a_matrix_of_low_rank_comes_back(rank, shape):
    columns = int(np.prod(shape[1:]))
    power = PowerSGD(rank)
    if not power.takes(shape):
        pytest.skip("factors would be no smaller")
    for step in range(3):
        g = low_rank(shape[0], columns, rank, step).reshape(shape)
        want = g.copy()
        power.all_reduce(single(), [("w", g)])
        # Q may be ill-conditioned: its columns are those of the last, unrelated matrix
        assert np.linalg.norm(g - want) <= 1e-2 * np.linalg.norm(want)


def test_what_is_lost_comes_later():
    rng = np.random.default_rng(0)
    power = PowerSGD(rank=2)
    gradient = rng.standard_normal((48, 32)).astype(np.float32)
    total = np.zeros_like(gradient)
    for _ in range(200):
        g = gradient.copy()
        power.all_reduce(single(), [("w", g)])
        assert np.linalg.matrix_rank(g, tol=1e-3) <= 2
        total += g
    assert np.linalg.norm(total / 200 - gradient) < 0.15 * np.linalg.norm(gradient)


def test_the_passes_equal_their_formulas():
    rng = np.random.default_rng(1)
    rows, columns, rank = 45, 70, 3
    g, m = (rng.standard_normal(rows * columns).astype(np.float32) for _ in range(2))
    p, q = (rng.standard_normal(n * rank).astype(np.float32) for n in (rows, columns))
    G, M, P, Q = g.reshape(rows, -1), m.reshape(rows, -1), p.reshape(rows, -1), q.reshape(rank, -1)
    want = (M - P @ Q) + G
    m_out, p_out, q_out = np.empty_like(m), np.empty_like(p), np.empty_like(q)
    before = m.copy()
    _core.low_rank_project(g, m, p, q, rank, m_out, p_out)
    assert (m == before).all()
    np.testing.assert_allclose(m_out.reshape(rows, -1), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(p_out.reshape(rows, -1), want @ Q.T, rtol=1e-4, atol=1e-4)
    _core.low_rank_fold(m_out, p, rank, q_out)
    np.testing.assert_allclose(q_out.reshape(rank, -1), P.T @ want, rtol=1e-4, atol=1e-4)
    _core.low_rank_expand(g, p, q, rank)
    np.testing.assert_allclose(G, P @ Q, rtol=1e-5, atol=1e-5)


def test_columns_become_orthonormal_and_dependent_ones_zero():
    p = np.random.default_rng(2).standard_normal((50, 4)).astype(np.float32)
    p[:, 2] = p[:, 0] - 2 * p[:, 1]
    _core.orthonormalize(flat := p.reshape(-1).copy(), 4)
    q = flat.reshape(50, 4)
    np.testing.assert_allclose(q.T @ q, np.diag([1, 1, 0, 1]), atol=1e-6)


def digest(threads=0):
    found = hashlib.sha256()
    for rows, columns in ((300, 1037), (2050, 2064)):  # the larger one is written past the caches
        rng = np.random.default_rng(3)
        rank = 2
        g, m = (rng.standard_normal(rows * columns, np.float32) for _ in range(2))
        p, q = (rng.standard_normal(n * rank, np.float32) for n in (rows, columns))
        m_out, p_out, q_out = power_sgd._room_for(m.size), np.empty_like(p), np.empty_like(q)
        _core.low_rank_project(g, m, p, q, rank, m_out, p_out, threads)
        _core.orthonormalize(p_out, rank)
        _core.low_rank_fold(m_out, p_out, rank, q_out, threads)
        _core.low_rank_expand(g, p_out, q_out, rank, threads)
        for x in (g, m_out, p_out, q_out):
            found.update(x)
    return found.hexdigest()


def test_bytes_do_not_depend_on_threads():
    assert digest(1) == digest(2) == digest(5)


@pytest.mark.parametrize("isa", ISAS)
def test_bytes_do_not_depend_on_the_isa(isa):
    folder = os.path.dirname(__file__)
    code = f"import sys; sys.path.insert(0, {folder!r}); import test_power_sgd as t; print(t.digest())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"SCRIMP_ISA": isa}, capture_output=True, text=True
    )
    if "SCRIMP_ISA" in done.stderr:
        pytest.skip(f"this CPU lacks {isa}")
    assert done.stdout.strip() == digest(), done.stderr


def train(comm, power, steps):
    out = []
    for step in steps:
        rng = np.random.default_rng([comm.rank, step])
        w = rng.standard_normal((96, 64)).astype(np.float32)
        conv = rng.standard_normal((32, 16, 3, 3)).astype(np.float32)
        bias = rng.standard_normal(96).astype(np.float32)
        power.all_reduce(comm, [("w", w), ("conv", conv), ("b", bias)])
        out += [w.tobytes(), conv.tobytes(), bias.tobytes()]
    return out


def on_ranks(comm: Comm):
    power = PowerSGD(rank=2)
    first = train(comm, power, range(3))
    saved = power.state_dict()
    rest = train(comm, power, range(3, 5))
    resumed = PowerSGD(rank=2)
    resumed.load_state_dict(saved)
    assert train(comm, resumed, range(3, 5)) == rest

    usage = comm.usage
    assert usage.raw_bytes > 8 * usage.wire_bytes

    exact = low_rank(96, 64, 1, 5 + comm.rank)
    want = sum(low_rank(96, 64, 1, 5 + r) for r in range(comm.size)) / comm.size
    PowerSGD(rank=4).all_reduce(comm, [("w", exact)])
    assert np.linalg.norm(exact - want) < 1e-4 * np.linalg.norm(want)

    before = power.state_dict()["matrices"]["w"]
    w = np.ones((96, 64), np.float32)
    w[3, 4] = np.nan if comm.rank else 0
    power.all_reduce(comm, [("w", w)])
    after = power.state_dict()["matrices"]["w"]
    assert np.isnan(w).all()
    assert power.skipped == 1
    assert all(after[key].tobytes() == before[key].tobytes() for key in "mpq")
    return first + rest, comm.usage.wire_bytes


def test_ranks_agree_and_a_loaded_state_continues_bit_for_bit():
    results = scrimp.run(on_ranks, workers=3)
    assert results[0][0] == results[1][0] == results[2][0]


def test_wrong_use_is_named():
    with pytest.raises(ValueError, match="rank must lie in 1…16, got 0"):
        PowerSGD(0)
    power = PowerSGD()
    power.all_reduce(single(), [("w", np.ones((8, 9), np.float32))])
    with pytest.raises(ValueError, match="'w' was 8 × 9 before, got 9 × 8"):
        power.all_reduce(single(), [("w", np.ones((9, 8), np.float32))])
    with pytest.raises(ValueError, match="of rank 1, this one of rank 2"):
        PowerSGD(2).load_state_dict(power.state_dict())
    for rank in (1.5, "2", True):
        with pytest.raises(TypeError, match=f"rank must be an integer, got {rank!r}"):
            PowerSGD(rank)
    with pytest.raises(ValueError, match="seed must not be negative, got -1"):
        PowerSGD(seed=-1)
    w = np.ones((8, 9), np.float32)
    before = str(power.state_dict())
    with pytest.raises(ValueError, match="a name of its own, got 'w' twice"):
        power.all_reduce(single(), [("w", w), ("w", w.copy())])
    with pytest.raises(TypeError, match="'v' must be an array, got list"):
        power.all_reduce(single(), [("w", w), ("v", [1.0])])
    w.flags.writeable = False
    with pytest.raises(ValueError, match="'w' is read-only"):
        power.all_reduce(single(), [("w", w)])
    assert str(power.state_dict()) == before


def test_a_state_that_is_not_whole_is_refused_and_changes_nothing():
    power = PowerSGD()
    power.all_reduce(single(), [("w", low_rank(8, 9, 2, 0))])
    before = str(power.state_dict())
    for state, said in [({}, "it has no 'rank'"), ({"rank": 1}, "it has no 'matrices'")]:
        with pytest.raises(ValueError, match=said):
            power.load_state_dict(state)
    for key, n in (("m", 72), ("p", 8), ("q", 9)):
        state = power.state_dict()
        state["matrices"]["w"][key] = state["matrices"]["w"][key][:-1]
        with pytest.raises(ValueError, match=f"'{key}' of 'w', 8 × 9, must hold {n} values, got {n - 1}"):
            power.load_state_dict(state)
        state["matrices"]["w"][key] = np.full(n, np.nan)
        with pytest.raises(ValueError, match=f"'{key}' of 'w' holds values that are not finite"):
            power.load_state_dict(state)
        del state["matrices"]["w"][key]
        with pytest.raises(ValueError, match=f"the state of 'w' has no '{key}'"):
            power.load_state_dict(state)
    assert str(power.state_dict()) == before


@pytest.mark.parametrize("order", ["fortran", "strided", "reversed"])
def test_arrays_of_any_order_are_reduced_in_place(order):
    start = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    plain = start.copy()
    views = {
        "fortran": np.asfortranarray(start),
        "strided": np.repeat(start, 2, axis=1)[:, ::2],
        "reversed": start[::-1].copy()[::-1],
    }
    PowerSGD(2).all_reduce(single(), [("w", plain)])
    PowerSGD(2).all_reduce(single(), [("w", views[order])])
    assert (views[order] == plain).all()
    assert (plain != start).any()


def states_around(comm, power, w):
    before = power.state_dict()["matrices"]["w"]
    power.all_reduce(comm, [("w", w)])
    assert np.isnan(w).all()
    after = power.state_dict()["matrices"]["w"]
    return [all(before[key].tobytes() == after[key].tobytes() for key in "mpq")]


def skip_steps(comm: Comm):
    """Steps that cannot be used, by one rank or all; then one that can, as if they had never been."""
    power, untouched = PowerSGD(), PowerSGD()
    for p in (power, untouched):
        p.all_reduce(comm, [("w", low_rank(64, 48, 8, comm.rank))])
    same = []
    for large, bad in [(1e30, np.nan), (1e30, np.inf), (1.0, np.nan), (1.0, -np.inf), (3e38, 3e38)]:
        w = np.full((64, 48), large, np.float32)
        w[5, 7] = bad if comm.rank == comm.size - 1 else large
        same += states_around(comm, power, w)
    assert power.skipped == 5
    results = []
    for p in (power, untouched):
        g = low_rank(64, 48, 8, 9 + comm.rank)
        p.all_reduce(comm, [("w", g)])
        results.append(g.tobytes())
    return same, results[0] == results[1]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_skipped_step_leaves_the_state_bit_for_bit(workers):
    for same, continues in scrimp.run(skip_steps, workers=workers):
        assert same == [True] * 5
        assert continues


@pytest.mark.parametrize("how", ["kept", "loaded"])
def test_steps_go_on_beside_a_large_memory(how):
    """Q was as large as the gradient, and M·Q too large for ever after."""
    power = PowerSGD()
    power.all_reduce(single(), [("w", np.float32(1e25) * low_rank(64, 48, 8, 0))])
    if how == "loaded":
        state, power = power.state_dict(), PowerSGD()
        power.load_state_dict(state)
    assert states_around(single(), power, np.full((64, 48), np.float32(3e38))) == [True]
    for seed in range(1, 40):  # what is lost of 1e25 comes a rank a step
        g = low_rank(64, 48, 8, seed)
        power.all_reduce(single(), [("w", g)])
    assert power.skipped == 1
    assert np.abs(g).max() < 1e20


class Broken:
    """A group of one that is lost when the second factor is to travel."""

    size, usage = 1, scrimp.usage.Usage()

    def all_reduce(self, x, name, **_):
        if name == "PowerSGD Q":
            raise scrimp.CommError("rank 1 is gone", 1)


def test_a_lost_peer_leaves_arrays_and_state_bit_for_bit():
    power = PowerSGD()
    power.all_reduce(single(), [("w", low_rank(64, 48, 8, 0))])
    before = power.state_dict()["matrices"]["w"]
    g = low_rank(64, 48, 8, 1)
    with pytest.raises(scrimp.CommError):
        power.all_reduce(Broken(), [("w", g)])
    after = power.state_dict()["matrices"]["w"]
    assert all(before[key].tobytes() == after[key].tobytes() for key in "mpq")
    assert (g == low_rank(64, 48, 8, 1)).all()
