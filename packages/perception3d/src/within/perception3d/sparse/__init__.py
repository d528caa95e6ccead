"""Sparse convolution in torch, on CPU and GPU, forward and backward."""

from within.perception3d.sparse.convolution import convolve, convolve_grouped
from within.perception3d.sparse.layers import (
    InverseConvolution,
    SparseConvolution,
    SparseMaxPool,
    SubmanifoldConvolution,
)
from within.perception3d.sparse.reduction import cells_of, largest_by_row, sum_by_row
from within.perception3d.sparse.rulebook import Rulebook
from within.perception3d.sparse.sparse_tensor import SparseTensor, from_dense, sparse_tensor

__all__ = [
    "InverseConvolution",
    "Rulebook",
    "SparseConvolution",
    "SparseMaxPool",
    "SparseTensor",
    "SubmanifoldConvolution",
    "cells_of",
    "convolve",
    "convolve_grouped",
    "from_dense",
    "largest_by_row",
    "sparse_tensor",
    "sum_by_row",
]
