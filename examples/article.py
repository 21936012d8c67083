"""The four techniques on 1,000 rows with two features, y = X·[1, −1] + noise: python examples/article.py."""

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

import scrimp

K = 0.05  # step of the quantizer


def value_and_grad(w, rows):
    """Half the mean squared error, and its gradient: Xᵀ(Xw − y) / n."""
    X, y = rows
    error = X @ w - y
    return 0.5 * np.mean(error**2), X.T @ error / len(y)


def main():
    """Train, quantize, predict, distill."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 2))
    y = X @ [1.0, -1.0] + 0.1 * rng.normal(size=1000)

    # Split the data, give it to the workers, train in mini-batches; averaged gradients travel in int8.
    sgd = {"solver": "sgd", "learning_rate": 0.1, "batch_size": 50, "max_iter": 20}
    fit = scrimp.minimize(value_and_grad, np.zeros(2), (X, y), workers=2, compress="int8", raw_below=0, **sgd)
    print(f"2 workers: w = {fit.w.round(3)}, {fit.usage.wire_bytes:,} of {fit.usage.raw_bytes:,} bytes sent")

    # w′ = round(w / k)·k, and predictions from it.
    w_quantized = scrimp.quantize(fit.w, K)
    worst = np.abs(X @ w_quantized - X @ fit.w).max()
    print(f"quantized: w′ = {w_quantized}, predictions differ by at most {worst:.3f}")
    assert worst <= K / 2 * np.abs(X).sum(axis=1).max()

    # A large teacher learns from half of the labels; a small student learns from the teacher alone.
    teacher = HistGradientBoostingRegressor(max_iter=40).fit(X[:500], y[:500])
    distilled = scrimp.distill(teacher, LinearRegression(), X[:500], X_test=X[500:], y_test=y[500:])
    print(f"distilled: w = {distilled.student.coef_.round(3)}\n{distilled.report}")


if __name__ == "__main__":
    main()
