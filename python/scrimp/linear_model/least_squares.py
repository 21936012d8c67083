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
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from scrimp.comm import single
from scrimp.cost import Meter, bill
from scrimp.linear_model.choice import Choice, choose_solver
from scrimp.linear_model.inputs import Inputs, prediction_rows, training_rows
from scrimp.linear_model.persistence import Persistent
from scrimp.linear_model.weights import Coefficients
from scrimp.matrix import QuantizedMatrix, product
from scrimp.train import Fit, minimize
from scrimp.train.linear import CodeRows, SquaredObjective, take_pilot
from scrimp.train.normal import NormalOptions, NormalSolution, RunOptions, fits_one_leaf, solve_normal
from scrimp.train.ranks import on_ranks
from scrimp.train.shared_rows import SharedRows
from scrimp.usage import Usage

GRAM_PASSES, CG_PASSES, LBFGS_ITERATIONS, SGD_EPOCHS = 30, 1000, 300, 20
CHOICES: dict[str, tuple[Any, ...]] = {
    "data_bits": (32, 8, 4, 2, 1),
    "weight_bits": (32, 8, 4),
    "refine": ("auto", False),
}


class LeastSquares(Persistent, MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Least squares with a penalty α‖w‖²; subclasses say what α is."""

    def _alpha(self, k: int) -> NDArray[np.float64]:
        """Return the penalty of each of k outputs."""
        raise NotImplementedError

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit to rows.

        Parameters
        ----------
        X : array[n, d], frame, or QuantizedMatrix
            float32, float64 and float16 are read as they are, int8 rows and a QuantizedMatrix too.
        y : array[n] or array[n, k]
            Targets.
        sample_weight : array[n], optional
            Weights of the rows, at least 0.

        Returns
        -------
        self
        """
        started = time.perf_counter()
        inputs = training_rows(self, X, y, sample_weight)
        alpha = self._alpha(inputs.y.shape[1])
        self._check_options()
        n, d = inputs.X.shape
        choice = choose_solver(self.solver, n, d, self.compress, self.shard, self.sync_every)
        solve = self._by_sums if choice.solver in ("gram", "cg") else self._by_gradients
        solution, usage = solve(inputs, alpha, choice, started)
        self._keep(solution, inputs)
        self.solver_ = f"{choice.solver}: {choice.reason}; {solution.how}"
        self.n_iter_ = solution.n_iter
        self.rank_ = solution.rank
        self.bill_ = bill(usage)
        return self

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
        rows = prediction_rows(self, X)
        if isinstance(rows, np.ndarray) and rows.dtype == np.float64:
            return np.asarray(rows @ self.coef_.T + self.intercept_)
        return product(rows, self.coef_.T, self.intercept_, threads=self.threads)

    def _check_options(self) -> None:
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if not any(value == one and type(value) is type(one) for one in known):
                raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
        for name in ("workers", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        if not self.tol > 0:
            raise ValueError(f"tol must be above 0, got {self.tol!r}")

    def _seed(self) -> int:
        """Return a seed; None is 0, so that fits are the same from run to run."""
        return (
            0 if self.random_state is None else int(check_random_state(self.random_state).randint(2**31 - 1))
        )

    def _by_sums(
        self, inputs: Inputs, alpha: NDArray[np.float64], choice: Choice, started: float
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
        )
        checkpoint = None if self.checkpoint is None else os.fspath(self.checkpoint)
        workers = 1 if fits_one_leaf(inputs.X, options) else self.workers
        args = (inputs.X, inputs.y, inputs.weight, options, RunOptions(self.budget, checkpoint, started))
        solution, usage = on_ranks(solve_normal, args, workers=workers)
        self._warn_of(solution, alpha, inputs.X.shape[1])
        return solution, usage

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
        self, inputs: Inputs, alpha: NDArray[np.float64], choice: Choice, started: float
    ) -> tuple[NormalSolution, Usage]:
        """Fit with `minimize`, standardized without touching the rows."""
        sgd = choice.solver == "sgd"
        with Meter() as meter:
            data, objective, rate = self._prepare(inputs, alpha, precise=not sgd)
        start = np.zeros((inputs.X.shape[1], inputs.y.shape[1]), np.float32 if sgd else np.float64)
        fit = self._minimize(objective, start, data, choice.solver, rate)
        if fit.stop == "max_iter" and not sgd:
            text = f"stopped after {fit.n_iter} iterations: raise max_iter or tol"
            warnings.warn(text, ConvergenceWarning, stacklevel=3)
        w = objective.weights(fit.w)
        how = f"{fit.n_iter} {'epochs' if sgd else 'iterations'}, {fit.stop}"
        scatter = len(inputs.y) / objective.units.scale**2
        solution = NormalSolution(w, objective.mean, objective.y_mean, scatter, how, fit.n_iter, 0.0, len(w))
        return solution, meter.usage + fit.usage

    def _minimize(
        self,
        objective: SquaredObjective,
        start: NDArray[Any],
        data: tuple[Any, ...],
        solver: str,
        rate: float,
    ) -> Fit:
        default = SGD_EPOCHS if solver == "sgd" else LBFGS_ITERATIONS
        return minimize(
            objective,
            start,
            data,
            workers=self.workers,
            shard=self.shard,
            solver=solver,
            learning_rate=rate,
            momentum=self.momentum,
            schedule="linear",
            batch_size=self.batch_size,
            max_iter=default if self.max_iter is None else self.max_iter,
            tol=self.tol,
            sync_every=self.sync_every,
            compress=self.compress,
            raw_below=self.raw_below,
            feedback=self.feedback,
            seed=self._seed(),
            budget=self.budget,
            checkpoint=self.checkpoint,
        )

    def _prepare(
        self, inputs: Inputs, alpha: NDArray[np.float64], precise: bool
    ) -> tuple[tuple[Any, ...], SquaredObjective, float]:
        """Quantize the rows if asked for, find means, units and step."""
        rows, n = inputs.X, len(inputs.y)
        if self.data_bits != 32 and not isinstance(rows, QuantizedMatrix) and rows.dtype != np.int8:
            rows = QuantizedMatrix.from_array(rows, self.data_bits, seed=self._seed(), threads=self.threads)
        rows = CodeRows.of(rows) if isinstance(rows, QuantizedMatrix) else rows
        total = float(n) if inputs.weight is None else float(inputs.weight.sum())
        mean, y_mean = np.zeros(rows.shape[1]), np.zeros(inputs.y.shape[1])
        if self.fit_intercept:
            whole = SharedRows(single(), inputs.X, inputs.y, inputs.weight, 0, self.threads)
            mean, y_mean = whole.moments()
        penalty = alpha / total
        pilot = take_pilot(rows, mean, float(penalty.max()), stochastic=not precise)
        rate = pilot.learning_rate(self.batch_size, n, self.momentum)
        rate = rate if self.learning_rate == "auto" else float(self.learning_rate)
        weight = () if inputs.weight is None else (inputs.weight * (n / total),)
        objective = SquaredObjective(mean, y_mean, pilot.units, penalty, precise, self.threads)
        return (rows, inputs.y, *weight), objective, rate

    def _keep(self, solution: NormalSolution, inputs: Inputs) -> None:
        """Store the model in its own precision; the intercept makes up for what rounding did to the mean."""
        narrow = isinstance(inputs.X, QuantizedMatrix) or inputs.X.dtype != np.float64
        w = np.ascontiguousarray(solution.w.T, np.float32 if narrow else np.float64)
        self._coefficients = Coefficients.of(w, self.weight_bits, solution.scatter)
        values = self._coefficients.values
        intercept = solution.y_mean - values.astype(np.float64) @ solution.mean
        self._set_shape(values, intercept, inputs.vector)

    def _set_shape(self, values: NDArray[Any], intercept: NDArray[np.float64], vector: bool) -> None:
        self.coef_ = values[0] if vector else values
        self.intercept_ = float(intercept[0]) if vector else intercept
        if not self.fit_intercept:
            self.intercept_ = 0.0
