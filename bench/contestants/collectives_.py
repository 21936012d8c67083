"""All-reduce of fp32 in shared memory, by every codec that is timed, and by torch.distributed's gloo.

Inputs are private arrays; every result lies in the array that was given. gloo is started like scrimp's ranks.
"""

import os
import tempfile
from collections.abc import Callable

import scrimp
from contestants.data import normal
from contestants.ranks import Ranks
from scrimp.comm import Comm


def version() -> str:
    return scrimp.__version__


def make_scrimp(comm: Comm, n: int, codec: str, kind: str) -> Callable[[], None]:
    x = normal(n)
    feedback = scrimp.ErrorFeedback(kind) if kind else None
    return lambda: comm.all_reduce(x, codec=codec, feedback=feedback, name="x", raw_below=0)


def make_gloo(comm: Comm, n: int, half: bool, store: str) -> Callable[[], None]:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=comm.rank, world_size=comm.size)
    x = torch.from_numpy(normal(n))

    def fp32() -> None:
        dist.all_reduce(x)
        x.div_(comm.size)

    def fp16_hook() -> None:
        small = x.to(torch.float16).div_(comm.size)
        dist.all_reduce(small)
        x.copy_(small)

    return fp16_hook if half else fp32


def all_reduce(n: int, ranks: int, threads: int) -> dict:
    del threads
    ours = {"scrimp raw": ("raw", ""), "scrimp int8": ("int8", ""), "scrimp int4": ("int4", "")}
    ours["scrimp int4+ef14"] = ("int4", "ef14")
    variants = {
        name: Ranks(ranks, make_scrimp, {"n": n, "codec": codec, "kind": kind})
        for name, (codec, kind) in ours.items()
    }
    for name, half in (("gloo fp32", False), ("gloo fp16 hook", True)):
        try:
            import torch  # noqa: F401
        except ImportError:
            break
        store = os.path.join(tempfile.mkdtemp(), "store")
        variants[name] = Ranks(ranks, make_gloo, {"n": n, "half": half, "store": store})
    return variants


CASES = {"collectives.all_reduce": all_reduce}
