"""PyTorch: the float32 layer, and the layer whose rows it quantizes as they come (FBGEMM, oneDNN)."""

import warnings

import torch

from contestants.products import load, with_error

warnings.filterwarnings("ignore")


def version() -> str:
    return torch.__version__


def linear(threads: int, rows: int, d: int, k: int) -> dict:
    torch.set_num_threads(threads)
    problem = load(rows, d, k)
    x, w = torch.from_numpy(problem.X), torch.from_numpy(problem.W.copy())
    return {"torch fp32 linear": with_error(lambda: torch.nn.functional.linear(x, w), problem)}


def dynamic(engine: str, threads: int, rows: int, d: int, k: int) -> dict:
    torch.backends.quantized.engine = engine
    problem = load(rows, d, k)
    x, w = torch.from_numpy(problem.X), torch.from_numpy(problem.W.copy())
    scales = w.abs().amax(dim=1).double() / 127
    codes = torch.quantize_per_channel(w, scales, torch.zeros(k, dtype=torch.int64), 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(codes, None)

    def run() -> torch.Tensor:
        torch.backends.quantized.engine = engine
        return torch.ops.quantized.linear_dynamic(x, packed, False)

    return {f"torch dynamic int8 ({engine})": with_error(run, problem)}


def int8(threads: int, rows: int, d: int, k: int) -> dict:
    case = (threads, rows, d, k)
    engines = [name for name in ("fbgemm", "onednn") if name in torch.backends.quantized.supported_engines]
    variants = linear(*case)
    for engine in engines:
        variants |= dynamic(engine, *case)
    return variants


CASES = {"predict.int8": int8, "predict.int4": linear}
