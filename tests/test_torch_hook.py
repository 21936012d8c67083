"""The DistributedDataParallel hook: fewer bytes, the same loss, and runs that continue bit for bit."""

from __future__ import annotations

import io
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
pytestmark = [pytest.mark.peers, pytest.mark.timeout(400)]  # four processes that train on two cores

STEPS = 400  # until the loss has settled: feedback delays what one bit cannot carry
METHODS: dict[str, dict[str, Any]] = {
    "int4": {"codec": "int4", "feedback": "ef14"},
    "rot1": {"codec": "rot1", "feedback": "ef14"},
    "powersgd": {"method": "powersgd", "rank": 2},
}
RESUMED: dict[str, dict[str, Any]] = {
    "int4": {"codec": "int4:rounding=stochastic", "feedback": "ef14"},
    "ef21": {"codec": "rot2", "feedback": "ef21"},
    "powersgd": {"method": "powersgd", "rank": 2},
}


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
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.3, weight_decay=0.01)
    for step in steps:
        optimizer.param_groups[0]["lr"] = 0.3 * (1 - step / STEPS)
        rows = torch.arange(step * 64, step * 64 + 64) % (1500 // size) * size + rank
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(ddp(x[rows]), y[rows]).backward()
        optimizer.step()
    with torch.no_grad():
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
    losses, equal, ratios = {}, {}, {}
    for name, how in METHODS.items():
        state = CompressionState(**how, raw_below=4096)
        ddp = make_ddp(state)
        steps = range(STEPS) if "codec" in how else range(100)
        losses[name] = train(ddp, comm.rank, comm.size, steps)
        equal[name] = len(set(comm.all_gather_bytes(weights(ddp)))) == 1
        ratios[name] = state.usage.raw_bytes / state.usage.wire_bytes

    nan = make_ddp(CompressionState("int4"))
    loss = nan(torch.full((4, 64), float("nan") if comm.rank else 0.5)).sum()
    loss.backward()
    return {
        "plain": plain,
        "losses": losses,
        "equal": equal,
        "ratios": ratios,
        "continues": {name: continues(comm, how) for name, how in RESUMED.items()},
        "nan": [bool(p.grad.isnan().any()) for p in nan.parameters()],
    }


def continues(comm: Comm, how: dict[str, Any]) -> bool:
    """Train on from a checkpoint of model and hook, and compare with going on."""
    from scrimp.torch import CompressionState

    first, second = (CompressionState(**how, raw_below=4096) for _ in range(2))
    whole = make_ddp(first)
    train(whole, comm.rank, comm.size, range(6))
    file = io.BytesIO()
    torch.save({"hook": first.state_dict(), "model": whole.module.state_dict()}, file)
    train(whole, comm.rank, comm.size, range(6, 10))
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = make_ddp(second)
    resumed.module.load_state_dict(saved["model"])
    second.load_state_dict(saved["hook"])
    train(resumed, comm.rank, comm.size, range(6, 10))
    return weights(whole) == weights(resumed)


@pytest.fixture(scope="module", params=[2, 4])
def by_rank(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return scrimp.run(work, workers=request.param, args=(str(tmp_path_factory.mktemp("ddp")),))


@pytest.mark.parametrize("name", ["int4", "rot1"])
def test_training_reaches_the_uncompressed_loss_within_two_percent(
    by_rank: list[dict[str, Any]], name: str
) -> None:
    assert all(result["losses"][name] <= 1.02 * result["plain"] for result in by_rank)


def test_power_sgd_trains(by_rank: list[dict[str, Any]]) -> None:
    assert all(result["losses"]["powersgd"] < 1 for result in by_rank)  # from 2.3


@pytest.mark.parametrize("name", METHODS)
def test_weights_are_equal_on_all_ranks(by_rank: list[dict[str, Any]], name: str) -> None:
    assert all(result["equal"][name] for result in by_rank)


@pytest.mark.parametrize(("name", "least"), [("int4", 6), ("rot1", 15), ("powersgd", 12)])
def test_gradients_travel_in_few_bytes(by_rank: list[dict[str, Any]], name: str, least: float) -> None:
    assert all(result["ratios"][name] > least for result in by_rank)  # biases go raw


@pytest.mark.parametrize("name", RESUMED)
def test_a_loaded_state_continues_bit_for_bit_although_buckets_are_rebuilt(
    by_rank: list[dict[str, Any]], name: str
) -> None:
    assert all(result["continues"][name] for result in by_rank)


def test_nan_reaches_all_ranks_as_gradient_scalers_expect(by_rank: list[dict[str, Any]]) -> None:
    assert all(any(result["nan"]) and result["nan"] == by_rank[0]["nan"] for result in by_rank)


def test_states_of_other_codecs_are_refused() -> None:
    from scrimp.torch import CompressionState

    with pytest.raises(ValueError, match="int8"):
        CompressionState("int4").load_state_dict(CompressionState("int8").state_dict())
    with pytest.raises(ValueError, match="not contractive"):
        CompressionState("int2")
    with pytest.raises(ValueError, match="another method"):
        CompressionState(method="powersgd").load_state_dict(CompressionState("int4").state_dict())
    with pytest.raises(ValueError, match="unknown method 'svd'; known: codec, powersgd"):
        CompressionState(method="svd")
    with pytest.raises(ValueError, match="it has no 'codec'"):
        CompressionState("int4").load_state_dict({})
    with pytest.raises(TypeError, match="rule must be callable, got 3"):
        CompressionState("int4", rule=3)
    with pytest.raises(ValueError, match="timeout must be positive, got -1"):
        CompressionState("int4", timeout=-1)
    for raw_below in (-3, 2.5, "64k"):
        with pytest.raises(ValueError, match="raw_below must be a whole number of bytes >= 0, got"):
            CompressionState("int4", raw_below=raw_below)
    with pytest.raises(TypeError, match="group must be a ProcessGroup of this rank or None, got 3"):
        CompressionState("int4", group=3)
    for how in ({"codec": "int4"}, {"feedback": "ef14"}):
        said = rf"{next(iter(how))} is not for method='powersgd': it must be absent, got '"
        with pytest.raises(ValueError, match=said):
            CompressionState(method="powersgd", **how)
    with pytest.raises(ValueError, match="rank is not for method='codec': it must be absent, got 2"):
        CompressionState("int4", rank=2)


@pytest.mark.parametrize("name", RESUMED)
def test_states_are_tensors_and_plain_values_and_those_of_arrays_load_too(name: str) -> None:
    from scrimp.torch import CompressionState

    def parts(state: Any) -> Any:
        return [p for value in state.values() for p in parts(value)] if isinstance(state, dict) else [state]

    state = CompressionState(**RESUMED[name])
    gradient = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    if state.power is not None:
        state.power.all_reduce(scrimp.comm.single(), [("p0", gradient)])
    else:
        state.feedback.encode("p0", gradient.reshape(-1), "int4")
    file = io.BytesIO()
    torch.save(state.state_dict(), file)
    file.seek(0)
    arrays = {
        "codec": state.codec.spec,
        "step": 0,
        "feedback": state.feedback and state.feedback.state_dict(),
        "power": state.power and state.power.state_dict(),
    }
    for saved in (torch.load(file, weights_only=True), arrays):
        loaded = CompressionState(**RESUMED[name])
        loaded.load_state_dict(saved)
        for a, b in zip(parts(state.state_dict()), parts(loaded.state_dict()), strict=True):
            assert type(a) is type(b)
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    assert any(isinstance(part, torch.Tensor) and part.any() for part in parts(state.state_dict()))


def hostile(comm: Comm, folder: str) -> None:
    """Unused parameters, accumulated gradients; a rule that feedback cannot take; a lost peer."""
    from scrimp.torch import CompressionState, compression_hook

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=comm.rank, world_size=comm.size
    )

    def ddp_of(state: Any) -> Any:
        torch.manual_seed(0)
        net = torch.nn.ModuleList([torch.nn.Linear(32, 32) for _ in range(3)])
        net.forward = lambda x, used: sum(net[i](x) for i in used).sum()
        ddp = torch.nn.parallel.DistributedDataParallel(net, find_unused_parameters=True)
        ddp.register_comm_hook(state, compression_hook)
        return ddp

    x = torch.randn(8, 32, generator=torch.Generator().manual_seed(comm.rank))
    ddp = ddp_of(CompressionState("int4", raw_below=1024))
    for step, used in enumerate([(0, 1), (0,), (0, 2), (0, 1, 2) if comm.rank else (0,)]):
        with ddp.no_sync():
            ddp(x + step, (0,)).backward()
        ddp(x - step, used).backward()
    gradients = b"".join(p.grad.numpy().tobytes() for p in ddp.parameters())
    equal = len(set(comm.all_gather_bytes(gradients))) == 1

    ruled = ddp_of(CompressionState("int4", raw_below=0, rule=lambda p: "int2"))
    with pytest.raises(ValueError, match="not contractive") as refused:
        ruled(x, (0, 1, 2)).backward()
    lonely = ddp_of(CompressionState("int4", raw_below=1024))
    lonely(x, (0, 1, 2)).backward()
    if comm.rank == 1:
        os._exit(9)
    with pytest.raises(RuntimeError) as lost:
        lonely(x, (0, 1, 2)).backward()
    Path(folder, "seen").write_text(f"{equal}|{refused.value}|{lost.value}")
    raise ValueError("rank 0 saw it")


def test_what_else_a_backward_pass_may_meet(tmp_path: Path) -> None:
    with pytest.raises((scrimp.CommError, ValueError)):
        scrimp.run(hostile, workers=2, args=(str(tmp_path),))
    equal, refused, lost = (tmp_path / "seen").read_text().split("|")
    assert equal == "True"
    assert "int2" in refused
    assert "CommError: rank 1 is gone" in lost
    assert "rank 0 was in all_reduce of" in lost


def test_tensors_without_ddp() -> None:
    from scrimp.torch import all_reduce

    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        x = torch.arange(6, dtype=dtype).reshape(2, 3).T
        all_reduce(x, scrimp.comm.single(), codec="int8", op="sum")
        assert x.tolist() == [[0, 3], [1, 4], [2, 5]]
    with pytest.raises(TypeError, match=r"tensor must be a torch\.Tensor, got list"):
        all_reduce([1.0], scrimp.comm.single())
    with pytest.raises(TypeError, match=r"comm must be a Comm, as from_torch\(\) returns, got None"):
        all_reduce(torch.ones(3), None)


@pytest.mark.parametrize("size", [2, 4])
def test_the_example_for_distributed_data_parallel_runs(size: int) -> None:
    example = Path(__file__).resolve().parent.parent / "examples" / "ddp_digits.py"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(size),
        str(example),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "times less" in done.stdout
