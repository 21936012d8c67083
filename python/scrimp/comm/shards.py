"""Who owns which part of an array."""

from __future__ import annotations

import itertools
from functools import lru_cache


def shard_bounds(n: int, size: int, block: int = 1) -> list[tuple[int, int]]:
    """Cut n values into `size` contiguous shards whose boundaries are multiples of `block`.

    Parameters
    ----------
    n : int
        Number of values (or rows).
    size : int
        Number of shards; shard r belongs to rank r.
    block : int, default 1
        Every boundary but the last is a multiple of it. Whole blocks are spread as evenly as they can be;
        shards may be empty.

    Returns
    -------
    list of (int, int)
        (begin, end) of each shard; they cover [0, n) in order.

    Examples
    --------
    >>> shard_bounds(10, 2, block=4)
    [(0, 4), (4, 10)]
    >>> shard_bounds(3, 2, block=4)
    [(0, 0), (0, 3)]
    """
    if n < 0 or size < 1 or block < 1:
        raise ValueError(f"need n >= 0, size >= 1 and block >= 1, got n={n}, size={size}, block={block}")
    return list(_bounds(n, size, block))


@lru_cache(maxsize=1024, typed=True)  # small calls would spend a tenth of their time here
def _bounds(n: int, size: int, block: int) -> tuple[tuple[int, int], ...]:
    n_blocks = -(-n // block)
    cuts = [min(n, n_blocks * r // size * block) for r in range(size + 1)]
    return tuple(itertools.pairwise(cuts))
