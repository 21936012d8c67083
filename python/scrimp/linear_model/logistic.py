"""LogisticRegression: two classes or many, hard labels or soft targets."""

from __future__ import annotations

import os
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from scrimp.cost import Budget, bill
from scrimp.linear_model.choice import choose_gradient_solver
from scrimp.linear_model.docs import with_options
from scrimp.linear_model.gradient_fit import Found, GradientFit, is_narrow
from scrimp.linear_model.inputs import Inputs, Labels, prediction_rows, training_labels
from scrimp.linear_model.persistence import Persistent
from scrimp.linear_model.transfer import Known, for_rows, known_before


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
        self._keep_classes(found, labels)
        self.n_iter_ = np.array([max(1, found.n_iter)])  # the pass that found a sample's solution good
        self.solver_ = f"{solver}: {reason}; {found.how}"
        self.bill_ = bill(found.usage)
        return found

    def _keep_classes(self, found: Found, labels: Labels) -> None:
        self.classes_ = labels.classes
        values = self._store(found.w, found.scatter, is_narrow(labels.inputs.X))
        mean = found.objective.mean
        intercept = found.intercept + (found.w.T - values) @ mean
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
    """Logistic regression: minimizes Σ sᵢ·L(yᵢ, xᵢ·w + b) + ½·α‖w‖².

    L is log(1 + exp(−±z)) for two classes, cross-entropy of the softmax for more. α is 1/C of scikit-learn.

    Parameters
    ----------
    alpha : float
        Penalty.
    C : float, optional
        1/α, scikit-learn's name; overrides alpha.
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
        class_weight: dict[Any, float] | str | None = None,
        fit_intercept: bool = True,
        warm_start: bool = False,
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
        tol: float = 1e-4,
        budget: Budget | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.alpha = alpha
        self.C = C
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

    def fit(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None, *, init: Any = None
    ) -> Self:
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
        alpha = self.alpha if self.C is None else 1 / self.C
        if not 0 <= alpha < np.inf:
            raise ValueError(
                f"alpha must be a number >= 0, and C above 0, got alpha={self.alpha!r}, C={self.C!r}"
            )
        labels = training_labels(self, X, y, sample_weight, self.class_weight)
        solver, reason = choose_gradient_solver(self.solver, self.sync_every)
        found = self._fit_labels(labels, alpha, solver, reason, known)
        self._warn_if_short(found, solver, len(labels.inputs.y))
        return self


__all__ = ["Classifier", "Inputs", "LogisticRegression"]
