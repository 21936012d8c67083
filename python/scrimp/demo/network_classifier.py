"""The network of `scrimp.demo.network` with the face of scikit-learn, trained by `scrimp.minimize`.

The sharded loop is not for linear models alone.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin

from scrimp.cost import bill
from scrimp.demo.network import Weights, cross_entropy, log_probabilities, starting_weights
from scrimp.tensor_file import dequantize_file, quantize_file
from scrimp.train import minimize


class TwoLayerNet(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classifier softmax(relu(x·A + a)·B + b).

    Parameters
    ----------
    hidden : int
        Width of the layer between.
    weight_bits : int
        32, or 8: the saved model holds int8, and so does the one that predicts.
    max_iter, learning_rate, batch_size, momentum, workers, shard, compress, raw_below
        As in `scrimp.minimize`.
    """

    def __init__(
        self,
        hidden: int = 64,
        *,
        weight_bits: int = 32,
        max_iter: int = 60,
        learning_rate: float = 0.2,
        batch_size: int = 128,
        momentum: float = 0.9,
        workers: int = 1,
        shard: str = "rows",
        compress: Any = "raw",
        raw_below: int = 65536,
    ) -> None:
        self.hidden = hidden
        self.weight_bits = weight_bits
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.momentum = momentum
        self.workers = workers
        self.shard = shard
        self.compress = compress
        self.raw_below = raw_below

    def fit(self, X: Any, y: Any) -> TwoLayerNet:
        """Minimize the mean cross-entropy against labels."""
        classes, column = np.unique(np.asarray(y), return_inverse=True)
        return self.fit_soft(X, np.eye(len(classes), dtype=np.float32)[column], classes)

    def fit_soft(self, X: Any, probabilities: npt.NDArray[Any], classes: npt.NDArray[Any]) -> TwoLayerNet:
        """Minimize the mean cross-entropy against probabilities of classes, as `scrimp.distill` asks."""
        self.classes_ = classes
        fitted = minimize(
            cross_entropy,
            starting_weights(X.shape[1], self.hidden, len(classes)),
            (np.ascontiguousarray(X), np.asarray(probabilities, np.float32)),
            **self._settings(),
        )
        self.weights_: Weights = fitted.w
        self.n_iter_ = fitted.n_iter
        self.bill_ = bill(fitted.usage)
        return self

    def _settings(self) -> dict[str, Any]:
        names = (
            "max_iter",
            "learning_rate",
            "batch_size",
            "momentum",
            "workers",
            "shard",
            "compress",
            "raw_below",
        )
        return {name: getattr(self, name) for name in names} | {"solver": "sgd", "schedule": "cosine"}

    def predict_proba(self, X: Any) -> npt.NDArray[np.float32]:
        """Return the probabilities of `classes_`."""
        return np.exp(log_probabilities(self.weights_, X)[0])

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the most likely class."""
        return np.asarray(self.classes_[log_probabilities(self.weights_, X)[0].argmax(axis=1)])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file, quantized to int8 if `weight_bits` is 8."""
        from safetensors.numpy import save_file

        save_file(self.weights_, path)
        if self.weight_bits == 8:
            quantize_file(Path(path), Path(path), "int8")

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Take the weights of a file that `save` wrote."""
        from safetensors.numpy import load_file

        with tempfile.TemporaryDirectory() as folder:
            plain = Path(path)
            if self.weight_bits == 8:
                plain = Path(folder) / "plain.safetensors"
                dequantize_file(Path(path), plain)
            self.weights_ = load_file(plain)
