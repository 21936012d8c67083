"""Estimators on rows of bfloat16: not widened, and in all bits what the same numbers in float32 give."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import scrimp
from scrimp.linear_model import (
    ElasticNet,
    LinearRegression,
    LogisticRegression,
    Ridge,
    RidgeCV,
    SGDClassifier,
    SGDRegressor,
)

ml_dtypes = pytest.importorskip("ml_dtypes")
rng = np.random.default_rng(0)


def rows_of(shape):
    return rng.standard_normal(shape).astype(ml_dtypes.bfloat16)


REGRESSIONS = [
    LinearRegression(),
    LinearRegression(solver="cg"),
    Ridge(workers=2),
    Ridge(data_bits=8, refine=False),
    Ridge(shard="features"),
    *(Ridge(solver="lbfgs", data_bits=bits) for bits in (32, 8, "4+8")),
    Ridge(solver="sgd", max_iter=3),
    RidgeCV(),
    ElasticNet(0.1),
    ElasticNet(0.1, solver="proximal", weight_bits=8),
    SGDRegressor(max_iter=3),
]
CLASSIFIERS = [
    LogisticRegression(),
    LogisticRegression(data_bits=8, weight_bits=4),
    LogisticRegression(3.0, l1_ratio=0.5),
    SGDClassifier(max_iter=3),
]


@pytest.mark.parametrize("model", [*REGRESSIONS, *CLASSIFIERS], ids=repr)
def test_estimators_read_bfloat16_as_it_lies(model):
    X = rows_of((9000, 12))
    wide = X.astype(np.float32)
    y = wide @ np.linspace(-1, 1, 12) + rng.standard_normal(9000)
    y = y > 0.5 if model in CLASSIFIERS else y
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = vars(model.fit(X, y)).copy()
        answers = [model.predict(rows).tobytes() for rows in (X, wide, X[::3], wide[::3])]
        model.fit(wide, y)
    assert found["coef_"].dtype == np.float32
    for name in ("coef_", "intercept_", "n_iter_"):
        assert np.array_equal(found.get(name, 0), vars(model).get(name, 0)), name
    assert (answers[0], answers[2]) == (answers[1], answers[3])


def test_batches_of_bfloat16_add_up_as_float32_does():
    X, y = rows_of((6000, 5)), rng.standard_normal(6000)
    narrow, wide = Ridge(), Ridge()
    for rows in (slice(0, 1000), slice(1000, 6000)):
        narrow.partial_fit(X[rows], y[rows])
        wide.partial_fit(X[rows].astype(np.float32), y[rows])
    assert narrow.coef_.tobytes() == wide.coef_.tobytes()


@pytest.mark.parametrize("model", [Ridge(), Ridge(solver="lbfgs"), LogisticRegression()])
def test_estimators_name_what_is_not_finite_in_bfloat16(model):
    X = rows_of((9000, 3))
    y = X[:, 0].astype(np.float32) > 0
    model.fit(X, y)
    X[5000, 1] = np.inf
    for call in (model.predict, lambda rows: model.fit(rows, y)):
        with pytest.raises(scrimp.InputError, match=r"X\[5000, 1\] is inf"):
            call(X)


def test_rows_of_bfloat16_in_a_file_are_read_from_there(tmp_path):
    X, y = rows_of((9000, 4)), rng.standard_normal(9000)
    (tmp_path / "x").write_bytes(X.tobytes())
    mapped = np.memmap(tmp_path / "x", X.dtype, "r", shape=X.shape)
    assert Ridge().fit(mapped, y).coef_.tobytes() == Ridge().fit(X, y).coef_.tobytes()
