"""ONNX Runtime: MatMulNBits on weights in blocks of 128, computing in float32 (level 1) or int8 (level 4)."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from contestants.products import load, with_error

BLOCK = 128


def version() -> str:
    return onnxruntime.__version__


def blocks_of(W: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric codes in the operator's layout: [k, d/128, bytes], low bits first; scales [k, d/128]."""
    k, d = W.shape
    cut = W.reshape(k, d // BLOCK, BLOCK)
    scale = np.abs(cut).max(axis=2) / (2 ** (bits - 1) - 1)
    codes = (np.rint(cut / scale[..., None]) + 2 ** (bits - 1)).astype(np.uint8)
    if bits == 4:
        codes = codes[..., 0::2] | (codes[..., 1::2] << 4)
    return codes, scale.astype(np.float32)


def session(W: np.ndarray, bits: int, level: int, threads: int) -> onnxruntime.InferenceSession:
    k, d = W.shape
    codes, scale = blocks_of(W, bits)
    node = helper.make_node(
        "MatMulNBits",
        ["x", "codes", "scale"],
        ["y"],
        domain="com.microsoft",
        K=d,
        N=k,
        bits=bits,
        block_size=BLOCK,
        accuracy_level=level,
    )
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", d])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", k])],
        [numpy_helper.from_array(codes, "codes"), numpy_helper.from_array(scale.reshape(-1), "scale")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def product(bits: int):
    def factory(threads: int, rows: int, d: int, k: int) -> dict:
        problem = load(rows, d, k)
        out = np.zeros((rows, k), np.float32)

        def variant(level: int):
            model = session(problem.W, bits, level, threads)
            binding = model.io_binding()
            bound = [onnxruntime.OrtValue.ortvalue_from_numpy(problem.X)]
            bound.append(onnxruntime.OrtValue.ortvalue_from_numpy(out))
            binding.bind_ortvalue_input("x", bound[0])
            binding.bind_ortvalue_output("y", bound[1])

            def run() -> onnxruntime.OrtValue:
                model.run_with_iobinding(binding)
                return bound[1]

            run()
            checked = with_error(lambda: (run(), bound[1].numpy())[1], problem)
            figures = checked()

            def timed() -> dict:
                run()
                return figures

            return timed

        name = f"ONNX Runtime MatMulNBits {bits}"
        return {f"{name} fp32": variant(1), f"{name} int8": variant(4)}

    return factory


CASES = {"predict.int8": product(8), "predict.int4": product(4)}
