"""What LinearRegression and Ridge share: options, solvers, storage, prediction."""

from __future__ import annotations

import os
import time
import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from scrimp.cost import Meter, bill
from scrimp.linear_model.choice import Choice, choose_solver
from scrimp.linear_model.gradient_fit import GradientFit, is_narrow
from scrimp.linear_model.inputs import (
    DOUBLE_SIZES,
    Inputs,
    check_columns,
    check_targets,
    check_unseen,
    prediction_rows,
    training_rows,
)
from scrimp.linear_model.persistence import Persistent
from scrimp.linear_model.transfer import Known, for_rows, known_before
from scrimp.matrix import QuantizedMatrix
from scrimp.train.columns import solve_by_columns
from scrimp.train.equations import NormalOptions, NormalSolution
from scrimp.train.normal import RunOptions, fits_one_leaf, solve_gram, solve_normal
from scrimp.train.online import OnlineGram
from scrimp.train.ranks import kept_state, on_ranks
from scrimp.usage import Usage

GRAM_PASSES, CG_PASSES = 30, 1000
USUAL_EXPONENT = 10  # targets beyond 2^±10 are divided by a power of two, which changes no digit


class LeastSquares(GradientFit, Persistent, MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Least squares with a penalty α‖w‖²; subclasses say what α is."""

    _online: OnlineGram | None = None

    def _alpha(self, k: int) -> NDArray[np.float64]:
        """Return the penalty of each of k outputs."""
        raise NotImplementedError

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None, *, init: Any = None) -> Self:
        """Fit to rows.

        Parameters
        ----------
        X : array[n, d], frame, or QuantizedMatrix
            bfloat16, float16, float32 and float64 are read as they are, int8 rows and a QuantizedMatrix too.
        y : array[n] or array[n, k]
            Targets.
        sample_weight : array[n], optional
            Weights of the rows, at least 0.
        init : fitted linear model or path, optional
            Start there: columns are matched by name where both have names; new ones start at 0. "gram" needs
            no start.

        Returns
        -------
        self
        """
        started = time.perf_counter()
        known = known_before(self, init)
        inputs = training_rows(self, X, y, sample_weight, as_they_are=True)
        self._check_options()
        alpha = self._alpha(inputs.y.shape[1])
        n, d = inputs.X.shape
        k = len(alpha)
        choice = choose_solver(self.solver, n, d, self.compress, self.shard, self.sync_every, k)
        solve = self._by_sums if choice.solver in ("gram", "cg") else self._by_gradients
        units = _units_of(inputs.y)
        known = for_rows(known, self, d)
        known = known if known is None else known.for_outputs(len(alpha)).in_units(units)
        scaled = inputs if (units == 1).all() else inputs._replace(y=inputs.y / units)
        solution, usage = solve(scaled, alpha, choice, started, known)
        solution = solution._replace(w=solution.w * units, y_mean=solution.y_mean * units)
        self._finish(solution, inputs, f"{choice.solver}: {choice.reason}", usage)
        self._online = None
        return self

    def _finish(self, solution: NormalSolution, inputs: Inputs, why: str, usage: Usage) -> None:
        self._keep(solution, inputs)
        self.solver_ = f"{why}; {solution.how}"
        self.n_iter_ = solution.n_iter
        self.rank_ = solution.rank
        self.bill_ = bill(usage)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict targets.

        Parameters
        ----------
        X : array[n, d], frame, or QuantizedMatrix

        Returns
        -------
        array[n] or array[n, k]
            x·coef_ + intercept_, with the stored precision of coef_; float64 for float64 rows, else float32.
        """
        check_is_fitted(self)
        return self._linear(prediction_rows(self, X))

    def _by_sums(
        self, inputs: Inputs, alpha: NDArray[np.float64], choice: Choice, started: float, known: Known | None
    ) -> tuple[NormalSolution, Usage]:
        """Solve the normal equations: by the Gram matrix, or by conjugate gradients alone."""
        passes = GRAM_PASSES if choice.solver == "gram" else CG_PASSES
        options = NormalOptions(
            alpha=alpha,
            fit_intercept=self.fit_intercept,
            data_bits=self.data_bits,
            refine=self.refine is not False or self.data_bits == 32,
            gram=choice.solver == "gram",
            tol=self.tol,
            max_iter=passes if self.max_iter is None else self.max_iter,
            seed=self._seed(),
            threads=self.threads,
            start=None if known is None else known.coef.T.copy(),
        )
        finds_ranges = options.gram and inputs.weight is None and not fits_one_leaf(inputs.X, options)
        if not finds_ranges or self.workers > 1:  # a worker would not name the row
            check_unseen(inputs.X)
        if not finds_ranges:
            check_columns(inputs.X, DOUBLE_SIZES)
        checkpoint = None if self.checkpoint is None else os.fspath(self.checkpoint)
        solve, workers = solve_normal, 1 if fits_one_leaf(inputs.X, options) else self.workers
        if self.shard == "features":
            solve, workers = solve_by_columns, self.workers
            self._check_columns_of_ranks(inputs)
        with kept_state(checkpoint, self.on_failure) as state:
            args = (inputs.X, inputs.y, inputs.weight, options, RunOptions(self.budget, state, started))
            solution, usage = on_ranks(solve, args, workers=workers, on_failure=self.on_failure)
        self._warn_of(solution, alpha, inputs.X.shape[1])
        return solution, usage

    def _check_columns_of_ranks(self, inputs: Inputs) -> None:
        if isinstance(inputs.X, QuantizedMatrix) or self.data_bits != 32:
            raise ValueError("shard='features' reads rows as they are: no QuantizedMatrix, data_bits=32")
        if self.on_failure == "continue":
            raise ValueError("on_failure='continue' needs shard='rows': a lost rank's columns are lost")

    def _warn_of(self, solution: NormalSolution, alpha: NDArray[np.float64], d: int) -> None:
        if solution.rank < d and not alpha.all():
            text = f"the {d} columns have rank {solution.rank}: took the solution of least norm"
            hint = "Ridge(alpha > 0) has only one"
            warnings.warn(f"{text}; {hint}", np.exceptions.RankWarning, stacklevel=4)
        if solution.error > self.tol:
            text = f"stopped after {solution.n_iter} passes at a relative error of about {solution.error:.1e}"
            hint = f"above tol={self.tol:g}: raise max_iter or alpha"
            warnings.warn(f"{text}, {hint}", ConvergenceWarning, stacklevel=4)

    def _by_gradients(
        self, inputs: Inputs, alpha: NDArray[np.float64], choice: Choice, started: float, known: Known | None
    ) -> tuple[NormalSolution, Usage]:
        """Fit with `minimize`, standardized without touching the rows."""
        check_unseen(inputs.X)
        inputs = inputs._replace(y=np.asarray(inputs.y, np.float64))
        found = self._by_loss(inputs, "squared", alpha, choice.solver, known=known)
        self._warn_if_short(found, choice.solver, len(inputs.y))
        objective = found.objective
        n_iter, d = found.n_iter, len(found.w)
        means = (objective.mean, objective.centre)
        return NormalSolution(found.w, *means, found.scatter, found.how, n_iter, 0.0, d), found.usage

    def _keep(self, solution: NormalSolution, inputs: Inputs) -> None:
        """Store the model in its own precision; the intercept makes up for what rounding did to the mean."""
        values = self._store(solution.w, solution.scatter, is_narrow(inputs.X))
        self._set_shape(self._coefficients.values, solution.y_mean - values @ solution.mean, inputs.vector)

    def _set_shape(self, values: NDArray[Any], intercept: NDArray[np.float64], vector: bool) -> None:
        self.coef_ = values[0] if vector else values
        self.intercept_ = float(intercept[0]) if vector else intercept
        if not self.fit_intercept:
            self.intercept_ = 0.0


def _units_of(y: NDArray[np.float32 | np.float64]) -> NDArray[np.float64]:
    """Return a power of two for each output, near its largest value where squares might not be finite."""
    largest = np.maximum(y.max(axis=0), -y.min(axis=0)).astype(np.float64)
    _, exponent = np.frexp(largest)
    return np.ldexp(1.0, np.where(np.abs(exponent) > USUAL_EXPONENT, exponent - 1, 0))


class OnlineLeastSquares(LeastSquares):
    """Least squares that rows can be added to."""

    def _takes_planes(self: Any) -> bool:
        return bool(self.solver == "lbfgs")

    def partial_fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Add rows to those of the calls before, and solve for all of them.

        The Gram matrix is summed in float64 by leaves of 4,096 rows: the same bits however the rows are cut
        into calls, and the coefficients of `fit` to 1e-6. `fit` forgets these rows.

        Parameters
        ----------
        X : array[n, d] or frame
        y : array[n] or array[n, k]
        sample_weight : array[n], optional

        Returns
        -------
        self
        """
        online = self._online
        with Meter() as meter:
            inputs = training_rows(self, X, y, sample_weight, reset=online is None)
            check_columns(inputs.X, DOUBLE_SIZES._replace(least=0.0))
            check_targets(inputs.y, DOUBLE_SIZES._replace(least=0.0))
            if isinstance(inputs.X, QuantizedMatrix):
                raise TypeError("partial_fit takes arrays of rows; fit takes a QuantizedMatrix")
            self._check_options()
            if online is None:
                online = OnlineGram(inputs.X.shape[1], inputs.y.shape[1], self.threads)
            if inputs.y.shape[1] != online.k:
                raise ValueError(
                    f"y must have {online.k} columns as in the first call, got {inputs.y.shape[1]}"
                )
            online.add(inputs.X, inputs.y, inputs.weight)
            alpha = self._alpha(online.k)
            solution = solve_gram(online.gram(), NormalOptions(alpha, self.fit_intercept))
        self._warn_of(solution, alpha, online.d)
        self._finish(solution, inputs, "gram: partial_fit", meter.usage)
        self._online = online
        return self
