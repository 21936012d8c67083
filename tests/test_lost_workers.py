"""Workers that die in the middle of a fit: an error that names them, or the others go on, same bits."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import numpy as np
import pytest

import scrimp
from scrimp.linear_model import LogisticRegression, Ridge
from scrimp.train import full_batch
from scrimp.train.normal import solve_normal
from scrimp.train.sharded import train
from scrimp.train.shared_rows import SharedRows
from scrimp.train.sparse import solve_sparse


@pytest.fixture(scope="module")
def rows():
    """13,000 rows in four leaves and three classes."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(13_000, 9)) + 1).astype(np.float32)
    y = x @ rng.normal(size=9) + rng.normal(size=13_000)
    return x, y, np.digitize(y, [0.0, 3.0])


class Deaths:
    """Kill a rank at its n-th call, as often as there are files in a folder: each death takes one away."""

    def __init__(self, folder, comm, at):
        self._folder, self._rank, self._at, self._calls = folder, comm.rank, at, 0

    def __call__(self):
        self._calls += 1
        orders = sorted(os.listdir(self._folder))
        if orders and self._calls == self._at and orders[0].endswith(f"rank{self._rank}"):
            os.unlink(os.path.join(self._folder, orders[0]))
            os.kill(os.getpid(), signal.SIGKILL)


def order_deaths(folder, *ranks):
    for i, rank in enumerate(ranks):
        (folder / f"{i} rank{rank}").touch()
    os.environ["SCRIMP_TEST_DEATHS"] = str(folder)


def deadly(comm):
    """Make the sums over rows of this process deadly."""
    deaths = Deaths(os.environ["SCRIMP_TEST_DEATHS"], comm, at=3)
    answer, oracle = SharedRows.answer, full_batch.LeafBatchLoop._oracle

    def counted_answer(self, ask):
        deaths()
        return answer(self, ask)

    def counted_oracle(self, own):
        deaths()
        return oracle(self, own)

    SharedRows.answer, full_batch.LeafBatchLoop._oracle = counted_answer, counted_oracle


def deadly_normal(comm, *arguments):
    deadly(comm)
    return solve_normal(comm, *arguments)


def deadly_sparse(comm, *arguments):
    deadly(comm)
    return solve_sparse(comm, *arguments)


def deadly_train(comm, *arguments):
    deadly(comm)
    return train(comm, *arguments)


@pytest.fixture
def in_danger(monkeypatch, tmp_path):
    """Every worker that a fit starts may be ordered to die."""
    monkeypatch.setattr("scrimp.linear_model.least_squares.solve_normal", deadly_normal)
    monkeypatch.setattr("scrimp.linear_model.elastic_net.solve_sparse", deadly_sparse)
    monkeypatch.setattr("scrimp.train.sharded.train", deadly_train)
    monkeypatch.setenv("SCRIMP_TEST_DEATHS", str(tmp_path))
    return tmp_path


FITS = {
    "gram": (Ridge, {}),
    "logistic": (LogisticRegression, {}),
    "lasso": (scrimp.linear_model.Lasso, {"alpha": 0.01, "solver": "proximal"}),
}


@pytest.mark.parametrize("name", FITS)
def test_a_fit_that_loses_a_worker_ends_with_the_same_bits(rows, in_danger, monkeypatch, name):
    x, y, labels = rows
    kind, options = FITS[name]
    target = labels if name == "logistic" else y
    order_deaths(in_danger, 1)
    with pytest.warns(RuntimeWarning, match=r"lost a worker: rank 1 .*SIGKILL.*1 worker goes on"):
        found = kind(workers=2, on_failure="continue", **options).fit(x, target)
    assert not os.listdir(in_danger)
    monkeypatch.undo()
    alone = kind(**options).fit(x, target)
    assert found.coef_.tobytes() == alone.coef_.tobytes()
    assert np.asarray(found.n_iter_).tolist() == np.asarray(alone.n_iter_).tolist()


def test_two_losses_leave_one_worker(rows, in_danger, monkeypatch):
    x, y, _ = rows
    order_deaths(in_danger, 2, 0)
    with pytest.warns(RuntimeWarning, match="lost a worker") as warned:
        found = Ridge(workers=3, on_failure="continue").fit(x, y)
    said = [str(w.message) for w in warned if "lost" in str(w.message)]
    assert ["2 workers go on" in said[0], "1 worker goes on" in said[1], len(said)] == [True, True, 2]
    monkeypatch.undo()
    assert found.coef_.tobytes() == Ridge().fit(x, y).coef_.tobytes()


def test_the_others_do_not_read_again_what_is_in_the_checkpoint(rows, in_danger, tmp_path_factory):
    x, y, _ = rows
    path = tmp_path_factory.mktemp("state") / "state"
    order_deaths(in_danger, 1)
    with pytest.warns(RuntimeWarning, match="lost a worker"):
        Ridge(workers=2, on_failure="continue", checkpoint=path).fit(x, y)
    assert path.exists()


def test_by_default_a_lost_worker_is_an_error_that_names_it(rows, in_danger):
    x, y, _ = rows
    order_deaths(in_danger, 1)
    with pytest.raises(scrimp.CommError, match="rank 1") as lost:
        Ridge(workers=2).fit(x, y)
    assert lost.value.lost == 1


@dataclass
class HalfSquared:
    """Least squares whose gradient kills rank 1 once."""

    def __call__(self, w, rows):
        x, y = rows
        if w.any() and len(y) < 13_000 and x[0, 0] == self.first:
            order = os.path.join(os.environ["SCRIMP_TEST_DEATHS"], "0 rank1")
            if os.path.exists(order):
                os.unlink(order)
                os.kill(os.getpid(), signal.SIGKILL)
        error = x @ w - y
        return 0.5 * float(error @ error) / len(y), x.T @ error / len(y)

    first: float = 0.0


@pytest.mark.parametrize("compress", ["raw", "int8"])
def test_mini_batches_go_on_from_the_last_epoch(rows, in_danger, compress):
    x, y, _ = rows
    x = np.column_stack([x, np.ones(len(y), np.float32)])
    options = {
        "learning_rate": 0.05,
        "max_iter": 12,
        "compress": compress,
        "raw_below": 0,
        "schedule": "linear",
    }
    order_deaths(in_danger, 1)
    gradient = HalfSquared(first=float(x[len(y) // 2, 0]))
    whole = scrimp.minimize(HalfSquared(first=np.inf), np.zeros(10, np.float32), (x, y), **options)
    with pytest.warns(RuntimeWarning, match="rank 1"):
        found = scrimp.minimize(
            gradient, np.zeros(10, np.float32), (x, y), workers=2, on_failure="continue", **options
        )
    assert not os.listdir(in_danger)
    assert found.n_iter == whole.n_iter
    assert found.value == pytest.approx(whole.value, rel=1e-2)


def test_an_error_of_the_function_itself_is_not_a_lost_worker(rows):
    with pytest.raises(ValueError, match="shapes of w0"):
        scrimp.minimize(
            wrong_shape, np.zeros(9, np.float32), rows[:2], workers=2, on_failure="continue", solver="lbfgs"
        )


def wrong_shape(w, rows):
    return 0.0, np.zeros(3)


def test_wrong_ways_of_going_on_are_named(rows):
    x, y, _ = rows
    with pytest.raises(ValueError, match="known: raise, continue"):
        Ridge(on_failure="ignore").fit(x, y)
    with pytest.raises(ValueError, match="needs shard='rows'"):
        Ridge(solver="lbfgs", shard="zero", on_failure="continue").fit(x, y)


def test_full_batch_fits_have_the_same_bits_for_any_number_of_workers_and_threads(rows):
    x, y, labels = rows
    for model, target in ((LogisticRegression(), labels), (Ridge(solver="lbfgs", data_bits=4), y)):
        one = model.fit(x, target).coef_.tobytes()
        for workers, threads in ((1, 2), (2, 1), (8, 0)):
            assert model.set_params(workers=workers, threads=threads).fit(x, target).coef_.tobytes() == one
