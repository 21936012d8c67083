"""`distill`: the one call. It mixes the targets, fits a copy of the student and measures both sides."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from scrimp.cost import Bill, Meter, Prices, bill
from scrimp.distillation.appraisal import DistillationReport, Side, appraise, paired_gain, r2
from scrimp.distillation.mixing import check_alpha, mixed_targets, soften, trust_in_teacher
from scrimp.distillation.soft_targets import SoftTargets, row_count, soft_targets
from scrimp.usage import Usage


@dataclass(frozen=True, slots=True)
class Distilled:
    """A trained student and what there is to say about it."""

    student: Any
    report: DistillationReport


def distill(
    teacher: Any,
    student: Any,
    X: Any,
    y: npt.ArrayLike | None = None,
    *,
    alpha: float = 1.0,
    temperature: float = 1.0,
    teacher_trust: str | float | npt.ArrayLike | None = None,
    cache: str | os.PathLike[str] | None = None,
    cache_key: str | None = None,
    X_test: Any = None,
    y_test: npt.ArrayLike | None = None,
    prices: Prices | None = None,
) -> Distilled:
    """Train a student on what a teacher says.

    Parameters
    ----------
    teacher : estimator or callable
        For numbers `predict(X)` or `teacher(X)`; for classes `predict_proba(X)`, or a callable that returns
        probabilities. Its columns are `teacher.classes_`, else the sorted labels, else 0, 1, ….
    student : estimator with the interface of scikit-learn
        A copy is fitted; a pipeline is fine. A classifier makes this a classification; if it has a method
        `fit_soft(X, probabilities, classes)`, that is called, else rows are repeated, see `alpha`.
    X : array or data frame, n rows
        What teacher and student read. The teacher is asked in chunks.
    y : array of n, optional
        Labels. Without them `alpha` must be 1.
    alpha : float
        Weight of the teacher. Numbers: (1−α)(s−y)² + αΦ(s−t)², folded into one weighted regression
        (`mixed_targets`). Classes: cross-entropy against (1−α)·onehot(y) + α·p_T, each row repeated
        once a class with that weight.
    temperature : float
        T of the teacher's classes, p_T ∝ p^(1/T). The student learns p_T itself: no T² and no dividing of its
        own logits, so its probabilities are as soft as p_T; its ranking of classes is what counts.
    teacher_trust : None, "auto", float or array of n
        Φ: 1 in every row; 1 − e/η with η = max e − min e ("auto") or the given η, e the squared error of the
        teacher on `y`; or Φ itself. Numbers only.
    cache, cache_key
        Folder of soft targets, see `soft_targets`.
    X_test, y_test : optional
        Rows for fidelity and latency, labels for scores. With `y` too, a twin of the student is fitted on the
        labels alone, and the report says whether distillation helped.
    prices : Prices, optional
        For the bills.

    Returns
    -------
    Distilled
        `.student`, fitted, and `.report`.

    Raises
    ------
    ValueError
        Arguments that contradict each other, or a teacher whose answers do not fit.
    TypeError
        If the weights differ between rows and the student's `fit` takes none.

    Examples
    --------
    >>> from sklearn.linear_model import LinearRegression
    >>> X = np.linspace(0, 1, 100)[:, None]
    >>> r = distill(lambda rows: 3 * rows[:, 0] + 1, LinearRegression(), X, X_test=X)
    >>> round(float(r.student.coef_[0]), 6), round(r.report.fidelity, 6)
    (3.0, 1.0)
    """
    from sklearn.base import is_classifier

    check_alpha(alpha, y)
    _check_rows(X, y, "X", "y")
    if y_test is not None and X_test is None:
        raise ValueError("y_test needs X_test")
    if X_test is not None:
        _check_rows(X_test, y_test, "X_test", "y_test")
    task = (_Classes if is_classifier(student) else _Numbers)(teacher, y, alpha, temperature, teacher_trust)
    with Meter() as asking:
        soft = soft_targets(teacher, X, method=task.method, cache=cache, cache_key=cache_key)
    fitted, spent = _fitted(student, lambda model: task.teach(model, X, soft))
    twin = None
    if y is not None and y_test is not None:
        twin = _fitted(student, lambda model: model.fit(X, np.asarray(y)))
    bills = bill(asking.usage, prices), bill(spent, prices)
    return Distilled(fitted, _report(task, soft, fitted, twin, X_test, y_test, bills, prices))


class _Numbers:
    """Regression: targets mix into one target and one weight."""

    metric = "r2"
    method = "predict"

    def __init__(self, teacher: Any, y: Any, alpha: float, temperature: float, trust: Any) -> None:
        if temperature != 1.0:
            raise ValueError(f"temperature softens classes; for numbers it must be 1, got {temperature!r}")
        if (trust is not None and np.ndim(trust) == 0) and y is None:
            raise ValueError("teacher_trust compares the teacher with labels: it needs y, or Φ as an array")
        self.teacher, self.y, self.alpha, self.temperature, self.trust = teacher, y, alpha, temperature, trust

    def teach(self, model: Any, X: Any, soft: SoftTargets) -> None:
        """Fit on mixed targets; rows that weigh nothing are left out."""
        target, weight = mixed_targets(soft.values, self.y, self.alpha, self._phi(soft.values))
        used = weight > 0
        if not used.any():
            raise ValueError("teacher_trust leaves no row with any weight: lower alpha or raise η")
        if not used.all():
            X, target, weight = _take(X, used), target[used], weight[used]
        model.fit(X, target, **_weight_argument(model, None if np.ptp(weight) == 0 else weight))

    def _phi(self, soft: npt.NDArray[np.float64]) -> npt.ArrayLike:
        if self.trust is None:
            return 1.0
        if np.ndim(self.trust) > 0:
            return _one_a_row(self.trust, len(soft))
        error = (soft - np.asarray(self.y, np.float64)) ** 2
        per_row = error.reshape(len(error), -1).mean(axis=1)
        if isinstance(self.trust, str):
            if self.trust != "auto":
                raise ValueError(f"teacher_trust: None, 'auto', a number or an array, got {self.trust!r}")
            return trust_in_teacher(per_row)
        return trust_in_teacher(per_row, float(self.trust))

    def losses(self, predicted: Any, y: Any) -> npt.NDArray[np.float64]:
        error = (np.asarray(predicted, np.float64).reshape(np.shape(y)) - np.asarray(y, np.float64)) ** 2
        return np.asarray(error.reshape(len(error), -1).mean(axis=1))

    def score(self, predicted: Any, y: Any) -> float:
        return r2(y, predicted)

    def answers(self, X: Any) -> Any:
        return getattr(self.teacher, "predict", self.teacher)(X)


class _Classes:
    """Classification: the student learns the mixed probabilities, by itself or from repeated rows."""

    metric = "accuracy"
    method = "predict_proba"

    def __init__(self, teacher: Any, y: Any, alpha: float, temperature: float, trust: Any) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature!r}")
        if trust is not None:
            raise ValueError("teacher_trust is for numbers: the squared error of a class means nothing")
        self.teacher, self.y, self.alpha, self.temperature = teacher, y, alpha, temperature

    def teach(self, model: Any, X: Any, soft: SoftTargets) -> None:
        """Fit on mixed probabilities; a model that cannot read them gets each row once a class, weighted."""
        classes = self._classes(soft.values)
        probabilities = soften(soft.values, self.temperature)
        hard = None if self.y is None else self._one_hot(np.asarray(self.y), classes)
        mixed, _ = mixed_targets(probabilities, hard, self.alpha)
        if hasattr(model, "fit_soft"):
            model.fit_soft(X, mixed, classes)
            return
        row, column = np.nonzero(mixed > 0)
        model.fit(_take(X, row), classes[column], **_weight_argument(model, mixed[row, column]))

    def _one_hot(self, y: npt.NDArray[Any], classes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        strange = np.setdiff1d(y, classes)
        if len(strange) and self.alpha < 1:
            raise ValueError(f"y holds classes that the teacher does not know: {strange.tolist()}")
        return np.asarray(y[:, None] == classes, np.float64)

    def _classes(self, probabilities: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        if probabilities.ndim != 2:
            raise ValueError(f"teacher: classes need probabilities (n, k), got {probabilities.shape}")
        k = probabilities.shape[1]
        known = getattr(self.teacher, "classes_", None)
        if known is None:
            known = np.arange(k) if self.y is None else np.unique(np.asarray(self.y))
        if len(known) != k:
            raise ValueError(f"teacher: {k} columns of probabilities for {len(known)} classes {known}")
        if (probabilities < 0).any() or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
            raise ValueError("teacher: its answers are no probabilities: rows of numbers >= 0 that sum to 1")
        self.known = np.asarray(known)
        return self.known

    def losses(self, predicted: Any, y: Any) -> npt.NDArray[np.float64]:
        return np.asarray(np.not_equal(predicted, y), np.float64)

    def score(self, predicted: Any, y: Any) -> float:
        return 1.0 - float(self.losses(predicted, y).mean())

    def answers(self, X: Any) -> Any:
        ask = getattr(self.teacher, "predict_proba", self.teacher)
        return np.take(self.known, np.asarray(ask(X)).argmax(axis=1))


def _report(
    task: _Numbers | _Classes,
    soft: SoftTargets,
    fitted: Any,
    twin: tuple[Any, Usage] | None,
    X_test: Any,
    y_test: Any,
    bills: tuple[Bill, Bill],
    prices: Prices | None,
) -> DistillationReport:
    models = {"teacher": task.answers, "student": fitted.predict}
    if twin is not None:
        models["hard"] = twin[0].predict
    answers = {} if X_test is None else {name: ask(X_test) for name, ask in models.items()}

    def score(name: str) -> float | None:
        return None if y_test is None else task.score(answers[name], y_test)

    gain = hard = None
    if twin is not None:
        gain = paired_gain(task.losses(answers["student"], y_test), task.losses(answers["hard"], y_test))
        hard = Side(score("hard"), bill=bill(twin[1], prices))
    return DistillationReport(
        metric=task.metric,
        alpha=task.alpha,
        temperature=task.temperature,
        fidelity=task.score(answers["student"], answers["teacher"]) if answers else None,
        teacher=appraise(task.teacher, X_test, score=score("teacher"), bill=bills[0]),
        student=appraise(fitted, X_test, score=score("student"), bill=bills[1]),
        hard=hard,
        gain=gain,
        from_cache=soft.from_cache,
    )


def _fitted(student: Any, fit: Callable[[Any], object]) -> tuple[Any, Usage]:
    """Fit a copy; its usage holds the bytes that the student's own bill counted."""
    from sklearn.base import clone

    model = clone(student)
    with Meter() as meter:
        fit(model)
    own = getattr(getattr(model, "steps", [(None, model)])[-1][1], "bill_", None)
    if own is None:
        return model, meter.usage
    spent = meter.usage + replace(own.usage, wall_s=0.0, cpu_s=0.0, joules=0.0)
    return model, spent


def _weight_argument(model: Any, weight: Any) -> dict[str, Any]:
    """Name the weights as the model's `fit` wants them; a pipeline wants the name of its last step."""
    if weight is None:
        return {}
    from sklearn.utils.validation import has_fit_parameter

    name, last = getattr(model, "steps", [("", model)])[-1]
    if not has_fit_parameter(last, "sample_weight"):
        raise TypeError(f"{type(last).__name__}.fit takes no sample_weight, but rows weigh differently")
    return {f"{name}__sample_weight" if name else "sample_weight": weight}


def _one_a_row(trust: Any, n: int) -> npt.NDArray[np.float64]:
    phi = np.asarray(trust, np.float64)
    if phi.shape != (n,):
        raise ValueError(f"teacher_trust as an array must have one value a row ({n},), got {phi.shape}")
    return phi


def _take(X: Any, index: npt.NDArray[Any]) -> Any:
    """Return some rows of an array, a list, or a frame of any library."""
    from sklearn.utils import _safe_indexing

    return _safe_indexing(X, np.flatnonzero(index) if index.dtype == bool else index)


def _check_rows(X: Any, y: Any, x_name: str, y_name: str) -> None:
    if row_count(X) == 0:
        raise ValueError(f"{x_name} has no rows")
    if y is not None and len(np.asarray(y)) != row_count(X):
        raise ValueError(f"{x_name} has {row_count(X)} rows and {y_name} {len(np.asarray(y))}")
