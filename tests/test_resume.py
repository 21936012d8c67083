"""Fits that are broken off every few saves and go on: the bits of one that never was, for each solver."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from scrimp.cost import Budget
from scrimp.errors import BudgetExceeded, InputError
from scrimp.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Ridge,
    SGDClassifier,
    SGDRegressor,
)
from scrimp.train.storage import write_tensors

# Squares, by name; those that keep a sum of the rows first, then those that walk.
REGRESSIONS = {
    "gram": Ridge(solver="gram"),
    "gram, of a sample": Ridge(solver="gram"),
    "gram, few bits": Ridge(solver="gram", data_bits=4, refine=False),
    "gram, no intercept": LinearRegression(solver="gram", fit_intercept=False, data_bits=8),
    "cg": LinearRegression(solver="cg", tol=1e-9),
    "cg, spread columns": Ridge(shard="features", tol=1e-9),
    "lbfgs": Ridge(solver="lbfgs"),
    "lbfgs, compressed": Ridge(solver="lbfgs", compress="int8", max_iter=12),
    "lbfgs, codes": Ridge(solver="lbfgs", data_bits=8),
    "lbfgs, planes": Ridge(solver="lbfgs", data_bits="4+8"),
    "sgd": Ridge(solver="sgd", max_iter=6),
    "sgd, codes": Ridge(solver="sgd", max_iter=6, data_bits=8),
    "sgd, zero, compressed": Ridge(solver="sgd", max_iter=6, shard="zero", compress="int4"),
    "sgd, local steps": Ridge(solver="sgd", max_iter=6, sync_every=4, compress="int8"),
    "sgd, Huber": SGDRegressor("huber", max_iter=6, nesterov=True, average=2000),
    "elastic net, gram": ElasticNet(0.05, solver="gram"),
    "elastic net, proximal": ElasticNet(0.05, solver="proximal"),
    "lasso, few bits": Lasso(0.05, data_bits=8),
}
CLASSIFICATIONS = {
    "logistic, lbfgs": LogisticRegression(solver="lbfgs"),
    "logistic, codes": LogisticRegression(solver="lbfgs", data_bits=4),
    "logistic, sgd": LogisticRegression(solver="sgd", max_iter=6),
    "logistic, proximal": LogisticRegression(20.0, l1_ratio=0.5),
    "logistic, average": SGDClassifier(max_iter=6),
}


class Ended(BaseException):
    """The process ended."""


@pytest.fixture
def ending(monkeypatch):
    """Let the process end right after a number of saves."""
    left = iter(())

    def save(*state):
        write_tensors(*state)
        if next(left, None) is None:
            raise Ended

    def after(saves):
        nonlocal left
        left = iter(range(saves - 1))

    monkeypatch.setattr("scrimp.train.checkpoint.write_tensors", save)
    return after


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(3)
    x = (rng.normal(size=(9000, 11)) * np.logspace(-1, 1, 11) + 2).astype(np.float32)
    score = (x - x.mean(axis=0)) @ (rng.normal(size=(11, 3)) / np.logspace(-1, 1, 11)[:, None])
    return x, score + rng.normal(size=score.shape), (score + rng.gumbel(size=score.shape)).argmax(axis=1)


def went_on(model, x, y, path, ending):
    """Fit, ended after one save or two and begun again, till it is done; return it and how often it ended."""
    for ends in range(200):
        ending(1 + ends % 2)
        try:
            return clone(model).set_params(checkpoint=path).fit(x, y), ends
        except Ended:
            pass
    raise AssertionError("the fit does not get on")


@pytest.mark.parametrize("way", [*REGRESSIONS, *CLASSIFICATIONS])
def test_a_fit_that_went_on_has_the_bits_of_one_that_was_not_broken_off(
    rows, way, tmp_path, ending, monkeypatch
):
    x, targets, labels = rows
    if way == "gram, of a sample":
        monkeypatch.setattr("scrimp.train.normal.choose_step", lambda *_: 2)
    model = REGRESSIONS.get(way) or CLASSIFICATIONS[way]
    y = targets[:, 0] if way in REGRESSIONS and "SGD" in repr(model) else targets
    y = labels if way in CLASSIFICATIONS else y
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole = clone(model).fit(x, y)  # saves nothing
        resumed, ends = went_on(model, x, y, tmp_path / "state", ending)
    assert ends
    assert way != "gram, of a sample" or "one row in 2," in whole.solver_
    for name in ("coef_", "intercept_", "n_iter_", "solver_"):
        ours, theirs = getattr(resumed, name, None), getattr(whole, name, None)
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes(), (name, ours, theirs)


OTHERS = [
    (Ridge(solver="lbfgs"), Ridge(5e4, solver="lbfgs"), "penalty"),
    (Ridge(solver="lbfgs"), Ridge(solver="lbfgs", fit_intercept=False), "frame"),
    (SGDRegressor(max_iter=40), SGDRegressor("huber", max_iter=40), "loss"),
    (SGDRegressor("huber", max_iter=40), SGDRegressor("huber", epsilon=2.0, max_iter=40), "delta"),
    (
        SGDRegressor(learning_rate=1e-3, max_iter=40),
        SGDRegressor(alpha=3.0, learning_rate=1e-3, max_iter=40),
        "penalty",
    ),
    (Ridge(solver="cg"), Ridge(solver="gram"), "gram"),
    (Lasso(solver="proximal"), Lasso(solver="gram"), "gram"),
]


@pytest.mark.parametrize(("first", "second", "what"), OTHERS)
def test_a_checkpoint_of_another_fit_is_refused(rows, first, second, what, tmp_path):
    x, targets, _ = rows
    clone(first).set_params(checkpoint=tmp_path / "state").fit(x, targets[:, 0])
    with pytest.raises(InputError, match=f"checkpoint of another fit .*{what}"):
        clone(second).set_params(checkpoint=tmp_path / "state").fit(x, targets[:, 0])


@pytest.mark.parametrize("solver", ["gram", "cg", "lbfgs"])
@pytest.mark.parametrize("changed", ["x", "y"])
def test_one_other_value_is_another_fit(rows, solver, changed, tmp_path):
    x, targets, _ = rows
    model = Ridge(solver=solver, checkpoint=tmp_path / "state").fit(x, targets)
    data = {"x": x.copy(), "y": targets.copy()}
    data[changed][1234, 1] += 100
    with pytest.raises(InputError, match="checkpoint of another fit"):
        model.fit(data["x"], data["y"])


@pytest.mark.parametrize("few", [1, 2, 3])
def test_more_passes_than_before_are_taken_from_a_checkpoint(rows, few, tmp_path):
    x, targets, _ = rows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = Ridge(solver="gram", max_iter=few, checkpoint=tmp_path / "state").fit(x, targets)
    found = model.set_params(max_iter=30).fit(x, targets)
    assert found.coef_.tobytes() == Ridge(solver="gram", max_iter=30).fit(x, targets).coef_.tobytes()


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 3), (3, 1)])
def test_another_number_of_workers_goes_on(rows, before, after, tmp_path):
    x, targets, _ = rows
    model = Ridge(solver="lbfgs", checkpoint=tmp_path / "state")
    with pytest.raises(BudgetExceeded):
        clone(model).set_params(workers=before, budget=Budget(seconds=1e-9)).fit(x, targets)
    went_on = clone(model).set_params(workers=after).fit(x, targets)
    assert went_on.coef_.tobytes() == Ridge(solver="lbfgs").fit(x, targets).coef_.tobytes()


@pytest.mark.parametrize("model", [Ridge(solver="gram"), Ridge(solver="cg"), Ridge(shard="features")])
def test_a_checkpoint_that_was_not_written_is_not_named(rows, model, tmp_path):
    x, targets, _ = rows
    model = clone(model).set_params(checkpoint=tmp_path / "state", budget=Budget(seconds=1e-9))
    with pytest.raises(BudgetExceeded) as stopped:
        model.fit(x, targets)
    assert stopped.value.checkpoint is None
    assert not (tmp_path / "state").exists()
