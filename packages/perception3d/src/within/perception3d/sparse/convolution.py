"""Sparse convolution by a rulebook, forward and backward.

    y_o = b + sum over pairs (k, i, o) of x_i W_k

On a CPU there are two ways, of which the faster is taken:

    pairs       the inputs of each offset k are gathered, multiplied by W_k, and added to the outputs, in slices that
                stay in the cache
    products    where there are few outputs: every input is multiplied by all W_k, and each output adds up what its
                neighbours hold for it

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
    found: Tensor = _Convolve.apply(features, weight, bias, rulebook)
    return found


GROUPED = {
    (1, 1): rows_numba.add_one_to_one,
    (1, 2): rows_numba.add_one_to_two,
    (2, 1): rows_numba.add_two_to_one,
}  # by inputs and outputs of a group


def convolve_grouped(
    features: Float[Tensor, "inputs in_channels"],
    weight: Float[Tensor, "out_channels in_channels_of_a_group offsets"],
    groups: int,
    rulebook: Rulebook,
    bias: Float[Tensor, " out_channels"] | None = None,
) -> Float[Tensor, "outputs out_channels"]:
    """Returns the features of the rulebook's outputs, channels convolved in groups; see `convolve`.

    Small groups on a CPU, without gradients, are gone through directly; others are one convolution with zeros between
    the groups.
    """
    add = GROUPED.get((weight.shape[1], len(weight) // groups))
    if add is not None and is_compiled(features) and not torch.is_grad_enabled():
        rows = rulebook.out_rows
        found = features.new_zeros(rows, len(weight)) if bias is None else bias.repeat(rows, 1)
        columns = weight.flatten(0, 1).mT.contiguous()
        add(features.contiguous().numpy(), rulebook.neighbours(False), columns.numpy(), found.numpy())
        return found
    apart = weight.view(groups, -1, 1, *weight.shape[1:])
    same = torch.eye(groups, dtype=weight.dtype, device=weight.device)
    full = (apart * same[:, None, :, None, None]).view(len(weight), -1, weight.shape[2])
    return convolve(features, full.permute(2, 1, 0).contiguous(), rulebook, bias)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, rulebook: Rulebook) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.rulebook = rulebook
        return _multiply(features.contiguous(), weight, bias, rulebook, rulebook.out_rows, back=False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        rulebook: Rulebook = ctx.rulebook
        gradient = gradient.contiguous()
        for_features = for_weight = for_bias = None
        if ctx.needs_input_grad[0]:
            for_features = _multiply(gradient, weight.mT, None, rulebook, len(features), back=True)
        if ctx.needs_input_grad[1]:
            for_weight = _correlate(features.contiguous(), gradient, rulebook)
        if ctx.needs_input_grad[2]:
            for_bias = gradient.sum(0)
        return for_features, for_weight, for_bias, None


def _multiply(
    source: Tensor, matrices: Tensor, bias: Tensor | None, rulebook: Rulebook, rows: int, *, back: bool
) -> Tensor:
    """Returns the sums of source[reads] @ matrix, and the bias; `back` reads outputs and writes inputs."""
    if is_compiled(source) and matrices.shape[2] <= FEW_OUTPUTS <= matrices.shape[1]:
        return _by_products(source, matrices, bias, rulebook.neighbours(back))
    if rulebook.identity is None:
        found = source.new_zeros(rows, matrices.shape[2]) if bias is None else bias.repeat(rows, 1)
    else:  # every row meets itself
        own = matrices[rulebook.identity]
        found = source @ own if bias is None else torch.addmm(bias, source, own)
    reads, writes = (rulebook.outputs, rulebook.inputs) if back else (rulebook.inputs, rulebook.outputs)
    each = matrices.unbind(0)
    if not is_compiled(source):
        for parts in rulebook.slices:
            for k, first, last in parts:
                taken = source.index_select(0, reads[first:last])
                found.index_add_(0, writes[first:last], taken @ each[k])
        return found
    read, write = reads.numpy(), writes.numpy()
    gathered = source.new_empty(rulebook.longest, source.shape[1])
    product = source.new_empty(rulebook.longest, found.shape[1])
    arrays = source.detach().numpy(), found.numpy(), gathered.numpy(), product.numpy()
    for parts in rulebook.slices:
        low, high = parts[0][1], parts[-1][2]
        rows_numba.gather(arrays[0], read, low, high, arrays[2])
        for k, first, last in parts:
            torch.mm(gathered[first - low : last - low], each[k], out=product[first - low : last - low])
        rows_numba.add(arrays[3], write, low, high, arrays[1])
    return found


def _by_products(source: Tensor, matrices: Tensor, bias: Tensor | None, neighbours: np.ndarray) -> Tensor:
    rows, width = len(neighbours), matrices.shape[2]
    found = source.new_zeros(rows, width) if bias is None else bias.repeat(rows, 1)
    products = source @ matrices.transpose(0, 1).reshape(source.shape[1], -1)
    rows_numba.add_neighbours(products.detach().numpy(), neighbours, found.numpy())
    return found


def _correlate(features: Tensor, gradient: Tensor, rulebook: Rulebook) -> Tensor:
    """Returns the gradient of each offset's matrix: features[inputs].T @ gradient[outputs]."""
    found = features.new_zeros(len(rulebook.starts) - 1, features.shape[1], gradient.shape[1])
    if rulebook.identity is not None:
        torch.mm(features.mT, gradient, out=found[rulebook.identity])
    if not is_compiled(features):
        for parts in rulebook.slices:
            for k, first, last in parts:
                rows = features.index_select(0, rulebook.inputs[first:last])
                found[k].addmm_(rows.mT, gradient.index_select(0, rulebook.outputs[first:last]))
        return found
    read, write = rulebook.inputs.numpy(), rulebook.outputs.numpy()
    most = rulebook.longest
    before, after = features.new_empty(most, features.shape[1]), features.new_empty(most, gradient.shape[1])
    arrays = features.detach().numpy(), gradient.detach().numpy(), before.numpy(), after.numpy()
    for parts in rulebook.slices:
        low, high = parts[0][1], parts[-1][2]
        rows_numba.gather(arrays[0], read, low, high, arrays[2])
        rows_numba.gather(arrays[1], write, low, high, arrays[3])
        for k, first, last in parts:
            found[k].addmm_(before[first - low : last - low].mT, after[first - low : last - low])
    return found


def is_compiled(source: Tensor) -> bool:
    """Whether compiled functions take these rows: of a CPU, in single or double precision."""
    return source.device.type == "cpu" and source.dtype in (torch.float32, torch.float64)
