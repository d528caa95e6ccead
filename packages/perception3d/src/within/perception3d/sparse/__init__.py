"""Sparse convolution in torch, on CPU and GPU, forward and backward."""

from within.perception3d.sparse.convolution import convolve
from within.perception3d.sparse.layers import (
    InverseConvolution,
    SparseConvolution,
    SparseMaxPool,
    SubmanifoldConvolution,
)
from within.perception3d.sparse.rulebook import Rulebook
from within.perception3d.sparse.sparse_tensor import SparseTensor, from_dense, sparse_tensor

__all__ = [
    "InverseConvolution",
    "Rulebook",
    "SparseConvolution",
    "SparseMaxPool",
    "SparseTensor",
    "SubmanifoldConvolution",
    "convolve",
    "from_dense",
    "sparse_tensor",
]
