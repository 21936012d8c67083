"""Options of estimators that are not what they should be, in words, before anything is computed."""

from __future__ import annotations

from typing import Any

import numpy as np

from scrimp.train.options import check_count

# Options that count something, and the least that each may be; of max_iter, None stands for a default.
COUNTS = {"workers": 1, "threads": 0, "batch_size": 1, "sync_every": 1, "raw_below": 0, "max_iter": 1}
FLAGS = ("fit_intercept", "warm_start", "positive")
WORDS = {"shard": ("rows", "zero", "features"), "feedback": ("auto", "none", "ef14", "ef21")}


def check_types(model: Any) -> None:
    """Raise ValueError if an option of an estimator is of another type than documented.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> check_types(SimpleNamespace(threads=None))
    Traceback (most recent call last):
    ValueError: threads must be a whole number of at least 0, got None
    """
    options = vars(model)
    for name, least in COUNTS.items():
        value = options.get(name, least)
        if name == "max_iter" and value is None:
            continue
        check_count(name, value, least)
    for name in FLAGS:
        value = options.get(name, False)
        if not (isinstance(value, int | np.integer | np.bool_) and value in (0, 1)):
            raise ValueError(f"{name} must be True or False, got {value!r}")
    for name, known in WORDS.items():
        value = options.get(name, known[0])
        if not (isinstance(value, str) and value in known):
            raise ValueError(f"unknown {name} {value!r}; known: {', '.join(known)}")
    codecs = options.get("compress", "raw")
    parts = (codecs,) if isinstance(codecs, str) else codecs
    if not (
        isinstance(parts, tuple | list) and len(parts) in (1, 2) and all(isinstance(c, str) for c in parts)
    ):
        wish = "a codec, or one for gradients and one for weights"
        raise ValueError(f"compress must be {wish}, got {codecs!r}")
