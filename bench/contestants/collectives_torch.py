"""All-reduce of fp32 by torch.distributed's gloo and by the communication hooks of its DDP.

One thread a rank. The hooks get what DDP would give them: a bucket with one weight matrix. Those that do not
run on gloo are named with their error.
"""

from __future__ import annotations

import os
import sys
import tempfile

import torch

from contestants.data import normal
from contestants.ranks import Calls, Cases, serve, workers
from scrimp.comm import Comm

MISSING: set[str] = set()  # hooks that have been named


def version() -> str:
    return torch.__version__


class Bucket:
    """As much of a GradBucket as the hooks ask for."""

    def __init__(self, flat: torch.Tensor) -> None:
        self._flat = flat
        self._matrix = flat.view(1 << (flat.numel().bit_length() // 2), -1)

    def buffer(self) -> torch.Tensor:
        return self._flat

    def set_buffer(self, flat: torch.Tensor) -> None:
        self._flat.copy_(flat)

    def gradients(self) -> list[torch.Tensor]:
        return [self._matrix]

    parameters = gradients

    def index(self) -> int:
        return 0

    def is_last(self) -> bool:
        return True


def hooks(group) -> dict:
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook, quantization_hooks

    power = {
        f"torch PowerSGD-{rank}": (
            powerSGD_hook.PowerSGDState(group, rank, start_powerSGD_iter=2),
            powerSGD_hook.powerSGD_hook,
        )
        for rank in (1, 2)
    }
    return {
        "torch fp16 hook": (group, default_hooks.fp16_compress_hook),
        **power,
        "torch 8-bit hook": (group, quantization_hooks.quantization_pertensor_hook),
        "torch 8-bit per channel": (group, quantization_hooks.quantization_perchannel_hook),
    }


def job(comm: Comm, address: str, folder: str) -> None:
    import torch.distributed as dist

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    store = f"file://{folder}/store{comm.size}"
    dist.init_process_group("gloo", init_method=store, rank=comm.rank, world_size=comm.size)

    def make(n: int) -> Calls:
        x = torch.from_numpy(normal(n))
        calls = {"gloo fp32": lambda: dist.all_reduce(x) and None}
        for name, (state, hook) in hooks(dist.group.WORLD).items():
            call = call_of(hook, state, Bucket(x))
            if runs(comm, name, call):
                calls[name] = call
        return calls

    serve(address, make, dist.barrier)


def call_of(hook, state, bucket: Bucket):
    return lambda: bucket.set_buffer(hook(state, bucket).wait()) and None


def runs(comm: Comm, name: str, call) -> bool:
    """Try a hook, three times: PowerSGD begins with plain sums."""
    try:
        for _ in range(3):
            call()
    except Exception as error:
        if comm.rank == 0 and name not in MISSING:
            MISSING.add(name)
            why = str(error).splitlines()[0].rpartition("callback: ")[2]
            print(f"does not run on gloo: {name} ({why})", file=sys.stderr)
        return False
    return True


CASES = {"collectives.all_reduce": Cases(workers(job, tempfile.mkdtemp())).all_reduce}
