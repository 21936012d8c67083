"""The student of the last rung: a linear model that reads raw facts, its features built on the way."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin, clone

from scrimp.demo.features import FeatureMap

CHUNK_ROWS = 16_384


class OnFeatures(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A model on features of the facts, for `scrimp.distill`, where teacher and student read the same rows.

    Parameters
    ----------
    model : estimator
        Reads the features.
    shape : FeatureMap
        From facts to features.
    prepared_rows : array or QuantizedMatrix, optional
        The features of the very rows that `fit` will get, built before; saves building them again.
    """

    def __init__(self, model: Any, shape: FeatureMap, prepared_rows: Any = None) -> None:
        self.model = model
        self.shape = shape
        self.prepared_rows = prepared_rows

    def fit(self, facts: npt.NDArray[np.float32], y: npt.ArrayLike) -> OnFeatures:
        """Fit the model on the features of `facts`."""
        rows = self.prepared_rows if self.prepared_rows is not None else self.shape.transform(facts)
        if rows.shape[0] != len(facts):
            raise ValueError(f"prepared_rows has {rows.shape[0]} rows, facts {len(facts)}")
        self.model_ = clone(self.model).fit(rows, y)
        self.bill_ = self.model_.bill_
        return self

    def predict(self, facts: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Build features and predict, a chunk at a time."""
        starts = range(0, len(facts), CHUNK_ROWS)
        parts = [self.model_.predict(self.shape.transform(facts[i : i + CHUNK_ROWS])) for i in starts]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the model; the features are code and hold nothing learned."""
        self.model_.save(path)

    def __sklearn_clone__(self) -> OnFeatures:
        """Clone without copying the prepared rows."""
        return OnFeatures(clone(self.model), self.shape, self.prepared_rows)
