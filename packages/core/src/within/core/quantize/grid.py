"""Uniform grids: the values that b bits can hold, and rounding to them.

    symmetric   q = clip(round(x / s), -Q, Q),            Q = 2^(b-1) - 1   (narrow), or down to -Q - 1
    affine      q = clip(round(x / s) + z, q_min, q_max),  x' = s (q - z)

Zero is always on the grid, because padding is. Halves round to even, as in PyTorch, ONNX and TensorRT. A tensor whose
range is zero gets the scale 1. (Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-
Arithmetic-Only Inference, CVPR 2018.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from within.core.errors import WithinError

LOWEST_BITS, HIGHEST_BITS = 2, 8


@dataclass(frozen=True)
class Grid:
    """A uniform grid.

    Attributes:
        bits: 2 to 8.
        symmetric: the zero point is 0 and the levels are as many above as below it.
        signed: the integers are signed; an affine grid on a CPU is unsigned.
        narrow: leave the lowest signed integer out, so that a symmetric grid is symmetric.
        axis: axis that has a scale for each index; None for one scale a tensor.
        group_size: values along the flattened rest of an index of `axis` that share a scale; None for all of them.
    """

    bits: int = 8
    symmetric: bool = True
    signed: bool = True
    narrow: bool = True
    axis: int | None = None
    group_size: int | None = None

    def __post_init__(self) -> None:
        if not LOWEST_BITS <= self.bits <= HIGHEST_BITS:
            raise WithinError(f"A grid of {self.bits} bits", todo=f"choose {LOWEST_BITS} to {HIGHEST_BITS} bits")
        if self.symmetric and not self.signed:
            raise WithinError("A symmetric grid needs signed integers", todo="set signed=True or symmetric=False")
        if self.group_size is not None and (self.axis is None or self.group_size < 1):
            raise WithinError("Groups lie within the indices of an axis", todo="set axis, and group_size of at least 1")

    @property
    def lowest(self) -> int:
        """The smallest integer."""
        if not self.signed:
            return 0
        return -(2 ** (self.bits - 1)) + int(self.symmetric and self.narrow)

    @property
    def highest(self) -> int:
        """The largest integer."""
        return 2 ** (self.bits - int(self.signed)) - 1


def scales_of(low: Tensor, high: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Returns scale (float32) and zero point (int32) so that the grid covers [low, high].

    Arguments:
        low, high: smallest and largest value, of any common shape; zero is included whether or not it lies between.

    Raises:
        WithinError: when a bound is NaN or infinite.
    """
    if not bool(torch.isfinite(low).all() and torch.isfinite(high).all()):
        raise WithinError("A quantisation range is NaN or infinite", todo="check the calibration data and the weights")
    low, high = low.double().clamp(max=0), high.double().clamp(min=0)
    if grid.symmetric:
        scale = torch.maximum(-low, high) / grid.highest
        zero_point = torch.zeros_like(scale)
    else:
        scale = (high - low) / (grid.highest - grid.lowest)
        zero_point = torch.zeros_like(scale)
    tiny = torch.finfo(torch.float32).tiny
    scale = torch.where(scale < tiny, torch.ones_like(scale), scale).float()
    if not grid.symmetric:
        zero_point = torch.round(grid.lowest - low / scale.double()).clamp(grid.lowest, grid.highest)
    return scale, zero_point.to(torch.int32)


def range_of(values: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Returns the smallest and largest value: scalars, or of shape [indices] or [indices, groups] along the axis.

    Raises:
        WithinError: when the tensor is empty, or the group size does not divide the values of an index.
    """
    if values.numel() == 0:
        raise WithinError("An empty tensor has no range", where=f"shape {tuple(values.shape)}")
    if grid.axis is None:
        return values.amin(), values.amax()
    rows = rows_of(values, grid)
    return rows.amin(-1), rows.amax(-1)


def rows_of(values: Tensor, grid: Grid) -> Tensor:
    """Returns the values as [indices, values of one scale], or [indices, groups, values of one scale]."""
    assert grid.axis is not None
    rows = values.movedim(grid.axis, 0).reshape(values.shape[grid.axis], -1)
    if grid.group_size is None:
        return rows
    if rows.shape[1] % grid.group_size:
        raise WithinError(
            f"Groups of {grid.group_size} do not divide the {rows.shape[1]} values of an index",
            where=f"shape {tuple(values.shape)}, axis {grid.axis}",
        )
    return rows.reshape(rows.shape[0], -1, grid.group_size)


def spread(parameter: Tensor, shape: torch.Size, grid: Grid) -> Tensor:
    """Returns scales or zero points in a shape that broadcasts against, or equals, a tensor of that shape."""
    if grid.axis is None:
        return parameter
    axis = grid.axis % len(shape)
    if grid.group_size is None:
        return parameter.reshape([-1 if place == axis else 1 for place in range(len(shape))])
    moved = [shape[axis], *[size for place, size in enumerate(shape) if place != axis]]
    rows = parameter.reshape(shape[axis], -1, 1).expand(-1, -1, grid.group_size)
    return rows.reshape(moved).movedim(0, axis)


def to_integers(values: Tensor, scale: Tensor, zero_point: Tensor, grid: Grid) -> Tensor:
    """Returns the integers (int32) that the values round to."""
    steps = values / spread(scale, values.shape, grid)
    shifted = torch.round(steps) + spread(zero_point, values.shape, grid)
    return shifted.clamp(grid.lowest, grid.highest).to(torch.int32)


def from_integers(integers: Tensor, scale: Tensor, zero_point: Tensor, grid: Grid) -> Tensor:
    """Returns the values (float32) that integers stand for."""
    shape = integers.shape
    return (integers - spread(zero_point, shape, grid)).float() * spread(scale, shape, grid)


def rounded(values: Tensor, scale: Tensor, zero_point: Tensor, grid: Grid) -> Tensor:
    """Returns the nearest values on the grid; the gradient passes straight through where a value is in range.

    (Bengio, Leonard and Courville, Estimating or Propagating Gradients Through Stochastic Neurons, 2013.)
    """
    step, shift = spread(scale, values.shape, grid), spread(zero_point, values.shape, grid)
    if torch.is_grad_enabled() and values.requires_grad:
        found: Tensor = _StraightThrough.apply(values, step.detach(), shift, grid)
        return found
    return _on_grid(_steps(values, step, shift, grid), step, shift, grid).to(values.dtype)


class _StraightThrough(torch.autograd.Function):
    """Rounding whose derivative is 1 where the integer lies within the grid, and 0 where it is clipped."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, step: Tensor, shift: Tensor, grid: Grid) -> Tensor:
        steps = _steps(values, step, shift, grid)
        ctx.save_for_backward((steps >= grid.lowest) & (steps <= grid.highest))
        return _on_grid(steps, step, shift, grid).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None, None


def _steps(values: Tensor, step: Tensor, shift: Tensor, grid: Grid) -> Tensor:
    """Returns a new tensor of the integers before they are clipped; divided, as ONNX does, not times 1 / step."""
    steps = (values / step).round_()
    return steps if grid.symmetric else steps.add_(shift)


def _on_grid(steps: Tensor, step: Tensor, shift: Tensor, grid: Grid) -> Tensor:
    """Returns the values of integers after they are clipped; overwrites the integers."""
    steps.clamp_(grid.lowest, grid.highest)
    return (steps if grid.symmetric else steps.sub_(shift)).mul_(step)
