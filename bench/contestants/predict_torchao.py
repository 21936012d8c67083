"""torchao: layers whose weights are int8, or int4 in groups of 128; rows as they are or int8."""

import copy
import logging
import warnings

import torch
import torchao
from torchao import quantization

from contestants.products import load, with_error

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

CONFIGS = {
    "int8": {
        "torchao int8 weights": ("Int8WeightOnlyConfig", {}),
        "torchao int8 weights, int8 rows": ("Int8DynamicActivationInt8WeightConfig", {}),
    },
    "int4": {
        "torchao int4 weights g128": (
            "IntxWeightOnlyConfig",
            {"weight_dtype": torch.int4, "granularity": quantization.PerGroup(128)},
        ),
        "torchao int4 weights, int8 rows": (
            "Int8DynamicActivationIntxWeightConfig",
            {"weight_dtype": torch.int4, "weight_granularity": quantization.PerGroup(128)},
        ),
    },
}


def version() -> str:
    return torchao.__version__


def product(kind: str):
    def factory(threads: int, rows: int, d: int, k: int) -> dict:
        torch.set_num_threads(threads)
        problem = load(rows, d, k)
        x = torch.from_numpy(problem.X)
        layer = torch.nn.Linear(d, k, bias=False)
        layer.weight = torch.nn.Parameter(torch.from_numpy(problem.W.copy()), requires_grad=False)
        plain = torch.nn.Sequential(layer)

        def variant(name: str, options: dict):
            model = copy.deepcopy(plain)
            quantization.quantize_(model, getattr(quantization, name)(**options))

            def run() -> torch.Tensor:
                with torch.inference_mode():
                    return model(x)

            return with_error(run, problem)

        return {label: variant(*config) for label, config in CONFIGS[kind].items()}

    return factory


CASES = {"predict.int8": product("int8"), "predict.int4": product("int4")}
