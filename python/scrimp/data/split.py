"""Rows that training does not see, so that a score means something."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scrimp.errors import InputError


def held_out_split(n: int, fraction: float = 0.2, seed: int = 0) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Draw the rows to train on and the rows to hold out.

    Parameters
    ----------
    n : int
        Number of rows.
    fraction : float
        Share held out, in [0, 1); 0 holds out nothing.
    seed : int
        Equal seeds give equal rows.

    Returns
    -------
    train, test : intp[n_train], intp[n_test]
        Ascending, so that reading the rows stays in file order. `n_test = round(fraction · n)`, at least 1
        if fraction > 0.

    Raises
    ------
    InputError
        No row would be left to train on.

    Examples
    --------
    >>> train, test = held_out_split(10, 0.2)
    >>> len(train), len(test)
    (8, 2)
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction must be in [0, 1), got {fraction!r}")
    n_test = max(1, round(fraction * n)) if fraction else 0
    if n - n_test < 1:
        raise InputError(f"{n} rows are too few to hold out {fraction:g} of them and train on the rest")
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[n_test:]), np.sort(order[:n_test])
