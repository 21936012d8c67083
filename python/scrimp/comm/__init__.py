"""Processes and collectives: transports move bytes, collectives are functions above, `Comm` holds both."""

from scrimp.comm.communicator import Comm, single
from scrimp.comm.lattice import all_reduce_leaves
from scrimp.comm.launch import run
from scrimp.comm.mpi import from_mpi
from scrimp.comm.power_sgd import PowerSGD
from scrimp.comm.shards import shard_bounds
from scrimp.comm.shared import shared_array
from scrimp.comm.torch_group import from_torch
from scrimp.comm.two_level import two_level

__all__ = [
    "Comm",
    "PowerSGD",
    "all_reduce_leaves",
    "from_mpi",
    "from_torch",
    "run",
    "shard_bounds",
    "shared_array",
    "single",
    "two_level",
]
