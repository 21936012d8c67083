"""Coefficients for many penalties at once, from one float64 Gram matrix: the rows are read twice for all."""

from __future__ import annotations

from typing import Any

import numpy as np

from scrimp.comm import Comm
from scrimp.matrix import QuantizedMatrix
from scrimp.matrix.blas import one_thread
from scrimp.train.dense import Matrix, PseudoInverse
from scrimp.train.equations import Centred, NormalOptions, NormalSolution
from scrimp.train.refinement import Ask
from scrimp.train.shared_rows import SharedRows


def solve_ridge_path(
    comm: Comm, X: Any, y: Matrix, sample_weight: Matrix | None, alphas: Matrix, options: NormalOptions
) -> NormalSolution:
    """Solve for every alpha; all ranks call it.

    Returns
    -------
    NormalSolution
        `w` of [d, len(alphas) · k]: all outputs of the first alpha, then of the next.
    """
    with one_thread():
        rows = SharedRows(comm, X, y, sample_weight, options.seed, options.threads)
        codes = isinstance(X, QuantizedMatrix)
        gram = rows.quantized_gram(X.bits) if codes else rows.exact_gram(rows.moments()[0])
        centred = Centred.of(gram, options)
        columns = []
        for alpha in alphas.tolist():
            a = centred.a + alpha * np.eye(len(centred.a))
            factor = centred.factor(alpha)
            well = factor is not None and factor.smallest_pivot() > 1e-12
            inverse = factor if factor is not None and well else PseudoInverse.of(a)
            columns.append(inverse.solve(centred.b))
        w = centred.widen(np.hstack(columns))
        y_mean = np.tile(centred.y_mean, len(alphas))
        how = "one Gram matrix for all penalties"
        return NormalSolution(w, centred.mean, y_mean, centred.scatter(), how, 2, 0.0, len(w))


def largest_useful_penalty(
    comm: Comm, X: Any, y: Matrix, sample_weight: Matrix | None, options: NormalOptions
) -> float:
    """Return the l1 (against ½‖y − X·w‖²) from which on all coefficients are 0."""
    rows = SharedRows(comm, X, y, sample_weight, options.seed, options.threads)
    mean, y_mean = rows.moments()
    if options.fit_intercept:
        rows.answer(Ask("centre", (mean, y_mean)))
    slope = rows.answer(Ask("residual", (np.zeros((rows.d, rows.k)),)))
    return float(np.abs(slope).max(initial=0.0))
