"""PyTorch: its quantizers, the FBGEMM packers behind its embedding ops, and its casts."""

import warnings

import torch

from contestants.data import normal

warnings.filterwarnings("ignore")


def version() -> str:
    return torch.__version__


def quiet(call):
    """Drop the result, which the worker would take for figures."""

    def run() -> None:
        call()

    return run


def int8_encode(n: int, threads: int) -> dict:
    torch.set_num_threads(threads)
    x = torch.from_numpy(normal(n))
    rows, blocks = x.reshape(1024, -1), x.reshape(-1, 128)
    scales, zeros = torch.full((1024,), 0.03, dtype=torch.float64), torch.zeros(1024, dtype=torch.int64)
    return {
        "torch per_tensor": quiet(lambda: torch.quantize_per_tensor(x, 0.03, 0, torch.qint8)),
        "torch per_channel": quiet(lambda: torch.quantize_per_channel(rows, scales, zeros, 0, torch.qint8)),
        "torch fbgemm byte": quiet(lambda: torch.ops.quantized.embedding_bag_byte_prepack(blocks)),
    }


def int4_encode(n: int, threads: int) -> dict:
    torch.set_num_threads(threads)
    blocks = torch.from_numpy(normal(n)).reshape(-1, 128)
    return {"torch fbgemm 4bit": quiet(lambda: torch.ops.quantized.embedding_bag_4bit_prepack(blocks))}


def int8_decode(n: int, threads: int) -> dict:
    torch.set_num_threads(threads)
    codes = torch.quantize_per_tensor(torch.from_numpy(normal(n)), 0.03, 0, torch.qint8)
    return {"torch dequantize": quiet(codes.dequantize)}


def int8_decode_add(n: int, threads: int) -> dict:
    torch.set_num_threads(threads)
    codes, out = (torch.from_numpy(normal(n)) * 31).to(torch.int8), torch.zeros(n)
    return {"torch add_": quiet(lambda: out.add_(codes, alpha=0.03))}


def int4_decode(n: int, threads: int) -> dict:
    torch.set_num_threads(threads)
    packed = torch.ops.quantized.embedding_bag_4bit_prepack(torch.from_numpy(normal(n)).reshape(-1, 128))
    return {"torch fbgemm 4bit": quiet(lambda: torch.ops.quantized.embedding_bag_4bit_unpack(packed))}


def cast(dtype: torch.dtype, name: str, back: bool = False):
    def factory(n: int, threads: int) -> dict:
        torch.set_num_threads(threads)
        x = torch.from_numpy(normal(n))
        stored = x.to(dtype)
        return {name: quiet(lambda: stored.to(torch.float32) if back else x.to(dtype))}

    return factory


CASES = {
    "codecs.int8_encode": int8_encode,
    "codecs.int4_encode": int4_encode,
    "codecs.int8_decode": int8_decode,
    "codecs.int8_decode_add": int8_decode_add,
    "codecs.int4_decode": int4_decode,
    "codecs.bf16_encode": cast(torch.bfloat16, "torch .to(bfloat16)"),
    "codecs.f16_encode": cast(torch.float16, "torch .to(float16)"),
    "codecs.e4m3_encode": cast(torch.float8_e4m3fn, "torch .to(float8_e4m3fn)"),
    "codecs.e4m3_decode": cast(torch.float8_e4m3fn, "torch float8_e4m3fn.to(float32)", back=True),
}
