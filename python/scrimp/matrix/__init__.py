"""Data rows as training reads them: in few bits; their products, gradients and Gram matrices, by leaves."""

from scrimp.matrix.gradients import gradient, gradient_sums, loss_names, product
from scrimp.matrix.grams import Gram, GramSums, gram, gram_sums
from scrimp.matrix.planes import NibblePlanes
from scrimp.matrix.quantized import QuantizedMatrix
from scrimp.matrix.quantized_linear import QuantizedLinear
from scrimp.matrix.ranges import Grid, Ranges, column_ranges
from scrimp.matrix.tree import LEAF_ROWS, TreeSum

__all__ = [
    "LEAF_ROWS",
    "Gram",
    "GramSums",
    "Grid",
    "NibblePlanes",
    "QuantizedLinear",
    "QuantizedMatrix",
    "Ranges",
    "TreeSum",
    "column_ranges",
    "gradient",
    "gradient_sums",
    "gram",
    "gram_sums",
    "loss_names",
    "product",
]
