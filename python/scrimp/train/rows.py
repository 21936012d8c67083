"""Rows of the training data: how many, which are a rank's own, the order in which batches visit them.

Data is an array or a tuple, list or dict of arrays with the same first axis; anything else that has `shape`
and takes row indices (a `QuantizedMatrix`) will do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = slice | NDArray[np.int64]


def count_rows(data: Any) -> int:
    """Return the common length of the first axis.

    Examples
    --------
    >>> count_rows((np.zeros((5, 2)), np.zeros(5)))
    5
    """
    arrays = _arrays(data)
    lengths = [a.shape[0] if getattr(a, "shape", ()) else None for a in arrays]
    if not arrays or None in lengths or len(set(lengths)) != 1:
        raise ValueError(f"data must be arrays with the same number of rows, got lengths {lengths}")
    return int(lengths[0] or 0)


def take_rows(data: Any, rows: Rows) -> Any:
    """Return the same structure with some of the rows: views for a slice, copies for indices."""
    if isinstance(data, dict):
        return {key: _take(a, rows) for key, a in data.items()}
    if isinstance(data, (tuple, list)):
        return type(data)([_take(a, rows) for a in data])
    return _take(data, rows)


def _take(a: Any, rows: Rows) -> Any:
    if isinstance(a, np.ndarray) and isinstance(rows, np.ndarray):
        return a.take(rows, axis=0)  # as a[rows], in half the time
    return a[rows]


@dataclass(frozen=True, slots=True)
class Batches:
    """Mini-batches of one global size over ranks that hold different numbers of rows.

    Every rank makes the same number of steps an epoch and visits each of its rows once; step s takes local
    rows `n·s // steps` to `n·(s+1) // steps` of a permutation that depends on (seed, epoch, rank) alone, so a
    fit that begins again in the middle sees what it would have seen.

    Examples
    --------
    >>> batches = Batches((5, 3), batch_size=4, seed=0)
    >>> batches.steps
    2
    >>> [batches.rows_in_step(s) for s in range(2)]
    [3, 5]
    """

    rows_by_rank: tuple[int, ...]
    batch_size: int
    seed: int

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return max(1, -(-sum(self.rows_by_rank) // self.batch_size))

    def order(self, epoch: int, rank: int) -> NDArray[np.int64]:
        """Return the permutation of a rank's own rows in an epoch."""
        generator = np.random.Generator(np.random.Philox(key=[self.seed, (epoch << 20) + rank]))
        return generator.permutation(self.rows_by_rank[rank])

    def span(self, step: int, rank: int) -> slice:
        """Return which part of the permutation a rank takes in a step."""
        n = self.rows_by_rank[rank]
        return slice(n * step // self.steps, n * (step + 1) // self.steps)

    def rows_in_step(self, step: int) -> int:
        """Return the rows that all ranks together take in a step."""
        spans = (self.span(step, rank) for rank in range(len(self.rows_by_rank)))
        return sum(span.stop - span.start for span in spans)


def _arrays(data: Any) -> list[Any]:
    if isinstance(data, dict):
        return list(data.values())
    return list(data) if isinstance(data, (tuple, list)) else [data]
