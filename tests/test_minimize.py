"""minimize: one loop for every model, way of sharding, codec and number of ranks."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

import scrimp
from scrimp.codecs import quantize
from scrimp.comm import Comm
from scrimp.train.sharded import train


def half_squared(w, rows):
    x, y = rows
    error = x @ w - y
    return 0.5 * float(error @ error) / len(y), x.T @ error / len(y)


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(1003, 160)) * np.logspace(0, -0.7, 160)).astype(np.float32)
    y = x @ rng.normal(size=160).astype(np.float32) + rng.normal(size=1003).astype(np.float32)
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    return x, y, half_squared(best, (x, y))[0]


SGD = {"learning_rate": 0.05, "momentum": 0.8, "schedule": "linear", "batch_size": 64, "max_iter": 40}
WAYS = {
    "rows": {},
    "nesterov": {"nesterov": True},
    "average": {"average": 10_000},
    "zero": {"shard": "zero"},
    "int4": {"compress": "int4", "raw_below": 0},
    "int8, bf16": {"compress": ("int8", "bf16"), "raw_below": 0, "shard": "zero"},
    "zero int4": {"compress": "int4", "raw_below": 0, "shard": "zero"},
    "local steps": {"sync_every": 4, "compress": "int4", "raw_below": 0},
    "adam": {"solver": "adam", "learning_rate": 0.05},
    "lbfgs": {"solver": "lbfgs", "max_iter": 60},
    "lbfgs zero": {"solver": "lbfgs", "max_iter": 60, "shard": "zero"},
    "lbfgs int8": {"solver": "lbfgs", "max_iter": 60, "compress": "int8", "raw_below": 0},
}


def train_every_way(comm, x, y):
    start = np.zeros(160, np.float32)
    return {way: scrimp.minimize(half_squared, start, (x, y), comm=comm, **(SGD | WAYS[way])) for way in WAYS}


@pytest.fixture(scope="module")
def trained(problem):
    """Results of every way by rank, of one rank and of two; all in one start of the workers."""
    return {workers: scrimp.run(train_every_way, workers, problem[:2]) for workers in (1, 2)}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_reaches_the_least_squares_value(problem, trained, way, workers):
    x, y, best = problem
    fit = trained[workers][0][way]
    excess = half_squared(fit.w, (x, y))[0] / best - 1
    assert -1e-5 < excess < (1e-4 if "lbfgs" in way else 0.02)
    assert len(fit.history) == fit.n_iter
    assert fit.value == fit.history[-1]


@pytest.mark.parametrize("way", WAYS)
def test_joined_ranks_all_get_the_same_bits(trained, way):
    one, two = (fits[way] for fits in trained[2])
    assert one.w.tobytes() == two.w.tobytes()
    assert one.history == two.history
    assert one.usage == two.usage


def test_ranks_with_unequal_rows_take_the_mean_over_all_rows():
    """One full-batch step from 0: the mean of the targets, not the mean of the ranks' means."""
    y = np.arange(7, dtype=np.float32) ** 2

    for shard in ("rows", "zero"):
        fit = scrimp.minimize(
            mean_model,
            np.zeros(1, np.float32),
            y,
            workers=3,
            shard=shard,
            batch_size=7,
            learning_rate=1.0,
            max_iter=1,
        )
        assert fit.w[0] == pytest.approx(y.mean(), rel=1e-6)
        assert fit.value == pytest.approx(0.5 * (y**2).mean(), rel=1e-6)


def mean_model(w, y):
    return 0.5 * float(((w - y) ** 2).mean()), np.array([(w - y).mean()])


def test_more_ranks_than_rows_is_no_special_case():
    y = np.float32([1.0, 3.0])
    fit = scrimp.minimize(mean_model, np.zeros(1, np.float32), y, workers=3, solver="lbfgs")
    assert fit.w[0] == pytest.approx(2.0, abs=1e-5)


def two_layers(w, rows):
    """Softmax cross-entropy of tanh units; the gradient by hand."""
    x, target = rows
    hidden = np.tanh(x @ w["in"] + w["bias"])
    logits = hidden @ w["out"]
    logits -= logits.max(axis=1, keepdims=True)
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    n = len(x)
    back = (p - target) / n
    down = back @ w["out"].T * (1 - hidden**2)
    loss = -float(np.log(np.maximum((p * target).sum(axis=1), 1e-30)).sum()) / n
    return loss, {"in": x.T @ down, "bias": down.sum(axis=0), "out": hidden.T @ back}


def test_a_small_network_trains_sharded_and_compressed():
    from sklearn.datasets import load_digits  # not at the top: workers import this module

    x, label = load_digits(return_X_y=True)
    x = (x / 16 - 0.5).astype(np.float32)
    target = np.eye(10, dtype=np.float32)[label]
    rng = np.random.default_rng(1)
    w0 = {
        "in": (rng.normal(size=(64, 48)) / 8).astype(np.float32),
        "bias": np.zeros(48, np.float32),
        "out": (rng.normal(size=(48, 10)) / 7).astype(np.float32),
    }
    fit = scrimp.minimize(
        two_layers,
        w0,
        (x[:1347], target[:1347]),
        workers=2,
        shard="zero",
        compress="int4",
        raw_below=0,
        feedback="ef14",
        learning_rate=0.2,
        momentum=0.9,
        schedule="cosine",
        batch_size=64,
        max_iter=30,
    )
    hidden = np.tanh(x[1347:] @ fit.w["in"] + fit.w["bias"])
    accuracy = ((hidden @ fit.w["out"]).argmax(axis=1) == label[1347:]).mean()
    assert accuracy > 0.92
    assert fit.usage.wire_bytes < fit.usage.raw_bytes / 7
    assert two_layers(w0, (x, target))[0] > 10 * fit.value


def test_the_lattice_on_the_weight_leg_trains_at_the_quantized_weights():
    """∇w′ = ∇w: the gradient is taken at round(w/k)·k and applied to the master."""
    seen = []

    def spy(w, rows):
        seen.append(w.copy())
        return half_squared(w, rows)

    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3)).astype(np.float32)
    fit = scrimp.minimize(
        spy,
        np.float32([0.3, -0.2, 0.1]),
        (x, x @ np.float32([1, 2, 3])),
        shard="zero",
        compress=("raw", "step:k=0.25,bits=8"),
        raw_below=0,
        max_iter=3,
    )
    assert all((w == quantize(w, 0.25)).all() for w in seen)
    assert (fit.w != quantize(fit.w, 0.25)).any()


def test_compressed_bytes_are_counted_by_formula(problem):
    x, y, _ = problem
    steps = 16 * 3
    fit = scrimp.minimize(
        half_squared,
        np.zeros(1280, np.float32),
        (np.tile(x, (1, 8)), y),
        workers=2,
        compress="int4",
        raw_below=0,
        batch_size=64,
        max_iter=3,
    )
    control = 2 * 3 * 8  # one float64 a rank an epoch
    assert fit.usage.wire_bytes == steps * 2 * scrimp.codec("int4").nbytes(1280) + control
    assert fit.usage.raw_bytes == steps * 2 * 1280 * 4 + control


INTERRUPTED = {
    "sgd": {},
    "zero int4": {"shard": "zero", "compress": "int4", "raw_below": 0},
    "stochastic rounding": {"compress": "int8:rounding=stochastic", "raw_below": 0, "feedback": "none"},
    "local steps": {"sync_every": 5, "compress": "int4", "raw_below": 0},
    "nesterov": {"nesterov": True},
    "average": {"average": True},
    "average, late": {"average": 5000, "shard": "zero", "compress": "int4", "raw_below": 0},
    "average, local steps": {"average": 2000, "sync_every": 5},
    "adam": {"solver": "adam"},
    "lbfgs ef21": {"solver": "lbfgs", "compress": "int8", "raw_below": 0},
}


def train_with_and_without_a_break(comm, x, y, folder):
    """Return by way the bits of a fit that was broken off after three epochs, and of one that was not."""
    results = {}
    for way, change in INTERRUPTED.items():
        options = SGD | {"schedule": "constant", "comm": comm} | change
        start, path = np.zeros(160, np.float32), f"{folder}/{way}"
        comm.step = 0
        whole = scrimp.minimize(half_squared, start, (x, y), **(options | {"max_iter": 7}))
        for max_iter in (3, 7):
            comm.step = 0
            options["max_iter"] = max_iter
            resumed = scrimp.minimize(half_squared, start, (x, y), checkpoint=path, **options)
        results[way] = [(fit.w.tobytes(), fit.history) for fit in (whole, resumed)]
    return results


@pytest.mark.parametrize("workers", [1, 2])
def test_a_resumed_fit_has_the_bits_of_an_uninterrupted_one(problem, workers, tmp_path):
    by_rank = scrimp.run(train_with_and_without_a_break, workers, (*problem[:2], str(tmp_path)))
    for way, (whole, resumed) in by_rank[0].items():
        assert resumed == whole, way
    assert sorted(os.listdir(tmp_path)) == sorted(INTERRUPTED)


def weights_after_steps(average, epochs, **options):
    """Return by step the weights that a fit was at, and the fit."""
    seen = []

    def spy(w, rows):
        seen.append(w.copy())
        return half_squared(w, rows)

    x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    options = {"batch_size": 20, "learning_rate": 0.1, "max_iter": epochs, "tol": 0.0} | options
    y = x @ np.float32([1, -2, 3])
    fit = scrimp.minimize(spy, np.zeros(3, np.float32), (x, y), average=average, **options)
    return [*seen[1:], fit.last], fit


@pytest.mark.parametrize(("average", "left_out"), [(True, 0), (1, 0), (20, 0), (21, 1), (100, 4), (180, 8)])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "nesterov": True}, {"solver": "adam"}])
def test_averaged_weights_are_the_mean_after_so_many_rows(average, left_out, options):
    weights, fit = weights_after_steps(average, 3, **options)
    assert len(weights) == 9
    assert fit.n_averaged == 9 - left_out
    np.testing.assert_allclose(fit.w, np.mean(np.float64(weights[left_out:]), axis=0), rtol=1e-6)


@pytest.mark.parametrize("average", [False, 0, 181])
def test_a_fit_of_too_few_rows_for_a_mean_returns_the_last_weights(average):
    weights, fit = weights_after_steps(average, 3)
    assert fit.n_averaged == 0
    assert fit.w.tobytes() == fit.last.tobytes() == weights[-1].tobytes()


def test_ranks_that_step_alone_average_the_weights_on_which_they_agree():
    weights, fit = weights_after_steps(True, 3, sync_every=2)
    assert fit.n_averaged == 4
    np.testing.assert_allclose(fit.w, np.mean(np.float64(weights[1::2]), axis=0), rtol=1e-6)


def test_a_mean_goes_on_to_settle_where_steps_stay_long():
    """At a constant step the weights keep moving; their mean comes to rest, and that is looked at."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 3)).astype(np.float32)
    y = x @ np.float32([1, -2, 3]) + rng.normal(size=1000).astype(np.float32)
    options = {"learning_rate": 0.2, "batch_size": 8, "max_iter": 300, "tol": 1e-5}
    start = np.zeros(3, np.float32)
    last, mean = (
        scrimp.minimize(half_squared, start, (x, y), average=average, **options) for average in (False, 3000)
    )
    assert last.stop == "stalled"
    assert mean.stop == "converged"


def interrupt_in_step(w, rows):
    if interrupt_in_step.left == 0:
        raise KeyboardInterrupt
    interrupt_in_step.left -= 1
    return half_squared(w, rows)


def test_an_interrupt_leaves_the_last_checkpoint(problem, tmp_path):
    x, y, _ = problem
    interrupt_in_step.left = 40  # 16 steps an epoch
    start = np.zeros(160, np.float32)
    with pytest.raises(KeyboardInterrupt):
        scrimp.minimize(
            interrupt_in_step, start, (x, y), checkpoint=tmp_path / "c", batch_size=64, max_iter=5
        )
    resumed = scrimp.minimize(
        half_squared, start, (x, y), checkpoint=tmp_path / "c", batch_size=64, max_iter=5
    )
    whole = scrimp.minimize(half_squared, start, (x, y), batch_size=64, max_iter=5)
    assert resumed.w.tobytes() == whole.w.tobytes()


def test_a_checkpoint_of_another_fit_is_refused(problem, tmp_path):
    x, y, _ = problem
    start = np.zeros(160, np.float32)
    scrimp.minimize(half_squared, start, (x, y), checkpoint=tmp_path / "c", max_iter=1)
    before = (tmp_path / "c").read_bytes()
    for change in ({"seed": 1}, {"batch_size": 32}, {"nesterov": True}, {"average": 9}, {"solver": "lbfgs"}):
        with pytest.raises(scrimp.InputError, match=next(iter(change))):
            scrimp.minimize(
                half_squared, start, (x, y), checkpoint=tmp_path / "c", **({"max_iter": 2} | change)
            )
    with pytest.raises(scrimp.InputError, match="data"):
        scrimp.minimize(half_squared, start, (x + 1, y), checkpoint=tmp_path / "c", max_iter=2)
    assert (tmp_path / "c").read_bytes() == before


def test_a_damaged_checkpoint_is_refused(problem, tmp_path):
    x, y, _ = problem
    path = tmp_path / "c"
    start = np.zeros(160, np.float32)
    scrimp.minimize(half_squared, start, (x, y), checkpoint=path, max_iter=1)
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], whole[:-1], b"\xff" * len(whole)):
        path.write_bytes(damaged)
        with pytest.raises(scrimp.InputError, match="damaged"):
            scrimp.minimize(half_squared, start, (x, y), checkpoint=path, max_iter=1)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_budget_stops_the_fit_before_it_is_overspent_and_keeps_the_state(problem, workers, tmp_path):
    x, y, _ = problem
    options = {"checkpoint": tmp_path / "c", "workers": workers, "tol": 0.0, "learning_rate": 1e-3}
    budget = scrimp.Budget(seconds=1.5 if workers > 1 else 0.3)
    with pytest.raises(scrimp.BudgetExceeded, match="seconds") as stopped:
        scrimp.minimize(
            half_squared, np.zeros(160, np.float32), (x, y), budget=budget, max_iter=10**6, **options
        )
    assert stopped.value.checkpoint == str(tmp_path / "c")
    with pytest.raises(scrimp.BudgetExceeded):  # what was spent is in the checkpoint
        scrimp.minimize(
            half_squared, np.zeros(160, np.float32), (x, y), budget=budget, max_iter=10**6, **options
        )


def test_a_budget_of_bytes_is_kept(problem):
    x, y, _ = problem
    with pytest.raises(scrimp.BudgetExceeded, match="bytes"):
        scrimp.minimize(
            half_squared,
            np.zeros(160, np.float32),
            (x, y),
            workers=2,
            budget=scrimp.Budget(bytes=200_000),
            max_iter=10**6,
            tol=0.0,
        )


def stop_at_three(report):
    return report.iteration == 3 and report.weights().shape == (160,)


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_callback_on_rank_0_stops_all_ranks(problem, solver, workers):
    x, y, _ = problem
    start = np.zeros(160, np.float32)
    fit = scrimp.minimize(half_squared, start, (x, y), solver=solver, workers=workers, callback=stop_at_three)
    assert (fit.stop, fit.n_iter) == ("callback", 3)


def die_on_rank_1(comm: Comm, *arguments):
    def deadly(w, rows):
        if comm.rank == 1 and w.any():
            os.kill(os.getpid(), signal.SIGKILL)
        return half_squared(w, rows)

    return train(comm, deadly, *arguments)


def test_a_killed_worker_ends_the_fit_with_a_comm_error(problem, monkeypatch):
    x, y, _ = problem
    monkeypatch.setattr("scrimp.train.sharded.train", train_with_a_death)
    with pytest.raises(scrimp.CommError, match="rank 1"):
        scrimp.minimize(half_squared, np.zeros(160, np.float32), (x, y), workers=2)


def train_with_a_death(comm, _value_and_grad, *arguments):
    return die_on_rank_1(comm, *arguments)


def test_divergence_is_an_error_that_names_the_epoch(problem):
    x, y, _ = problem
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="epoch"):
        scrimp.minimize(half_squared, np.zeros(160, np.float32), (x, y), learning_rate=100.0, max_iter=50)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"solver": "newton"}, "sgd, adam, lbfgs"),
        ({"shard": "columns"}, "rows, zero"),
        ({"compress": "int7"}, "int7"),
        ({"feedback": "ef99"}, "none, ef14, ef21"),
        ({"sync_every": 2, "shard": "zero"}, "sync_every"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"momentum": 1.0}, "momentum"),
        ({"average": -1}, "average must be False, True or a whole number of rows >= 0, got -1"),
        ({"average": True, "solver": "lbfgs"}, "average needs solver='sgd' or 'adam'"),
        ({"schedule": "wild"}, "cosine"),
        ({"workers": 0}, "workers"),
    ],
)
def test_wrong_options_are_named_with_the_choices(problem, change, message):
    x, y, _ = problem
    with pytest.raises(ValueError, match=message):
        scrimp.minimize(half_squared, np.zeros(160, np.float32), (x, y), **change)


def test_wrong_data_and_gradients_are_named(problem):
    x, y, _ = problem
    start = np.zeros(160, np.float32)
    with pytest.raises(ValueError, match=r"\[1003, 1002\]"):
        scrimp.minimize(half_squared, start, (x, y[1:]))
    with pytest.raises(ValueError, match="no rows"):
        scrimp.minimize(half_squared, start, (x[:0], y[:0]))
    with pytest.raises(ValueError, match="shapes of w0"):
        scrimp.minimize(lambda w, rows: (0.0, np.zeros(3)), start, (x, y))
    with pytest.raises(TypeError, match="real"):
        scrimp.minimize(half_squared, np.zeros(160, complex), (x, y))


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_an_objective_that_is_not_finite_is_no_success(solver):
    def nowhere(w, rows):
        return float("nan"), np.zeros_like(w)

    with pytest.raises(FloatingPointError, match=r"finite|diverged"):
        scrimp.minimize(nowhere, np.zeros(2, np.float32), np.zeros(10), solver=solver)
