"""The DistributedDataParallel hook: fewer bytes, the same loss, and runs that continue bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scrimp
from scrimp.comm import Comm

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers

STEPS = 30


def digits() -> tuple[Any, Any]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return torch.from_numpy((x / 16).astype(np.float32)), torch.from_numpy(y)


def make_ddp(state: Any) -> Any:
    from scrimp.torch import compression_hook

    torch.manual_seed(0)
    layers = [torch.nn.Linear(64, 160), torch.nn.ReLU(), torch.nn.Linear(160, 120), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(120, 10))
    ddp = torch.nn.parallel.DistributedDataParallel(net, bucket_cap_mb=0.05)
    if state is not None:
        ddp.register_comm_hook(state, compression_hook)
    return ddp


def train(ddp: Any, rank: int, size: int, steps: range) -> float:
    x, y = digits()
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.3)
    for step in steps:
        rows = torch.arange(step * 64, step * 64 + 64) % (1500 // size) * size + rank
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(ddp(x[rows]), y[rows]).backward()
        optimizer.step()
    return float(torch.nn.functional.cross_entropy(ddp.module(x), y))


def weights(ddp: Any) -> bytes:
    return b"".join(p.detach().numpy().tobytes() for p in ddp.parameters())


def work(comm: Comm, folder: str) -> dict[str, Any]:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=comm.rank, world_size=comm.size
    )
    from scrimp.torch import CompressionState

    plain = train(make_ddp(None), comm.rank, comm.size, range(STEPS))
    state = CompressionState("int4", "ef14", raw_below=4096)
    ddp = make_ddp(state)
    compressed = train(ddp, comm.rank, comm.size, range(STEPS))

    first = CompressionState("int4:rounding=stochastic", "ef14", raw_below=4096)
    whole = make_ddp(first)
    train(whole, comm.rank, comm.size, range(6))
    saved = (first.state_dict(), whole.module.state_dict())
    saved = (saved[0], {k: v.clone() for k, v in saved[1].items()})
    train(whole, comm.rank, comm.size, range(6, 10))
    second = CompressionState("int4:rounding=stochastic", "ef14", raw_below=4096)
    resumed = make_ddp(second)
    resumed.module.load_state_dict(saved[1])
    second.load_state_dict(saved[0])
    train(resumed, comm.rank, comm.size, range(6, 10))

    nan = make_ddp(CompressionState("int4"))
    loss = nan(torch.full((4, 64), float("nan") if comm.rank else 0.5)).sum()
    loss.backward()
    return {
        "plain": plain,
        "compressed": compressed,
        "weights": weights(ddp),
        "ratio": state.usage.raw_bytes / state.usage.wire_bytes,
        "continues": weights(whole) == weights(resumed),
        "nan": [bool(p.grad.isnan().any()) for p in nan.parameters()],
    }


@pytest.fixture(scope="module", params=[2, 3])
def by_rank(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return scrimp.run(work, workers=request.param, args=(str(tmp_path_factory.mktemp("ddp")),))


def test_training_reaches_the_uncompressed_loss_with_equal_weights_on_all_ranks(
    by_rank: list[dict[str, Any]],
) -> None:
    for result in by_rank:
        assert result["compressed"] <= 1.02 * result["plain"]
        assert result["weights"] == by_rank[0]["weights"]


def test_gradients_travel_in_a_seventh_of_the_bytes(by_rank: list[dict[str, Any]]) -> None:
    assert all(result["ratio"] > 6 for result in by_rank)  # biases go raw


def test_a_loaded_state_continues_bit_for_bit_although_buckets_are_rebuilt(
    by_rank: list[dict[str, Any]],
) -> None:
    assert all(result["continues"] for result in by_rank)


def test_nan_reaches_all_ranks_as_gradient_scalers_expect(by_rank: list[dict[str, Any]]) -> None:
    assert all(any(result["nan"]) and result["nan"] == by_rank[0]["nan"] for result in by_rank)


def test_states_of_other_codecs_are_refused() -> None:
    from scrimp.torch import CompressionState

    with pytest.raises(ValueError, match="int8"):
        CompressionState("int4").load_state_dict(CompressionState("int8").state_dict())
    with pytest.raises(ValueError, match="not contractive"):
        CompressionState("int2")


def test_tensors_without_ddp() -> None:
    from scrimp.torch import all_reduce

    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        x = torch.arange(6, dtype=dtype).reshape(2, 3).T
        all_reduce(x, scrimp.comm.single(), codec="int8", op="sum")
        assert x.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_the_example_for_distributed_data_parallel_runs() -> None:
    example = Path(__file__).resolve().parent.parent / "examples" / "ddp_digits.py"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(example),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "times less" in done.stdout
