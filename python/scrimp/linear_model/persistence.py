"""Saving and loading of estimators: parameters, fitted attributes, coefficients as parts of a file."""

from __future__ import annotations

import json
import os
from typing import Any, Self

import numpy as np

from scrimp.cost import bill
from scrimp.linear_model.weights import Coefficients
from scrimp.model_file import ModelParts, save
from scrimp.usage import Usage

PAIRS = "pairs"
NOT_STORED = ("budget", "checkpoint", "random_state")


class Persistent:
    """Estimators with `coef_`, `intercept_` and `bill_` that go into a file and come back."""

    FITTED: tuple[str, ...] = ("solver_", "n_iter_", "rank_", "n_features_in_")

    def save(self, path: str | os.PathLike[str], extra: dict[str, Any] | None = None) -> int:
        """Write the fitted model to a file (safetensors, never pickle); `scrimp.load` reads it.

        It holds what predicts, not the state of `partial_fit`: on a loaded model, SGDRegressor and
        SGDClassifier go on from the coefficients, Ridge and LinearRegression begin anew. A pickle holds both.

        Parameters
        ----------
        path : path
            An existing file is replaced once the new one is complete.
        extra : dict, optional
            JSON to keep beside the model.

        Returns
        -------
        int
            Bytes of the file.
        """
        return save(self, path, extra)

    def to_parts(self) -> ModelParts:
        """Return what a model file holds."""
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        fields = {"params": self._stored_params(), "vector": self.coef_.ndim == 1}  # type: ignore[attr-defined]
        fields |= {name: _to_json(getattr(self, name)) for name in self.FITTED if hasattr(self, name)}
        classes = getattr(self, "classes_", None)
        if classes is not None:
            fields["classes_"] = {"values": classes.tolist(), "dtype": classes.dtype.str}
        fields["usage"] = self.bill_.usage.to_dict()  # type: ignore[attr-defined]
        names = getattr(self, "feature_names_in_", None)
        fields["feature_names_in_"] = None if names is None else [str(name) for name in names]
        tensors = self._current().tensors()
        tensors["intercept"] = np.atleast_1d(np.asarray(self.intercept_, np.float64))  # type: ignore[attr-defined]
        return ModelParts(type(self).__name__, tensors, fields, getattr(self, "extra_", {}))

    @classmethod
    def from_parts(cls, parts: ModelParts) -> Self:
        """Build the fitted model."""
        fields = parts.fields
        model = cls(**{name: _from_json(value) for name, value in fields["params"].items()})
        for name in cls.FITTED:
            value = fields.get(name)
            setattr(model, name, np.array(value) if isinstance(value, list) else value)
        if "classes_" in fields:
            found = fields["classes_"]
            model.classes_ = np.array(found["values"], dtype=found["dtype"])  # type: ignore[attr-defined]
        if fields["feature_names_in_"] is not None:
            model.feature_names_in_ = np.array(fields["feature_names_in_"], dtype=object)  # type: ignore[attr-defined]
        model.bill_ = bill(Usage(**fields["usage"]))  # type: ignore[attr-defined]
        model._coefficients = Coefficients.read(parts.tensors)  # type: ignore[attr-defined]
        values, intercept = model._coefficients.values, parts.tensors["intercept"]  # type: ignore[attr-defined]
        if values.shape[1] != fields["n_features_in_"] or intercept.size not in (1, len(values)):
            raise ValueError(f"coefficients of shape {values.shape}, {intercept.size} intercepts")
        model._set_shape(values, intercept.copy(), bool(fields["vector"]))  # type: ignore[attr-defined]
        if parts.extra:
            model.extra_ = parts.extra  # type: ignore[attr-defined]
        return model

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Undo pickling: `coef_` is a view of what is stored again, if it was not changed by hand."""
        kept: Coefficients | None = state.get("_coefficients")
        if kept is not None and kept.are(np.atleast_2d(state["coef_"])):
            state = state | {"coef_": kept.values.reshape(state["coef_"].shape)}
        super().__setstate__(state)  # type: ignore[misc]

    def _current(self) -> Coefficients:
        """Return the stored coefficients, made anew if `coef_` was changed by hand."""
        kept: Coefficients = self._coefficients  # type: ignore[attr-defined]
        values = np.atleast_2d(self.coef_)  # type: ignore[attr-defined]
        if kept.are(values):
            return kept
        scatter = kept.scatter(values) if values.shape == kept.values.shape else np.ones(values.shape[1])
        return Coefficients.of(values, self.weight_bits, scatter)  # type: ignore[attr-defined]

    def _stored_params(self) -> dict[str, Any]:
        params = self.get_params(deep=False)  # type: ignore[attr-defined]
        return {name: _to_json(value) for name, value in params.items() if name not in NOT_STORED}


def _to_json(value: Any) -> Any:
    if isinstance(value, dict):  # weights of classes; keys of JSON are text, labels need not be
        return {PAIRS: [[_to_json(key), _to_json(each)] for key, each in value.items()]}
    value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    json.dumps(value)  # TypeError here names what cannot be stored
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get(PAIRS), list):
        return {_from_json(key): _from_json(each) for key, each in value[PAIRS]}
    return tuple(value) if isinstance(value, list) else value
