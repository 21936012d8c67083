"""All-reduce of fp32 by scrimp, in shared memory: every codec that is timed, and arrays of the segment."""

from __future__ import annotations

import scrimp
from contestants.data import normal
from contestants.ranks import Calls, Cases, serve, workers
from scrimp.comm import Comm

VARIANTS = {
    "fp32": ("raw", ""),
    "int8": ("int8", ""),
    "int4": ("int4", ""),
    "rot2": ("rot2", ""),
    "int4+ef14": ("int4", "ef14"),
}


def version() -> str:
    return scrimp.__version__


def job(comm: Comm, address: str, _argument: str) -> None:
    def make(n: int) -> Calls:
        x, shared = normal(n), comm.empty(n)
        shared[...] = x
        calls = {f"scrimp {name}": call_of(comm, x, *how) for name, how in VARIANTS.items()}
        for name, array, undo in (("comm.empty", shared, True), ("fp32-no-undo", x, False)):
            calls[f"scrimp {name}"] = raw_call_of(comm, array, undo)
        return calls

    serve(address, make, comm.barrier)


def call_of(comm: Comm, x, codec: str, kind: str):
    feedback = scrimp.ErrorFeedback(kind) if kind else None
    return lambda: comm.all_reduce(x, codec=codec, feedback=feedback, name="x", raw_below=0)


def raw_call_of(comm: Comm, x, undo: bool):
    return lambda: comm.all_reduce(x, nonfinite="propagate", undo=undo)


CASES = {"collectives.all_reduce": Cases(workers(job)).all_reduce}
