"""Newton's method on a sample: a start near the solution, and the Hessian there as units for the full fit.

Few rows, float64, dense: what this finds on 8,192 rows saves L-BFGS most of its passes over all of them,
because the curvature of logistic losses at the solution is far from that at 0 (Byrd et al., 2011, on
subsampled Hessians).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrimp.matrix.blas import one_thread
from scrimp.train.dense import Factor, Matrix

MAX_STEPS = 30
FIRST_ROWS = 2048  # of the sample, on which Newton's method begins
ROUGH = 0.01  # decrease of the mean loss a coefficient and row that is not worth a step on a sample
LIFT = 1e-9  # of the diagonal, so that directions without curvature (softmax has some) stay finite
SIZE = 1024  # coefficients of all outputs, at most


class Start(NamedTuple):
    """What the sample says.

    Attributes
    ----------
    theta : float64[d + bias, k]
        Minimum on the sample; the intercepts are the last row.
    units : Factor
        Of the Hessian there, of theta row by row.
    gradient_norm : float
        At theta = 0, in these units.
    """

    theta: Matrix
    units: Factor
    gradient_norm: float


class Sample(NamedTuple):
    """The mean loss of some rows with its l2 penalty, its gradient and Hessian."""

    z: Matrix  # [n, d + bias]
    y: Matrix  # [n, k]
    weight: Matrix  # [n], mean 1
    ridge: Matrix  # [d + bias]

    @classmethod
    def of(
        cls, z: Matrix, y: Matrix, weight: Matrix | None, loss: str, penalty: float, bias: bool, k: int
    ) -> Sample:
        """Take rows as `newton_start` does."""
        n, d = z.shape
        target = np.eye(k)[y[:, 0].astype(np.intp)] if loss == "softmax" and y.shape[1] == 1 else y
        share = np.ones(n) if weight is None else weight * (n / max(float(weight.sum()), 1e-300))
        ridge = np.append(np.full(d, penalty), np.zeros(1)) if bias else np.full(d, penalty)
        return cls(np.hstack([z, np.ones((n, 1))]) if bias else z, target, share, ridge)

    def some(self, every: int) -> Sample:
        """Take one row of every so many."""
        return Sample(self.z[::every], self.y[::every], self.weight[::every], self.ridge)

    def value(self, theta: Matrix) -> float:
        """Return the mean loss with its penalty."""
        f = self.z @ theta
        if f.shape[1] == 1:
            losses = np.logaddexp(0, f)[:, 0] - self.y[:, 0] * f[:, 0]
        else:
            losses = _log_sum_exp(f) - (self.y * f).sum(axis=1)
        return float(self.weight @ losses) / len(f) + 0.5 * float((self.ridge[:, None] * theta**2).sum())

    def probabilities(self, theta: Matrix) -> Matrix:
        """Return the probabilities of the second class, [n, 1], or of all, [n, k]."""
        f = self.z @ theta
        if f.shape[1] == 1:
            return np.asarray(np.exp(-np.logaddexp(0, -f)))
        return np.asarray(np.exp(f - _log_sum_exp(f)[:, None]))

    def gradient(self, theta: Matrix, p: Matrix) -> Matrix:
        """Return the gradient, [d + bias, k], where the probabilities are p."""
        error = (p - self.y) * self.weight[:, None] / len(p)
        return self.z.T @ error + self.ridge[:, None] * theta

    def hessian(self, p: Matrix) -> Matrix:
        """Return the Hessian of theta row by row, positive definite."""
        (n, d), k = self.z.shape, p.shape[1]
        out = np.zeros((d, k, d, k))
        for a in range(k):
            for b in range(a + 1):
                bend = p[:, a] * (1 - p[:, a] if a == b else p[:, b]) * self.weight / n
                half = np.sqrt(bend)[:, None] * self.z  # BLAS halves the work of a product with itself
                block = half.T @ half
                out[:, a, :, b] = out[:, b, :, a] = block if a == b else -block
        whole = out.reshape(d * k, d * k)
        diagonal = np.diag(whole)
        lift = LIFT * np.maximum(diagonal, diagonal.mean()) + np.repeat(self.ridge, k)
        return whole + np.diag(lift)


def newton_start(
    z: Matrix,
    y: Matrix,
    weight: Matrix | None,
    loss: str,
    penalty: float,
    bias: bool,
    k: int,
    is_whole: bool,
) -> Start | None:
    """Fit a sample of at most `SIZE` coefficients; None if it is singular.

    Parameters
    ----------
    z : float64[n, d]
        Centred rows.
    y : float64[n, 1] or float64[n, k]
        As `scrimp.gradient` takes it for the loss.
    weight : float64[n], optional
    loss : {"logistic", "softmax"}
    penalty : float
        λ of ½·λ‖w‖² against the mean loss.
    bias : bool
        Whether there are intercepts.
    k : int
        Outputs.
    is_whole : bool
        The sample is all rows: find the minimum to all digits. Else as far as a sample can tell.
    """
    n, d = z.shape
    sample = Sample.of(z, y, weight, loss, penalty, bias, k)
    with one_thread():  # many small products: threads would wait for each other
        theta, rough = np.zeros((d + bias, k)), ROUGH * (d + bias) * k / n
        if not is_whole and n > 2 * FIRST_ROWS > 16 * (d + bias) * k:
            near = _descend(sample.some(n // FIRST_ROWS), theta, rough)
            theta = theta if near is None else near.theta
        return _descend(sample, theta, 1e-14 if is_whole else rough)


def _descend(sample: Sample, theta: Matrix, enough: float) -> Start | None:
    first = sample.gradient(0 * theta, sample.probabilities(0 * theta))
    value, factor = sample.value(theta), None
    for _ in range(MAX_STEPS):
        p = sample.probabilities(theta)
        gradient = sample.gradient(theta, p)
        factor = Factor.of(sample.hessian(p))
        if factor is None:
            return None
        step = factor.solve(gradient.reshape(-1, 1)).reshape(theta.shape)
        decrement = float((gradient * step).sum())
        theta, lower = _backtrack(sample, theta, step, value, decrement)
        if decrement < enough or not lower < value:
            break
        value = lower
    assert factor is not None
    return Start(theta, factor, float(np.linalg.norm(factor.half_solve(first.reshape(-1, 1)))))


def _backtrack(
    sample: Sample, theta: Matrix, step: Matrix, value: float, decrement: float
) -> tuple[Matrix, float]:
    length = 1.0
    while length > 1e-6:
        trial = theta - length * step
        lower = sample.value(trial)
        if lower <= value - 1e-4 * length * decrement:
            return trial, lower
        length /= 2
    return theta, value


def _log_sum_exp(f: Matrix) -> NDArray[np.float64]:
    top = f.max(axis=1)
    total: NDArray[np.float64] = top + np.log(np.exp(f - top[:, None]).sum(axis=1))
    return total
