"""From files and frames to float32 matrices: readers, the table encoder that a model stores, held-out rows.

Nothing here knows a model. Whatever cannot be used is an `InputError` that names the column and the row.
"""

from scrimp.data.batches import TableBatches
from scrimp.data.encoder import TableEncoder
from scrimp.data.quantized_table import QuantizedTable, quantize_table
from scrimp.data.readers import read_table
from scrimp.data.scan import labels_of
from scrimp.data.split import held_out_split
from scrimp.data.table import Table, as_table

__all__ = [
    "QuantizedTable",
    "Table",
    "TableBatches",
    "TableEncoder",
    "as_table",
    "held_out_split",
    "labels_of",
    "quantize_table",
    "read_table",
]
