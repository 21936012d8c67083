"""ElasticNet and Lasso: least squares whose coefficients are few."""

from __future__ import annotations

import os
import time
import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning

from scrimp.cost import Budget
from scrimp.linear_model.choice import GRAM_COLUMNS, Choice
from scrimp.linear_model.inputs import DOUBLE_SIZES, Inputs, check_columns, check_targets, training_rows
from scrimp.linear_model.least_squares import LeastSquares
from scrimp.linear_model.transfer import known_before
from scrimp.train.equations import NormalOptions
from scrimp.train.lasso import Penalty
from scrimp.train.normal import RunOptions
from scrimp.train.options import is_number
from scrimp.train.ranks import kept_state, on_ranks
from scrimp.train.sparse import SparseProblem, solve_sparse

SOLVERS = ("auto", "gram", "proximal")
PROXIMAL_PASSES = 5000

OPTIONS = """fit_intercept : bool
        Fit b of x·w + b, by exact means; it is not penalized.
    positive : bool
        Keep all coefficients at least 0.
    warm_start : bool
        Start from the coefficients of the last fit.
    data_bits : {32, 8, 4, 2, 1}
        Bits of a value of the rows that the Gram matrix is made of.
    refine : {"auto", False}
        Whether the rows themselves are read until the duality gap is `tol`; False trains on the quantized
        rows alone.
    solver : {"auto", "gram", "proximal"}
        "gram": coordinate descent on the Gram matrix of quantized rows, corrected by passes over the rows.
        "proximal": accelerated proximal gradients, a pass each, for many columns. Both give the same bits for
        every number of workers and threads. `solver_` says what "auto" chose, and why.
    workers, threads : int
        Processes on this machine, and threads of each (0: by size).
    on_failure : {"raise", "continue"}
        What becomes of a fit that loses a worker: an error, or its rows move to the others, which go on from
        the last pass with a RuntimeWarning.
    weight_bits : {32, 8, 4}
        Precision of the stored and predicting coefficients; 0 stays 0.
    max_iter : int, optional
        Passes of "proximal" (5000).
    tol : float
        Duality gap relative to the objective: how far above the minimum the fit is at most.
    budget : Budget, optional
        Stop before it is overspent: `BudgetExceeded`.
    checkpoint : path, optional
        State of the fit; a fit that finds it continues from it.
    random_state : int, RandomState or None
        Of rounding. None is 0: fits do not differ from run to run.
    verbose : int
        Not used; fits are silent.

    Attributes
    ----------
    coef_ : array[d] or array[k, d]
        float64 for float64 rows, else float32.
    sparse_coef_ : scipy.sparse matrix
        The same without its zeros.
    intercept_ : float or float64[k]
    dual_gap_ : float
        Of the worst output, relative to its objective.
    n_iter_ : int
        Passes over the rows.
    solver_ : str
        What was chosen, why, and what it did.
    bill_ : Bill
        Of the fit; `bill_.usage` is what was spent."""


def with_sparse_options(model: type) -> type:
    """Put the options that both share into a docstring."""
    model.__doc__ = (model.__doc__ or "").replace("<options>", OPTIONS)
    return model


class SparseLeastSquares(LeastSquares):
    """Least squares with l1 and l2 penalties; subclasses say which."""

    FITTED = ("solver_", "n_iter_", "rank_", "n_features_in_", "dual_gap_")

    def _ratio(self) -> float:
        """Return the part of the penalty that is l1."""
        raise NotImplementedError

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None, *, init: Any = None) -> Self:
        """Fit to rows.

        Parameters
        ----------
        X : array[n, d], frame, or QuantizedMatrix
            bfloat16, float16, float32 and float64 are read as they are, int8 rows and a QuantizedMatrix too.
        y : array[n] or array[n, k]
            Targets; outputs do not share their zeros.
        sample_weight : array[n], optional
            Weights of the rows, at least 0.
        init : fitted linear model or path, optional
            Start there: columns are matched by name where both have names; new ones start at 0.

        Returns
        -------
        self
        """
        started = time.perf_counter()
        known = known_before(self, init)
        inputs = near_one(training_rows(self, X, y, sample_weight))
        self._check_options()
        check_columns(inputs.X, DOUBLE_SIZES)
        check_targets(inputs.y, DOUBLE_SIZES)
        choice = self._choose(inputs)
        options = self._normal_options(choice)
        penalty = self._penalty(inputs)
        start = np.zeros((inputs.X.shape[1], inputs.y.shape[1]))
        if known is not None:
            found = known.for_columns(getattr(self, "feature_names_in_", None), len(start))
            start[...] = found.for_outputs(start.shape[1]).coef.T
        checkpoint = None if self.checkpoint is None else os.fspath(self.checkpoint)
        problem = SparseProblem(penalty, options, start)
        with kept_state(checkpoint, self.on_failure) as state:
            args = (inputs.X, inputs.y, inputs.weight, problem, RunOptions(self.budget, state, started))
            solution, usage = on_ranks(solve_sparse, args, workers=self.workers, on_failure=self.on_failure)
        self.dual_gap_ = solution.error
        if solution.error > self.tol:
            gap = f"a relative duality gap of {solution.error:.1e}, above tol={self.tol:g}"
            text = f"stopped after {solution.n_iter} passes at {gap}: raise max_iter or alpha"
            if choice.solver == "gram":  # whose rounds have no option
                text = f"coordinate descent on the Gram matrix stopped at {gap}: raise alpha or tol"
            warnings.warn(text, ConvergenceWarning, stacklevel=2)
        self._finish(solution, inputs, f"{choice.solver}: {choice.reason}", usage)
        return self

    @property
    def sparse_coef_(self) -> Any:
        """Coefficients as a sparse matrix of [1, d] or [k, d]."""
        from scipy.sparse import csr_matrix

        return csr_matrix(np.atleast_2d(self.coef_))

    def _choose(self, inputs: Inputs) -> Choice:
        if self.solver not in SOLVERS:
            raise ValueError(f"unknown solver {self.solver!r}; known: {', '.join(SOLVERS)}")
        d = inputs.X.shape[1]
        if self.solver != "auto":
            return Choice(self.solver, "as asked")
        if d <= GRAM_COLUMNS:
            return Choice("gram", f"d={d} columns are at most {GRAM_COLUMNS}: one Gram matrix, few passes")
        return Choice("proximal", f"d={d} columns are more than {GRAM_COLUMNS}: no Gram matrix")

    def _normal_options(self, choice: Choice) -> NormalOptions:
        return NormalOptions(
            alpha=np.zeros(0),
            fit_intercept=self.fit_intercept,
            data_bits=self.data_bits,
            refine=self.refine is not False or self.data_bits == 32,
            gram=choice.solver == "gram",
            tol=self.tol,
            max_iter=PROXIMAL_PASSES if self.max_iter is None else self.max_iter,
            seed=self._seed(),
            threads=self.threads,
        )

    def _penalty(self, inputs: Inputs) -> Penalty:
        ratio = self._ratio()
        if not (is_number(self.alpha) and self.alpha > 0):
            hint = "LinearRegression has no penalty"
            raise ValueError(f"alpha must be a number above 0, got {self.alpha!r}; {hint}")
        if not (is_number(ratio) and 0 <= ratio <= 1):
            raise ValueError(f"l1_ratio must be a number in 0 … 1, got {ratio!r}")
        total = total_weight(inputs)
        ones = np.full(inputs.y.shape[1], self.alpha * total)
        return Penalty(ones * ratio, ones * (1 - ratio), bool(self.positive))


def near_one(inputs: Inputs) -> Inputs:
    """Divide the weights by a power of two, which changes no digit, so that sums neither vanish nor overflow.

    The objective is a weighted mean and does not change.
    """
    if inputs.weight is None:
        return inputs
    _, exponent = np.frexp(inputs.weight.max())
    return inputs._replace(weight=np.ldexp(inputs.weight, -exponent))


def total_weight(inputs: Inputs) -> float:
    """Return Σ s."""
    return float(len(inputs.y)) if inputs.weight is None else float(inputs.weight.sum())


@with_sparse_options
class ElasticNet(SparseLeastSquares):
    """Elastic net: minimizes mean(½·s(y − x·w − b)²) + alpha·(ρ‖w‖₁ + ½·(1 − ρ)‖w‖²).

    The mean is weighted, Σ s(…) / Σ s; ρ is `l1_ratio`.

    Parameters
    ----------
    alpha : float
        Penalty, above 0.
    l1_ratio : float
        ρ in 0 … 1.
    <options>

    Examples
    --------
    >>> X = np.eye(4)[[0, 1, 2, 3] * 5]
    >>> y = X @ [4.0, 0.0, 0.0, -4.0]
    >>> ElasticNet(alpha=0.1, l1_ratio=0.9, fit_intercept=False).fit(X, y).coef_.round(3)
    array([ 3.5,  0. ,  0. , -3.5])
    """

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        l1_ratio: float = 0.5,
        fit_intercept: bool = True,
        positive: bool = False,
        warm_start: bool = False,
        data_bits: int = 32,
        refine: str | bool = "auto",
        solver: str = "auto",
        workers: int = 1,
        threads: int = 0,
        on_failure: str = "raise",
        weight_bits: int = 32,
        max_iter: int | None = None,
        tol: float = 1e-6,
        budget: Budget | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.positive = positive
        self.warm_start = warm_start
        self.data_bits = data_bits
        self.refine = refine
        self.solver = solver
        self.workers = workers
        self.threads = threads
        self.on_failure = on_failure
        self.weight_bits = weight_bits
        self.max_iter = max_iter
        self.tol = tol
        self.budget = budget
        self.checkpoint = checkpoint
        self.random_state = random_state
        self.verbose = verbose

    def _ratio(self) -> float:
        return self.l1_ratio


@with_sparse_options
class Lasso(SparseLeastSquares):
    """Lasso: minimizes mean(½·s(y − x·w − b)²) + alpha·‖w‖₁.

    Parameters
    ----------
    alpha : float
        Penalty, above 0.
    <options>

    Examples
    --------
    >>> X = np.eye(4)[[0, 1, 2, 3] * 5]
    >>> model = Lasso(alpha=0.1, fit_intercept=False).fit(X, X @ [4.0, 0.2, 0.0, -4.0])
    >>> model.coef_.round(3)
    array([ 3.6,  0. ,  0. , -3.6])
    """

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        fit_intercept: bool = True,
        positive: bool = False,
        warm_start: bool = False,
        data_bits: int = 32,
        refine: str | bool = "auto",
        solver: str = "auto",
        workers: int = 1,
        threads: int = 0,
        on_failure: str = "raise",
        weight_bits: int = 32,
        max_iter: int | None = None,
        tol: float = 1e-6,
        budget: Budget | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.positive = positive
        self.warm_start = warm_start
        self.data_bits = data_bits
        self.refine = refine
        self.solver = solver
        self.workers = workers
        self.threads = threads
        self.on_failure = on_failure
        self.weight_bits = weight_bits
        self.max_iter = max_iter
        self.tol = tol
        self.budget = budget
        self.checkpoint = checkpoint
        self.random_state = random_state
        self.verbose = verbose

    def _ratio(self) -> float:
        return 1.0
