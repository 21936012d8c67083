"""LinearRegression, Ridge, and Ridge with a penalty chosen by cross-validation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scrimp.cost import Budget, bill
from scrimp.linear_model.docs import with_options
from scrimp.linear_model.inputs import DOUBLE_SIZES, check_columns, check_targets, training_rows
from scrimp.linear_model.least_squares import LeastSquares, OnlineLeastSquares
from scrimp.train.equations import NormalOptions
from scrimp.train.folds import cross_validate
from scrimp.train.ranks import on_ranks


@with_options
class LinearRegression(OnlineLeastSquares):
    """Ordinary least squares: minimizes Σ sᵢ(yᵢ − xᵢ·w − b)².

    Where columns depend on each other the solution of least norm is taken, with a `RankWarning` of NumPy.

    Parameters
    ----------
    <options>

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [2.0]])
    >>> model = LinearRegression().fit(X, [1.0, 3.0, 5.0])
    >>> model.coef_.round(12), round(model.intercept_, 12)
    (array([2.]), 1.0)
    """

    def __init__(
        self,
        *,
        fit_intercept: bool = True,
        data_bits: int | str = 32,
        refine: str | bool = "auto",
        solver: str = "auto",
        workers: int = 1,
        threads: int = 0,
        compress: str | tuple[str, str] = "raw",
        raw_below: int = 65536,
        shard: str = "rows",
        sync_every: int = 1,
        on_failure: str = "raise",
        feedback: str = "auto",
        weight_bits: int = 32,
        batch_size: int = 1024,
        learning_rate: float | str = "auto",
        momentum: float = 0.9,
        max_iter: int | None = None,
        tol: float = 1e-6,
        budget: Budget | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.fit_intercept = fit_intercept
        self.data_bits = data_bits
        self.refine = refine
        self.solver = solver
        self.workers = workers
        self.threads = threads
        self.compress = compress
        self.raw_below = raw_below
        self.shard = shard
        self.sync_every = sync_every
        self.on_failure = on_failure
        self.feedback = feedback
        self.weight_bits = weight_bits
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.max_iter = max_iter
        self.tol = tol
        self.budget = budget
        self.checkpoint = checkpoint
        self.random_state = random_state
        self.verbose = verbose

    def _alpha(self, k: int) -> NDArray[np.float64]:
        return np.zeros(k)


@with_options
class Ridge(OnlineLeastSquares):
    """Ridge regression: minimizes Σ sᵢ(yᵢ − xᵢ·w − b)² + α‖w‖².

    Parameters
    ----------
    alpha : float or array[k]
        Penalty, one for all outputs or one each.
    <options>

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [2.0]])
    >>> model = Ridge(alpha=2.0).fit(X, [1.0, 3.0, 5.0])
    >>> model.coef_.round(12), round(model.intercept_, 12)
    (array([1.]), 2.0)
    """

    def __init__(
        self,
        alpha: float | ArrayLike = 1.0,
        *,
        fit_intercept: bool = True,
        data_bits: int | str = 32,
        refine: str | bool = "auto",
        solver: str = "auto",
        workers: int = 1,
        threads: int = 0,
        compress: str | tuple[str, str] = "raw",
        raw_below: int = 65536,
        shard: str = "rows",
        sync_every: int = 1,
        on_failure: str = "raise",
        feedback: str = "auto",
        weight_bits: int = 32,
        batch_size: int = 1024,
        learning_rate: float | str = "auto",
        momentum: float = 0.9,
        max_iter: int | None = None,
        tol: float = 1e-6,
        budget: Budget | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.data_bits = data_bits
        self.refine = refine
        self.solver = solver
        self.workers = workers
        self.threads = threads
        self.compress = compress
        self.raw_below = raw_below
        self.shard = shard
        self.sync_every = sync_every
        self.on_failure = on_failure
        self.feedback = feedback
        self.weight_bits = weight_bits
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.max_iter = max_iter
        self.tol = tol
        self.budget = budget
        self.checkpoint = checkpoint
        self.random_state = random_state
        self.verbose = verbose

    def _alpha(self, k: int) -> NDArray[np.float64]:
        try:
            alpha = np.asarray(np.nan if self.alpha is None else self.alpha, np.float64)
        except (TypeError, ValueError):  # words
            alpha = np.asarray(np.nan)
        if (
            alpha.ndim > 1
            or alpha.size not in (1, k)
            or not np.isfinite(alpha).all()
            or not (alpha >= 0).all()
        ):
            raise ValueError(
                f"alpha must be one number >= 0, or one for each of {k} outputs, got {self.alpha!r}"
            )
        return np.broadcast_to(alpha.reshape(-1), k).copy()


@with_options
class RidgeCV(LeastSquares):
    """Ridge regression whose penalty is chosen by cross-validation from one Gram matrix a fold.

    The rows are read once for all penalties and folds, then by the refinement of the winner.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from.
    cv : int
        Folds: contiguous runs of rows, as scikit-learn's `KFold` without shuffling.
    <options>
    alpha_ : float
        The winner.
    cv_errors_ : float64[len(alphas)]
        Mean squared error of each penalty on rows that were left out, over all outputs.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 30))
    >>> RidgeCV(alphas=(1e-6, 10.0, 1e6)).fit(X, X[:, 0] + rng.normal(size=60)).alpha_
    10.0
    """

    FITTED = ("solver_", "n_iter_", "rank_", "n_features_in_", "alpha_")

    def __init__(
        self,
        alphas: Sequence[float] = (0.1, 1.0, 10.0),
        *,
        cv: int = 5,
        fit_intercept: bool = True,
        data_bits: int = 32,
        refine: str | bool = "auto",
        solver: str = "auto",
        workers: int = 1,
        threads: int = 0,
        compress: str | tuple[str, str] = "raw",
        raw_below: int = 65536,
        shard: str = "rows",
        sync_every: int = 1,
        on_failure: str = "raise",
        feedback: str = "auto",
        weight_bits: int = 32,
        batch_size: int = 1024,
        learning_rate: float | str = "auto",
        momentum: float = 0.9,
        max_iter: int | None = None,
        tol: float = 1e-6,
        budget: Budget | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.fit_intercept = fit_intercept
        self.data_bits = data_bits
        self.refine = refine
        self.solver = solver
        self.workers = workers
        self.threads = threads
        self.compress = compress
        self.raw_below = raw_below
        self.shard = shard
        self.sync_every = sync_every
        self.on_failure = on_failure
        self.feedback = feedback
        self.weight_bits = weight_bits
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.max_iter = max_iter
        self.tol = tol
        self.budget = budget
        self.checkpoint = checkpoint
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None, *, init: Any = None) -> Self:
        """Choose a penalty and fit with it; as `Ridge.fit`."""
        inputs = training_rows(self, X, y, sample_weight)
        self._check_options()
        check_columns(inputs.X, DOUBLE_SIZES)
        check_targets(inputs.y, DOUBLE_SIZES)
        alphas = np.asarray(self.alphas, np.float64).reshape(-1)
        if not len(alphas) or not (alphas >= 0).all() or not np.isfinite(alphas).all():
            raise ValueError(f"alphas must hold at least one number >= 0, got {self.alphas!r}")
        if not self.cv >= 2:
            raise ValueError(f"cv must be at least 2, got {self.cv!r}")
        options = NormalOptions(
            alphas, self.fit_intercept, self.data_bits, seed=self._seed(), threads=self.threads
        )
        args = (inputs.X, inputs.y, inputs.weight, alphas, min(self.cv, len(inputs.y)), options)
        self.cv_errors_, usage = on_ranks(
            cross_validate, args, workers=self.workers, on_failure=self.on_failure
        )
        self.alpha_ = float(alphas[int(np.argmin(self.cv_errors_))])
        super().fit(X, y, sample_weight, init=init)
        self.bill_ = bill(usage + self.bill_.usage)
        return self

    def _alpha(self, k: int) -> NDArray[np.float64]:
        return np.full(k, self.alpha_)
