"""Many steps of sgd in one native call: the bits of one step at a time, which stays the reference."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scrimp
from scrimp import QuantizedMatrix, _core
from scrimp.comm.communicator import single
from scrimp.train.dense import Factor
from scrimp.train.linear import CodeRows, LinearObjective
from scrimp.train.stochastic import Stepper
from scrimp.train.watch import Watch

ISAS = ("v2", "v3", "v4", "v4vnni", "neon")


@contextmanager
def one_at_a_time():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LinearObjective, "many_steps", lambda *_: None)
        yield


@contextmanager
def only_many():
    def refuse(*_):
        raise AssertionError("a step was taken in Python")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stepper, "step", refuse)
        yield


def factor_of(rng, n):
    a = rng.normal(size=(n, n))
    return Factor.of(a @ a.T + n * np.eye(n))


def problem(seed, n, d, k, loss, rows, bias, weighted, diagonal):
    """Return objective, start and data."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) + 0.5
    if loss == "softmax":
        y = rng.integers(0, k, n).astype(np.float64)
    else:
        y = rng.random((n, k)) if loss == "logistic" else rng.normal(size=(n, k))
    units = Factor(1 / rng.uniform(0.5, 2, d), None) if diagonal else factor_of(rng, d)
    penalty, mean, centre = rng.random(k) * 0.1, rng.normal(size=d) * bias, rng.normal(size=k)
    if rows in ("8", "4", "2", "1"):
        data = CodeRows.of(QuantizedMatrix.from_array(x, int(rows)))
    elif rows == "columns":
        data = np.asfortranarray(x, np.float32)
    elif rows == "repeated":
        data = np.broadcast_to(x[:, :1].astype(np.float32), x.shape)
    elif rows == "every other":
        data = np.repeat(x.astype(np.float32), 2, axis=0)[::2]
    elif rows == "int8":
        data = np.clip(np.rint(x * 3), -127, 127).astype(np.int8)
    else:
        data = x.astype(rows)
    weight = (rng.random(n),) if weighted else ()
    objective = LinearObjective(loss, mean, centre, units, penalty, bias, threads=1, delta=0.7)
    return objective, objective.start(np.float32), (data, y, *weight)


def fit_or_words(*problem, **options):
    """Return a fit; of one that diverges what it says, as random rows and momentum may make it."""
    try:
        with np.errstate(all="ignore"):
            return scrimp.minimize(*problem, **options)
    except FloatingPointError as error:
        return str(error)


def assert_same(a, b):
    if isinstance(a, str) or isinstance(b, str):
        assert a == b
        return
    assert a.w.tobytes() == b.w.tobytes()
    assert a.last.tobytes() == b.last.tobytes()
    assert a.history == b.history
    assert (a.stop, a.n_averaged) == (b.stop, b.n_averaged)


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 300),
    d=st.integers(1, 40),
    k=st.integers(1, 4),
    loss=st.sampled_from(["squared", "logistic", "huber", "softmax"]),
    rows=st.sampled_from(
        ["f4", "f8", "f2", "int8", "8", "4", "2", "1", "columns", "every other", "repeated"],
    ),
    shape=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    batch_size=st.integers(1, 120),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    nesterov=st.booleans(),
    average=st.sampled_from([False, True, 7, 150, 10**6]),
    schedule=st.sampled_from(["constant", "linear", "cosine"]),
)
def test_the_bits_are_those_of_one_step_at_a_time(
    seed, n, d, k, loss, rows, shape, batch_size, momentum, nesterov, average, schedule
):
    objective, start, data = problem(seed, n, d, k, loss, rows, *shape)
    rule = {"momentum": momentum, "nesterov": nesterov, "average": average, "schedule": schedule}
    options = {"batch_size": batch_size, "max_iter": 3, "tol": 0.0, "learning_rate": 0.02, **rule}
    many = fit_or_words(objective, start, data, **options)
    with one_at_a_time():
        single = fit_or_words(objective, start, data, **options)
    assert_same(many, single)


@pytest.mark.parametrize("rows", ["f4", "f8", "8", "4", "columns"])
@pytest.mark.parametrize("loss", ["squared", "softmax"])
def test_whole_epochs_take_no_step_in_python(rows, loss):
    objective, start, data = problem(0, 1000, 10, 3, loss, rows, True, False, False)
    with only_many():
        scrimp.minimize(objective, start, data, batch_size=32, max_iter=2, average=True)


@pytest.mark.parametrize(
    "change",
    [{"solver": "adam"}, {"sync_every": 4}, {"shard": "zero"}, {"compress": "int8"}, {"batch_size": 5000}],
)
def test_other_ways_are_taken_a_step_at_a_time(change, monkeypatch):
    monkeypatch.setattr(_core, "take_steps", lambda *_: pytest.fail("many steps were taken"))
    objective, start, data = problem(0, 6000, 3, 1, "squared", "f4", True, False, False)
    scrimp.minimize(objective, start, data, max_iter=1, **change)


def test_a_fit_that_a_budget_stopped_in_an_epoch_goes_on_with_the_same_bits(tmp_path, monkeypatch):
    objective, start, data = problem(1, 500, 6, 2, "logistic", "f4", True, True, False)
    options = {"batch_size": 20, "max_iter": 4, "tol": 0.0, "momentum": 0.9, "average": 100}
    whole = scrimp.minimize(objective, start, data, **options)
    looks = []

    def over_budget(watch, count):
        looks.append(count)
        watch._next_step, watch.message = count + 7, "spent" if count > 30 else ""
        return bool(watch.message)

    path = tmp_path / "c"
    with monkeypatch.context() as patch:
        patch.setattr(Watch, "over_budget", over_budget)
        with pytest.raises(scrimp.BudgetExceeded):
            scrimp.minimize(
                objective, start, data, budget=scrimp.Budget(seconds=100), checkpoint=path, **options
            )
    assert looks == [1, 8, 15, 22, 29, 36]  # an epoch is 25 steps
    with one_at_a_time():
        resumed = scrimp.minimize(objective, start, data, checkpoint=path, **options)
    assert_same(resumed, whole)


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("batch_rows", [1, 256, 4096])
@pytest.mark.parametrize(("d", "k"), [(0, 1), (1, 1), (1, 40), (7, 3), (500, 1), (500, 40), (10**8, 1)])
def test_a_call_does_so_much_and_no_more(d, k, batch_rows, diagonal):
    """A nanosecond or a few for each value: of rows, of the triangle, of weights; ≥ 300 ns for a step."""
    if not diagonal and d > 500:
        return
    no, ones = np.zeros(0), (lambda *shape: np.broadcast_to(1.0, shape))
    units = Factor(ones(1) if d > 500 else np.ones(d), None if diagonal else np.eye(d))
    objective = LinearObjective("squared", no, np.zeros(k), units, np.ones(k))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LinearObjective, "_units", lambda _: None)
        data = np.broadcast_to(np.float32(1), (5000, d)), np.zeros((5000, k))
        most = objective.many_steps(data, batch_rows, 0.9, False).most
    solves = 0 if diagonal else 2 * (d * d / 2) * k
    values = (batch_rows * d * k, batch_rows * k * 8, solves, d * k * 8)
    assert most == 1 or all(most * each <= 1 << 26 for each in values)
    assert 1 <= most <= 1 << 14
    assert most == 1 or most * (sum(values) + 8192) >= 1 << 25  # calls are not many either


def test_the_steps_of_a_communicator_are_those_of_one_step_at_a_time():
    objective, start, data = problem(0, 1000, 5, 1, "squared", "f4", True, False, False)
    counts = []
    for way in (nullcontext, one_at_a_time):
        comm = single()
        with way():
            scrimp.minimize(objective, start, data, batch_size=32, max_iter=2, tol=0.0, comm=comm)
        counts.append(comm.step)
    assert counts[0] == counts[1] > 2 * 1000 // 32


def test_a_gradient_that_is_not_finite_stops_the_fit_in_the_same_words():
    objective, start, data = problem(0, 400, 5, 1, "squared", "f4", True, False, False)
    said, words = [], "diverged in epoch .*: a gradient that is not finite; lower the learning_rate"
    for way in (nullcontext, one_at_a_time):
        with way(), np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=words) as error:
            scrimp.minimize(objective, start, data, batch_size=10, learning_rate=1e4)
        said.append(str(error.value))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"order": np.arange(40, 0, -1)}, r"order\[0\] must be one of 40 rows, got 40"),
        ({"order": np.arange(-1, 39)}, r"order\[0\] must be one of 40 rows, got -1"),
        ({"order": np.arange(3)}, "order must hold 40 rows, got 3"),
        ({"first_batch": 3}, r"an epoch has 4 batches, got 3 \+ 2"),
        ({"first_batch": 2**64 - 1}, r"an epoch has 4 batches, got 18446744073709551615 \+ 2"),
        ({"n_batches": 0}, "batches must have at most 4096 rows, got 40 rows in 0"),
        ({"u": np.zeros(2, np.float32)}, "u must hold 4 values, got 2"),
    ],
)
def test_wrong_calls_are_refused(wrong, message):
    objective, start, data = problem(0, 40, 3, 1, "squared", "f4", True, False, False)
    many = objective.many_steps(data, 10, 0.0, False)
    call = {"order": np.arange(40), "n_batches": 4, "first_batch": 0, "u": start.ravel()} | wrong
    rest = {"velocity": None, "mean": None, "n_averaged": 0, "value": 0.0}
    with pytest.raises(ValueError, match=message):
        many(**call, rates=np.full(2, 0.1, np.float32), n_unaveraged=0, **rest)


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("d", [1, 2, 7, 8, 9, 31, 40])
@pytest.mark.parametrize("k", [1, 3])
def test_units_are_those_of_the_factor(d, k, bias, joint):
    rng = np.random.default_rng(d)
    rows = d + bias
    units = factor_of(rng, rows * k if joint else d)
    mean, centre, penalty = rng.normal(size=d), rng.normal(size=k), rng.random(k)
    objective = LinearObjective("squared", mean, centre, units, penalty, bias)
    u, w = rng.normal(size=(rows, k)), rng.normal(size=(d, k))
    theta = units.half_solve_transposed(u.reshape(-1, 1) if joint else u[:d]).reshape(-1, k)
    shift = theta[d] if bias and joint else u[d] if bias else 0
    found, intercept = objective.weights(u)
    np.testing.assert_allclose(found, theta[:d], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(intercept, centre - mean @ theta[:d] + shift, rtol=1e-9, atol=1e-12)

    total, n = rng.normal(size=d * k + k + 2), 17
    g0 = total[d * k : d * k + k] / n
    g = total[: d * k].reshape(d, k) / n - np.outer(mean, g0) + penalty * w
    g = np.vstack([g, g0]) if bias else g
    turned = units.half_solve(g.reshape(-1, 1)).reshape(g.shape) if joint else units.half_solve(g[:d])
    wanted = turned if joint else np.vstack([turned, g[d:]])
    value, gradient = objective._from_total(w, total, n)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-9, atol=1e-12)
    assert value == pytest.approx(total[-2] / n + 0.5 * (penalty * w * w).sum())


DIGEST = """
import zlib, numpy as np, scrimp
from scrimp.train.linear import CodeRows, LinearObjective
from scrimp.train.dense import Factor
rng = np.random.default_rng(0)
x = rng.normal(size=(500, 37)); y = rng.random((500, 2))
lower = np.tril(rng.integers(-4, 5, (37, 37)) / 64.0) + np.eye(37)
units = Factor(np.full(37, 0.75), lower)
digest = 0
for rows in (x.astype("f4"), CodeRows.of(scrimp.QuantizedMatrix.from_array(x, 8))):
    for loss in ("squared", "logistic"):
        objective = LinearObjective(loss, np.full(37, 0.1), np.ones(2), units, np.full(2, 0.01), True)
        fit = scrimp.minimize(objective, objective.start(np.float32), (rows, y), batch_size=30, momentum=0.9,
                              max_iter=3, learning_rate=0.01)
        digest = zlib.crc32(fit.w.tobytes(), digest)
print(digest)
"""


@pytest.mark.kernels
def test_the_bits_are_the_same_on_every_isa():
    digests = {}
    for isa in ISAS:
        environment = os.environ | {"SCRIMP_ISA": isa}
        done = subprocess.run(
            [sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            assert "SCRIMP_ISA" in done.stderr, done.stderr
        else:
            digests[isa] = done.stdout
    assert len(set(digests.values())) == 1, digests
