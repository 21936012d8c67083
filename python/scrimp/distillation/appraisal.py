"""What distillation bought: scores, fidelity, bytes, latency and bills, side by side, and a plain verdict."""

from __future__ import annotations

import pickle
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from scrimp.cost import Bill
from scrimp.distillation.soft_targets import row_count, rows_of

BATCH_ROWS = 8_192
SINGLE_CALLS = 30
BATCH_CALLS = 5
CLEAR = 2.0  # standard errors


@dataclass(frozen=True, slots=True)
class Side:
    """One model of a distillation.

    Attributes
    ----------
    score : float or None
        R² or accuracy on the test rows.
    nbytes : int or None
        Size of the saved model, its features included: its own `save` where it has one, else its pickle
        (measured, never kept). None for a bare
        callable, and where neither is possible.
    us_per_row : float or None
        Microseconds a row, from raw row to answer, features included: median over batches of up to
        8,192 rows.
    us_single : float or None
        Microseconds for one row alone.
    bill : Bill or None
        For the teacher: answering the training rows. For the student: its fit.
    """

    score: float | None = None
    nbytes: int | None = None
    us_per_row: float | None = None
    us_single: float | None = None
    bill: Bill | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict, for JSON."""
        return {
            "score": self.score,
            "nbytes": self.nbytes,
            "us_per_row": self.us_per_row,
            "us_single": self.us_single,
            "bill": None if self.bill is None else self.bill.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class DistillationReport:
    """Teacher, student, and the same student trained on the labels alone.

    Attributes
    ----------
    metric : str
        `"r2"` or `"accuracy"`.
    alpha, temperature : float
    fidelity : float or None
        How well the student imitates the teacher on the test rows: R² against its predictions, or the share
        of equal classes.
    teacher, student : Side
    hard : Side or None
        The twin that saw only labels; there is one if labels and test labels were given.
    gain : tuple of two floats, or None
        Mean improvement of the loss a test row over the twin (squared error, or share of errors), and its
        standard error; rows are paired.
    from_cache : bool
        Whether the soft targets came from the cache.
    """

    metric: str
    alpha: float
    temperature: float
    fidelity: float | None
    teacher: Side
    student: Side
    hard: Side | None
    gain: tuple[float, float] | None
    from_cache: bool

    @property
    def verdict(self) -> str:
        """Whether distillation helped, in one sentence; a difference below two standard errors is none."""
        if self.gain is None or self.hard is None:
            return "not compared with hard labels: that needs y, X_test and y_test"
        mean, error = self.gain
        scores = f"{self.metric} {self.student.score:.4f} against {self.hard.score:.4f} from the labels alone"
        if mean > CLEAR * error:
            return f"distillation helps: {scores}"
        if mean < -CLEAR * error:
            return f"distillation does not help here: {scores}"
        return f"distillation makes no clear difference: {scores}"

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict, for JSON."""
        return {
            "metric": self.metric,
            "alpha": self.alpha,
            "temperature": self.temperature,
            "fidelity": self.fidelity,
            "teacher": self.teacher.to_dict(),
            "student": self.student.to_dict(),
            "hard": None if self.hard is None else self.hard.to_dict(),
            "gain": self.gain,
            "from_cache": self.from_cache,
            "verdict": self.verdict,
        }

    def __str__(self) -> str:
        sides = {"teacher": self.teacher, "student": self.student, "labels only": self.hard}
        head = f"{'':<12}{self.metric:>9}{'bytes':>13}{'us/row':>9}{'us alone':>10}{'dollars':>13}"
        lines = [_line(name, side) for name, side in sides.items() if side is not None]
        fidelity = "" if self.fidelity is None else f"fidelity to the teacher: {self.fidelity:.4f}\n"
        return "\n".join((head, *lines)) + f"\n{fidelity}{self.verdict}"


def appraise(model: Any, X: Any, *, score: float | None, bill: Bill | None) -> Side:
    """Measure bytes and latency of a model; `X` are the rows to time it on, or None."""
    nbytes = model_nbytes(model)
    if X is None or row_count(X) == 0:
        return Side(score=score, nbytes=nbytes, bill=bill)
    ask = getattr(model, "predict", model)
    batch, single = rows_of(X, slice(0, BATCH_ROWS)), rows_of(X, slice(0, 1))
    per_row = _median_us(ask, batch, BATCH_CALLS) / row_count(batch)
    return Side(score, nbytes, per_row, _median_us(ask, single, SINGLE_CALLS), bill)


def model_nbytes(model: Any) -> int | None:
    """Size of a saved model in bytes; a pipeline is the sum of its steps; None where it cannot be told."""
    if not hasattr(model, "predict") and not hasattr(model, "transform"):
        return None
    if hasattr(model, "steps"):
        return sum(model_nbytes(step) or 0 for _, step in model.steps)
    if hasattr(model, "save"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            model.save(path)
            return path.stat().st_size
    try:
        return len(pickle.dumps(model))
    except (pickle.PicklingError, AttributeError, TypeError):  # as pickle refuses lambdas, locals, locks
        return None


def r2(y: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Share of the variance that is explained: 1 − Σ(y−p)²/Σ(y−ȳ)², over all outputs together.

    Examples
    --------
    >>> r2([0.0, 1.0, 2.0], [0.0, 1.0, 1.0])
    0.5
    """
    truth, guess = np.asarray(y, np.float64), np.asarray(predicted, np.float64).reshape(np.shape(y))
    total = float(((truth - truth.mean(axis=0)) ** 2).sum())
    left = float(((truth - guess) ** 2).sum())
    if total == 0:
        return 1.0 if left == 0 else 0.0
    return 1.0 - left / total


def paired_gain(losses: npt.ArrayLike, losses_of_twin: npt.ArrayLike) -> tuple[float, float]:
    """Mean and standard error of how much lower `losses` are, row by row.

    Examples
    --------
    >>> paired_gain([1.0, 1.0], [2.0, 2.0])
    (1.0, 0.0)
    """
    gain = np.asarray(losses_of_twin, np.float64) - np.asarray(losses, np.float64)
    error = float(gain.std(ddof=1) / np.sqrt(gain.size)) if gain.size > 1 else float("inf")
    return float(gain.mean()), error


def _median_us(ask: Any, rows: Any, calls: int) -> float:
    ask(rows)
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        ask(rows)
        times.append(time.perf_counter() - start)
    return median(times) * 1e6


def _line(name: str, side: Side) -> str:
    cells = (
        _cell(side.score, 9, ".4f"),
        _cell(side.nbytes, 13, ",d"),
        _cell(side.us_per_row, 9, ".3g"),
        _cell(side.us_single, 10, ".3g"),
        _cell(None if side.bill is None else side.bill.total_usd, 13, ".3g"),
    )
    return f"{name:<12}" + "".join(cells)


def _cell(value: float | None, width: int, form: str) -> str:
    return f"{'–' if value is None else format(value, form):>{width}}"
