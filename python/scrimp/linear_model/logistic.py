"""LogisticRegression: two classes or many, hard labels or soft targets."""

from __future__ import annotations

import os
import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from scrimp.cost import Budget, bill
from scrimp.linear_model.choice import choose_gradient_solver, choose_sparse_solver
from scrimp.linear_model.docs import with_options
from scrimp.linear_model.gradient_fit import Found, GradientFit, is_narrow
from scrimp.linear_model.inputs import Inputs, Labels, prediction_rows, training_labels
from scrimp.linear_model.persistence import Persistent
from scrimp.linear_model.sparse_fit import fit_sparse_logistic
from scrimp.linear_model.transfer import Known, for_rows, known_before
from scrimp.train.options import is_number


class Classifier(GradientFit, Persistent, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Linear classifiers by logistic loss (two classes) or softmax (more)."""

    FITTED = ("solver_", "n_iter_", "n_features_in_")

    def _fit_labels(
        self, labels: Labels, alpha: float, solver: str, reason: str, known: Known | None = None
    ) -> Found:
        self._check_options()
        inputs = labels.inputs
        k = 1 if labels.loss == "logistic" else len(labels.classes)
        known = for_rows(known, self, inputs.X.shape[1])
        known = known if known is None else known.for_classes(labels.classes)
        found = self._by_loss(inputs, labels.loss, np.full(k, alpha), solver, bias=True, known=known)
        self._keep_classes(found.w, found.intercept, (found.scatter, found.objective.mean), labels)
        self.n_iter_ = np.array([max(1, found.n_iter)])  # the pass that found a sample's solution good
        self.solver_ = f"{solver}: {reason}; {found.how}"
        self.bill_ = bill(found.usage)
        return found

    def _keep_classes(
        self,
        w: NDArray[np.float64],
        intercept: NDArray[np.float64],
        columns: tuple[NDArray[np.float64], NDArray[np.float64]],
        labels: Labels,
    ) -> None:
        """Store coefficients of [d, k]; `columns` are the curvature and the mean of each column."""
        self.classes_ = labels.classes
        scatter, mean = columns
        values = self._store(w, scatter, is_narrow(labels.inputs.X))
        intercept = intercept + (w.T - values) @ mean
        if len(intercept) > 1:
            intercept = intercept - intercept.mean()  # softmax does not see a number added to all
        self._set_shape(self._coefficients.values, intercept, False)

    def _set_shape(self, values: NDArray[Any], intercept: NDArray[np.float64], vector: bool) -> None:
        assert not vector
        self.coef_ = values
        self.intercept_ = intercept if self.fit_intercept else np.zeros(len(values))

    def decision_function(self, X: Any) -> NDArray[Any]:
        """Return the logit of the second class, [n], or the logits of all classes, [n, k]."""
        check_is_fitted(self)
        scores = self._linear(prediction_rows(self, X))
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each row."""
        scores = self.decision_function(X)
        index = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
        return np.asarray(self.classes_[index])

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the probabilities of all classes, [n, k]."""
        return np.asarray(np.exp(self.predict_log_proba(X)))

    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Return the logarithms of the probabilities, without under- or overflow."""
        scores = self.decision_function(X)
        logits = np.column_stack([np.zeros_like(scores), scores]) if scores.ndim == 1 else scores
        logits = logits - logits.max(axis=1, keepdims=True)
        return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))


@with_options
class LogisticRegression(Classifier):
    """Logistic regression: minimizes Σ sᵢ·L(yᵢ, xᵢ·w + b) + α·(ρ‖w‖₁ + ½·(1 − ρ)‖w‖²).

    L is log(1 + exp(−±z)) for two classes, cross-entropy of the softmax for more. α is 1/C of scikit-learn,
    ρ is `l1_ratio`.

    Parameters
    ----------
    alpha : float
        Penalty.
    C : float, optional
        1/α, scikit-learn's name; overrides alpha.
    l1_ratio : float
        ρ in 0 … 1. Above 0 coefficients become 0, and the solver is "proximal": the problem is solved on a
        sample, then proximal Newton steps (proximal gradients where there are more than 1,024 coefficients)
        on all rows, a pass each, until the proximal gradient is `tol`, relative; the same bits for every
        number of workers and threads. `max_iter` counts passes (1000).
    class_weight : dict, "balanced" or None
        Weights of the classes, times the sample weights.
    warm_start : bool
        Start from the last fit.
    <options>
    classes_ : array[k]

    Examples
    --------
    >>> X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    >>> model = LogisticRegression().fit(X, ["no", "no", "yes", "yes"])
    >>> model.predict([[-3.0], [3.0]]).tolist()
    ['no', 'yes']
    >>> soft = LogisticRegression().fit(X, [[0.9, 0.1], [0.7, 0.3], [0.4, 0.6], [0.1, 0.9]])
    >>> soft.predict_proba([[0.0]]).round(1).tolist()
    [[0.5, 0.5]]
    """

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        C: float | None = None,
        l1_ratio: float = 0.0,
        class_weight: dict[Any, float] | str | None = None,
        fit_intercept: bool = True,
        warm_start: bool = False,
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
        tol: float = 1e-4,
        budget: Budget | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.alpha = alpha
        self.C = C
        self.l1_ratio = l1_ratio
        self.class_weight = class_weight
        self.fit_intercept = fit_intercept
        self.warm_start = warm_start
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
        """Fit to rows.

        Parameters
        ----------
        X : array[n, d], frame, or QuantizedMatrix
        y : array[n] of labels, or float array[n, k] of probabilities
            Soft targets: rows of k ≥ 2 numbers in 0 … 1 that sum to 1; the classes are then 0 … k − 1.
        sample_weight : array[n], optional
        init : fitted linear model or path, optional
            Start there: columns are matched by name where both have names; new ones start at 0.

        Returns
        -------
        self
        """
        known = known_before(self, init)
        self._check_options()
        if self.C is not None and not (is_number(self.C) and self.C > 0):
            raise ValueError(f"C must be a number above 0, got {self.C!r}")
        alpha = self.alpha if self.C is None else 1 / self.C
        if not (is_number(alpha) and alpha >= 0):
            raise ValueError(f"alpha must be a number >= 0, got {alpha!r}")
        if not (isinstance(self.l1_ratio, int | float | np.number) and 0 <= self.l1_ratio <= 1):
            raise ValueError(f"l1_ratio must be a number in 0 … 1, got {self.l1_ratio!r}")
        labels = training_labels(self, X, y, sample_weight, self.class_weight)
        if alpha * self.l1_ratio > 0:
            return self._fit_sparse(labels, alpha, known)
        solver, reason = choose_gradient_solver(self.solver, self.sync_every)
        found = self._fit_labels(labels, alpha, solver, reason, known)
        self._warn_if_short(found, solver, len(labels.inputs.y))
        return self

    def _takes_planes(self) -> bool:
        return self.solver in ("auto", "lbfgs") and self.sync_every == 1 and not self.l1_ratio

    def _fit_sparse(self, labels: Labels, alpha: float, known: Known | None) -> Self:
        """Fit with an l1 penalty."""
        self._check_options()
        choice = choose_sparse_solver(self.solver, self.compress, self.shard, self.sync_every)
        inputs, k = labels.inputs, 1 if labels.loss == "logistic" else len(labels.classes)
        known = for_rows(known, self, inputs.X.shape[1])
        start = None if known is None else known.for_classes(labels.classes)
        found, usage = fit_sparse_logistic(self, inputs, labels.loss, k, (alpha, self.l1_ratio), start)
        if found.error > self.tol:
            text = f"stopped after {found.n_iter} passes at a relative proximal gradient of {found.error:.1e}"
            hint = f"above tol={self.tol:g}: raise max_iter or alpha"
            warnings.warn(f"{text}, {hint}", ConvergenceWarning, stacklevel=3)
        intercept = found.y_mean - found.mean @ found.w
        self._keep_classes(found.w, intercept, (found.scatter, found.mean), labels)
        self.n_iter_ = np.array([found.n_iter])
        self.solver_ = f"{choice.solver}: {choice.reason}; {found.how}"
        self.bill_ = bill(usage)
        return self


__all__ = ["Classifier", "Inputs", "LogisticRegression"]
