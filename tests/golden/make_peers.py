"""Record what the peers write. Needs torch, bitsandbytes, gguf, ml_dtypes and torchao."""

from pathlib import Path

import bitsandbytes.functional as bnb
import gguf
import ml_dtypes
import numpy as np
import torch
from torchao.prototype.mx_formats import config, mx_tensor

HERE = Path(__file__).resolve().parent


def block_values() -> np.ndarray:
    """Return 128 rows of 256: normal, tiny, half-integer, zero, heavy."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((128, 256)).astype(np.float32)
    x[16:32] *= np.float32(1e-3)
    x[32:48] = np.round(x[32:48] * 8) / 2
    x[48:50] = 0
    x[50:64] = rng.standard_t(2, (14, 256)).astype(np.float32)
    x[64:80] *= np.float32(1e4)
    return x


def cast_values() -> np.ndarray:
    """Return floats around every rounding boundary of the small formats, and the special ones."""
    halves = np.arange(0x10000, dtype=np.uint32) << 16
    near = np.concatenate([halves, halves + 1, halves + 0x8000, halves + 0x7FFF, halves + 0x80000 - 1])[::7]
    return near.astype(np.uint32).view(np.float32)


def microscale(x: np.ndarray, rule: str, elements: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Scales and elements of torchao, for scale rules."""
    mode = config.ScaleCalculationMode[rule.upper()]
    scale, data = mx_tensor.to_mx(torch.from_numpy(x), elements, 32, mode)
    return scale.view(torch.uint8).numpy(), data.view(torch.uint8).numpy()


def main() -> None:
    """Write peers.npz."""
    x, casts = block_values(), cast_values()
    t, c = torch.from_numpy(x), torch.from_numpy(casts)
    scale = (np.abs(x).max(1) / np.float32(127)).astype(np.float32)
    zero = torch.zeros(len(x), dtype=torch.int64)
    scale_or_one = torch.from_numpy(np.where(scale > 0, scale, 1).astype(np.float32))
    codes = torch.quantize_per_channel(t, scale_or_one, zero, 0, torch.qint8).int_repr().numpy()
    nf4, state = bnb.quantize_4bit(t, blocksize=64, quant_type="nf4")
    e2m1 = np.linspace(-7, 7, 2241).astype(np.float32)
    arrays = {
        "x": x,
        "casts": casts,
        "torch_int8": codes,
        "torch_e4m3": c.to(torch.float8_e4m3fn).view(torch.uint8).numpy(),
        "torch_e5m2": c.to(torch.float8_e5m2).view(torch.uint8).numpy(),
        "torch_bf16": c.to(torch.bfloat16).view(torch.uint16).numpy(),
        "torch_f16": c.to(torch.float16).view(torch.uint16).numpy(),
        "bnb_nf4": nf4.numpy().reshape(-1, 32),
        "bnb_absmax": state.absmax.numpy(),
        "gguf_q8_0": gguf.quants.quantize(x, gguf.GGMLQuantizationType.Q8_0),
        "gguf_q4_0": gguf.quants.quantize(x, gguf.GGMLQuantizationType.Q4_0),
        "gguf_mxfp4": gguf.quants.quantize(x, gguf.GGMLQuantizationType.MXFP4),
        "e2m1_values": e2m1,
        "ml_dtypes_e2m1": e2m1.astype(ml_dtypes.float4_e2m1fn).view(np.uint8),
    }
    for rule in ("floor", "rceil", "even"):
        arrays[f"ao_scale_{rule}"], arrays[f"ao_e4m3_{rule}"] = microscale(x, rule, torch.float8_e4m3fn)
        arrays[f"ao_fp4_scale_{rule}"] = microscale(x, rule, torch.float4_e2m1fn_x2)[0]
    np.savez_compressed(HERE / "peers.npz", **arrays)


if __name__ == "__main__":
    main()
