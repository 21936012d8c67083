"""Processes and collectives: transports move bytes, collectives are functions above, `Comm` holds both."""

from scrimp.comm.communicator import Comm, single
from scrimp.comm.launch import run
from scrimp.comm.mpi import from_mpi
from scrimp.comm.shards import shard_bounds
from scrimp.comm.shared import shared_array
from scrimp.comm.torch_group import from_torch

__all__ = ["Comm", "from_mpi", "from_torch", "run", "shard_bounds", "shared_array", "single"]
