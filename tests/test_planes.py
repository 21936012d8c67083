"""Rows in two planes of four bits: the first is an unbiased int4 matrix, both together are finer."""

from __future__ import annotations

import re

import numpy as np
import pytest

from scrimp.linear_model import Lasso, LogisticRegression, Ridge, RidgeCV, SGDRegressor
from scrimp.matrix import LEAF_ROWS, NibblePlanes, QuantizedMatrix, column_ranges, gradient, gram


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * LEAF_ROWS + 77, 9)).astype(np.float32)
    return x, x @ rng.normal(size=9) + rng.normal(size=len(x))


def test_both_planes_hold_what_they_say(rows):
    x = rows[0]
    planes = NibblePlanes.from_array(x)
    fine, coarse = planes.fine(), planes.coarse
    step = (x.max(axis=0) - x.min(axis=0)) / 120
    np.testing.assert_allclose(fine.scale, step, rtol=1e-6)
    np.testing.assert_allclose(coarse.scale, 8 * step, rtol=1e-6)
    assert (np.abs(fine.dequantize() - x) <= step * (1 + 1e-4)).all()
    assert (np.abs(coarse.dequantize() - x) <= 9 * step).all()
    rest = np.hstack([planes.rest & 15, planes.rest >> 4])[:, :9].astype(int) - 8
    high = np.hstack([coarse.codes & 15, coarse.codes >> 4])[:, :9].astype(int)
    np.testing.assert_array_equal(fine.codes, 8 * high + rest - 64)
    assert planes.nbytes < 1.2 * fine.nbytes  # d is odd
    assert planes.rest.nbytes == coarse.codes.nbytes


def test_the_first_plane_has_the_noise_of_four_bits(rows):
    planes, alone = NibblePlanes.from_array(rows[0]), QuantizedMatrix.from_array(rows[0], 4)
    np.testing.assert_allclose(planes.coarse.noise, alone.noise, rtol=0.02)
    assert (planes.noise_blocks.sum(axis=0) < planes.coarse.noise / 30).all()


@pytest.mark.parametrize("which", ["coarse", "fine"])
def test_gradients_of_either_plane_are_unbiased(rows, which):
    """The mean over seeds tends to the exact gradient as 1/√seeds."""
    x, y = rows[0][:LEAF_ROWS], rows[1][:LEAF_ROWS]
    w = np.linspace(-1, 1, 9)
    exact, *_ = gradient(x.astype(np.float64), y, w, precise=True)
    found = []
    for seed in range(64):
        planes = NibblePlanes.from_array(x, seed=seed)
        found.append(
            gradient(getattr(planes, which) if which == "coarse" else planes.fine(), y, w, precise=True)[0]
        )
    off = np.array(found) - exact
    one = np.sqrt((off**2).sum(axis=1).mean())
    assert 0 < np.linalg.norm(off.mean(axis=0)) < 2.5 * one / np.sqrt(64)


def test_the_gram_matrix_of_the_first_plane_is_unbiased(rows):
    x = rows[0][:LEAF_ROWS].astype(np.float64)
    found = np.array([gram(NibblePlanes.from_array(x, seed=seed).coarse).xtx for seed in range(64)])
    off = found.mean(axis=0) - x.T @ x
    assert (np.abs(off) < 5 * found.std(axis=0) / 8 + 1e-6).all()


def test_shards_are_the_rows_of_the_whole(rows):
    x = rows[0]
    whole, ranges = NibblePlanes.from_array(x, seed=3, threads=2), column_ranges(x)
    parts = [
        NibblePlanes.from_array(x[begin:end], seed=3, first_row=begin, ranges=ranges, threads=1)
        for begin, end in ((0, LEAF_ROWS), (LEAF_ROWS, len(x)))
    ]
    np.testing.assert_array_equal(whole.coarse.codes, np.vstack([p.coarse.codes for p in parts]))
    np.testing.assert_array_equal(whole.rest, np.vstack([p.rest for p in parts]))
    np.testing.assert_array_equal(whole.noise_blocks, np.vstack([p.noise_blocks for p in parts]))


def test_values_beyond_given_ranges_become_the_nearer_end(rows):
    x = rows[0]
    ranges = column_ranges(x[:50])
    planes, near = NibblePlanes.from_array(x, ranges=ranges), np.clip(x, ranges.low, ranges.high)
    step, wide = (ranges.high - ranges.low) / 120, x != near
    assert wide.any(axis=0).all()
    for rows_, size in ((planes.fine(), 1.0), (planes.coarse, 8.0)):
        error = np.abs(rows_.dequantize() - near) / (size * step)
        assert error.max() < 1.001
        assert error[wide].max() < 1e-4
    held = NibblePlanes.from_array(near.astype(np.float32), ranges=ranges)
    assert np.array_equal(planes.rest, held.rest)
    assert np.array_equal(planes.noise_blocks, held.noise_blocks)
    np.testing.assert_allclose(planes.coarse.sum_blocks.sum(axis=0), x.sum(axis=0, dtype=np.float64))


def test_integers_are_exact():
    x = np.random.default_rng(0).integers(0, 121, size=(500, 4)).astype(np.float64)
    x[:, 1], x[:, 2], x[:, 3] = x[:, 1] % 16, x[:, 2] % 2, 7.0
    planes = NibblePlanes.from_array(x)
    np.testing.assert_array_equal(planes.fine().dequantize(), x)
    np.testing.assert_array_equal(planes.coarse.dequantize()[:, 1:], x[:, 1:])
    assert not planes.noise_blocks.any()
    assert not planes.coarse.noise[1:].any()


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (5, 2)])
def test_small_matrices(shape):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    planes = NibblePlanes.from_array(x)
    assert planes.shape == planes.fine().shape == shape
    np.testing.assert_array_equal(planes.fine().dequantize(), x)


def test_weights_are_those_of_the_noise(rows):
    x = rows[0]
    twice = NibblePlanes.from_array(x, sample_weight=np.full(len(x), 2.0))
    once = NibblePlanes.from_array(x)
    np.testing.assert_allclose(twice.coarse.noise, 2 * once.coarse.noise)
    np.testing.assert_allclose(twice.fine().noise, 2 * once.fine().noise)


def bytes_read(model):
    parts = re.findall(r"(\d+) passes over quantized rows of \d bits \(([\d,]+) bytes each\)", model.solver_)
    return sum(int(count) * int(size.replace(",", "")) for count, size in parts)


@pytest.mark.parametrize("refine", ["auto", False])
def test_a_fit_reads_the_first_plane_then_both(rows, refine):
    x, y = rows
    exact, eight, planes = (
        Ridge(1.0, solver="lbfgs", refine=refine, data_bits=bits).fit(x, y) for bits in (32, 8, "4+8")
    )
    close = 1e-5 if refine else 5e-3
    np.testing.assert_allclose(eight.coef_, exact.coef_, atol=close)
    np.testing.assert_allclose(planes.coef_, exact.coef_, atol=close)
    assert "quantized rows of 4 bits" in planes.solver_
    assert "quantized rows of 8 bits" in planes.solver_
    coarse = int(re.findall(r"(\d+) passes over quantized rows of 4 bits", planes.solver_)[0])
    assert coarse > 0


def test_a_fit_that_starts_far_off_reads_fewer_bytes():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50_000, 20)).astype(np.float32)
    y = x @ rng.normal(size=20) + rng.normal(size=50_000)
    eight, planes = (Ridge(solver="lbfgs", refine=False, data_bits=bits).fit(x, y) for bits in (8, "4+8"))
    np.testing.assert_allclose(planes.coef_, eight.coef_, atol=1e-3)
    assert 0 < bytes_read(planes) < eight.n_iter_ * QuantizedMatrix.from_array(x, 8).nbytes


def test_a_logistic_fit_ends_on_the_rows(rows):
    x, y = rows[0], (rows[1] > 0).astype(int)
    exact, planes = (LogisticRegression(tol=1e-6, data_bits=bits).fit(x, y) for bits in (32, "4+8"))
    assert "of 4 bits" in planes.solver_
    np.testing.assert_allclose(planes.coef_, exact.coef_, atol=1e-4)


def test_workers_give_the_same_bits_and_fits_resume(rows, tmp_path):
    one = Ridge(solver="lbfgs", data_bits="4+8").fit(*rows)
    two = Ridge(solver="lbfgs", data_bits="4+8", workers=2).fit(*rows)
    first = Ridge(solver="lbfgs", data_bits="4+8", checkpoint=tmp_path / "s").fit(*rows)
    again = Ridge(solver="lbfgs", data_bits="4+8", checkpoint=tmp_path / "s").fit(*rows)
    assert one.coef_.tobytes() == two.coef_.tobytes() == first.coef_.tobytes() == again.coef_.tobytes()
    assert (tmp_path / "s.coarse").exists()
    assert (tmp_path / "s.coarse1").exists()


@pytest.mark.parametrize(
    "model",
    [
        Ridge(data_bits="4+8"),
        RidgeCV(data_bits="4+8"),
        Lasso(data_bits="4+8"),
        SGDRegressor(data_bits="4+8"),
        LogisticRegression(data_bits="4+8", l1_ratio=0.5),
        LogisticRegression(data_bits="4+8", solver="sgd"),
    ],
)
def test_other_solvers_refuse_planes(rows, model):
    with pytest.raises(ValueError, match=r"data_bits='4\+8' is for solver='lbfgs'"):
        model.fit(rows[0], (rows[1] > 0).astype(int))
