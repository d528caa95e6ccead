"""Layers of the part of a detector that sees from above; they take dense, masked and sparse maps (see `bev_map`).

Weights are those of the dense layers, so that one file serves all three forms.

SP-BN, batch norm that keeps empty places empty (Ada3D, Zhao et al., ICCV 2023, section 3.4):

    y = gamma x / sqrt(var + eps) on Omega, 0 elsewhere;   var = mean over Omega of (x - mean)^2
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from within.perception3d.models.bev_map import BevMap, MaskedMap
from within.perception3d.sparse import SparseTensor, convolve, convolve_grouped
from within.perception3d.sparse.rulebook import Rulebook, strided, submanifold

Reach = Literal["grow", "stay"]


class BevConvolution(nn.Conv2d):
    """A convolution over a map.

    Arguments:
        in_channels, out_channels, kernel_size: as of `nn.Conv2d`.
        stride: between outputs.
        padding: half the kernel by default.
        bias: add one.
        groups: of channels that are convolved apart.
        reach: "grow": outputs are occupied wherever the kernel meets an occupied input; "stay": where the inputs are
            (submanifold), with a stride of 1.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, *, stride: int = 1,
        padding: int | None = None, bias: bool = False, groups: int = 1, reach: Reach = "grow",
    ) -> None:  # fmt: skip
        around = kernel_size // 2 if padding is None else padding
        super().__init__(in_channels, out_channels, kernel_size, stride, around, groups=groups, bias=bias)
        self.reach = reach
        self.register_buffer("packed", None, persistent=False)

    def forward(self, x: BevMap) -> Any:
        """Returns a map of the same form."""
        if isinstance(x, Tensor):
            return super().forward(x)
        if isinstance(x, MaskedMap):
            mask = x.mask if self.stays or self.kernel_size == (1, 1) == self.stride else self._reached(x.mask)
            return MaskedMap(super().forward(x.features) * mask[:, None], mask)
        if self.kernel_size == (1, 1) == self.stride:
            return x.with_features(F.linear(x.features, self.weight.flatten(1), self.bias))
        found = self.rulebook(x)
        if self.groups > 1:
            features = convolve_grouped(x.features, self.weight.flatten(2), self.groups, found, self.bias)
        else:
            features = convolve(x.features, self.matrices, found, self.bias)
        if found.out_indices is x.indices:
            return x.with_features(features)
        return SparseTensor(features, found.out_indices, found.out_shape, x.batch)

    def rulebook(self, x: SparseTensor) -> Rulebook:
        """Returns the pairs for the places of a sparse map, found once."""
        kernel, one = self.kernel_size, (1, 1)
        if self.key not in x.rulebooks:
            x.rulebooks[self.key] = (
                submanifold(x.indices, x.shape, x.batch, kernel, one)
                if self.stays
                else strided(x.indices, x.shape, x.batch, kernel, self.stride, self.padding, one)  # type: ignore[arg-type]
            )
        return x.rulebooks[self.key]

    @property
    def stays(self) -> bool:
        """Whether outputs are occupied where the inputs are."""
        return self.reach == "stay" and self.stride == (1, 1)

    @property
    def key(self) -> Hashable:
        """Of the rulebook among those of a sparse map; convolutions with one key share it."""
        return self.stays, self.kernel_size, self.stride, self.padding

    packed: Tensor | None

    def pack(self) -> None:
        """Keeps the matrices, which sparse maps are multiplied with, for weights that change no more."""
        if self.groups == 1:
            self.packed = self.matrices.detach()

    @property
    def matrices(self) -> Tensor:
        """The weight of an ungrouped convolution as (offsets, in, out), laid out as BLAS takes it."""
        return self.weight.flatten(2).permute(2, 1, 0).contiguous() if self.packed is None else self.packed

    def _reached(self, mask: Tensor) -> Tensor:
        return F.max_pool2d(mask.float(), self.kernel_size, self.stride, self.padding) > 0


class BevUpsample(nn.ConvTranspose2d):
    """A transposed convolution whose kernel is its stride: every pixel becomes a square of pixels."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, bias: bool = False) -> None:
        super().__init__(in_channels, out_channels, stride, stride, bias=bias)

    def forward(self, x: BevMap, output_size: Any = None) -> Any:
        """Returns a map of the same form, larger by the stride."""
        if isinstance(x, Tensor):
            return super().forward(x)
        step = int(self.stride[0])
        if isinstance(x, MaskedMap):
            mask = x.mask.repeat_interleave(step, 1).repeat_interleave(step, 2)
            return MaskedMap(super().forward(x.features) * mask[:, None], mask)
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)  # in, (row, column, out)
        rows = (x.features @ weight).view(len(x) * step * step, self.out_channels)
        features = rows if self.bias is None else rows + self.bias
        if step == 1:
            return x.with_features(features)
        shifts = torch.cartesian_prod(*(torch.arange(step, device=x.indices.device),) * 2).view(-1, 2).int()
        places = (x.indices[:, None, 1:] * step + shifts).view(-1, 2)
        batch = x.indices[:, :1].repeat_interleave(step * step, 0)
        indices = torch.cat([batch, places], dim=1).contiguous()
        return SparseTensor(features, indices, (x.shape[0] * step, x.shape[1] * step), x.batch)


class BevNorm(nn.BatchNorm2d):
    """Batch norm over the occupied places of a map; over all pixels of a dense one."""

    def forward(self, x: BevMap) -> Any:
        """Returns a map of the same form and the same occupied places."""
        return super().forward(x) if isinstance(x, Tensor) else on_rows(self._rows, x)

    def _rows(self, rows: Tensor) -> Tensor:
        if self.training and len(rows) < 2:  # no variance
            return F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(rows)

    def _check_input_dim(self, given: Tensor) -> None:
        """Takes rows of places as well as maps."""


class SpatialSparseNorm(nn.Module):
    """SP-BN; see the module.

    Arguments:
        channels: of the map.
        eps: added to the variance.
        momentum: of the running variance.
        affine: learn gamma.
    """

    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-3, momentum: float = 0.01, *, affine: bool = True) -> None:
        super().__init__()
        self.channels, self.eps, self.momentum = channels, eps, momentum
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: BevMap) -> Any:
        """Returns a map of the same form; places that are not occupied stay zero."""
        if not self.training:
            scale = self.scale(self.running_var)
            return x * scale[:, None, None] if isinstance(x, Tensor) else on_rows(lambda rows: rows * scale, x)
        if isinstance(x, Tensor):
            mask = (x != 0).any(1)
            variance = self._variance(x.movedim(1, -1)[mask])
            return x * self.scale(variance)[:, None, None]
        return on_rows(lambda rows: rows * self.scale(self._variance(rows)), x)

    def scale(self, variance: Float[Tensor, " channels"]) -> Float[Tensor, " channels"]:
        """Returns the factor of each channel; in evaluation it folds into the convolution before."""
        found = torch.rsqrt(variance + self.eps)
        return found if self.weight is None else found * self.weight

    def _variance(self, rows: Tensor) -> Tensor:
        if not len(rows):
            return self.running_var
        variance = (rows - rows.mean(0)).square().mean(0)  # var() takes several times as long
        with torch.no_grad():
            self.running_var.lerp_(variance.detach().to(self.running_var.dtype), self.momentum)
        return variance

    def extra_repr(self) -> str:
        """Returns what `print` shows."""
        return f"{self.channels}, eps={self.eps}, momentum={self.momentum}, affine={self.weight is not None}"


def relu(x: BevMap) -> Any:
    """Returns a map with negative features set to zero; in place, so the map given is not to be used again."""
    return on_features(F.relu_, x)


def on_features(function: Callable[[Tensor], Tensor], x: BevMap) -> Any:
    """Returns a map whose features went through a function of each alone that leaves zero where it is."""
    if isinstance(x, Tensor):
        return function(x)
    return (
        MaskedMap(function(x.features), x.mask) if isinstance(x, MaskedMap) else x.with_features(function(x.features))
    )


def on_rows(function: Any, x: MaskedMap | SparseTensor) -> MaskedMap | SparseTensor:
    """Returns a map whose occupied places went through a function of (places, channels)."""
    if isinstance(x, SparseTensor):
        return x.with_features(function(x.features))
    rows = function(x.features.movedim(1, -1)[x.mask])
    found = x.features.new_zeros((*x.mask.shape, rows.shape[1]))
    found[x.mask] = rows
    return MaskedMap(found.movedim(-1, 1), x.mask)
