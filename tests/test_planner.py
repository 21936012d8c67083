"""Plans predict what fits then do, choose the cheapest that will do, and give a reason for each choice."""

import json
from dataclasses import replace

import numpy as np
import pytest

import scrimp
from scrimp.planner import Machine, calibrate, planning
from scrimp.planner.options import choose
from scrimp.planner.pilot import _Bench, _gradient_shape, _learning_curve

RNG = np.random.default_rng(11)
W = np.array([3.0, -2.0, 1.0, 0.5, 0.0, 0.0])
X = RNG.normal(size=(20_000, 6)).astype(np.float32)
Y = X @ W + RNG.normal(size=len(X))  # R² of the truth: |W|² / (|W|² + 1) = 0.934
TRUE_R2 = float(W @ W / (W @ W + 1))
FREE = scrimp.Prices(name="per CPU", source="test", date="2026-01", cpu_hour=1.0)


@pytest.fixture(autouse=True)
def known_machine(monkeypatch):
    """Starting workers to measure them takes a second; one test does it for real."""
    monkeypatch.setattr(planning, "calibrate", lambda: Machine(cpus=2, start_s=0.8, start_cpu_s=0.7))


@pytest.fixture(scope="module")
def free_plan():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "calibrate", lambda: Machine(cpus=2, start_s=0.8, start_cpu_s=0.7))
        return scrimp.plan(X, Y, prices=FREE)


def test_calibration_starts_real_workers():
    machine = calibrate()
    assert machine.cpus >= 1
    assert machine.start_s > 0
    assert machine.start_cpu_s > 0


def test_predicted_score_is_what_the_fit_then_scores(free_plan):
    fitted = free_plan.make().fit(X[:15_000], Y[:15_000])
    score = fitted.score(X[15_000:], Y[15_000:])
    assert abs(free_plan.predicted.score - TRUE_R2) < 4 * free_plan.pilot.error
    assert abs(free_plan.predicted.score - score) < 5 * free_plan.pilot.error


def test_without_a_target_all_rows_are_used_and_little_is_lost(free_plan):
    assert free_plan.n_rows == len(X)
    assert free_plan.reaches
    best = max(option.score for option in free_plan.options)
    assert free_plan.predicted.score >= best - 0.002


def test_predicted_memory_is_that_of_the_process_that_fits(free_plan):
    fitted = free_plan.make().fit(X, Y)
    assert 0.5 < free_plan.predicted.usage.peak_bytes / fitted.bill_.usage.peak_bytes < 2


def test_each_choice_has_its_reason(free_plan):
    assert set(free_plan.choice) - {"alpha", "random_state"} <= set(free_plan.reasons)
    assert {"score", "rows", "batch_size", "learning_rate"} <= set(free_plan.reasons)
    assert all(reason in str(free_plan) for reason in free_plan.reasons.values())


def test_one_machine_does_not_pay_for_starting_workers(free_plan):
    assert free_plan.choice["workers"] == 1
    twins = [(o.solver, o.data_bits, o.n_rows) for o in free_plan.options]
    assert len(twins) == 2 * len(set(twins))  # each was weighed with 1 and with 2 workers


def test_a_modest_target_needs_fewer_rows_and_costs_less(free_plan):
    modest = scrimp.plan(X, Y, target=0.85, prices=FREE)
    assert modest.reaches
    assert modest.n_rows < len(X)
    assert modest.predicted.usd <= free_plan.predicted.usd
    rows = RNG.permutation(15_000)[: modest.n_rows]
    assert modest.make().fit(X[rows], Y[rows]).score(X[15_000:], Y[15_000:]) >= 0.85


def test_a_target_out_of_reach_is_said(free_plan):
    eager = scrimp.plan(X, Y, target=0.99, prices=FREE)
    assert not eager.reaches
    assert "not sure to be reached" in eager.reasons["score"]


def test_an_impossible_budget_is_said():
    assert not scrimp.plan(X, Y, budget=scrimp.Budget(seconds=1e-9)).reaches


def test_plan_is_json(free_plan):
    document = json.loads(json.dumps(free_plan.to_dict(), allow_nan=False))
    assert document["choice"]["solver"] == free_plan.predicted.solver
    assert len(document["pilot"]["trials"]) == 6


def test_the_cheapest_option_that_will_do_is_chosen(free_plan):
    base = replace(free_plan.predicted, score=0.9, floor=0.88)
    good, cheap = replace(base, usd=2.0), replace(base, usd=1.0, score=0.8, floor=0.78)
    options = [cheap, good]
    assert choose(options, None, None) == (good, True)
    assert choose(options, 0.75, None) == (cheap, True)
    assert choose(options, 0.85, None) == (good, True)
    assert choose(options, 0.89, None) == (good, False)  # the bound counts, not the hope
    slow = replace(good, usage=replace(good.usage, wall_s=100.0))
    assert choose([cheap, slow], 0.85, scrimp.Budget(seconds=50)) == (cheap, False)


def test_learning_curve_is_found():
    rows = (100, 400, 1600)
    limit, slope = _learning_curve(rows, tuple(0.9 - 5 / k for k in rows))
    assert (limit, slope) == (pytest.approx(0.9), pytest.approx(5))
    assert _learning_curve(rows, (0.9, 0.8, 0.85)) == (0.9, 0.0)


def test_lambda_max_and_noise_scale_match_their_definitions():
    n = 4096
    order, none = np.arange(n), np.arange(0)
    largest, noise = _gradient_shape(_Bench(X, Y, None, order, none, False), False)
    A = X[:n].astype(np.float64)
    assert largest == pytest.approx(np.linalg.eigvalsh(A.T @ A / n)[-1], rel=0.05)
    g = A * (Y[:n] - Y[:n].mean())[:, None]
    power = (g.mean(0) ** 2).sum() - g.var(0).sum() / n
    assert noise == pytest.approx(max(1.0, g.var(0).sum() / power))


def test_classes_are_planned_with_accuracy():
    labels = np.where(Y + RNG.normal(size=len(Y)) > 0, "yes", "no")
    made = scrimp.plan(X[:4000], labels[:4000])
    assert made.estimator == "LogisticRegression"
    assert made.pilot.metric == "accuracy"
    assert made.predicted.score > 0.8


@pytest.mark.parametrize(
    ("X", "y", "said"),
    [
        (X[:10], Y[:10], "needs at least 64 rows, got 10"),
        (X[:100], Y[:99], r"y must have shape \(100,\), got \(99,\)"),
        (Y, Y, "X must be a 2-D float array"),
        (np.ones((100, 2), int), np.ones(100), "X must be a 2-D float array, got int64"),
    ],
)
def test_data_that_cannot_be_planned_for(X, y, said):
    with pytest.raises(scrimp.InputError, match=said):
        scrimp.plan(X, y)


def test_seconds_of_a_small_fit_are_not_shown_as_none(free_plan):
    assert "0.00 s" not in str(free_plan)
    assert f"{free_plan.predicted.usage.wall_s:.3g} s" in str(free_plan)
