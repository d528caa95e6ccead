"""Layers of sparse networks. Weights are laid out as those of spconv 2, (out, *kernel, in): its files fit as they are.

A layer with a `key` shares its rulebook: submanifold layers of one stage have the same key, and an inverse convolution
takes that of the strided one whose places it goes back to.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn

from within.core.errors import WithinError
from within.perception3d.sparse.convolution import convolve
from within.perception3d.sparse.reduction import largest_by_row
from within.perception3d.sparse.rulebook import Rulebook, strided, submanifold
from within.perception3d.sparse.sparse_tensor import SparseTensor

Sizes = tuple[int, ...]
Extent = int | Sequence[int]


class _Convolution(nn.Module):
    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Extent, axes: int, bias: bool, key: Hashable | None
    ) -> None:
        super().__init__()
        if axes not in (2, 3):
            raise WithinError(f"A sparse convolution over {axes} axes", todo="choose 2 or 3")
        self.kernel_size, self.key, self.axes = extents(kernel_size, axes), key, axes
        self.weight = nn.Parameter(torch.empty(out_channels, *self.kernel_size, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weights as `nn.Conv3d` does."""
        inputs = math.prod(self.weight.shape[1:])
        nn.init.uniform_(self.weight, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs))
        if self.bias is not None:
            nn.init.uniform_(self.bias, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs))

    @property
    def matrices(self) -> Tensor:
        """The weight as (offsets, in, out), without a copy."""
        return self.weight.flatten(1, -2).permute(1, 2, 0)

    def _checked(self, x: SparseTensor) -> SparseTensor:
        if len(x.shape) != self.axes or x.channels != self.weight.shape[-1]:
            raise WithinError(
                f"The layer takes {self.weight.shape[-1]} channels over {self.axes} axes, and is given {x.channels} "
                f"over {len(x.shape)}",
                where=str(self.key or type(self).__name__),
            )
        return x

    def extra_repr(self) -> str:
        """Returns what `print` shows."""
        out, *_, channels = self.weight.shape
        return f"{channels}, {out}, kernel_size={self.kernel_size}, bias={self.bias is not None}, key={self.key!r}"


class SubmanifoldConvolution(_Convolution):
    """Outputs where the inputs are.

    Arguments:
        in_channels, out_channels: features.
        kernel_size: odd extents.
        axes: 2 or 3.
        dilation: of the kernel.
        bias: add one.
        key: layers with one key share a rulebook; None finds one each time for this kernel, unless one is there.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Extent = 3, *, axes: int = 3, dilation: Extent = 1,
        bias: bool = False, key: Hashable | None = None,
    ) -> None:  # fmt: skip
        super().__init__(in_channels, out_channels, kernel_size, axes, bias, key)
        self.dilation = extents(dilation, axes)

    def rulebook(self, x: SparseTensor) -> Rulebook:
        """Returns the pairs for the places of a tensor, found once."""
        name = ("submanifold", self.kernel_size, self.dilation)
        if name not in x.rulebooks:
            x.rulebooks[name] = submanifold(x.indices, x.shape, x.batch, self.kernel_size, self.dilation)
        return x.rulebooks[name]

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Returns features at the same places."""
        found = self.rulebook(self._checked(x))
        return x.with_features(convolve(x.features, self.matrices, found, self.bias))


class SparseConvolution(_Convolution):
    """Outputs wherever an input reaches.

    Arguments:
        in_channels, out_channels: features.
        kernel_size, stride, padding, dilation: as of a dense convolution.
        axes: 2 or 3.
        bias: add one.
        key: by which an `InverseConvolution` finds the way back.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Extent = 3, *, stride: Extent = 1, padding: Extent = 0,
        dilation: Extent = 1, axes: int = 3, bias: bool = False, key: Hashable | None = None,
    ) -> None:  # fmt: skip
        super().__init__(in_channels, out_channels, kernel_size, axes, bias, key)
        self.stride, self.padding, self.dilation = (extents(each, axes) for each in (stride, padding, dilation))

    def rulebook(self, x: SparseTensor) -> Rulebook:
        """Returns the pairs for the places of a tensor, found once."""
        name = ("strided", self.kernel_size, self.stride, self.padding, self.dilation)
        if name not in x.rulebooks:
            x.rulebooks[name] = strided(
                x.indices, x.shape, x.batch, self.kernel_size, self.stride, self.padding, self.dilation
            )
        return x.rulebooks[name]

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Returns features at the places reached, in the order of the grid."""
        found = self.rulebook(self._checked(x))
        features = convolve(x.features, self.matrices, found, self.bias)
        result = SparseTensor(features, found.out_indices, found.out_shape, x.batch)
        if self.key is not None:
            result.rulebooks["back", self.key] = found.inverse(x.indices, x.shape)
            result.rulebooks.update({name: book for name, book in x.rulebooks.items() if name[0] == "back"})
        return result


class InverseConvolution(_Convolution):
    """Outputs where the inputs of an earlier `SparseConvolution` with the same key were.

    Arguments:
        in_channels, out_channels: features.
        kernel_size: of that convolution.
        axes: 2 or 3.
        bias: add one.
        key: of that convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Extent = 3, *, axes: int = 3, bias: bool = False,
        key: Hashable,
    ) -> None:  # fmt: skip
        super().__init__(in_channels, out_channels, kernel_size, axes, bias, key)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Returns features at the earlier places.

        Raises:
            WithinError: when no such convolution came before, or its kernel was another.
        """
        found = self._checked(x).rulebooks.get(("back", self.key))
        if found is None or len(found.starts) - 1 != math.prod(self.kernel_size):
            raise WithinError(
                f"No sparse convolution with the key {self.key!r} and a kernel of {self.kernel_size} came before",
                todo="give both the same key and kernel",
            )
        features = convolve(x.features, self.matrices, found, self.bias)
        result = SparseTensor(features, found.out_indices, found.out_shape, x.batch)
        result.rulebooks.update({name: book for name, book in x.rulebooks.items() if name[0] == "back"})
        return result


class SparseMaxPool(nn.Module):
    """The largest feature among the inputs that reach an output.

    Arguments:
        kernel_size, stride, padding: as of a dense pooling; the stride is the kernel by default.
        axes: 2 or 3.
    """

    def __init__(
        self, kernel_size: Extent, stride: Extent | None = None, padding: Extent = 0, *, axes: int = 3
    ) -> None:
        super().__init__()
        self.kernel_size, self.padding = extents(kernel_size, axes), extents(padding, axes)
        self.stride = self.kernel_size if stride is None else extents(stride, axes)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Returns features at the places reached."""
        one = (1,) * len(self.kernel_size)
        found = strided(x.indices, x.shape, x.batch, self.kernel_size, self.stride, self.padding, one)
        pooled = largest_by_row(x.features.index_select(0, found.inputs), found.outputs.long(), found.out_rows)
        return SparseTensor(pooled, found.out_indices, found.out_shape, x.batch)


def extents(given: Extent, axes: int) -> Sizes:
    """Returns one number for each axis."""
    return (given,) * axes if isinstance(given, int) else tuple(given)
