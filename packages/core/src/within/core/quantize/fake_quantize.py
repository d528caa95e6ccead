"""A module that rounds a tensor to a grid: quantisation simulated in floating point, with ranges that can be learned.

While a range is unknown the tensor passes as it is. `FakeQuantize` keeps its range; `LearnedStep` learns its scale
(LSQ: Esser et al., Learned Step Size Quantization, ICLR 2020) and `LearnedClip` the upper end of a range from zero
(PACT: Choi et al., 2018).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from within.core.errors import WithinError
from within.core.quantize.grid import Grid, range_of, rounded, scales_of, spread


class FakeQuantize(nn.Module):
    """Rounds to a grid with a fixed range; gradients pass straight through inside it.

    Arguments:
        grid: the grid.
        shape: shape of the scales: () for one a tensor, (indices,) or (indices, groups) along the grid's axis.
        follow: in training, take the range anew from each tensor (for weights that are being trained).
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, grid: Grid, shape: tuple[int, ...] = (), *, follow: bool = False) -> None:
        super().__init__()
        self.grid = grid
        self.follow = follow
        self.enabled = True
        self.ready = False
        self.register_buffer("scale", torch.ones(shape))
        self.register_buffer("zero_point", torch.zeros(shape, dtype=torch.int32))

    def forward(self, values: Tensor) -> Tensor:
        """Returns the values on the grid; unchanged while no range is set or `enabled` is False."""
        if self.enabled and self.follow and self.training:
            self.set_range(*range_of(values.detach(), self.grid))
        if not self.enabled or not self.ready:
            return values
        return rounded(values, self.scale, self.zero_point, self.grid)

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Sets scale and zero point so that the grid covers [low, high].

        Raises:
            WithinError: when a bound is NaN or infinite, or their shape is not that of the scales.
        """
        scale, zero_point = scales_of(low, high, self.grid)
        self.set_scale(scale, zero_point)

    def set_scale(self, scale: Tensor, zero_point: Tensor | None = None) -> None:
        """Sets scale and zero point (0 by default) as they are.

        Raises:
            WithinError: when their shape differs from what the module was made for, or a scale is not positive.
        """
        if scale.shape != self.scale.shape:
            raise WithinError(f"Scales of shape {tuple(scale.shape)}, where {tuple(self.scale.shape)} is needed")
        if not bool((scale > 0).all() and torch.isfinite(scale).all()):
            raise WithinError("A quantisation scale is not a positive number")
        if zero_point is None:
            zero_point = torch.zeros_like(self.zero_point)
        with torch.no_grad():
            if isinstance(self.scale, nn.Parameter):
                self.scale.copy_(scale)
            else:  # a new tensor: the old one may be waiting for its backward pass
                self.scale = scale.detach().to(self.scale, copy=True)
            self.zero_point = zero_point.detach().to(self.zero_point, copy=True)
        self.ready = True

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        self.ready = True  # a state holds ranges that were set

    def extra_repr(self) -> str:
        """Returns the grid's settings, for `print(model)`."""
        changed = {name: value for name, value in asdict(self.grid).items() if value != getattr(Grid(), name)}
        return ", ".join(f"{name}={value}" for name, value in changed.items())


class LearnedStep(FakeQuantize):
    """LSQ: the scale is a parameter.

        d q / d s = round(v / s) - v / s inside the range, -Q_n or Q_p outside; times 1 / sqrt(N Q_p)   (eqs. 3, 5)

    Started by `set_range` like any other, or by `start(values)` from their mean: s = 2 mean|v| / sqrt(Q_p).
    """

    def __init__(self, grid: Grid, shape: tuple[int, ...] = ()) -> None:
        super().__init__(grid, shape)
        del self._buffers["scale"]
        self.scale = nn.Parameter(torch.ones(shape))

    def start(self, values: Tensor) -> None:
        """Sets the scales as the paper starts them (section 2.1)."""
        magnitude = values.detach().abs()
        if self.grid.axis is None:
            mean = magnitude.mean()
        else:
            axis = self.grid.axis % values.ndim
            mean = magnitude.mean([place for place in range(values.ndim) if place != axis])
        scale = 2 * mean / math.sqrt(self.grid.highest)
        self.set_scale(torch.where(scale > 0, scale, torch.ones_like(scale)), self.zero_point)

    def forward(self, values: Tensor) -> Tensor:
        """Returns the values on the grid; differentiable in values and scale."""
        if not self.enabled or not self.ready or not self.training:
            return super().forward(values)
        per_scale = values.numel() // max(self.scale.numel(), 1)
        gradient_scale = 1 / math.sqrt(max(per_scale * self.grid.highest, 1))
        learned = _scaled_gradient(self.scale, gradient_scale)
        scale = spread(learned, values.shape, self.grid)
        shift = spread(self.zero_point, values.shape, self.grid)
        steps = (values / scale + shift).clamp(self.grid.lowest, self.grid.highest)
        whole = steps + (torch.round(steps) - steps).detach()
        return (whole - shift) * scale


class LearnedClip(FakeQuantize):
    """PACT: activations clip(x, 0, alpha) on an unsigned grid of step alpha / (2^b - 1); alpha is a parameter.

    d y / d alpha is 1 where x >= alpha and 0 elsewhere (eq. 3).
    """

    def __init__(self, grid: Grid, shape: tuple[int, ...] = ()) -> None:
        if grid.symmetric or grid.signed or shape:
            raise WithinError("PACT clips activations from below at zero", todo="use an unsigned grid, one a tensor")
        super().__init__(grid)
        self.alpha = nn.Parameter(torch.ones(()))

    def set_scale(self, scale: Tensor, zero_point: Tensor | None = None) -> None:
        """Sets alpha to the upper end of the range; the zero point is 0."""
        super().set_scale(scale)
        with torch.no_grad():
            self.alpha.copy_(scale * self.grid.highest)

    def forward(self, values: Tensor) -> Tensor:
        """Returns the values on the grid; differentiable in values and alpha."""
        if self.training and self.enabled and self.ready:
            alpha = self.alpha.clamp(min=1e-6)
            self.scale = step = (alpha / self.grid.highest).detach()
            clipped = torch.minimum(values.clamp(min=0), alpha)
            return clipped + (torch.round(clipped.detach() / step) * step - clipped.detach())
        return super().forward(values)


@contextmanager
def only(module: nn.Module, names: Collection[str]) -> Iterator[None]:
    """While the block runs, enables the quantisers of these names within the module and disables all others."""
    quantizers = {name: part for name, part in module.named_modules() if isinstance(part, FakeQuantize)}
    states = {name: part.enabled for name, part in quantizers.items()}
    try:
        for name, part in quantizers.items():
            part.enabled = name in names
        yield
    finally:
        for name, enabled in states.items():
            quantizers[name].enabled = enabled


def _scaled_gradient(value: Tensor, factor: float) -> Tensor:
    """Returns the value itself, whose gradient is multiplied by a factor."""
    scaled = value * factor
    return scaled + (value - scaled).detach()
