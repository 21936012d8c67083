"""Processes and collectives: transports move bytes, collectives are functions above, `Comm` holds both."""

from scrimp.comm.communicator import Comm, single
from scrimp.comm.launch import run
from scrimp.comm.shards import shard_bounds
from scrimp.comm.shared import shared_array

__all__ = ["Comm", "run", "shard_bounds", "shared_array", "single"]
