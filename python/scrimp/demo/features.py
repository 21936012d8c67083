"""Dense features in plain NumPy: one-hot, cubic splines, crosses. Every column has a name; nothing is fitted.

Indicators stay 0 and 1. Dividing a rare one by its standard deviation would turn a handful of rows into the
largest of the matrix, and the step of a gradient solver shrinks with the largest row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
CHUNK_ROWS = 16_384


class Block(Protocol):
    """A few columns made from a few facts; `fill` writes them into zeroed memory."""

    @property
    def names(self) -> tuple[str, ...]:
        """One name a column."""
        ...

    def fill(self, facts: Floats, out: Floats) -> None:
        """Write the columns for `facts[n, k]` into `out[n, len(names)]`, which holds zeros."""
        ...


@dataclass(frozen=True, slots=True)
class Linear:
    """The fact itself, divided by a round number so that its values are about one."""

    fact: int
    name: str
    unit: float

    @property
    def names(self) -> tuple[str, ...]:
        """One column."""
        return (f"{self.name}/{self.unit:g}",)

    def fill(self, facts: Floats, out: Floats) -> None:
        """Write `fact / unit`."""
        out[:, 0] = facts[:, self.fact] / self.unit


@dataclass(frozen=True, slots=True)
class OneHot:
    """A column a level: 1 where the fact is that level. A fact out of range leaves zeros."""

    fact: int
    levels: tuple[str, ...]
    first: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The levels."""
        return self.levels

    def fill(self, facts: Floats, out: Floats) -> None:
        """Write the indicators."""
        _mark(facts[:, self.fact].astype(np.int64) - self.first, out)


@dataclass(frozen=True, slots=True)
class Cross:
    """A column a pair of levels: 1 where both facts are at theirs."""

    a: OneHot
    b: OneHot

    @property
    def names(self) -> tuple[str, ...]:
        """Pairs of levels, those of `b` running fastest."""
        return tuple(f"{a}×{b}" for a in self.a.levels for b in self.b.levels)

    def fill(self, facts: Floats, out: Floats) -> None:
        """Write the indicators."""
        a, b = (facts[:, side.fact].astype(np.int64) - side.first for side in (self.a, self.b))
        b_count = len(self.b.levels)
        _mark(np.where((b >= 0) & (b < b_count), a * b_count + b, -1), out)


@dataclass(frozen=True, slots=True)
class Spline:
    """Cubic B-splines on fixed knots, clamped at both ends; `len(knots) + 2` columns that sum to 1.

    Facts beyond the outer knots count as at the knot: a straight `Linear` column carries the tails.
    """

    fact: int
    name: str
    knots: tuple[float, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Numbered from the lowest knot."""
        return tuple(f"{self.name}~{i}" for i in range(len(self.knots) + 2))

    def fill(self, facts: Floats, out: Floats) -> None:
        """Write the four functions that are not zero at each fact."""
        first, values = cubic_b_splines(facts[:, self.fact].astype(np.float64), np.array(self.knots))
        rows = np.arange(len(facts))
        for k, value in enumerate(values):
            out[rows, first + k] = value


def cubic_b_splines(
    x: npt.NDArray[np.float64], knots: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], list[npt.NDArray[np.float64]]]:
    """Evaluate the clamped cubic B-splines that are not zero at `x`.

    Parameters
    ----------
    x : float64[n]
    knots : float64[m]
        Rising, m ≥ 2. There are m + 2 functions.

    Returns
    -------
    first : int64[n]
        Index of the first of the four functions.
    values : list of four float64[n]
        By the recursion of Cox and de Boor (de Boor, A Practical Guide to Splines, ch. X); they sum to 1.

    Examples
    --------
    >>> first, values = cubic_b_splines(np.array([0.0, 1.5]), np.array([0.0, 1.0, 2.0]))
    >>> first
    array([0, 1])
    >>> np.round(values, 4).tolist()
    [[1.0, 0.0312], [0.0, 0.25], [0.0, 0.5938], [0.0, 0.125]]
    """
    x = np.clip(x, knots[0], knots[-1])
    first = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, len(knots) - 2)
    padded = np.concatenate([[knots[0]] * 3, knots, [knots[-1]] * 3])
    span = first + 3
    values = [np.ones_like(x)]
    for degree in (1, 2, 3):
        carried = np.zeros_like(x)
        raised = []
        for j, value in enumerate(values):
            right = padded[span + 1 + j]
            left = padded[span + 1 + j - degree]
            share = value / (right - left)
            raised.append(carried + (right - x) * share)
            carried = (x - left) * share
        values = [*raised, carried]
    return first, values


@dataclass(frozen=True, slots=True)
class FeatureMap:
    """Blocks side by side.

    Examples
    --------
    >>> shape = FeatureMap((Linear(0, "km", 100), OneHot(1, ("red", "green"))))
    >>> shape.names
    ('km/100', 'red', 'green')
    >>> shape.transform(np.array([[50, 1]], np.float32))
    array([[0.5, 0. , 1. ]], dtype=float32)
    """

    blocks: tuple[Block, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns."""
        return tuple(name for block in self.blocks for name in block.names)

    def transform(self, facts: Floats, out: Floats | None = None) -> Floats:
        """Build the features.

        Parameters
        ----------
        facts : float32[n, k]
        out : float32[n, d], optional
            Where to write; may be mapped from a file. Rows are made a chunk at a time.

        Returns
        -------
        float32[n, d]
        """
        widths = [len(block.names) for block in self.blocks]
        ends = np.cumsum(widths)
        if out is None:
            out = np.empty((len(facts), int(ends[-1])), np.float32)
        for start in range(0, len(facts), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            out[rows] = 0
            for block, width, end in zip(self.blocks, widths, ends, strict=True):
                block.fill(facts[rows], out[rows, end - width : end])
        return out


def _mark(column: npt.NDArray[np.int64], out: Floats) -> None:
    rows = np.flatnonzero((column >= 0) & (column < out.shape[1]))
    out[rows, column[rows]] = 1.0
