"""PyTorch on tensors that share the mapped rows."""

from types import SimpleNamespace

import numpy as np
import torch

from contestants import fits
from contestants.datasets import ALPHA, load, weights


def version() -> str:
    return torch.__version__


def gradient(threads: int, data: str, n: int, d: int, k: int = 1) -> dict:
    torch.set_num_threads(threads)
    rows = load(data, n, d, k)
    X, y, w = (torch.from_numpy(a) for a in (rows.X, rows.y, weights(d, k)))

    def run() -> None:
        X.T @ (X @ w - y)

    return {"torch fp32": run}


def gram(threads: int, data: str, n: int, d: int, k: int = 1) -> dict:
    torch.set_num_threads(threads)
    X = torch.from_numpy(load(data, n, d, k).X)
    columns = (X / X.abs().amax(dim=0) * 127).round_().to(torch.int8).T
    codes = columns.T.contiguous()

    def run() -> None:
        X.T @ X

    def int8() -> None:
        torch._int_mm(columns, codes)

    # Without VNNI torch has no kernel for it: a plain loop takes minutes.
    exact = {"torch _int_mm (wraps at 32 bits)": int8} if torch.cpu._is_vnni_supported() else {}
    return {"torch fp32": run, **exact}


class NormalEquations:
    """Centred fp32 normal equations."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def fit(self, X: np.ndarray, y: np.ndarray) -> SimpleNamespace:
        rows, targets = torch.from_numpy(X), torch.from_numpy(y).reshape(len(y), -1)
        mean, y_mean = rows.mean(dim=0).double(), targets.mean(dim=0).double()
        a = (rows.T @ rows).double() - len(X) * torch.outer(mean, mean)
        b = (rows.T @ targets).double() - len(X) * torch.outer(mean, y_mean)
        w = torch.linalg.solve(a + ALPHA * torch.eye(len(a), dtype=torch.float64), b)
        return SimpleNamespace(coef_=w.T.numpy(), intercept_=(y_mean - mean @ w).numpy())


CASES = {
    "gradient.gradient": gradient,
    "gram.gram": gram,
    "fit.ridge": fits.ridge({"torch fp32 normal equations": NormalEquations}),
}
