"""Train and serve models for less: sharded training, compression, quantization, distillation, and the bill.

Nothing happens at import: public names are loaded on first use.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public name -> module that defines it. No name here equals a module of the package.
_HOME = {
    "isa": "scrimp._core",
    "Codec": "scrimp.codecs",
    "ErrorFeedback": "scrimp.codecs",
    "codec": "scrimp.codecs",
    "codec_names": "scrimp.codecs",
    "pack": "scrimp.codecs",
    "quantize": "scrimp.codecs",
    "unpack": "scrimp.codecs",
    "distill": "scrimp.distillation",
    "QuantizedLinear": "scrimp.matrix",
    "QuantizedMatrix": "scrimp.matrix",
    "QuantizedTable": "scrimp.data",
    "TableBatches": "scrimp.data",
    "quantize_table": "scrimp.data",
    "gradient": "scrimp.matrix",
    "gram": "scrimp.matrix",
    "Usage": "scrimp.usage",
    "Bill": "scrimp.cost",
    "Budget": "scrimp.cost",
    "Meter": "scrimp.cost",
    "Prices": "scrimp.cost",
    "bill": "scrimp.cost",
    "plan": "scrimp.planner",
    "CodecError": "scrimp.errors",
    "minimize": "scrimp.train",
    "load": "scrimp.model_file",
    "run": "scrimp.comm",
    "shard_bounds": "scrimp.comm",
    "shared_array": "scrimp.comm",
    "CommError": "scrimp.errors",
    "BudgetExceeded": "scrimp.errors",
    "InputError": "scrimp.errors",
    "OutputError": "scrimp.errors",
    "ScrimpError": "scrimp.errors",
}

# Modules that are public by themselves: `scrimp.comm.from_mpi`.
_MODULES = frozenset({"comm"})

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return import_module(f"scrimp.{name}")
    raise AttributeError(f"module 'scrimp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
