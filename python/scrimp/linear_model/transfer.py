"""Starting from another model: its coefficients for the columns at hand, matched by name if both have names.

Columns that the model does not know start at 0; columns that are not there any more are left out.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from scrimp.model_file import load

Matrix = NDArray[np.float64]


class Known(NamedTuple):
    """What a fitted linear model knows.

    Attributes
    ----------
    coef : float64[k, d]
    intercept : float64[k]
    names : list of str or None
        Of the columns.
    classes : list or None
    """

    coef: Matrix
    intercept: Matrix
    names: list[str] | None
    classes: list[Any] | None

    @classmethod
    def of(cls, model: Any) -> Self:
        """Read a fitted estimator, of scikit-learn too, or the file of one."""
        if isinstance(model, (str, os.PathLike)):
            model = load(model)
        if not hasattr(model, "coef_"):
            raise ValueError(
                f"init must be a fitted linear model or the file of one, got {type(model).__name__}"
                + (" that is not fitted" if hasattr(model, "fit") else "")
            )
        coef = np.atleast_2d(np.asarray(model.coef_, np.float64))
        intercept = np.broadcast_to(np.asarray(model.intercept_, np.float64).reshape(-1), len(coef)).copy()
        names, classes = getattr(model, "feature_names_in_", None), getattr(model, "classes_", None)
        known_classes = None if classes is None else np.asarray(classes).tolist()
        return cls(coef, intercept, None if names is None else [str(name) for name in names], known_classes)

    def for_columns(self, names: Any, d: int) -> Self:
        """Return the same for other columns.

        Parameters
        ----------
        names : sequence of str or None
            Of the d columns at hand.
        """
        mine = self.names
        if mine is None or names is None:
            if self.coef.shape[1] == d:
                return self
            missing = " and ".join(
                who for who, lacks in (("init", mine is None), ("X", names is None)) if lacks
            )
            verb = "have" if mine is None and names is None else "has"
            text = f"init has {self.coef.shape[1]} columns and X has {d}: they are matched by name"
            raise ValueError(f"{text}, but {missing} {verb} no names; fit on frames whose columns have names")
        place = {name: j for j, name in enumerate(mine)}
        shared = [(new, place[str(name)]) for new, name in enumerate(names) if str(name) in place]
        if not shared:
            some, others = ", ".join(mine[:3]), ", ".join(map(str, names[:3]))
            raise ValueError(f"init and X share no column: init has {some}, …; X has {others}, …")
        coef = np.zeros((len(self.coef), d))
        coef[:, [new for new, _ in shared]] = self.coef[:, [old for _, old in shared]]
        return self._replace(coef=coef, names=[str(name) for name in names])

    def for_outputs(self, k: int) -> Self:
        """Check that there are k outputs."""
        if len(self.coef) != k:
            raise ValueError(f"init has {len(self.coef)} outputs and y has {k}")
        return self

    def in_units(self, units: Matrix) -> Self:
        """Return the same for targets that were divided by `units`, float64[k]."""
        return self._replace(coef=self.coef / units[:, None], intercept=self.intercept / units)

    def for_classes(self, classes: Any) -> Self:
        """Return logits of these classes: one row for two, else a row each; 0 for classes that are new."""
        if self.classes is None:
            raise ValueError("init must be a classifier, got a model without classes_")
        wanted = np.asarray(classes).tolist()
        coef, intercept = self._by_class()
        place = {label: i for i, label in enumerate(self.classes)}
        if not set(wanted) & set(place):
            raise ValueError(f"init and y share no class: init has {self.classes}, y has {wanted}")
        rows = [place.get(label) for label in wanted]
        zeros = np.zeros(coef.shape[1])
        logits = np.array([zeros if i is None else coef[i] for i in rows])
        biases = np.array([0.0 if i is None else float(intercept[i]) for i in rows])
        if len(wanted) == 2:
            logits, biases = logits[1:] - logits[:1], biases[1:] - biases[:1]
        return self._replace(coef=logits, intercept=biases, classes=wanted)

    def _by_class(self) -> tuple[Matrix, Matrix]:
        """Return a row for every class: a single logit is split evenly between its two."""
        if len(self.coef) > 1:
            return self.coef, self.intercept
        return np.vstack([-self.coef, self.coef]) / 2, np.concatenate([-self.intercept, self.intercept]) / 2


def known_before(model: Any, init: Any) -> Known | None:
    """Return where a fit of `model` starts: at `init`, with warm_start at its last fit, or nowhere."""
    if init is not None:
        return Known.of(init)
    if getattr(model, "warm_start", False) and hasattr(model, "coef_"):
        return Known.of(model)
    return None


def for_rows(known: Known | None, model: Any, d: int) -> Known | None:
    """Match what is known to the columns that `model` was just shown."""
    return None if known is None else known.for_columns(getattr(model, "feature_names_in_", None), d)
