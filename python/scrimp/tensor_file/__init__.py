"""Files of tensors, streamed one at a time: safetensors checkpoints of any size, and their quantized form.

Nothing here knows a model or an estimator.
"""

from scrimp.tensor_file.gguf import export_gguf
from scrimp.tensor_file.recode import (
    TensorReport,
    dequantize_file,
    is_quantized,
    packet_of,
    parse_rule,
    quantize_file,
)
from scrimp.tensor_file.safetensors import SafetensorsReader, SafetensorsWriter, TensorInfo

__all__ = [
    "SafetensorsReader",
    "SafetensorsWriter",
    "TensorInfo",
    "TensorReport",
    "dequantize_file",
    "export_gguf",
    "is_quantized",
    "packet_of",
    "parse_rule",
    "quantize_file",
]
