"""Train a small network on digits with DistributedDataParallel, once plain and once compressed.

torchrun --standalone --nproc-per-node 4 examples/ddp_digits.py
"""

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn

from scrimp.torch import CompressionState, compression_hook


def train(x: torch.Tensor, y: torch.Tensor, state: CompressionState | None) -> float:
    """Return the held-out accuracy after 300 steps of 64 rows a rank."""
    rank, size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    ddp = nn.parallel.DistributedDataParallel(model)
    if state is not None:
        ddp.register_comm_hook(state, compression_hook)
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.1)
    for step in range(300):
        rows = (torch.arange(64) * size + rank + 64 * size * step) % 1500
        optimizer.zero_grad()
        nn.functional.cross_entropy(ddp(x[rows]), y[rows]).backward()
        optimizer.step()
    return float((model(x[1500:]).argmax(1) == y[1500:]).float().mean())


def main() -> None:
    """Compare."""
    dist.init_process_group("gloo")
    data, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(data / 16).float(), torch.from_numpy(labels)
    plain = train(x, y, None)
    state = CompressionState(codec="int4", feedback="ef14")
    compressed = train(x, y, state)
    if dist.get_rank() == 0:
        sent, raw = state.usage.wire_bytes, state.usage.raw_bytes
        print(f"accuracy {plain:.4f} plain, {compressed:.4f} with int4 and error feedback")
        print(f"a rank sent {sent / 1e6:.1f} MB of {raw / 1e6:.1f} MB, {raw / sent:.1f} times less")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
