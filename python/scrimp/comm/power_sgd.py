"""PowerSGD: matrices travel as the product of two thin ones (Vogels, Karimireddy and Jaggi, NeurIPS 2019).

The error memory is lazy: M holds the last corrected gradient and M − P Qᵀ is what was lost, so that a step
reads the gradient once and M twice and writes M once, and nothing is subtracted apart:

    M ← g + (M − P Qᵀ),  P ← orthonormal(mean over ranks of M Q),  Q ← mean over ranks of Mᵀ P,  g ← P Qᵀ

Q starts where the last step left it, so the factors follow the gradient's own singular vectors. The new M is
written beside the old one, which stays as it is until the step is known to be usable on all ranks.
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
from scrimp.comm.collectives import all_finite

if TYPE_CHECKING:
    from scrimp.comm.communicator import Comm

Floats = NDArray[np.float32]
LARGEST_RANK = 16
_LARGEST_EXPONENT = 40  # of q, above which a gradient is rare


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
    together. The result has the same bytes on all ranks. 4 bytes a value of memory, and up to as much
    again: new memories are written beside the old ones, into room that calls with matrices of one size share.

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
        for what, value in (("rank", rank), ("seed", seed)):
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
                raise TypeError(f"{what} must be an integer, got {value!r}")
        if not 1 <= rank <= LARGEST_RANK:
            raise ValueError(f"rank must lie in 1…{LARGEST_RANK}, got {rank}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self.rank = int(rank)
        self.seed = int(seed)
        self.skipped = 0
        self._matrices: dict[str, _Matrix] = {}
        self._spare: dict[int, list[Floats]] = {}  # by size: what held old memories

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
            float32 arrays that are to be compressed need a name that stays theirs. Those that are not
            C-contiguous are copied, and written back.

        Raises
        ------
        TypeError, ValueError
            What is not a writable array, or a name that is given twice; nothing was sent.
        CommError
            A peer is lost. Arrays and state are as they were.

        Notes
        -----
        Values that are not finite, on any rank, make all compressed arrays of the call NaN on all ranks (as
        gradient scalers expect) and leave the state as it was, bit for bit. So do finite values whose
        factors overflow.
        """
        _check_arrays(arrays)
        low = [(name, x) for name, x in arrays if x.dtype == np.float32 and self.takes(x.shape)]
        names = [name for name, _ in low]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"every matrix needs a name of its own, got {twice[0]!r} twice")
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
            It is of another rank, or not whole; what is here stays.
        """
        missing = [key for key in ("rank", "matrices") if key not in state]
        if missing:
            raise ValueError(f"the state is not of PowerSGD: it has no {missing[0]!r}")
        if state["rank"] != self.rank:
            raise ValueError(f"the state is of rank {state['rank']}, this one of rank {self.rank}")
        loaded = {name: _load_matrix(name, m, self.rank) for name, m in state["matrices"].items()}
        self._matrices = loaded

    def _reduce_low(self, comm: Comm, arrays: list[tuple[str, NDArray[Any]]]) -> None:
        found = [self._matrix(name, x.shape) for name, x in arrays]
        flat = [np.ascontiguousarray(x).reshape(-1) for _, x in arrays]
        memories = [self._room(m.memory.size) for m in found]
        before = comm.usage
        means = self._factors(comm, found, flat, memories)
        if comm.size > 1:
            comm.count_raw(sum(g.size for g in flat), before)
        if means is None:
            self.skipped += 1
        else:
            for i, (m, g, (p, q)) in enumerate(zip(found, flat, means, strict=True)):
                m.p, m.q = p.copy(), q.copy()
                _balance(m, self.rank)
                m.memory, memories[i] = memories[i], m.memory
                _core.low_rank_expand(g, m.p, m.q, self.rank)
        for memory in memories:
            self._spare.setdefault(memory.size, []).append(memory)
        for (_, x), g in zip(arrays, flat, strict=True):
            if means is None:
                x[...] = np.nan
            elif not np.may_share_memory(x, g):
                x[...] = g.reshape(x.shape)

    def _room(self, n: int) -> Floats:
        spare = self._spare.get(n)
        return spare.pop() if spare else _room_for(n)

    def _factors(
        self, comm: Comm, found: list[_Matrix], flat: list[Floats], memories: list[Floats]
    ) -> list[tuple[Floats, Floats]] | None:
        """Write the new memories and return the mean factors; None if not finite, on all ranks alike.

        A value that is not finite makes its row of P so.
        """
        ps, p_all = _pieces([m.p.size for m in found])
        for m, g, memory, p in zip(found, flat, memories, ps, strict=True):
            _core.low_rank_project(g, m.memory, m.p, m.q, self.rank, memory, p)
        comm.all_reduce(p_all, name="PowerSGD P", nonfinite="propagate")
        if not np.isfinite(p_all).all():
            return None
        for p in ps:
            _core.orthonormalize(p, self.rank)
        qs, q_all = _pieces([m.q.size for m in found])
        for memory, p, q in zip(memories, ps, qs, strict=True):
            _core.low_rank_fold(memory, p, self.rank, q)
        comm.all_reduce(q_all, name="PowerSGD Q", nonfinite="propagate")
        return list(zip(ps, qs, strict=True)) if np.isfinite(q_all).all() else None

    def _matrix(self, name: str, shape: Sequence[int]) -> _Matrix:
        rows, columns = _matrix_shape(shape)
        matrix = self._matrices.get(name)
        if matrix is None:
            start = np.random.default_rng([self.seed, crc32(name.encode())])
            q = start.standard_normal(self.rank * columns, np.float32)
            matrix = self._matrices[name] = _Matrix(
                rows, columns, _memory_of(0.0, rows * columns), np.zeros(rows * self.rank, np.float32), q
            )
        if (matrix.rows, matrix.columns) != (rows, columns):
            raise ValueError(
                f"tensor {name!r} was {matrix.rows} × {matrix.columns} before, got {rows} × {columns}"
            )
        return matrix


def _matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    return shape[0], int(np.prod(shape[1:]))


def _check_arrays(arrays: Sequence[tuple[str, NDArray[Any]]]) -> None:
    for name, x in arrays:
        if not isinstance(name, str):
            raise TypeError(f"the name of an array must be a str, got {name!r}")
        if not isinstance(x, np.ndarray):
            raise TypeError(f"{name!r} must be an array, got {type(x).__name__}")
        if not x.flags.writeable:
            raise ValueError(f"{name!r} is read-only")


def _load_matrix(name: str, state: dict[str, Any], rank: int) -> _Matrix:
    """Return what `state_dict` says about one matrix."""
    missing = [key for key in ("shape", "m", "p", "q") if key not in state]
    if missing:
        raise ValueError(f"the state of {name!r} has no {missing[0]!r}")
    rows, columns = (int(n) for n in state["shape"])
    arrays = []
    for key, n in (("m", rows * columns), ("p", rows * rank), ("q", rank * columns)):
        values = np.array(state[key], np.float32).reshape(-1)
        if values.size != n:
            raise ValueError(
                f"{key!r} of {name!r}, {rows} × {columns}, must hold {n} values, got {values.size}"
            )
        if not all_finite(values):
            raise ValueError(f"{key!r} of {name!r} holds values that are not finite")
        arrays.append(values)
    return _Matrix(rows, columns, _memory_of(arrays[0], rows * columns), *arrays[1:])


def _balance(m: _Matrix, rank: int) -> None:
    """Move powers of two from q to p, where the next P = M·Q could overflow though M and q do not.

    The product and the direction of P stay the same to the bit.
    """
    p, q = m.p.reshape(m.rows, rank), m.q.reshape(rank, m.columns)
    _, exponents = np.frexp(np.abs(q).max(axis=1))
    moved = np.where(exponents > _LARGEST_EXPONENT, exponents, 0)
    if moved.any():
        np.ldexp(q, -moved[:, np.newaxis], out=q)
        np.ldexp(p, moved, out=p)


def _room_for(n: int) -> Floats:
    """Return float32[n] that begins on a line of the cache: what is written past the caches must."""
    whole = np.empty(n + 15, np.float32)
    begin = -whole.ctypes.data % 64 // 4
    return whole[begin : begin + n]


def _memory_of(values: Floats | float, n: int) -> Floats:
    """Return float32[n] that holds values; zeros are written too, or the second step would pay for pages."""
    memory = _room_for(n)
    memory[:] = values
    return memory


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
