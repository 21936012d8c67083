"""bitsandbytes on the CPU: NF4 in blocks of 64."""

import bitsandbytes
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit

from contestants.data import normal


def version() -> str:
    return bitsandbytes.__version__


def nf4_encode(n: int, threads: int) -> dict:
    torch.set_num_threads(threads)
    x = torch.from_numpy(normal(n))

    def encode() -> None:
        quantize_4bit(x, blocksize=64, quant_type="nf4")

    return {"bitsandbytes nf4": encode}


def nf4_decode(n: int, threads: int) -> dict:
    torch.set_num_threads(threads)
    codes, state = quantize_4bit(torch.from_numpy(normal(n)), blocksize=64, quant_type="nf4")

    def decode() -> None:
        dequantize_4bit(codes, state)

    return {"bitsandbytes nf4": decode}


CASES = {"codecs.nf4_encode": nf4_encode, "codecs.nf4_decode": nf4_decode}
