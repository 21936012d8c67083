"""SGDRegressor and SGDClassifier: mini-batches, and `partial_fit` for rows that come bit by bit."""

from __future__ import annotations

import os
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from scrimp.cost import Budget, bill
from scrimp.linear_model.docs import with_options
from scrimp.linear_model.gradient_fit import Found, GradientFit, is_narrow
from scrimp.linear_model.inputs import Inputs, Labels, prediction_rows, training_labels, training_rows
from scrimp.linear_model.logistic import Classifier
from scrimp.linear_model.persistence import Persistent
from scrimp.linear_model.transfer import Known, for_rows, known_before
from scrimp.matrix import QuantizedMatrix
from scrimp.train import Fit
from scrimp.train.linear import CURVATURE, PILOT_ROWS, CodeRows, LinearObjective, look_again
from scrimp.train.options import averaged_after, is_number

LOSSES = {"squared_error": "squared", "huber": "huber"}
LEAP = 100.0  # times the mean objective of the last pass: then the step is looked at again


class Online(NamedTuple):
    """Where `partial_fit` stands: the units of the first rows, the step that suits them, and u.

    Attributes
    ----------
    objective : LinearObjective
    rate : float
    u : float32[d, k]
        After the last step.
    calls : int
    rows : int
        Trained on so far.
    mean : float64[d, k] or None
        Of u over `n_averaged` steps.
    n_averaged : int
    value : float
        Mean of the objective in the last pass.
    """

    objective: LinearObjective
    rate: float
    u: NDArray[np.float32]
    calls: int
    rows: int = 0
    mean: NDArray[np.float64] | None = None
    n_averaged: int = 0
    value: float = np.inf

    def after(self, fit: Fit, calls: int, rows: int) -> Online:
        """Return where it stands after some more steps over so many rows."""
        n_averaged, mean = self.n_averaged + fit.n_averaged, self.mean
        if fit.n_averaged:
            before = np.zeros(fit.w.shape) if mean is None else mean
            mean = before + (fit.w - before) * (fit.n_averaged / n_averaged)
        done: dict[str, Any] = {"calls": self.calls + calls, "rows": self.rows + rows, "value": fit.value}
        return self._replace(u=fit.last, mean=mean, n_averaged=n_averaged, **done)


class OnlineFit(GradientFit):
    """Estimators that take one more pass over some rows."""

    _online: Online | None = None

    def _check_options(self: Any) -> None:
        super()._check_options()
        averaged_after(self.average)

    def _minimize(
        self: Any, objective: LinearObjective, start: Any, data: Any, solver: str, rate: float, **changes: Any
    ) -> Fit:
        own = {"nesterov": self.nesterov, "average": self.average}
        return super()._minimize(objective, start, data, solver, rate, **(own | changes))

    def _remember(self: Any, found: Found, n: int) -> None:
        """Let `partial_fit` go on where a fit to n rows ended."""
        fit = found.fit
        begun = Online(found.objective.with_still(), found.rate, fit.last, 0)
        self._online = begun.after(fit, fit.n_iter, n * fit.n_iter)

    def _known(self: Any) -> Known | None:
        """Return what a first pass starts from: the coefficients of a model that was loaded."""
        return Known.of(self) if self._online is None and hasattr(self, "coef_") else None

    def _pass_over(
        self: Any,
        inputs: Inputs,
        loss: str,
        alpha: NDArray[np.float64],
        delta: float,
        known: Known | None,
    ) -> Found:
        """Make one pass of mini-batches from where the last call ended; the first one from what is known."""
        online: Online | None = self._online
        n = len(inputs.y)
        total = n if inputs.weight is None else inputs.weight.sum()
        if online is None:
            data, objective, rate, _ = self._prepare(
                inputs, loss, alpha * total, "sgd", delta, True, self._in_few_bits(inputs.X), more=True
            )
            theta = None if known is None else objective.centred(known.coef.T, known.intercept)
            online = Online(objective, rate, objective.start(np.float32, theta), 0)
        else:
            weight = () if inputs.weight is None else (inputs.weight * (n / total),)
            x = CodeRows.of(inputs.X) if isinstance(inputs.X, QuantizedMatrix) else inputs.X
            data = (x, inputs.y, *weight)
        objective, average = online.objective, averaged_after(self.average)
        changes = {
            "max_iter": 1,
            "tol": 0.0,
            "schedule": "constant",
            "seed": self._seed() + online.calls,
            "average": average and max(1, average - online.rows),
            "checkpoint": None,
        }
        if online.calls and online.rows < PILOT_ROWS:  # the first rows may have been too few to tell
            online = self._slowed(online, data[0])
        online, fit = self._one_pass(online, data, changes)
        self._online = online = online.after(fit, 1, n)
        u = online.mean if average and online.mean is not None else online.u.astype(np.float64)
        return Found(*objective.weights(u), objective, fit, online.rate, fit.usage)

    def _one_pass(
        self: Any, online: Online, data: tuple[Any, ...], changes: dict[str, Any]
    ) -> tuple[Online, Fit]:
        """Make it, and once more where the step was too long for these rows."""
        diverged: FloatingPointError | None = None
        try:
            fit = self._minimize(online.objective, online.u, data, "sgd", online.rate, **changes)
            if fit.value <= LEAP * online.value:
                return online, fit
        except FloatingPointError as error:
            diverged = error
        slowed = self._slowed(online, data[0])
        if slowed.rate < 0.5 * online.rate:
            return slowed, self._minimize(slowed.objective, online.u, data, "sgd", slowed.rate, **changes)
        if diverged:
            raise diverged
        return online, fit

    def _slowed(self: Any, online: Online, X: Any) -> Online:
        """Return where it stands, with a step that is not too long for these rows either."""
        objective = online.objective
        if self.learning_rate != "auto":
            return online
        bend = CURVATURE[objective.loss] if objective.bias else 0.0
        pilot = look_again(X, objective)
        pilot = pilot._replace(curvature=pilot.curvature + bend)  # their means are not those of the first
        return online._replace(
            rate=min(online.rate, pilot.learning_rate(self.batch_size, len(X), self.momentum))
        )


@with_options
class SGDRegressor(OnlineFit, Persistent, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Linear regression by mini-batches: minimizes mean(sᵢ·L(yᵢ, xᵢ·w + b)) + ½·α‖w‖².

    Columns are put into the units of a pilot's Hessian, so they need no scaling, and the step needs no
    tuning.

    Parameters
    ----------
    loss : {"squared_error", "huber"}
        L: ½(y − z)², or linear beyond `epsilon`.
    alpha : float
        Penalty, against the mean (as scikit-learn's SGDRegressor).
    epsilon : float
        Where huber turns linear.
    warm_start : bool
        Start from the last fit.
    nesterov : bool
        Look ahead by one momentum step.
    average : bool or int
        Coefficients are the mean over all steps (True), or over those after so many rows; those of earlier
        calls of `partial_fit` count (as scikit-learn).
    <options>

    Examples
    --------
    >>> X = np.arange(200.0).reshape(100, 2) % 7
    >>> model = SGDRegressor(batch_size=10).fit(X, X @ [1.0, -1.0] + 3)
    >>> model.coef_.round(2)
    array([ 1., -1.])
    """

    FITTED = ("solver_", "n_iter_", "n_features_in_")

    def __init__(
        self,
        loss: str = "squared_error",
        *,
        alpha: float = 1e-4,
        epsilon: float = 1.0,
        fit_intercept: bool = True,
        warm_start: bool = False,
        data_bits: int = 32,
        workers: int = 1,
        threads: int = 0,
        compress: str | tuple[str, str] = "raw",
        raw_below: int = 65536,
        shard: str = "rows",
        sync_every: int = 1,
        on_failure: str = "raise",
        feedback: str = "auto",
        weight_bits: int = 32,
        batch_size: int = 256,
        learning_rate: float | str = "auto",
        momentum: float = 0.9,
        nesterov: bool = False,
        average: bool | int = False,
        max_iter: int | None = None,
        tol: float = 1e-4,
        budget: Budget | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.loss = loss
        self.alpha = alpha
        self.epsilon = epsilon
        self.fit_intercept = fit_intercept
        self.warm_start = warm_start
        self.data_bits = data_bits
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
        self.nesterov = nesterov
        self.average = average
        self.max_iter = max_iter
        self.tol = tol
        self.budget = budget
        self.checkpoint = checkpoint
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None, *, init: Any = None) -> Self:
        """Fit to rows, forgetting what was learnt before.

        Parameters
        ----------
        X : array[n, d], frame, or QuantizedMatrix
        y : array[n]
        sample_weight : array[n], optional
        init : fitted linear model or path, optional
            Start there: columns are matched by name where both have names; new ones start at 0.

        Returns
        -------
        self
        """
        known = known_before(self, init)
        inputs = self._inputs(X, y, sample_weight, reset=True)
        total = len(inputs.y) if inputs.weight is None else inputs.weight.sum()
        alpha = np.array([self.alpha * total])
        known = for_rows(known, self, inputs.X.shape[1])
        known = known if known is None else known.for_outputs(1)
        found = self._by_loss(inputs, LOSSES[self.loss], alpha, "sgd", self.epsilon, bias=True, known=known)
        self._warn_if_short(found, "sgd", len(inputs.y))
        self._remember(found, len(inputs.y))
        self.n_iter_ = found.fit.n_iter
        return self._keep(found, inputs)

    def partial_fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Make one pass over these rows, from where the last call ended, with a constant step.

        Units and step come from the rows of the first call: give it some thousand that are like the rest. A
        model that was loaded goes on from its coefficients; units and step are found anew.
        """
        inputs = self._inputs(X, y, sample_weight, reset=not hasattr(self, "coef_"))
        known = self._known()
        found = self._pass_over(inputs, LOSSES[self.loss], np.array([self.alpha]), self.epsilon, known)
        self.n_iter_ = self.n_iter_ + 1 if hasattr(self, "n_iter_") else 1
        return self._keep(found, inputs)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return x·coef_ + intercept_ of each row."""
        check_is_fitted(self)
        return self._linear(prediction_rows(self, X))

    def _inputs(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> Inputs:
        if self.loss not in LOSSES:
            raise ValueError(f"unknown loss {self.loss!r}; known: {', '.join(LOSSES)}")
        numbers = is_number(self.alpha) and is_number(self.epsilon)
        if not (numbers and self.alpha >= 0 and self.epsilon > 0):
            got = f"got {self.alpha!r} and {self.epsilon!r}"
            raise ValueError(f"alpha must be a number >= 0 and epsilon a number above 0, {got}")
        self._check_options()
        return training_rows(self, X, y, sample_weight, reset=reset, one_output=True)

    def _keep(self, found: Found, inputs: Inputs) -> Self:
        values = self._store(found.w, found.scatter, is_narrow(inputs.X))
        intercept = found.intercept + (found.w.T - values) @ found.objective.mean
        self._set_shape(self._coefficients.values, intercept, True)
        self.solver_ = f"sgd: {found.how}"
        self.bill_ = bill(found.usage)
        return self

    def _set_shape(self, values: NDArray[Any], intercept: NDArray[np.float64], vector: bool) -> None:
        assert vector
        self.coef_ = values[0]
        self.intercept_ = np.atleast_1d(intercept) if self.fit_intercept else np.zeros(1)


@with_options
class SGDClassifier(OnlineFit, Classifier):
    """Linear classification by mini-batches: minimizes mean(sᵢ·L(yᵢ, xᵢ·w + b)) + ½·α‖w‖².

    L is the logistic loss for two classes, cross-entropy of the softmax for more (scikit-learn trains one
    against the rest). Columns need no scaling, and the step no tuning.

    Parameters
    ----------
    alpha : float
        Penalty, against the mean (as scikit-learn's SGDClassifier).
    class_weight : dict, "balanced" or None
        Weights of the classes, times the sample weights.
    warm_start : bool
        Start from the last fit.
    nesterov : bool
        Look ahead by one momentum step.
    average : bool or int
        Coefficients are the mean over all steps (True), or over those after so many rows; those of earlier
        calls of `partial_fit` count (as scikit-learn).
    <options>
    classes_ : array[k]

    Examples
    --------
    >>> X = np.array([[-2.0], [-1.0], [1.0], [2.0]] * 25)
    >>> SGDClassifier(batch_size=10).fit(X, [0, 0, 1, 1] * 25).predict([[-3.0], [3.0]])
    array([0, 1])
    """

    def __init__(
        self,
        *,
        alpha: float = 1e-4,
        class_weight: dict[Any, float] | str | None = None,
        fit_intercept: bool = True,
        warm_start: bool = False,
        data_bits: int = 32,
        workers: int = 1,
        threads: int = 0,
        compress: str | tuple[str, str] = "raw",
        raw_below: int = 65536,
        shard: str = "rows",
        sync_every: int = 1,
        on_failure: str = "raise",
        feedback: str = "auto",
        weight_bits: int = 32,
        batch_size: int = 256,
        learning_rate: float | str = "auto",
        momentum: float = 0.9,
        nesterov: bool = False,
        average: bool | int = False,
        max_iter: int | None = None,
        tol: float = 1e-4,
        budget: Budget | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.alpha = alpha
        self.class_weight = class_weight
        self.fit_intercept = fit_intercept
        self.warm_start = warm_start
        self.data_bits = data_bits
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
        self.nesterov = nesterov
        self.average = average
        self.max_iter = max_iter
        self.tol = tol
        self.budget = budget
        self.checkpoint = checkpoint
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None, *, init: Any = None) -> Self:
        """Fit to rows, forgetting what was learnt before; as `LogisticRegression.fit`."""
        known = known_before(self, init)
        labels = self._labels(X, y, sample_weight, None, reset=True)
        weight = labels.inputs.weight
        total = len(labels.inputs.y) if weight is None else weight.sum()
        found = self._fit_labels(labels, self.alpha * total, "sgd", "mini-batches", known)
        self._warn_if_short(found, "sgd", len(labels.inputs.y))
        self._remember(found, len(labels.inputs.y))
        return self

    def partial_fit(
        self, X: Any, y: ArrayLike, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Make one pass over these rows, from where the last call ended, with a constant step.

        Parameters
        ----------
        X, y, sample_weight
            Some rows, labels or probabilities of all classes; units and step come from the rows of the first
            call. A model that was loaded goes on from its coefficients; units and step are found anew.
        classes : array[k], optional
            All classes; needed in the first call on a model that was neither fitted nor loaded.
        """
        begun = hasattr(self, "coef_")
        if not begun and classes is None:
            raise ValueError("classes must be given in the first call of partial_fit")
        all_of_them = np.unique(np.asarray(classes)) if classes is not None else self.classes_
        if begun and not np.array_equal(all_of_them, self.classes_):
            raise ValueError(
                f"classes {all_of_them.tolist()} are not those of the first call, {self.classes_.tolist()}"
            )
        labels = self._labels(X, y, sample_weight, all_of_them, reset=not begun)
        k = 1 if labels.loss == "logistic" else len(all_of_them)
        known = self._known()
        known = known if known is None else known.for_classes(all_of_them)
        found = self._pass_over(labels.inputs, labels.loss, np.full(k, self.alpha), 1.0, known)
        self._keep_classes(found.w, found.intercept, (found.scatter, found.objective.mean), labels)
        self.n_iter_ = self.n_iter_ + 1 if hasattr(self, "n_iter_") else np.array([1])
        self.solver_ = f"sgd: pass {self.n_iter_[0]}"
        self.bill_ = bill(found.usage)
        return self

    def _labels(self, X: Any, y: Any, sample_weight: Any, classes: Any, *, reset: bool) -> Labels:
        if not (is_number(self.alpha) and self.alpha >= 0):
            raise ValueError(f"alpha must be a number >= 0, got {self.alpha!r}")
        self._check_options()
        return training_labels(self, X, y, sample_weight, self.class_weight, classes=classes, reset=reset)
