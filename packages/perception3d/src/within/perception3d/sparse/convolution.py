"""Sparse convolution by a rulebook, forward and backward.

    y_o = b + sum over pairs (k, i, o) of x_i W_k

On a CPU there are three ways, of which the fastest is taken:

    pairs       for each offset k the inputs are gathered, multiplied by W_k, and added to the outputs, in slices that
                stay in the cache
    table       where most places have most neighbours (maps seen from above): the neighbours of a few rows are laid
                side by side and multiplied by all W_k at once; nothing is added up
    products    where there are few outputs: every input is multiplied by all W_k, and the products are added up

Elsewhere the pairs are handled with torch's own gathering and adding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from within.perception3d.sparse import rows_numba
from within.perception3d.sparse.rulebook import Rulebook

SLICE = 2**16  # numbers of a slice of pairs: 256 KiB in single precision
TABLE_SLICE = 2**17
CROWDED = 0.7  # share of the neighbours that are there, from which the table is faster
FEW_OUTPUTS = 8


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
        return _multiply(features.contiguous(), weight, rulebook, rulebook.out_rows, back=False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        rulebook: Rulebook = ctx.rulebook
        gradient = gradient.contiguous()
        for_features = for_weight = None
        if ctx.needs_input_grad[0]:
            for_features = _multiply(gradient, weight.mT, rulebook, len(features), back=True)
        if ctx.needs_input_grad[1]:
            for_weight = _correlate(features.contiguous(), gradient, rulebook)
        return for_features, for_weight, None


def _multiply(source: Tensor, matrices: Tensor, rulebook: Rulebook, rows: int, *, back: bool) -> Tensor:
    """Returns the sums of source[reads] @ matrix; `back` reads outputs and writes inputs."""
    if _is_compiled(source):
        if rulebook.crowding(back) >= CROWDED and matrices.shape[2] > FEW_OUTPUTS:
            return _by_table(source, matrices, rulebook.neighbours(back))
        if matrices.shape[2] <= FEW_OUTPUTS <= matrices.shape[1]:
            return _by_products(source, matrices, rulebook, rows, back)
    found = source.new_zeros(rows, matrices.shape[2])
    reads, writes = (rulebook.outputs, rulebook.inputs) if back else (rulebook.inputs, rulebook.outputs)
    _by_pairs(source, matrices, reads, writes, rulebook, found)
    return found


def _by_pairs(
    source: Tensor, matrices: Tensor, reads: Tensor, writes: Tensor, rulebook: Rulebook, found: Tensor
) -> None:
    starts, identity = rulebook.starts, rulebook.identity
    compiled = _is_compiled(source)
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


def _by_table(source: Tensor, matrices: Tensor, neighbours: np.ndarray) -> Tensor:
    width, stacked = source.shape[1], matrices.reshape(-1, matrices.shape[2])
    found = source.new_empty(len(neighbours), matrices.shape[2])
    step = max(TABLE_SLICE // len(stacked), 16)
    gathered = source.new_empty(step, neighbours.shape[1] * width)
    arrays = source.detach().numpy(), gathered.numpy()
    for low in range(0, len(neighbours), step):
        high = min(low + step, len(neighbours))
        rows_numba.gather_neighbours(arrays[0], neighbours, low, high, arrays[1])
        torch.mm(gathered[: high - low], stacked, out=found[low:high])
    return found


def _by_products(source: Tensor, matrices: Tensor, rulebook: Rulebook, rows: int, back: bool) -> Tensor:
    starts, width = rulebook.starts, matrices.shape[2]
    reads, writes = (rulebook.outputs, rulebook.inputs) if back else (rulebook.inputs, rulebook.outputs)
    products = (source @ matrices.transpose(0, 1).reshape(source.shape[1], -1)).detach().numpy()
    found = source.new_zeros(rows, width)
    for k in range(len(starts) - 1):
        rows_numba.add_part(products, reads.numpy(), writes.numpy(), starts[k], starts[k + 1], k * width, found.numpy())
    return found


def _correlate(features: Tensor, gradient: Tensor, rulebook: Rulebook) -> Tensor:
    """Returns the gradient of each offset's matrix: features[inputs].T @ gradient[outputs]."""
    if _is_compiled(features) and rulebook.crowding(False) >= CROWDED:
        return _correlate_by_table(features, gradient, rulebook.neighbours(False))
    found = []
    for first, last in zip(rulebook.starts[:-1], rulebook.starts[1:], strict=True):
        rows = features.index_select(0, rulebook.inputs[first:last])
        found.append(rows.mT @ gradient.index_select(0, rulebook.outputs[first:last]))
    return torch.stack(found)


def _correlate_by_table(features: Tensor, gradient: Tensor, neighbours: np.ndarray) -> Tensor:
    offsets, width = neighbours.shape[1], features.shape[1]
    found = features.new_zeros(offsets * width, gradient.shape[1])
    step = max(TABLE_SLICE // (offsets * width), 16)
    gathered = features.new_empty(step, offsets * width)
    arrays = features.detach().numpy(), gathered.numpy()
    for low in range(0, len(neighbours), step):
        high = min(low + step, len(neighbours))
        rows_numba.gather_neighbours(arrays[0], neighbours, low, high, arrays[1])
        found.addmm_(gathered[: high - low].mT, gradient[low:high])
    return found.view(offsets, width, -1)


def _is_compiled(source: Tensor) -> bool:
    return source.device.type == "cpu" and source.dtype in (torch.float32, torch.float64)
