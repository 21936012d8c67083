"""ggml: a graph of one matrix product on q8_0 or q4_0 weights, whose rows it rounds to q8_0."""

import ctypes

import numpy as np

from contestants.ggml_ import BASE, BLOCK_NBYTES, CPU, version
from contestants.products import load, with_error

__all__ = ["CASES", "version"]

TYPES = {"f32": 0, "q4_0": 2, "q8_0": 8}
POINTER, I64 = ctypes.c_void_p, ctypes.c_int64


class Context(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", POINTER), ("no_alloc", ctypes.c_bool))


def declare() -> None:
    """Tell ctypes the functions that are called."""
    BASE.ggml_init.restype, BASE.ggml_init.argtypes = POINTER, [Context]
    BASE.ggml_new_tensor_2d.restype = POINTER
    BASE.ggml_new_tensor_2d.argtypes = [POINTER, ctypes.c_int, I64, I64]
    for name, arguments in {"ggml_mul_mat": 3, "ggml_new_graph": 1, "ggml_get_data": 1}.items():
        getattr(BASE, name).restype, getattr(BASE, name).argtypes = POINTER, [POINTER] * arguments
    BASE.ggml_build_forward_expand.argtypes = [POINTER, POINTER]
    BASE.ggml_free.argtypes = BASE.ggml_reset.argtypes = [POINTER]
    CPU.ggml_graph_compute_with_ctx.argtypes = [POINTER, POINTER, ctypes.c_int]


declare()


class Graph:
    """y = x·wᵀ in memory of ggml's own."""

    def __init__(self, kind: str, rows: int, d: int, k: int) -> None:
        block, nbytes = BLOCK_NBYTES[kind]
        self.nbytes = k * d // block * nbytes
        self.context = BASE.ggml_init(Context(self.nbytes + 4 * rows * (d + k) + (1 << 20), None, False))
        self.work = BASE.ggml_init(Context(2 * rows * d + (1 << 20), None, False))
        self.w = BASE.ggml_new_tensor_2d(self.context, TYPES[kind], d, k)
        self.x = BASE.ggml_new_tensor_2d(self.context, TYPES["f32"], d, rows)
        self.y = BASE.ggml_mul_mat(self.context, self.w, self.x)
        self.graph = BASE.ggml_new_graph(self.context)
        BASE.ggml_build_forward_expand(self.graph, self.y)

    def data(self, tensor: int) -> int:
        return BASE.ggml_get_data(tensor)

    def compute(self, threads: int) -> None:
        """Multiply; every computation leaves its rounded rows in the context that it is given."""
        BASE.ggml_reset(self.work)
        CPU.ggml_graph_compute_with_ctx(self.work, self.graph, threads)

    def __del__(self) -> None:
        BASE.ggml_free(self.work)
        BASE.ggml_free(self.context)


def product(kind: str):
    def factory(threads: int, rows: int, d: int, k: int) -> dict:
        problem = load(rows, d, k)
        graph = Graph(kind, rows, d, k)
        weights = np.ascontiguousarray(problem.W)
        quantize = CPU[f"quantize_row_{kind}"]
        quantize(POINTER(weights.ctypes.data), POINTER(graph.data(graph.w)), I64(weights.size))
        ctypes.memmove(graph.data(graph.x), problem.X.ctypes.data, problem.X.nbytes)
        out = np.ctypeslib.as_array(
            ctypes.cast(graph.data(graph.y), ctypes.POINTER(ctypes.c_float)), (rows, k)
        )

        def run() -> np.ndarray:
            graph.compute(threads)
            return out

        return {f"ggml {kind}": with_error(run, problem)}

    return factory


CASES = {"predict.int8": product("q8_0"), "predict.int4": product("q4_0")}
