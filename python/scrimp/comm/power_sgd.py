"""PowerSGD: matrices travel as the product of two thin ones (Vogels, Karimireddy and Jaggi, NeurIPS 2019).

The error memory is lazy: M holds the last corrected gradient and M − P Qᵀ is what was lost, so that a step
reads the gradient once and M twice, and nothing is stored or subtracted apart:

    M ← g + (M − P Qᵀ),  P ← orthonormal(mean over ranks of M Q),  Q ← mean over ranks of Mᵀ P,  g ← P Qᵀ

Q starts where the last step left it, so the factors follow the gradient's own singular vectors.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from scrimp import _core

if TYPE_CHECKING:
    from scrimp.comm.communicator import Comm

Floats = NDArray[np.float32]
LARGEST_RANK = 16


@dataclass
class _Matrix:
    """State of one tensor, seen as rows × columns."""

    rows: int
    columns: int
    memory: Floats  # [rows · columns] M
    p: Floats  # [rows · rank]
    q: Floats  # [rank · columns]


class PowerSGD:
    """Averages arrays over ranks in rank·(rows + columns) values instead of rows·columns.

    Parameters
    ----------
    rank : int, default 1
        Columns of the factors, 1 … 16. An array of shape (a, b, c, …) is a matrix of a rows.
    seed : int, default 0
        Of the first Q; equal on all ranks.

    Attributes
    ----------
    skipped : int
        Calls whose values were not finite.

    Notes
    -----
    Arrays of one dimension, and those whose factors would be no smaller, travel as they are; all of a call
    together. The result has the same bytes on all ranks. 4 bytes a value of memory.

    Examples
    --------
    >>> import scrimp
    >>> g = np.outer(np.arange(8.0), np.arange(6.0)).astype(np.float32)
    >>> expected = g.copy()
    >>> power = PowerSGD(rank=1)
    >>> power.all_reduce(scrimp.comm.single(), [("w", g)])
    >>> bool(np.allclose(g, expected, rtol=1e-5))
    True
    """

    def __init__(self, rank: int = 1, *, seed: int = 0) -> None:
        if not 1 <= rank <= LARGEST_RANK:
            raise ValueError(f"rank must lie in 1…{LARGEST_RANK}, got {rank}")
        self.rank = rank
        self.seed = seed
        self.skipped = 0
        self._matrices: dict[str, _Matrix] = {}

    def takes(self, shape: Sequence[int]) -> bool:
        """Whether an array of this shape travels as factors.

        Examples
        --------
        >>> PowerSGD(rank=2).takes((64, 32)), PowerSGD(rank=2).takes((64,)), PowerSGD(rank=2).takes((3, 4))
        (True, False, False)
        """
        if len(shape) < 2 or 0 in shape:
            return False
        rows, columns = _matrix_shape(shape)
        return self.rank * (rows + columns) < rows * columns

    def all_reduce(self, comm: Comm, arrays: Sequence[tuple[str, NDArray[Any]]]) -> None:
        """Replace every array by the low-rank mean over ranks, in place.

        Parameters
        ----------
        comm : Comm
            All ranks call this with arrays of the same names, shapes and order.
        arrays : sequence of (str, array)
            Contiguous float32 arrays that are to be compressed need a name that stays theirs.

        Raises
        ------
        CommError
            A peer is lost. Arrays and state are as they were, up to rounding of the state.

        Notes
        -----
        Values that are not finite make the whole matrix NaN on all ranks (as gradient scalers expect) and do
        not enter the memory.
        """
        low = [(name, x) for name, x in arrays if x.dtype == np.float32 and self.takes(x.shape)]
        taken = {id(x) for _, x in low}
        exact = [x for _, x in arrays if id(x) not in taken]
        if low:
            self._reduce_low(comm, low)
        if exact:
            _reduce_exact(comm, exact)

    def state_dict(self) -> dict[str, Any]:
        """Return copies of memory and factors by name, for a checkpoint. Every rank saves its own."""
        return {
            "rank": self.rank,
            "matrices": {
                name: {"shape": (m.rows, m.columns), "m": m.memory.copy(), "p": m.p.copy(), "q": m.q.copy()}
                for name, m in self._matrices.items()
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned.

        Raises
        ------
        ValueError
            It is of another rank.
        """
        if state["rank"] != self.rank:
            raise ValueError(f"the state is of rank {state['rank']}, this one of rank {self.rank}")
        self._matrices = {
            name: _Matrix(*m["shape"], *(np.array(m[key], np.float32) for key in "mpq"))
            for name, m in state["matrices"].items()
        }

    def _reduce_low(self, comm: Comm, arrays: list[tuple[str, NDArray[Any]]]) -> None:
        found = [self._matrix(name, x.shape) for name, x in arrays]
        flat = [x.reshape(-1) for _, x in arrays]
        ps, p_all = _pieces([m.p.size for m in found])
        for m, g, p in zip(found, flat, ps, strict=True):
            _core.low_rank_project(g, m.memory, m.p, m.q, self.rank, p)
        before = comm.usage
        try:
            finite = self._factors(comm, found, ps, p_all)
        except BaseException:
            self._forget(found, flat)
            raise
        if comm.size > 1:
            comm.count_raw(sum(g.size for g in flat), before)
        if finite is None:
            self._forget(found, flat)
            self.skipped += 1
            for g in flat:
                g[...] = np.nan
            return
        for m, g, p, q in zip(found, flat, ps, finite, strict=True):
            m.p, m.q = p.copy(), q.copy()
            _core.low_rank_expand(g, m.p, m.q, self.rank)

    def _factors(
        self, comm: Comm, found: list[_Matrix], ps: list[Floats], p_all: Floats
    ) -> list[Floats] | None:
        """Average both factors over ranks, in place; None if they are not finite."""
        comm.all_reduce(p_all, name="PowerSGD P", nonfinite="propagate")
        if not np.isfinite(p_all).all():
            return None
        for p in ps:
            _core.orthonormalize(p, self.rank)
        qs, q_all = _pieces([m.q.size for m in found])
        for m, p, q in zip(found, ps, qs, strict=True):
            _core.low_rank_fold(m.memory, p, self.rank, q)
        comm.all_reduce(q_all, name="PowerSGD Q", nonfinite="propagate")
        return qs if np.isfinite(q_all).all() else None

    def _forget(self, found: list[_Matrix], flat: list[Floats]) -> None:
        """Take the gradients out of the memories again: rows that are not finite never got in."""
        for m, g in zip(found, flat, strict=True):
            rows = g.reshape(m.rows, m.columns)
            memory = m.memory.reshape(m.rows, m.columns)
            kept = np.isfinite(rows).all(axis=1)
            product = m.p.reshape(m.rows, self.rank) @ m.q.reshape(self.rank, m.columns)
            memory[kept] += product[kept] - rows[kept]

    def _matrix(self, name: str, shape: Sequence[int]) -> _Matrix:
        rows, columns = _matrix_shape(shape)
        matrix = self._matrices.get(name)
        if matrix is None:
            start = np.random.default_rng([self.seed, crc32(name.encode())])
            q = start.standard_normal(self.rank * columns, np.float32)
            matrix = self._matrices[name] = _Matrix(
                rows, columns, np.zeros(rows * columns, np.float32), np.zeros(rows * self.rank, np.float32), q
            )
        if (matrix.rows, matrix.columns) != (rows, columns):
            raise ValueError(
                f"tensor {name!r} was {matrix.rows} × {matrix.columns} before, got {rows} × {columns}"
            )
        return matrix


def _matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    return shape[0], int(np.prod(shape[1:]))


def _pieces(sizes: list[int]) -> tuple[list[Floats], Floats]:
    """Return arrays that lie one after another in one, which travels as a whole."""
    whole = np.empty(sum(sizes), np.float32)
    cuts = np.cumsum([0, *sizes])
    return [whole[a:b] for a, b in itertools.pairwise(cuts)], whole


def _reduce_exact(comm: Comm, arrays: list[NDArray[Any]]) -> None:
    for dtype in sorted({x.dtype for x in arrays}, key=str):
        same = [x for x in arrays if x.dtype == dtype]
        whole = np.concatenate([x.reshape(-1) for x in same])
        comm.all_reduce(whole, name="small ones", nonfinite="propagate")
        for x, part in zip(same, np.split(whole, np.cumsum([x.size for x in same])[:-1]), strict=True):
            x[...] = part.reshape(x.shape)
