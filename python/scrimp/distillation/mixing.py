"""How labels and the teacher's targets become one target and one weight a row. Pure functions of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def trust_in_teacher(error: npt.ArrayLike, eta: float | None = None) -> Array:
    """Trust each row of the teacher by its squared error: Φ = clip(1 − e/η, 0, 1).

    Parameters
    ----------
    error : float[n]
        Squared errors e of the teacher against the labels.
    eta : float, optional
        Error at which trust ends. Default max(e) − min(e), as in Saputra et al., "Distilling knowledge
        from a deep pose regressor network", ICCV 2019. η = 0 (all errors equal) gives Φ = 1.

    Returns
    -------
    float64[n]

    Examples
    --------
    >>> trust_in_teacher([0.0, 1.0, 4.0]).tolist()
    [1.0, 0.75, 0.0]
    >>> trust_in_teacher([2.0, 2.0]).tolist()
    [1.0, 1.0]
    """
    e = np.asarray(error, np.float64)
    if e.size == 0:
        return np.ones_like(e)
    if eta is None:
        eta = float(e.max() - e.min())
    if not (np.isfinite(eta) and eta >= 0):
        raise ValueError(f"teacher_trust: eta must be finite and at least 0, got {eta!r}")
    return np.ones_like(e) if eta == 0 else np.clip(1.0 - e / eta, 0.0, 1.0)


def mixed_targets(
    soft: npt.ArrayLike, hard: npt.ArrayLike | None, alpha: float = 1.0, trust: npt.ArrayLike = 1.0
) -> tuple[Array, Array]:
    """Fold hard labels, soft targets and trust into one weighted regression.

    For the squared loss, (1−α)(s−y)² + αΦ(s−t)² equals, up to a constant that the student s cannot change,
    w·(s − v)² with w = (1−α) + αΦ and v = ((1−α)y + αΦt)/w. So any regressor that takes weights can learn
    from both at once, at the cost of one.

    Parameters
    ----------
    soft : float[n] or float[n, k]
        Targets t of the teacher.
    hard : float[n] or float[n, k], optional
        Labels y; None needs α = 1.
    alpha : float
        Weight of the teacher, 0 … 1.
    trust : float[n] or float
        Φ, 0 … 1.

    Returns
    -------
    target : float64, shape of `soft`
        v; where the weight is 0 it is t, and means nothing.
    weight : float64[n]

    Examples
    --------
    >>> target, weight = mixed_targets([1.0, 1.0], [0.0, 0.0], alpha=0.5, trust=[1.0, 0.0])
    >>> target.tolist(), weight.tolist()
    ([0.5, 0.0], [1.0, 0.5])
    """
    check_alpha(alpha, hard)
    t = np.asarray(soft, np.float64)
    phi = np.broadcast_to(np.asarray(trust, np.float64), t.shape[:1])
    if not ((phi >= 0) & (phi <= 1)).all():
        raise ValueError("teacher_trust must lie between 0 and 1 in every row")
    weight = (1.0 - alpha) + alpha * phi
    if hard is None:
        return t, weight
    y = np.asarray(hard, np.float64)
    if y.shape != t.shape:
        raise ValueError(f"y must have the shape of the teacher's targets {t.shape}, got {y.shape}")
    over_columns: tuple[Any, ...] = (slice(None), *(None,) * (t.ndim - 1))
    total = (1.0 - alpha) * y + alpha * phi[over_columns] * t
    return np.divide(total, weight[over_columns], out=t.copy(), where=weight[over_columns] > 0), weight


def soften(probabilities: npt.ArrayLike, temperature: float) -> Array:
    """Raise class probabilities to 1/T and normalise: softmax(z/T) for the logits z behind them.

    Examples
    --------
    >>> np.round(soften([[0.9, 0.1]], 2.0), 3).tolist()
    [[0.75, 0.25]]
    """
    p = np.asarray(probabilities, np.float64)
    if temperature == 1.0:
        return p
    powered = (p / p.max(axis=1, keepdims=True)) ** (1.0 / temperature)
    return np.asarray(powered / powered.sum(axis=1, keepdims=True))


def check_alpha(alpha: float, labels: object | None) -> None:
    """Raise ValueError unless 0 ≤ alpha ≤ 1, and 1 where there are no labels."""
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha (the weight of the teacher) must lie between 0 and 1, got {alpha!r}")
    if labels is None and alpha != 1.0:
        raise ValueError(f"alpha must be 1 without labels (y=None): there is nothing to mix, got {alpha!r}")
