"""Logistic losses with an l1 penalty, by an estimator's options: rows in few bits first, then the rows.

The estimator is only read; what is found goes back as a value.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import numpy as np

from scrimp.linear_model.gradient_fit import COARSE_TOL, FEW_ROWS_TOL, FEW_VALUES, PRECISE_VALUES
from scrimp.linear_model.inputs import DOUBLE_SIZES, SINGLE_SIZES, Inputs, check_columns
from scrimp.linear_model.transfer import Known
from scrimp.matrix import QuantizedMatrix
from scrimp.train.equations import NormalSolution
from scrimp.train.normal import RunOptions
from scrimp.train.ranks import kept_state, on_ranks
from scrimp.train.sparse_logistic import SparseLogisticProblem, solve_sparse_logistic
from scrimp.usage import Usage

PASSES = 1000


def fit_sparse_logistic(
    model: Any, inputs: Inputs, loss: str, k: int, penalty: tuple[float, float], known: Known | None
) -> tuple[NormalSolution, Usage]:
    """Fit from the solution of a sample, or from what another model knows.

    Parameters
    ----------
    model : LogisticRegression
        Its options.
    inputs : Inputs
    loss : {"logistic", "softmax"}
    k : int
        Outputs.
    penalty : (float, float)
        α and ρ: α·(ρ‖w‖₁ + ½·(1 − ρ)‖w‖²) against Σ s·L.
    known : Known, optional
    """
    (n, d), (alpha, ratio) = inputs.X.shape, penalty
    precise = n * d <= PRECISE_VALUES or model.tol < 1e-5
    check_columns(inputs.X, DOUBLE_SIZES if precise else SINGLE_SIZES)
    total = float(n) if inputs.weight is None else float(inputs.weight.sum())
    problem = SparseLogisticProblem(
        loss,
        k,
        alpha * ratio / total,
        alpha * (1 - ratio) / total,
        bias=model.fit_intercept,
        tol=min(model.tol, FEW_ROWS_TOL) if n * d <= FEW_VALUES else model.tol,
        max_iter=PASSES if model.max_iter is None else model.max_iter,
        precise=precise,
        start=None if known is None else _stacked(known.coef.T, known.intercept, model.fit_intercept),
        seed=model._seed(),
        threads=model.threads,
    )
    rows, coarse = inputs.X, None
    if model.data_bits != 32 and not isinstance(rows, QuantizedMatrix) and rows.dtype != np.int8:
        rows = QuantizedMatrix.from_array(rows, model.data_bits, seed=problem.seed, threads=model.threads)
        if model.refine == "auto" and model.budget is None:
            first = replace(problem, tol=max(problem.tol, COARSE_TOL))
            coarse, usage = _solve(model, rows, inputs, first, ".coarse")
            start = _stacked(coarse.w, coarse.y_mean - coarse.mean @ coarse.w, problem.bias)
            rows, problem = inputs.X, replace(problem, start=start)
    found, spent = _solve(model, rows, inputs, problem, "")
    if coarse is None:
        return found, spent
    how = f"{coarse.n_iter} passes over quantized rows, {found.how}"
    return found._replace(how=how, n_iter=coarse.n_iter + found.n_iter), usage + spent


def _solve(
    model: Any, rows: Any, inputs: Inputs, problem: SparseLogisticProblem, suffix: str
) -> tuple[NormalSolution, Usage]:
    checkpoint = None if model.checkpoint is None else os.fspath(model.checkpoint) + suffix
    with kept_state(checkpoint, model.on_failure) as state:
        run = RunOptions(model.budget, state, time.perf_counter())
        args = (rows, inputs.y, inputs.weight, problem, run)
        return on_ranks(solve_sparse_logistic, args, workers=model.workers, on_failure=model.on_failure)


def _stacked(w: Any, intercept: Any, bias: bool) -> Any:
    return np.vstack([w, intercept]) if bias else w
