"""What collectives are given: checked, and refused in words that say what was required and what came."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from scrimp.codecs import ErrorFeedback
from scrimp.codecs import codec as find_codec
from scrimp.codecs.base import check_counts
from scrimp.comm.collectives import Nonfinite
from scrimp.comm.shards import shard_bounds

if TYPE_CHECKING:
    from scrimp.codecs import Codec

_NONFINITE = get_args(Nonfinite)
SHARD_BLOCK = 128
"""Shards of `reduce_scatter` and `all_gather` begin at its multiples (or of the codec's block, if larger)."""


def reducing_codec(
    spec: str | Codec, feedback: ErrorFeedback | None, op: str, x: NDArray[Any], nonfinite: str
) -> Codec:
    """Return the codec of a reduction of x, or raise what is wrong with the arguments."""
    if op not in ("mean", "sum"):
        raise ValueError(f"op must be 'mean' or 'sum', got {op!r}")
    if nonfinite not in _NONFINITE:
        raise ValueError(f"nonfinite must be 'raise', 'skip' or 'propagate', got {nonfinite!r}")
    chosen = find_codec(spec)
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiu":
        raise TypeError(f"x must be an array of numbers, got {_kind(x)}")
    if x.dtype.kind != "f" and (op == "mean" or chosen.spec != "raw"):
        raise TypeError(
            f"x must be an array of floats for op={op!r} and codec {chosen.spec!r}, got {x.dtype}"
        )
    if feedback is not None:
        if not isinstance(feedback, ErrorFeedback):
            raise TypeError(f"feedback must be an ErrorFeedback(...) or None, got {feedback!r}")
        if chosen.spec != "raw":
            feedback.check(chosen)
    return chosen


def check_numbers(raw_below: int, step: int | None, first_index: int) -> None:
    """Raise what is wrong with the numbers that an all-reduce is given.

    Examples
    --------
    >>> check_numbers(0, None, 1.5)
    Traceback (most recent call last):
    TypeError: first_index must be a whole number, got 1.5
    """
    if type(raw_below) is not int or raw_below < 0:
        check_counts(raw_below=raw_below)
    if step is not None:
        check_counts(step=step)
    if type(first_index) is not int or first_index < 0:
        check_counts(first_index=first_index)


def check_reproducible(codec: Codec, feedback: ErrorFeedback | None, first_index: int) -> None:
    """Raise ValueError for what a reproducible sum cannot keep the same for every cut into buckets."""
    block = max(SHARD_BLOCK, codec.block)
    if first_index % block:
        raise ValueError(
            f"first_index must be a multiple of {block} for codec {codec.spec!r} when reproducible, "
            f"got {first_index}"
        )
    if feedback is not None and feedback.kind == "ef21":
        raise ValueError("feedback must be 'ef14' or absent when reproducible, got 'ef21'")


def check_array(what: str, x: Any) -> None:
    """Raise TypeError for what is not an array that can travel.

    Examples
    --------
    >>> check_array("out", [1, 2])
    Traceback (most recent call last):
    TypeError: out must be an array of numbers, got list
    """
    if not isinstance(x, np.ndarray) or x.dtype.hasobject:
        raise TypeError(f"{what} must be an array of numbers, got {_kind(x)}")


def _kind(x: Any) -> str:
    if isinstance(x, np.generic):
        return f"a scalar of {x.dtype}"
    return str(x.dtype) if isinstance(x, np.ndarray) else type(x).__name__


def check_travels(x: Any, codec: Codec) -> None:
    """Raise TypeError for what this codec cannot carry: "raw" takes any numbers, others floats."""
    check_array("x", x)
    if codec.spec != "raw" and x.dtype.kind != "f":
        raise TypeError(f"x must be an array of floats for codec {codec.spec!r}, got {x.dtype}")


def check_broadcast(x: Any, root: Any, size: int, codec: Codec) -> None:
    """Raise what is wrong with the arguments of a broadcast."""
    check_travels(x, codec)
    if not isinstance(root, (int, np.integer)):
        raise TypeError(f"root must be an integer, got {root!r}")
    if not 0 <= root < size:
        raise ValueError(f"root must be in 0…{size - 1}, got {root}")


def extents_of(shape: Any) -> tuple[int, ...]:
    """Return a shape as a tuple.

    Examples
    --------
    >>> extents_of(np.int64(3)), extents_of([3, 2])
    ((3,), (3, 2))
    """
    try:
        return tuple(map(index, shape)) if isinstance(shape, (tuple, list)) else (index(shape),)
    except TypeError:
        raise TypeError(f"shape must be an integer or a tuple of integers, got {shape!r}") from None


def cut(n: int, size: int, codec: Codec, block: int | None) -> tuple[list[tuple[int, int]], int]:
    """Return the bounds of the shards of n values, and the block at whose multiples they lie.

    Examples
    --------
    >>> cut(300, 2, find_codec("int8"), None)
    ([(0, 128), (128, 300)], 128)
    """
    step = max(SHARD_BLOCK, codec.block) if block is None else block
    if not isinstance(step, (int, np.integer)):
        raise TypeError(f"block must be an integer, got {step!r}")
    if step < 1:
        raise ValueError(f"block must be at least 1, got {step}")
    if step % codec.block:
        raise ValueError(f"block must be a multiple of {codec.block} for codec {codec.spec!r}, got {step}")
    return shard_bounds(n, size, step), step


def flattened(x: NDArray[Any], dtype: Any = None) -> NDArray[Any]:
    """Return x[n], C-contiguous, of its own or another dtype. What that cannot hold is infinite.

    Examples
    --------
    >>> flattened(np.array([[1.0, 1e300]]), np.float32).tolist()
    [1.0, inf]
    """
    if dtype is None or x.dtype == dtype:
        return np.ascontiguousarray(x).reshape(-1)
    with np.errstate(over="ignore"):  # whoever sums judges the result
        return np.ascontiguousarray(x, dtype).reshape(-1)


def check_shard(what: str, shard: NDArray[Any], whole: NDArray[Any], bounds: tuple[int, int]) -> None:
    """Raise ValueError if an array is not this rank's shard of another."""
    check_array(what, shard)
    n = bounds[1] - bounds[0]
    if shard.size != n or shard.dtype != whole.dtype:
        raise ValueError(
            f"{what} must hold {n} values of {whole.dtype}, this rank's shard, "
            f"got {shard.size} of {shard.dtype}"
        )


def describe_bad_value(x: NDArray[Any], rank: int) -> str:
    """Name the first value that is not finite.

    Examples
    --------
    >>> describe_bad_value(np.array([1.0, np.inf]), 2)
    'x[1] of rank 2 is inf'
    """
    bad = np.flatnonzero(~np.isfinite(x))
    return f"x[{bad[0]}] of rank {rank} is {x[bad[0]]}" if bad.size else ""
