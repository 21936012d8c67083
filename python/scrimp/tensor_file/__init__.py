"""Files of tensors, streamed one at a time: safetensors checkpoints of any size, and their quantized form.

Nothing here knows a model or an estimator. Writing goes to a temporary file that takes the place of the old
one only when it is whole.
"""

from scrimp.tensor_file.atomic import check_writable, replacing
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
    "check_writable",
    "dequantize_file",
    "export_gguf",
    "is_quantized",
    "packet_of",
    "parse_rule",
    "quantize_file",
    "replacing",
]
