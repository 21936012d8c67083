"""Rows that come bit by bit: their Gram matrix by leaves, the same bits for every way of cutting the rows.

Whole leaves of 4,096 rows are summed as they fill up; the rows of the last one are kept until then.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scrimp.matrix import LEAF_ROWS, Gram, GramSums, gram_sums
from scrimp.train.dense import Matrix


class OnlineGram:
    """Sums over all rows so far.

    Parameters
    ----------
    d, k : int
        Columns of X and of y.
    threads : int

    Examples
    --------
    >>> whole, parts = OnlineGram(2, 1), OnlineGram(2, 1)
    >>> X, y = np.arange(10.0).reshape(5, 2), np.arange(5.0)[:, None]
    >>> whole.add(X, y, None)
    >>> for i in range(5):
    ...     parts.add(X[i : i + 1], y[i : i + 1], None)
    >>> bool((whole.gram().moment == parts.gram().moment).all())
    True
    """

    def __init__(self, d: int, k: int, threads: int = 0) -> None:
        self.d, self.k, self._threads = d, k, threads
        self._done = 0
        self._sums: GramSums | None = None
        self._shift: Matrix | None = None
        self._tail = (np.empty((0, d)), np.empty((0, k)), np.empty(0))

    def add(self, X: Any, y: Matrix, weight: Matrix | None) -> None:
        """Add rows: float array[n, d], float64[n, k], float64[n] or None (all 1)."""
        if self._shift is None and len(y):
            self._shift = np.asarray(X[0], np.float64)  # the same however the rows are cut
        new = (np.asarray(X, np.float64), y, np.ones(len(y)) if weight is None else weight)
        rows = tuple(np.concatenate(pair) for pair in zip(self._tail, new, strict=True))
        whole = len(rows[1]) // LEAF_ROWS * LEAF_ROWS
        if whole:
            self._sums = self._with(tuple(a[:whole] for a in rows))
            self._done += whole
        self._tail = (rows[0][whole:].copy(), rows[1][whole:].copy(), rows[2][whole:].copy())

    def gram(self) -> Gram:
        """Return the Gram matrix of all rows so far."""
        sums = self._with(self._tail) if len(self._tail[1]) or self._sums is None else self._sums
        return sums.gram()

    def _with(self, rows: tuple[Matrix, ...]) -> GramSums:
        x, y, weight = rows
        part = gram_sums(
            x, y, sample_weight=weight, shift=self._shift, first_row=self._done, threads=self._threads
        )
        return part if self._sums is None else GramSums.merge([self._sums, part])
