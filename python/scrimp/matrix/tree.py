"""Sums over rows, the same to the last bit for every split of them: leaves of 4,096 rows in a binary tree.

A leaf's own sum is made by a kernel in a fixed order. Leaves then merge by their global number: node (h, i)
is the sum of the leaves i·2ʰ … (i+1)·2ʰ − 1, always added as left half + right half. Who holds which leaves
changes nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from scrimp import _core
from scrimp.errors import CodecError

LEAF_ROWS = _core.LEAF_ROWS

_HEAD = struct.Struct("<4sIQ")  # magic, number of nodes, width
_NODE = struct.Struct("<QQ")  # height, index
_MAGIC = b"sctr"


class TreeSum:
    """A sum of vectors over leaves of rows, as the fewest complete nodes of the tree.

    Parameters
    ----------
    width : int
        Length of the vectors.
    nodes : mapping of (height, index) to float64 array of that length
        Disjoint nodes. Siblings are merged.

    Examples
    --------
    >>> leaves = np.array([[0.1], [0.2], [0.3]])
    >>> whole = TreeSum.from_leaves(leaves, 0)
    >>> parts = [TreeSum.from_leaves(leaves[:1], 0), TreeSum.from_leaves(leaves[1:], 1)]
    >>> TreeSum.merge(parts).total() == whole.total()
    array([ True])
    """

    __slots__ = ("_nodes", "width")

    def __init__(self, width: int, nodes: Mapping[tuple[int, int], NDArray[np.float64]]) -> None:
        self.width = width
        self._nodes = _merge_siblings(dict(nodes))

    @classmethod
    def from_leaves(cls, leaf_sums: NDArray[np.float64], first_leaf: int) -> TreeSum:
        """Sum consecutive leaves.

        Parameters
        ----------
        leaf_sums : float64[n_leaves, width]
            One row a leaf.
        first_leaf : int
            Global number of the first one.
        """
        nodes = {}
        height, index, level = 0, first_leaf, leaf_sums
        while len(level):
            if index % 2:
                nodes[height, index] = level[0].copy()
                level, index = level[1:], index + 1
            if len(level) % 2:
                nodes[height, index + len(level) - 1] = level[-1].copy()
                level = level[:-1]
            height, index, level = height + 1, index // 2, level[0::2] + level[1::2]
        return cls(leaf_sums.shape[1], nodes)

    @classmethod
    def merge(cls, parts: Iterable[TreeSum]) -> TreeSum:
        """Sum over the leaves of all parts, in any order.

        Raises
        ------
        ValueError
            If two parts hold the same leaf, or vectors of different lengths.
        """
        parts = list(parts)
        if not parts:
            raise ValueError("parts must hold at least one TreeSum, got none")
        widths = sorted({part.width for part in parts})
        if len(widths) > 1:
            raise ValueError(f"parts must have one width, got {widths}")
        nodes = sorted((item for part in parts for item in part._nodes.items()), key=_first_leaf)
        for ((height, index), _), after in pairwise(nodes):
            if (index + 1) << height > _first_leaf(after):
                raise ValueError(f"parts overlap: leaf {_first_leaf(after)} is in two of them")
        return cls(widths[0], dict(nodes))

    def total(self) -> NDArray[np.float64]:
        """Sum over all leaves, which must be 0 … L − 1 without a gap.

        Returns
        -------
        float64[width]
            Zeros when there is no leaf.

        Raises
        ------
        ValueError
            If leaves are missing.
        """
        leaf = 0
        vectors = []
        for (height, index), vector in sorted(self._nodes.items(), key=_first_leaf):
            if index << height != leaf:
                raise ValueError(f"leaf {leaf} is missing: total() needs all leaves from 0 on")
            leaf += 1 << height
            vectors.append(vector)
        sum_ = np.zeros(self.width) if not vectors else vectors.pop().copy()
        while vectors:
            sum_ = vectors.pop() + sum_
        return sum_

    def to_bytes(self) -> bytes:
        """Write all nodes, little-endian."""
        nodes = sorted(self._nodes.items(), key=_first_leaf)
        keys = b"".join(_NODE.pack(*key) for key, _ in nodes)
        vectors = b"".join(vector.astype("<f8").tobytes() for _, vector in nodes)
        return _HEAD.pack(_MAGIC, len(nodes), self.width) + keys + vectors

    @classmethod
    def from_bytes(cls, data: bytes) -> TreeSum:
        """Read what `to_bytes` wrote; CodecError if it is anything else."""
        if len(data) < _HEAD.size:
            raise CodecError(f"a TreeSum has at least {_HEAD.size} bytes, got {len(data)}")
        magic, n_nodes, width = _HEAD.unpack_from(data)
        begin = _HEAD.size + n_nodes * _NODE.size
        if magic != _MAGIC or len(data) != begin + n_nodes * width * 8:
            raise CodecError(f"not a TreeSum of {n_nodes} nodes of {width} values: {len(data)} bytes")
        keys = _NODE.iter_unpack(data[_HEAD.size : begin])
        vectors = np.frombuffer(data, "<f8", offset=begin).reshape(n_nodes, width).astype(np.float64)
        return cls(width, dict(zip(keys, vectors, strict=True)))


def _first_leaf(item: tuple[tuple[int, int], NDArray[np.float64]]) -> int:
    (height, index), _ = item
    return index << height


def _merge_siblings(
    nodes: dict[tuple[int, int], NDArray[np.float64]],
) -> dict[tuple[int, int], NDArray[np.float64]]:
    pending = sorted(nodes)
    while pending:
        height, index = pending.pop(0)
        left, right = index & ~1, index | 1
        if (height, left) in nodes and (height, right) in nodes:
            parent = nodes.pop((height, left)) + nodes.pop((height, right))
            nodes[height + 1, index // 2] = parent
            pending.append((height + 1, index // 2))
    return nodes
