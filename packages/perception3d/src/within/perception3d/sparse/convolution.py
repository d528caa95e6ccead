"""Sparse convolution by a rulebook, forward and backward.

    y_o = b + sum over pairs (k, i, o) of x_i W_k

For each offset k the inputs are gathered, multiplied by W_k in bulk, and added to the outputs. On a CPU this happens in
slices that stay in the cache, with compiled gathering and adding; elsewhere with torch's own.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from within.perception3d.sparse import rows_numba
from within.perception3d.sparse.rulebook import Rulebook

SLICE = 2**16  # numbers of a slice: 256 KiB in single precision


def convolve(
    features: Float[Tensor, "inputs in_channels"],
    weight: Float[Tensor, "offsets in_channels out_channels"],
    rulebook: Rulebook,
    bias: Float[Tensor, " out_channels"] | None = None,
) -> Float[Tensor, "outputs out_channels"]:
    """Returns the features of the rulebook's outputs.

    Arguments:
        features: a row for each input of the rulebook.
        weight: a matrix for each offset of the kernel.
        rulebook: which rows meet.
        bias: added to every output.
    """
    found: Tensor = _Convolve.apply(features, weight, rulebook)
    return found if bias is None else found + bias


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, rulebook: Rulebook) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.rulebook = rulebook
        found = features.new_zeros(rulebook.out_rows, weight.shape[2])
        _spread(features.contiguous(), weight, rulebook.inputs, rulebook.outputs, rulebook, found)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        rulebook: Rulebook = ctx.rulebook
        gradient = gradient.contiguous()
        for_features = for_weight = None
        if ctx.needs_input_grad[0]:
            for_features = torch.zeros_like(features)
            _spread(gradient, weight.mT, rulebook.outputs, rulebook.inputs, rulebook, for_features)
        if ctx.needs_input_grad[1]:
            for_weight = torch.stack(_correlate(features.contiguous(), gradient, rulebook))
        return for_features, for_weight, None


def _spread(source: Tensor, matrices: Tensor, reads: Tensor, writes: Tensor, rulebook: Rulebook, found: Tensor) -> None:
    """Adds source[reads] @ matrix to found[writes], offset by offset."""
    starts, identity = rulebook.starts, rulebook.identity
    compiled = source.device.type == "cpu" and source.dtype in (torch.float32, torch.float64)
    step = max(SLICE // max(source.shape[1], found.shape[1]), 64)
    if compiled:
        read, write = reads.numpy(), writes.numpy()
        gathered, product = source.new_empty(step, source.shape[1]), source.new_empty(step, found.shape[1])
        arrays = source.detach().numpy(), found.numpy(), gathered.numpy(), product.numpy()
    for k in range(len(starts) - 1):
        first, last = starts[k], starts[k + 1]
        if k == identity:
            found.addmm_(source, matrices[k])
        elif compiled:
            for low in range(first, last, step):
                high = min(low + step, last)
                rows_numba.gather(arrays[0], read, low, high, arrays[2])
                torch.mm(gathered[: high - low], matrices[k], out=product[: high - low])
                rows_numba.add(arrays[3], write, low, high, arrays[1])
        elif last > first:
            rows = source.index_select(0, reads[first:last])
            found.index_add_(0, writes[first:last], rows @ matrices[k])


def _correlate(features: Tensor, gradient: Tensor, rulebook: Rulebook) -> list[Tensor]:
    """Returns the gradient of each offset's matrix: features[inputs].T @ gradient[outputs]."""
    found = []
    for first, last in zip(rulebook.starts[:-1], rulebook.starts[1:], strict=True):
        rows = features.index_select(0, rulebook.inputs[first:last])
        found.append(rows.mT @ gradient.index_select(0, rulebook.outputs[first:last]))
    return found
