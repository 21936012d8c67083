"""torchao affine primitives, symmetric int8 and int4 in groups of 128."""

import torch
import torchao
from torchao.quantization.quant_primitives import MappingType, choose_qparams_affine, quantize_affine

from contestants.data import normal


def version() -> str:
    return torchao.__version__


def affine(low: int, high: int, name: str):
    def factory(n: int, threads: int) -> dict:
        torch.set_num_threads(threads)
        x = torch.from_numpy(normal(n)).reshape(-1, 128)

        def encode() -> None:
            scale, zero = choose_qparams_affine(x, MappingType.SYMMETRIC, (1, 128), torch.int8, low, high)
            quantize_affine(x, (1, 128), scale, zero, torch.int8, low, high)

        return {name: encode}

    return factory


CASES = {
    "codecs.int8_encode": affine(-128, 127, "torchao int8 g128"),
    "codecs.int4_encode": affine(-8, 7, "torchao int4 g128 (unpacked)"),
}
