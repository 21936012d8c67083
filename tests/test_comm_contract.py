"""The contract of the local engine: every world size, length, codec and operation, native as generic."""

from __future__ import annotations

import hashlib
import itertools
import os

import numpy as np
import pytest

import scrimp
from scrimp import _core
from scrimp.comm import Comm, single

CODECS = [
    "step:k=0.01,bits=16" if name == "step" else name
    for name in [*scrimp.codec_names(), "int4:rounding=stochastic"]
]
# Bits a value and the relative squared error that two legs of the coarsest codec of so many may have.
CEILINGS = [(16, 2e-3), (7, 1e-2), (6, 1e-2), (4, 0.12), (3, 0.5), (0, 3.0)]
LARGE = 2_100_001  # float32: more than 8 MiB, so in chunks


def values_of(rank: int, n: int, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng([rank, n]).standard_normal(n).astype(dtype)


def lengths(size: int) -> list[int]:
    return sorted({0, 1, size - 1, size, size + 1, 127, 128, 129, 1023, 1024, 1025})


def near(x: np.ndarray, exact: np.ndarray, codec: str) -> bool:
    ceiling = next(limit for least, limit in CEILINGS if scrimp.codec(codec).bits >= least)
    return bool(np.sum((x - exact) ** 2) <= ceiling * np.sum(exact**2))


def every_operation(world: Comm, x: np.ndarray, codec: str) -> list[bytes]:
    """All operations once; what came out."""
    total, everything, sent = x.copy(), np.zeros_like(x), x.copy()
    world.all_reduce(total, codec=codec, raw_below=0)
    begin, end = scrimp.shard_bounds(x.size, world.size, max(128, scrimp.codec(codec).block))[world.rank]
    shard = np.zeros(end - begin, np.float32)
    world.reduce_scatter(x, shard, codec=codec, op="sum")
    world.all_gather(x[begin:end], everything, codec=codec)
    world.broadcast(sent, root=world.size - 1, codec=codec)
    return [shard.tobytes(), total.tobytes(), everything.tobytes(), sent.tobytes()]


def contract(comm: Comm, long: list[str]) -> list[str]:
    """Digests of what all ranks must hold alike."""
    worlds = [Comm(comm.transport, native=True), Comm(comm.transport, native=False)]
    cases = [*itertools.product(CODECS, lengths(comm.size)), *((codec, 10**6) for codec in long)]
    digests = []
    for codec, n in cases:
        x = values_of(comm.rank, n)
        native, generic = (every_operation(world, x, codec) for world in worlds)
        assert native == generic, (codec, n)
        if n >= 1023:
            exact = np.mean([values_of(r, n) for r in range(comm.size)], axis=0, dtype=np.float64)
            assert near(np.frombuffer(native[1], np.float32), exact, codec), codec
        digests.append(hashlib.sha256(b"".join(native[1:])).hexdigest())
    usages = [(w.usage.wire_bytes, w.usage.raw_bytes) for w in worlds]
    assert usages[0] == usages[1]
    return digests


@pytest.mark.parametrize(
    ("size", "long"),
    [(1, CODECS), (2, CODECS), (3, ["raw", "int4"]), (4, ["int8"]), (5, []), (8, ["int4"])],
)
def test_all_ranks_hold_identical_bytes_near_the_mean_native_as_generic(size: int, long: list[str]) -> None:
    by_rank = scrimp.run(contract, workers=size, args=(long,))
    assert all(digests == by_rank[0] for digests in by_rank)


def other_codec_of_shards(comm: Comm, kind: str) -> None:
    """reduce_scatter with feedback, blocks and modes: native as generic, residuals too."""
    pairs = []
    for world in (Comm(comm.transport, native=True), Comm(comm.transport, native=False)):
        feedback = scrimp.ErrorFeedback(kind)
        begin, end = scrimp.shard_bounds(5001, comm.size, 1024)[comm.rank]
        out = np.zeros(end - begin, np.float64)
        results = []
        for step in range(3):
            x = values_of(comm.rank, 5001, np.float64) * (step + 1)
            world.reduce_scatter(x, out, codec="int4", feedback=feedback, name="g", block=1024)
            results.append(out.tobytes())
        pairs.append((results, {k: r.tobytes() for k, r in feedback.state_dict()["residuals"].items()}))
    assert pairs[0] == pairs[1]


@pytest.mark.parametrize("kind", ["ef14", "ef21"])
def test_reduce_scatter_keeps_the_same_residuals_native_as_generic(kind: str) -> None:
    scrimp.run(other_codec_of_shards, workers=3, args=(kind,))


def in_chunks(comm: Comm) -> str:
    """Raw sums large enough to go in chunks, of private and of shared arrays, and of both at once."""
    worlds = [Comm(comm.transport, native=True), Comm(comm.transport, native=False)]
    found = set()
    for dtype, op in [("f4", "mean"), ("f4", "sum"), ("f8", "mean"), ("i8", "sum"), ("i4", "sum")]:
        x = (values_of(comm.rank, LARGE, np.float64) * 1e6).astype(dtype)
        expected = x.copy()
        worlds[1].all_reduce(expected, op=op)
        digest = hashlib.sha256(expected.tobytes()).hexdigest()
        for shared in ("none", "all", "some", "part"):
            y = x.copy()
            if shared != "none" and (shared != "some" or comm.rank):
                y = comm.empty(LARGE + 10, dtype)[3 : 3 + LARGE]
                y = y if shared == "part" else comm.empty(LARGE, dtype)
                y[...] = x
            worlds[0].all_reduce(y, op=op)
            assert y.tobytes() == expected.tobytes(), (dtype, op, shared)
        found.add(digest)
    assert comm._group is not None
    assert comm._group.arrays_nbytes() > 0
    del y
    assert comm._group.arrays_nbytes() == 0
    return str(sorted(found))


@pytest.mark.parametrize("size", [2, 3])
def test_large_raw_sums_are_equal_wherever_the_arrays_live(size: int) -> None:
    assert len(set(scrimp.run(in_chunks, workers=size))) == 1


def many_arrays(comm: Comm) -> None:
    assert comm._group is not None
    arrays = [comm.empty((3, n), np.int16) for n in (0, 1, 5000, 100_000)]
    assert [a.shape for a in arrays] == [(3, 0), (3, 1), (3, 5000), (3, 100_000)]
    for i, array in enumerate(arrays):
        array[...] = i + 1
    assert all((array == i + 1).all() for i, array in enumerate(arrays))
    view = arrays[2][1:, 7:]
    del arrays, array
    assert comm._group.arrays_nbytes() == 32768  # a view keeps the whole array
    assert (view == 3).all()
    del view
    for _ in range(200):
        again = comm.empty(10**6)
        assert not again[::999].any()
        again[...] = 1
    del again
    assert comm._group.arrays_nbytes() == 0
    comm.barrier()
    blocks = os.fstat(comm._group.fd).st_blocks
    assert blocks * 512 < 10**6 + 2 * 262144, "pages of arrays that are gone"


def test_arrays_of_the_segment_come_zeroed_and_go_without_a_leak() -> None:
    scrimp.run(many_arrays, workers=2)


def test_an_array_of_the_segment_outlives_its_group() -> None:
    before = len(os.listdir("/proc/self/fd"))
    supervisor = _core.LocalGroup.create(1)
    group = _core.LocalGroup.join(os.dup(supervisor.fd), 0, 5.0)
    array = group.empty((100_000,), np.dtype(np.float32))
    del group, supervisor
    array += 2
    assert array.sum() == 200_000
    del array
    assert len(os.listdir("/proc/self/fd")) == before


def test_arrays_of_a_world_of_one_are_ordinary() -> None:
    assert single().empty(3, np.int8).tolist() == [0, 0, 0]
    with pytest.raises(TypeError, match="Python objects"):
        single().empty(3, object)


def constants(comm: Comm) -> None:
    total = comm.size * (comm.size + 1) / 2
    codecs = ["raw", "int8", "int4", "int2", "int4:rounding=stochastic", "rot4", "rot2", "rot1"]
    for n, codec in itertools.product([1, 2, 8, 128, 1024, 10**6], codecs):
        x = np.full(n, comm.rank + 1, np.float32)
        comm.all_reduce(x, codec=codec, op="sum", raw_below=0)
        assert (x == total).all(), (n, codec)


@pytest.mark.parametrize("size", [2, 3])
def test_constant_tensors_sum_exactly(size: int) -> None:
    scrimp.run(constants, workers=size)


def nonfinite(comm: Comm) -> list[str]:
    outcomes = []
    cases = [(codec, 1000, False) for codec in ("raw", "bf16", "int4")]
    cases += [("raw", LARGE, False), ("raw", LARGE, True), ("int4", LARGE, True)]
    for (codec, n, shared), mode in itertools.product(cases, ("raise", "skip", "propagate")):
        feedback = scrimp.ErrorFeedback() if codec == "int4" else None
        x = comm.empty(n) if shared else np.empty(n, np.float32)
        x[...] = 1
        if comm.rank == 1:
            x[700] = np.nan
        before = x.copy()
        try:
            comm.all_reduce(x, codec=codec, nonfinite=mode, raw_below=0, feedback=feedback, name="g")
        except ValueError as error:
            assert before.tobytes() == x.tobytes()
            outcomes.append(str(error))
        else:
            outcomes.append(f"{np.isnan(x).sum() > 0} {x[0]}")
        if feedback:
            assert not any(r.any() for r in feedback.state_dict().get("residuals", {}).values())
    return outcomes


def test_nan_on_one_rank_is_the_same_decision_on_all() -> None:
    by_rank = scrimp.run(nonfinite, workers=3)
    assert by_rank[0] == by_rank[1] == by_rank[2]
    expected = [
        "all_reduce of 'g': x[700] of rank 1 is nan; nothing was written on any rank",
        "False 0.0",
        "True 1.0",
    ]
    assert by_rank[0][0:6] == by_rank[0][9:15] == 2 * expected
    assert [outcome.split()[0] for outcome in by_rank[0][6:9]] == ["all_reduce", "False", "True"]


def nonfinite_shards(comm: Comm) -> list[str]:
    outcomes = []
    for codec, mode in itertools.product(("raw", "int4"), ("raise", "skip", "propagate")):
        x, out = np.ones(1280, np.float32), np.full(640, 7, np.float32)
        x[comm.rank * 9] = np.inf if comm.rank else 1
        try:
            comm.reduce_scatter(x, out, codec=codec, nonfinite=mode)
        except ValueError as error:
            assert (out == 7).all()
            outcomes.append(str(error))
        else:
            outcomes.append(f"{bool(np.isfinite(out).all())} {out[-1]}")
    return outcomes


def test_an_infinity_on_one_rank_is_the_same_decision_of_reduce_scatter() -> None:
    first, second = scrimp.run(nonfinite_shards, workers=2)
    for i in (0, 3):
        refused = "reduce_scatter: x[9] of rank 1 is inf; nothing was written on any rank"
        assert first[i] == second[i] == refused
        assert first[i + 1 : i + 3] == ["True 0.0", "False 1.0"]


def permuted(comm: Comm, order: list[int], bucket: int) -> list[bytes]:
    """The ranks hold the same arrays in another order; the array is cut into other buckets."""
    out = []
    for codec in ("raw", "f16", "int8", "int4", "rot4"):
        x = values_of(order[comm.rank], 3000)
        for i in range(0, x.size, bucket):
            comm.step = 3
            part = x[i : i + bucket]
            comm.all_reduce(part, codec=codec, raw_below=0, reproducible=True, first_index=i, op="sum")
        out.append(x.tobytes())
    return out


@pytest.mark.parametrize(("size", "orders"), [(2, [[0, 1], [1, 0]]), (5, [[0, 1, 2, 3, 4], [4, 2, 0, 1, 3]])])
def test_reproducible_sums_have_the_same_bits_for_any_order_of_ranks(
    size: int, orders: list[list[int]]
) -> None:
    runs = [scrimp.run(permuted, workers=size, args=(order, 3000)) for order in orders]
    assert all(results == runs[0][0] for run in runs for results in run)


def test_reproducible_sums_have_the_same_bits_for_any_buckets_of_whole_blocks() -> None:
    runs = [scrimp.run(permuted, workers=2, args=([0, 1], bucket)) for bucket in (3000, 1024, 2048)]
    assert all(results == runs[0][0] for run in runs for results in run)


LEAVES = 12


def leaf_sums(comm: Comm, owners: list[int]) -> list[bytes]:
    """Every leaf lies with its owner, modulo the number of ranks."""
    out = []
    codecs = ("raw", "f16", "int8", "int4:rounding=stochastic", "rot4")
    for codec, op in itertools.product(codecs, ("sum", "mean")):
        mine = [np.ldexp(values_of(leaf, 1500), leaf).reshape(30, 50) for leaf in range(LEAVES)]
        mine = [x for x, owner in zip(mine, owners, strict=True) if owner % comm.size == comm.rank]
        leaves = np.array(mine, np.float32).reshape(len(mine), 30, 50)
        result = np.zeros((30, 50), np.float32)
        scrimp.comm.all_reduce_leaves(comm, leaves, result, codec=codec, op=op, name="g")
        exact = sum(np.ldexp(values_of(leaf, 1500).astype(np.float64), leaf) for leaf in range(LEAVES))
        assert near(result.reshape(-1), exact / (LEAVES if op == "mean" else 1), codec)
        out.append(result.tobytes())
    return out


def test_sums_of_leaves_have_the_same_bits_for_any_number_of_ranks_and_any_owners() -> None:
    ways = [list(range(LEAVES)), [leaf // 4 for leaf in range(LEAVES)], [0] * LEAVES]
    runs = [scrimp.run(leaf_sums, workers=size, args=(ways[size % 3],)) for size in (1, 2, 3, 4, 5)]
    runs += [scrimp.run(leaf_sums, workers=3, args=(way,)) for way in ways]
    assert all(results == runs[0][0] for run in runs for results in run)


def bad_leaves(comm: Comm) -> str:
    leaves, out = np.ones((2, 300), np.float32), np.full(300, 7, np.float32)
    if comm.rank == 1:
        leaves[1, 200] = np.nan
    with pytest.raises(ValueError, match="nothing was written") as caught:
        scrimp.comm.all_reduce_leaves(comm, leaves, out, codec="int4")
    assert (out == 7).all()
    with pytest.raises(ValueError, match="not be empty on all ranks"):
        scrimp.comm.all_reduce_leaves(comm, leaves[:0], out)
    with pytest.raises(ValueError, match=r"of shape \(k, \*\(3,\)\), as out, got float32\(2, 300\)"):
        scrimp.comm.all_reduce_leaves(comm, leaves, out[:3])
    return str(caught.value)


def test_a_leaf_that_is_not_finite_is_the_same_error_on_all() -> None:
    assert set(scrimp.run(bad_leaves, workers=2)) == {
        "all_reduce_leaves: x[200] of rank 1 is nan; nothing was written on any rank"
    }
