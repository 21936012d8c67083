"""L-BFGS whose gradients travel in few bits ends where it would with exact ones, and says so."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import scrimp
from scrimp.linear_model import LogisticRegression
from scrimp.train.checkpoint import SCHEMA
from scrimp.train.storage import read_tensors, write_tensors

WAYS = {
    "int4": {"compress": "int4"},
    "int4, no feedback": {"compress": "int4", "feedback": "none"},
    "sign": {"compress": "sign"},
    "zero int4": {"compress": "int4", "shard": "zero"},
    "zero int8, int4": {"compress": ("int8", "int4"), "shard": "zero"},
}


def labelled(n, d, k):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)).astype(np.float32)
    z = X @ rng.normal(size=(d, k)) * (2 / np.sqrt(d))
    return X, (z + rng.gumbel(size=z.shape)).argmax(axis=1)


def log_loss(model, X, y):
    return -float(model.predict_log_proba(X)[np.arange(len(y)), y].mean())


@pytest.fixture(scope="module", params=[(600, 10, 2), (9000, 12, 2), (1500, 220, 5)], ids=str)
def problem(request):
    """Few rows, where the start is the solution; a sample of the rows; too wide for a start but zero."""
    X, y = labelled(*request.param)
    return X, y, log_loss(LogisticRegression().fit(X, y), X, y)


@pytest.mark.parametrize("way", WAYS)
def test_logistic_regression_converges_to_the_log_loss_of_exact_gradients(problem, way):
    X, y, best = problem
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = LogisticRegression(workers=2, raw_below=0, **WAYS[way]).fit(X, y)
    assert log_loss(model, X, y) == pytest.approx(best, abs=2e-5)
    assert model.solver_.endswith("converged")


def test_four_bits_send_fewer_bytes_to_the_same_loss():
    X, y = labelled(1500, 220, 5)
    raw, packed = (
        LogisticRegression(workers=2, raw_below=0, compress=codec).fit(X, y).bill_.usage.wire_bytes
        for codec in ("raw", "int4")
    )
    assert packed < raw / 3


def valley(w, rows):
    """Least squares whose residue keeps the gradient of each rank long where their mean is 0."""
    x, y = rows
    error = x @ w - y
    return 0.5 * float(error @ error) / len(y), x.T @ error / len(y)


def fit_with_and_without_a_break(comm, x, y, path):
    options = {"solver": "lbfgs", "compress": "sign", "raw_below": 0, "feedback": "none", "tol": 1e-9}
    start = np.zeros(x.shape[1])
    whole = scrimp.minimize(valley, start, (x, y), comm=comm, max_iter=40, **options)
    for max_iter in (2, 9, 40):
        comm.step = 0
        broken = scrimp.minimize(
            valley, start, (x, y), comm=comm, max_iter=max_iter, checkpoint=path, **options
        )
    return [(fit.w.tobytes(), fit.history, fit.stop) for fit in (whole, broken)]


def test_a_resumed_fit_keeps_its_exact_gradients(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 30))
    y = x @ rng.normal(size=30) + 5 * np.sign(np.arange(400) - 200) * x[:, 0]
    whole, broken = scrimp.run(fit_with_and_without_a_break, 2, (x, y, str(tmp_path / "fit")))[0]
    assert broken == whole
    exact = np.linalg.lstsq(x, y, rcond=None)[0]
    assert np.frombuffer(whole[0]) == pytest.approx(exact, abs=1e-5)
    assert whole[2] == "converged"


def test_a_checkpoint_of_before_the_anchors_says_so(tmp_path):
    path = tmp_path / "fit"
    rows = np.eye(5), np.arange(5.0)
    options = {"solver": "lbfgs", "checkpoint": path, "tol": 1e-12}
    scrimp.minimize(valley, np.zeros(5), rows, max_iter=1, **options)
    tensors, document = read_tensors(path, SCHEMA)
    old = {name: a for name, a in tensors.items() if "anchor." not in name}
    assert len(old) < len(tensors)
    write_tensors(path, old, document)
    said = "fit: checkpoint of an older version of scrimp .*; remove it to begin anew"
    with pytest.raises(scrimp.errors.InputError, match=said):
        scrimp.minimize(valley, np.zeros(5), rows, max_iter=2, **options)
