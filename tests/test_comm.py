"""Collectives keep their contract over every transport, world size, length and codec."""

from __future__ import annotations

import itertools
import re
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import scrimp
from scrimp.comm import Comm, single

CODECS = [
    "step:k=0.01,bits=16" if name == "step" else name
    for name in [*scrimp.codec_names(), "int4:rounding=stochastic"]
]


def values_of(rank: int, n: int, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng([rank, n]).standard_normal(n).astype(dtype)


def native_and_generic(comm: Comm) -> None:
    """The same calls through the native all-reduce and through the free functions."""
    worlds = [Comm(comm.transport, native=True), Comm(comm.transport, native=False)]
    kinds = [None, "ef14", "ef21"]
    for codec, kind, op in itertools.product(CODECS, kinds, ["mean", "sum"]):
        if kind and not scrimp.codec(codec).contractive:
            continue
        results = []
        for world in worlds:
            feedback = scrimp.ErrorFeedback(kind) if kind else None
            for n, step in itertools.product([0, 1, 129, 1009, 40000], range(2)):
                x = values_of(comm.rank, n) * (step + 1)
                world.all_reduce(x, codec=codec, op=op, feedback=feedback, name=f"{n}", raw_below=0)
                results.append(x.tobytes())
            state = feedback.state_dict()["residuals"] if feedback else {}
            results.append(b"".join(state[k].tobytes() for k in sorted(state)))
            results.append(str((world.usage.wire_bytes, world.usage.raw_bytes)))
        half = len(results) // 2
        assert results[:half] == results[half:], (codec, kind, op)
    for dtype in ("f4", "f8", "i4", "i8"):
        pair = []
        for world in worlds:
            x = (values_of(comm.rank, 20001, np.float64) * 1e6).astype(dtype)
            world.all_reduce(x, op="sum")
            pair.append(x.tobytes())
        assert pair[0] == pair[1], dtype


@pytest.mark.parametrize("size", [2, 3, 5])
def test_the_native_all_reduce_equals_the_generic_one_byte_for_byte(size: int) -> None:
    scrimp.run(native_and_generic, workers=size)


WIDE = np.float32(10.0) ** np.arange(-3, 3, 0.004, dtype=np.float32)


def reproduced(comm: Comm, order: list[int], bucket: int) -> list[bytes]:
    """The ranks hold the same three arrays in another order; the array is cut into other buckets."""
    out = []
    for codec in ("raw", "bf16", "int8", "int4:rounding=stochastic"):
        x = values_of(order[comm.rank], 1500) * WIDE
        for i in range(0, x.size, bucket):
            comm.step = 7
            comm.all_reduce(x[i : i + bucket], codec=codec, raw_below=0, reproducible=True, first_index=i)
        out.append(x.tobytes())
    return out


def test_reproducible_sums_depend_neither_on_rank_order_nor_on_buckets() -> None:
    runs = [
        scrimp.run(reproduced, workers=3, args=(order, bucket))
        for order, bucket in [([0, 1, 2], 1500), ([2, 0, 1], 1500), ([1, 2, 0], 384)]
    ]
    assert all(results == runs[0][0] for run in runs for results in run)
    exact = np.mean([values_of(r, 1500) * WIDE for r in range(3)], axis=0, dtype=np.float64)
    got = np.frombuffer(runs[0][0][0], np.float32)
    assert np.allclose(got, exact, rtol=1e-6, atol=1e-8)


def reproduced_blocks(comm: Comm) -> None:
    """Codecs of blocks above 128: cuts between their blocks change no bit, others are refused."""
    for codec in ("rot1", "rot4", "topk:ratio=0.1"):
        whole = values_of(comm.rank, 2500)
        parts = whole.copy()
        how = {"codec": codec, "raw_below": 0, "reproducible": True, "step": 5}
        comm.all_reduce(whole, **how)
        for i in range(0, parts.size, 1024):
            comm.all_reduce(parts[i : i + 1024], first_index=i, **how)
        assert whole.tobytes() == parts.tobytes()


def test_reproducible_buckets_are_cut_between_blocks_of_the_codec() -> None:
    scrimp.run(reproduced_blocks, workers=2)
    comm, x = single(), np.zeros((1, 256), np.float32)
    refused = "first_index must be a multiple of 1024 for codec 'rot4' when reproducible, got 128"
    with pytest.raises(ValueError, match=refused):
        comm.all_reduce(x, codec="rot4", reproducible=True, first_index=128)
    with pytest.raises(ValueError, match=refused):
        scrimp.comm.all_reduce_leaves(comm, x, x[0], codec="rot4", first_index=128)
    with pytest.raises(ValueError, match="multiple of 128 for codec 'q4_0' when reproducible, got 32"):
        comm.all_reduce(x, codec="q4_0", reproducible=True, first_index=32)
    with pytest.raises(ValueError, match="feedback must be 'ef14' or absent when reproducible, got 'ef21'"):
        comm.all_reduce(x, codec="rot4", reproducible=True, feedback=scrimp.ErrorFeedback("ef21"))


def reproduced_integers(comm: Comm) -> list[list[int]]:
    out = []
    for dtype in (np.int64, np.uint8):
        x = np.array([2**24 + 1, 2**40, comm.rank]).astype(dtype)
        comm.all_reduce(x, op="sum", reproducible=True)
        out.append(x.tolist())
    return out


def test_reproducible_sums_of_integers_are_exact() -> None:
    expected = [[3 * (2**24 + 1), 3 * 2**40, 3], [3, 0, 3]]
    assert scrimp.run(reproduced_integers, workers=3) == [expected] * 3


def reproduced_with_feedback(comm: Comm) -> tuple[float, float]:
    feedback = scrimp.ErrorFeedback()
    target, total, errors = values_of(comm.rank, 1000), np.zeros(1000), []
    exact = np.mean([values_of(r, 1000) for r in range(comm.size)], axis=0)
    for step in range(1, 31):
        x = target.copy()
        comm.all_reduce(x, codec="int4", feedback=feedback, name="g", raw_below=0, reproducible=True)
        total += x
        errors.append(float(np.abs(total / step - exact).max()))
    return errors[0], errors[-1]


def test_reproducible_sums_take_error_feedback() -> None:
    for first, last in scrimp.run(reproduced_with_feedback, workers=2):
        assert last < first / 12


def exact_types(comm: Comm) -> list[bytes]:
    out = []
    for dtype in (np.float32, np.float64, np.int64, np.int32, np.float16):
        x = np.asarray(values_of(comm.rank, 1001, np.float64) * 100).astype(dtype)
        comm.all_reduce(x, op="sum")
        out.append(x.tobytes())
    return out


def test_raw_sums_run_in_the_order_of_ranks() -> None:
    by_rank = scrimp.run(exact_types, workers=3)
    assert by_rank[0] == by_rank[1] == by_rank[2]
    for dtype, data in zip((np.float32, np.float64, np.int64, np.int32), by_rank[0], strict=False):
        parts = [np.asarray(values_of(r, 1001, np.float64) * 100).astype(dtype) for r in range(3)]
        assert data == ((parts[0] + parts[1]) + parts[2]).tobytes()


def strided(comm: Comm) -> None:
    base = np.zeros((50, 40))
    x = base[::2, 5:30:3].T
    x[...] = comm.rank
    comm.all_reduce(x, codec="int8", raw_below=0)
    assert (x == 0.5).all()
    assert base.sum() == x.sum()


def test_strided_float64_is_reduced_in_place() -> None:
    scrimp.run(strided, workers=2)


def other_operations(comm: Comm) -> bytes:
    n = 1003
    bounds = scrimp.shard_bounds(n, comm.size, 128)
    begin, end = bounds[comm.rank]
    x = values_of(comm.rank, n)
    whole = x.copy()
    comm.all_reduce(whole)
    shard = np.empty(end - begin, np.float32)
    comm.reduce_scatter(x, shard)
    assert (shard == whole[begin:end]).all()
    out = np.empty(n, np.float32)
    comm.all_gather(shard, out)
    assert (out == whole).all()
    comm.all_gather(shard, out, codec="bf16")
    assert (out == scrimp.codec("bf16").decode(scrimp.codec("bf16").encode(whole), n)).all()
    y = np.arange(12.0).reshape(3, 4)[:, ::2] + comm.rank
    comm.broadcast(y, root=comm.size - 1)
    assert (y == np.arange(12.0).reshape(3, 4)[:, ::2] + comm.size - 1).all()
    texts = comm.all_gather_bytes(b"r" * comm.rank)
    assert texts == [b"r" * r for r in range(comm.size)]
    comm.barrier()
    return out.tobytes()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_reduce_scatter_then_all_gather_is_all_reduce(size: int) -> None:
    assert len(set(scrimp.run(other_operations, workers=size))) == 1


def counted(comm: Comm) -> scrimp.Usage:
    x = np.ones(1280 * comm.size, np.float32)
    comm.all_reduce(x, codec="int4", raw_below=0)
    comm.all_reduce(x[:10], codec="int4")
    return comm.usage


def test_usage_counts_payload_and_scales_and_headers_apart() -> None:
    for usage in scrimp.run(counted, workers=2):
        assert usage.wire_bytes == 2 * 1280 // 128 * 68 + 10 * 4
        assert usage.raw_bytes == 2 * 1280 * 4 + 10 * 4
        assert 0 < usage.header_bytes < 200


def averaged_with_feedback(comm: Comm, kind: str) -> list[float]:
    feedback = scrimp.ErrorFeedback(kind)
    target = values_of(comm.rank, 2000)
    exact = np.mean([values_of(r, 2000) for r in range(comm.size)], axis=0)
    total = np.zeros(2000)
    errors = []
    for step in range(1, 41):
        x = target.copy()
        comm.all_reduce(x, codec="int4", feedback=feedback, name="g", raw_below=0)
        total += x
        estimate = total / step if kind == "ef14" else x
        errors.append(float(np.abs(estimate - exact).max()))
    return errors


@pytest.mark.parametrize("kind", ["ef14", "ef21"])
def test_error_feedback_loses_nothing_in_the_long_run(kind: str) -> None:
    for errors in scrimp.run(averaged_with_feedback, workers=3, args=(kind,)):
        assert errors[-1] < errors[0] / 15


def overflow(comm: Comm) -> str:
    x = np.zeros(1000, np.float32)
    x[900] = 1e6 * comm.rank
    begin, end = scrimp.shard_bounds(x.size, comm.size, 128)[comm.rank]
    mine = np.empty(end - begin, np.float32)
    said = []
    for world in (comm, Comm(comm.transport, native=False)):
        for call in (
            lambda codec, world=world: world.all_reduce(x, codec=codec, raw_below=0),
            lambda codec, world=world: world.reduce_scatter(x, mine, codec=codec),
        ):
            with pytest.raises(ValueError, match="cannot be encoded") as caught:
                call("step:k=1,bits=8")
            said.append(str(caught.value).partition(": ")[2])
    comm.barrier()
    assert len(set(said)) == 1
    return said[0]


def test_a_value_beyond_the_codec_is_the_same_error_on_all() -> None:
    said = "x[900] of rank 1 cannot be encoded by step:k=1.0; nothing was written on any rank"
    assert scrimp.run(overflow, workers=3) == [said] * 3


def too_large_for_half(comm: Comm) -> list[str]:
    """60,000 fits into float16, twice that does not; of the shards only that of rank 1 overflows."""
    outcomes = []
    for codec, mode in itertools.product(("raw", "bf16"), ("raise", "skip", "propagate")):
        x, out = np.ones(1280, np.float16), np.full(640, 7, np.float16)
        x[1000] = 60_000
        for call in (
            lambda x=x, **how: comm.all_reduce(x, raw_below=0, **how),
            lambda x=x, out=out, **how: comm.reduce_scatter(x, out, **how),
        ):
            before = x.copy()
            try:
                call(codec=codec, op="sum", nonfinite=mode)
                outcomes.append(f"{np.isinf(x).sum()} {x[0]}")
            except ValueError as error:
                assert (x == before).all()
                outcomes.append(str(error).partition(":")[2])
            x[...] = before
    return outcomes


def test_a_sum_that_float16_cannot_hold_is_not_finite_on_all_ranks() -> None:
    first, second = scrimp.run(too_large_for_half, workers=2)
    refused = " the result is too large for its type; nothing was written on any rank"
    assert first == second
    assert first[:6] == first[6:] == [refused, refused, "0 0.0", "0 1.0", "1 2.0", "0 1.0"]


def without_warnings(comm: Comm) -> None:
    """Values that float16 or float32 cannot hold are infinite: the call judges that, nothing else does."""
    wide, half = np.full(3, 1e300), np.full(3, 60_000, np.float16)
    out = np.zeros(3 * comm.rank)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for world in (comm, Comm(comm.transport, native=False)):
            for call in (
                lambda world=world: world.all_reduce(wide, codec="int4", raw_below=0),
                lambda world=world: world.all_reduce(wide, reproducible=True),
                lambda world=world: world.all_reduce(half, op="sum"),
                lambda world=world: world.reduce_scatter(wide, out, codec="int4"),
                lambda world=world: scrimp.comm.all_reduce_leaves(world, wide[np.newaxis], wide.copy()),
            ):
                with pytest.raises(ValueError, match="nothing was written on any rank"):
                    call()
            world.all_reduce(half, op="sum", nonfinite="propagate")
            assert np.isinf(half).all()
            half[:] = 60_000


def test_what_is_judged_anyway_is_no_warning() -> None:
    scrimp.run(without_warnings, workers=2)


def other_codecs(comm: Comm, folder: Path) -> None:
    x = np.ones(5000, np.float32)
    with pytest.raises(scrimp.CommError) as caught:
        comm.all_reduce(x, codec=["int8", "int4"][comm.rank], raw_below=0)
    (folder / f"{comm.rank}").write_text(str(caught.value))
    raise caught.value


def test_nobody_is_told_that_it_is_itself_in_another_collective(tmp_path: Path) -> None:
    with pytest.raises(scrimp.CommError):
        scrimp.run(other_codecs, workers=2, args=(tmp_path,))
    for rank in range(2):
        other = rf"(rank {1 - rank}|a peer of rank {rank}) is in another collective"
        assert re.match(other, (tmp_path / f"{rank}").read_text())


def wait_for_a_late_rank(comm: Comm) -> float:
    if comm.rank == 1:
        time.sleep(1)
    before = time.process_time()
    comm.barrier()
    return time.process_time() - before


def test_waiting_does_not_burn_a_core() -> None:
    assert scrimp.run(wait_for_a_late_rank, workers=2)[0] < 0.5


def from_two_threads(comm: Comm, refused: Path) -> list[str]:
    """Rank 1 comes late, so that both threads of rank 0 are inside."""
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            comm.barrier()
        except RuntimeError as error:
            errors.append(error)

    if comm.rank == 0:
        threads = [threading.Thread(target=enter) for _ in range(2)]
        for thread in threads:
            thread.start()
        while not errors:
            time.sleep(0.001)
        refused.touch()
        for thread in threads:
            thread.join()
    else:
        while not refused.exists():
            time.sleep(0.001)
        comm.barrier()
    comm.barrier()
    return [str(error) for error in errors]


def test_two_threads_in_one_group_are_refused(tmp_path: Path) -> None:
    first, second = scrimp.run(from_two_threads, workers=2, args=(tmp_path / "refused",))
    assert first == ["another thread of this process is in a collective of the same group"]
    assert second == []


def test_wrong_arguments_are_named() -> None:
    comm = single()
    x = np.zeros(4, np.float32)
    with pytest.raises(ValueError, match="op must be"):
        comm.all_reduce(x, op="max")
    with pytest.raises(TypeError, match="array of numbers"):
        comm.all_reduce([1.0])
    with pytest.raises(TypeError, match="int64"):
        comm.all_reduce(np.zeros(4, np.int64))
    with pytest.raises(ValueError, match="root"):
        comm.broadcast(x, root=1)
    with pytest.raises(ValueError, match="this rank's shard"):
        comm.reduce_scatter(x, np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="unknown codec"):
        comm.all_reduce(x, codec="int7")
    with pytest.raises(ValueError, match="nonfinite must be 'raise', 'skip' or 'propagate', got 'x'"):
        comm.all_reduce(x, nonfinite="x")
    with pytest.raises(ValueError, match="nonfinite must be"):
        comm.reduce_scatter(x, x.copy(), nonfinite="x")
    with pytest.raises(TypeError, match="root must be an integer, got 'a'"):
        comm.broadcast(x, root="a")
    for bad in (np.zeros(4, np.int32), np.zeros(4, bool)):
        for call in (comm.all_reduce, comm.broadcast, lambda x, **how: comm.all_gather(x, x.copy(), **how)):
            with pytest.raises(TypeError, match=f"^x must be an array of (floats|numbers).*got {bad.dtype}$"):
                call(bad, codec="int8")
    for block in (0, -128):
        with pytest.raises(ValueError, match=f"block must be at least 1, got {block}"):
            comm.reduce_scatter(x, x.copy(), block=block)
    with pytest.raises(TypeError, match=r"block must be an integer, got 1\.5"):
        comm.all_gather(x, x.copy(), block=1.5)


WRONG = [
    ({"feedback": "ef14"}, "feedback must be an ErrorFeedback(...) or None, got 'ef14'"),
    ({"name": 3}, "name must be a str or None, got 3"),
    ({"first_index": -1}, "first_index must be >= 0 and below 2**64, got -1"),
    ({"first_index": 1.5}, "first_index must be a whole number, got 1.5"),
    ({"step": -1}, "step must be >= 0 and below 2**64, got -1"),
    ({"step": 1.5}, "step must be a whole number, got 1.5"),
    ({"raw_below": "a"}, "raw_below must be a whole number, got 'a'"),
    ({"raw_below": -1}, "raw_below must be >= 0 and below 2**64, got -1"),
]


def wrong_arguments(comm: Comm) -> None:
    """The same words on all ranks, through whatever path, and nothing is sent."""
    x = np.ones(3, np.float32)
    for world in (comm, Comm(comm.transport, native=False)):
        for (how, said), codec in itertools.product(WRONG, ("raw", "int4")):
            for calls in ({}, {"reproducible": True}):
                with pytest.raises((TypeError, ValueError), match=f"^{re.escape(said)}$"):
                    world.all_reduce(x, **{"codec": codec, "raw_below": 0, **calls, **how})
    for call in (comm.broadcast, lambda x, name: comm.all_gather(x, x.copy(), name=name)):
        with pytest.raises(TypeError, match=r"^name must be a str or None, got 3$"):
            call(x, name=3)
    assert (comm.step, comm.usage) == (0, scrimp.Usage())
    comm.barrier()


@pytest.mark.parametrize("size", [1, 2])
def test_wrong_arguments_of_a_call_are_named_before_anything_is_sent(size: int) -> None:
    scrimp.run(wrong_arguments, workers=size)


@pytest.mark.parametrize(
    ("bad", "got"), [([1, 2], "list"), (np.float32(1), "a scalar of float32"), (np.array([{}]), "object")]
)
def test_what_is_no_array_is_the_same_error_everywhere(bad: object, got: str) -> None:
    comm = single()
    x = np.zeros(2, np.float32)
    calls = {
        "x": [
            lambda: comm.all_reduce(bad),
            lambda: comm.broadcast(bad),
            lambda: comm.reduce_scatter(bad, x),
            lambda: comm.all_gather(bad, x),
        ],
        "out": [lambda: comm.reduce_scatter(x, bad), lambda: comm.all_gather(x, bad)],
    }
    for what, several in calls.items():
        for call in several:
            with pytest.raises(TypeError, match=f"^{what} must be an array of numbers, got {got}$"):
                call()


def odd_shapes(comm: Comm) -> None:
    for shape in (np.int64(3), [3], (np.int32(3),)):
        assert comm.empty(shape).shape == (3,)
    for shape in (2.5, "a", (1, "a")):
        with pytest.raises(TypeError, match="shape must be an integer or a tuple of integers, got"):
            comm.empty(shape)


@pytest.mark.parametrize("workers", [1, 2])
def test_shapes_are_what_numpy_takes(workers: int) -> None:
    scrimp.run(odd_shapes, workers)


@pytest.mark.parametrize(
    ("n", "size", "block"), [(0, 3, 4), (1, 3, 4), (10, 3, 4), (4096 * 5 + 1, 4, 4096), (7, 7, 1)]
)
def test_shards_cover_everything_on_block_boundaries(n: int, size: int, block: int) -> None:
    bounds = scrimp.shard_bounds(n, size, block)
    assert len(bounds) == size
    assert [b for b, _ in bounds] == [0] + [e for _, e in bounds[:-1]]
    assert bounds[-1][1] == n
    assert all(e % block == 0 or e == n for _, e in bounds)
