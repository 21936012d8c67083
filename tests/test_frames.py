"""Estimators on frames: the types and names of their columns, and what they cannot hold."""

import numpy as np
import pytest

import scrimp
from scrimp.linear_model import ElasticNet, LogisticRegression, Ridge, SGDRegressor

N = 300
ROWS = np.random.default_rng(0).normal(size=(N, 3))
Y = ROWS @ [1.0, -2.0, 0.5]


def framed(library, columns):
    module = pytest.importorskip(library)
    return module.table(columns) if library == "pyarrow" else module.DataFrame(columns)


def columns_of(rows):
    return {name: np.ascontiguousarray(rows[:, i]) for i, name in enumerate("abc")}


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.int8, np.float64])
@pytest.mark.parametrize("model", [Ridge(), ElasticNet(1e-3), LogisticRegression(), SGDRegressor()], ids=repr)
def test_columns_of_one_type_stay_of_it(library, kind, model):
    rows = (20 * ROWS).astype(kind)
    y = Y > 0 if isinstance(model, LogisticRegression) else Y
    try:
        frame = framed(library, columns_of(rows))
    except (TypeError, ValueError) as error:
        pytest.skip(f"{library} has no such column: {error}")
    plain = model.fit(rows, y).coef_
    predicted = model.predict(rows)
    assert model.fit(frame, y).coef_.dtype == plain.dtype == (kind if kind == np.float64 else np.float32)
    np.testing.assert_allclose(model.coef_, plain, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(model.predict(frame), predicted, rtol=1e-4, atol=1e-5)
    assert model.predict(frame).dtype == predicted.dtype
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]


def test_rows_of_int8_in_a_frame_are_not_made_wider(monkeypatch):
    from scrimp.linear_model import least_squares

    seen = []
    check = least_squares.check_columns
    monkeypatch.setattr(
        least_squares, "check_columns", lambda X, sizes: seen.append(X.dtype) or check(X, sizes)
    )
    Ridge(threads=1).fit(framed("pandas", columns_of((20 * ROWS).astype(np.int8))), Y)
    assert seen == [np.int8]


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_columns_of_several_types_are_float64(library):
    frame = framed(library, columns_of(ROWS) | {"b": ROWS[:, 1].astype(np.float32)})
    assert Ridge().fit(frame, Y).coef_.dtype == np.float64


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_small_integers_with_gaps_are_refused(library):
    module = pytest.importorskip(library)
    values = [None, 1, 2] * 10
    if library == "pandas":
        frame = module.DataFrame({"a": module.array(values, dtype="Int8")})
    elif library == "polars":
        frame = module.DataFrame({"a": values}, schema={"a": module.Int8})
    else:
        frame = module.table({"a": module.array(values, module.int8())})
    with pytest.raises(ValueError, match="contains NaN"):
        Ridge().fit(frame, np.arange(30.0))


def test_a_record_batch_gives_its_names():
    arrow = pytest.importorskip("pyarrow")
    batch = arrow.record_batch(columns_of(ROWS.astype(np.float32)))
    model = Ridge().fit(batch, Y)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    assert model.predict(batch).dtype == np.float32


def test_a_lazy_frame_must_be_collected():
    lazy = framed("polars", columns_of(ROWS)).lazy()
    with pytest.raises(TypeError, match=r"a polars LazyFrame, which is a plan: collect\(\) it first"):
        Ridge().fit(lazy, Y)
    with pytest.raises(TypeError, match="collect"):
        Ridge().fit(ROWS, Y).predict(lazy)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_column_of_text_is_named(library):
    columns = columns_of(ROWS) | {"b": np.array(["air", "sea", "rail"] * (N // 3))}
    if library == "pyarrow":
        columns["b"] = columns["b"].tolist()
    with pytest.raises(scrimp.InputError, match="X: column 'b' holds text, such as 'air', expected numbers"):
        Ridge().fit(framed(library, columns), Y)
    with pytest.raises(scrimp.InputError, match="X: column 'b' holds text"):
        LogisticRegression().fit(framed(library, columns), Y > 0)


def test_codes_have_no_names_of_an_earlier_fit():
    model = Ridge().fit(framed("pandas", columns_of(ROWS)), Y)
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    model.fit((20 * ROWS).astype(np.int8), Y)
    assert not hasattr(model, "feature_names_in_")


@pytest.mark.parametrize(
    ("rows", "y", "message"),
    [
        (np.where(ROWS > 2, np.nan, ROWS), Y, "NaN"),
        (np.where(ROWS > 2, np.inf, ROWS), Y, "infinity"),
        (ROWS[:, 0], Y, "1D array"),
        (ROWS[:0], Y[:0], "0 sample"),
        (ROWS[:, :0], Y, "0 feature"),
        (ROWS, Y[:-1], "inconsistent"),
        (ROWS, np.where(Y > 4, np.nan, Y), "y contains NaN"),
        (ROWS, None, "requires y"),
        (ROWS[:, :2], Y, "2 features"),
    ],
)
def test_what_is_not_plain_rows_is_refused_in_scikit_learns_words(rows, y, message):
    model = SGDRegressor().partial_fit(ROWS, Y)
    with pytest.raises(ValueError, match=message):
        model.partial_fit(rows, y)


def test_codes_without_targets_are_refused_in_the_same_words():
    with pytest.raises(ValueError, match="Ridge requires y to be passed, but the target y is None"):
        Ridge().fit((20 * ROWS).astype(np.int8), None)


def test_a_text_is_no_target():
    with pytest.raises((TypeError, ValueError), match="at least 1 dimension"):
        Ridge().fit(ROWS, "ab")


def test_coefficients_put_in_by_hand_predict():
    model = Ridge()
    model.coef_, model.intercept_ = np.array([1.0, 2.0, 3.0]), 0.5
    np.testing.assert_allclose(model.predict(np.ones((2, 3))), [6.5, 6.5])
