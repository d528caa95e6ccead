"""The multi-level scaling (MLS) tensor format.

    X = S_t * S_g * X_bar,

a float32 scale S_t = max |X| for the tensor, a small float S_g <= 1 for each group (its largest magnitude over S_t,
rounded up, so that every |X_bar| <= 1), and for each element a sign and a tiny float X_bar = <E_x, M_x> of E_x exponent
and M_x mantissa bits:

    X_bar = (1 + m / 2^M) 2^-e            for e = 0 .. 2^E - 2,
            (m / 2^M) 2^-(2^E - 2)        for e = 2^E - 1: gradual underflow to zero.

<2, 1> has the magnitudes 0, 1/8, 1/4, 3/8, 1/2, 3/4, 1 (a code for 3/2 is never needed). Since both 0 and 1 are among
them, every element lies between two of them, and stochastic rounding is unbiased: E[Q(X)] = X.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from within.core.errors import WithinError

# The noise of stochastic rounding has 16 bits, the lowest of them set: odd numbers over 2^16 steps, symmetric about 0.
# It ends early, so that a value closer than 3 / 2^16 steps to a representable one becomes that one, and float32's own
# rounding of S_t * S_g * X_bar moves nothing when it is quantised again. Both move a mean by at most 2^-14 steps.
_NOISE_BITS = 16
_LARGEST_NOISE = 2**15 - 3
_ODD = 0x0001_0001_0001_0001
_EXPONENT = 0x7F800000
_SMALLEST = 2.0**-126


@dataclass(frozen=True)
class MlsFormat:
    """Bits of elements and group scales, and what a group is.

    Attributes:
        exponent, mantissa: E_x and M_x of an element; one more bit is its sign.
        group_exponent, group_mantissa: E_g and M_g of a group scale (1 + m / 2^M_g) 2^-e, e up to 2^E_g - 1.
        groups: axes whose every index is a group of its own: (0, 1) is the paper's N x C, (0,) is N, (1,) is C, () is
            one group. Where such a group would be a single element (linear layers, 1x1 kernels), the last of the axes
            is left out.
    """

    exponent: int = 2
    mantissa: int = 1
    group_exponent: int = 8
    group_mantissa: int = 1
    groups: tuple[int, ...] = (0, 1)

    def __post_init__(self) -> None:
        if not (0 <= self.exponent <= 5 and 0 <= self.mantissa <= 5 and self.exponent + self.mantissa > 0):
            raise WithinError(f"Elements have 0 to 5 exponent and mantissa bits, at least one, not {self}")
        if not (1 <= self.group_exponent <= 8 and 0 <= self.group_mantissa <= 5):
            raise WithinError(
                "Group scales have 1 to 8 exponent and 0 to 5 mantissa bits, "
                f"not <{self.group_exponent},{self.group_mantissa}>"
            )
        if len(set(self.groups)) != len(self.groups) or any(axis < 0 for axis in self.groups):
            raise WithinError(f"Groups are distinct axes counted from 0, not {self.groups}", where="groups")

    def __str__(self) -> str:
        return f"<{self.exponent},{self.mantissa}>"

    @property
    def smallest_exponent(self) -> int:
        """Power of two of the smallest numbers with a leading one; below it the steps no longer shrink."""
        return 2 - 2**self.exponent

    def magnitudes(self) -> tuple[float, ...]:
        """Returns every magnitude up to 1 that an element can have, ascending."""
        found = set()
        for e in range(2**self.exponent):
            for m in range(2**self.mantissa):
                fraction = m / 2**self.mantissa
                if e == 2**self.exponent - 1:
                    found.add(fraction * 2.0**self.smallest_exponent)
                else:
                    found.add((1 + fraction) * 2.0**-e)
        return tuple(sorted(value for value in found if value <= 1))

    def axes(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the group axes that are used for a tensor of this shape."""
        axes = tuple(axis for axis in sorted(self.groups) if axis < len(shape))
        rest = [size for axis, size in enumerate(shape) if axis not in axes]
        if axes and all(size == 1 for size in rest):
            axes = axes[:-1]
        return axes


@dataclass(frozen=True)
class MlsTensor:
    """A tensor in the format.

    Attributes:
        tensor_scale: S_t, a scalar.
        group_scale: S_g, of the tensor's rank, size 1 along all axes but those of the groups.
        elements: X_bar with its sign, of the tensor's shape.
        format: the bits.
    """

    tensor_scale: Float[Tensor, ""]
    group_scale: Float[Tensor, "*groups"]
    elements: Float[Tensor, "*shape"]
    format: MlsFormat

    def value(self) -> Float[Tensor, "*shape"]:
        """Returns S_t * S_g * X_bar."""
        return self.elements * (self.tensor_scale * self.group_scale)

    @property
    def bits(self) -> int:
        """What the tensor takes: sign, exponent and mantissa of elements, group scales, 32 for the tensor scale."""
        form = self.format
        element = 1 + form.exponent + form.mantissa
        group = form.group_exponent + form.group_mantissa
        return element * self.elements.numel() + group * self.group_scale.numel() + 32


def encode(
    x: Float[Tensor, "*shape"],
    form: MlsFormat | None = None,
    *,
    stochastic: bool = True,
    generator: torch.Generator | None = None,
    scales: MlsTensor | None = None,
    where: str = "MLS format",
) -> MlsTensor:
    """Returns a tensor in the MLS format.

    Arguments:
        x: any shape; computed in float32.
        form: the bits; None is <2, 1> in groups over N x C.
        stochastic: round up with the probability that makes the mean exact; otherwise round to nearest.
        generator: of the stochastic rounding; None takes torch's global one.
        scales: take S_t and S_g from this tensor instead of from `x`, whose magnitudes must not exceed S_t * S_g.
        where: what error messages call the tensor.

    Raises:
        WithinError: NaN or infinity in `x`; elements above the given scales.
    """
    form = (MlsFormat() if scales is None else scales.format) if form is None else form
    tensor_scale, group_scale, elements = _elements(x, form, stochastic, generator, scales, where)
    return MlsTensor(tensor_scale, group_scale, elements, form)


def quantise(
    x: Float[Tensor, "*shape"],
    form: MlsFormat | None = None,
    *,
    stochastic: bool = True,
    generator: torch.Generator | None = None,
    where: str = "MLS format",
) -> Float[Tensor, "*shape"]:
    """Returns the value of a tensor after a round trip through the format; the arguments are those of `encode`.

    Raises:
        WithinError: NaN or infinity in `x`.
    """
    form = MlsFormat() if form is None else form
    tensor_scale, group_scale, elements = _elements(x, form, stochastic, generator, None, where)
    return elements.mul_(tensor_scale * group_scale).to(x.dtype)


def _elements(
    x: Tensor,
    form: MlsFormat,
    stochastic: bool,
    generator: torch.Generator | None,
    scales: MlsTensor | None,
    where: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns S_t, S_g and X_bar: where low-bit training spends its time, so in few passes over memory."""
    x = x.detach().float()
    step = x.abs()
    if scales is None:
        tensor_scale, group_scale = _scales(step, form, where)
    else:
        tensor_scale, group_scale = scales.tensor_scale, scales.group_scale
    scale = tensor_scale * group_scale
    # A group of zeros has the scale 0; one that is lost to underflow becomes zeros.
    elements = x / torch.where(scale > 0, scale, torch.inf)
    if scales is not None and elements.numel() and not bool((elements.abs() <= 1 + 2.0**-20).all()):
        raise WithinError("The tensor has elements above the given scales, NaN or infinity", where=where)
    # The exponent bits alone are the power of two below; under the smallest exponent the step stays.
    torch.bitwise_and(elements.view(torch.int32), _EXPONENT, out=step.view(torch.int32))
    step.clamp_(min=2.0**form.smallest_exponent).mul_(2.0**-form.mantissa)
    elements.div_(step)
    if stochastic:
        elements.add_(_noise(elements, generator), alpha=2.0**-_NOISE_BITS)
    return tensor_scale, group_scale, elements.round_().mul_(step)


def _noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Returns odd numbers of 16 bits, uniform and symmetric about 0: four from each draw of 64 bits."""
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device)
    words.random_(-(2**63), None, generator=generator).bitwise_or_(_ODD)
    noise = words.view(torch.int16)[: like.numel()].clamp_(-_LARGEST_NOISE, _LARGEST_NOISE)
    return noise.view(like.shape)


def _scales(magnitude: Tensor, form: MlsFormat, where: str) -> tuple[Tensor, Tensor]:
    """Returns S_t, and S_g rounded up to <E_g, M_g>; both 0 for zeros."""
    axes = form.axes(magnitude.shape)
    if magnitude.numel() == 0:
        shape = [size if axis in axes else 1 for axis, size in enumerate(magnitude.shape)]
        return magnitude.new_zeros(()), magnitude.new_zeros(shape)
    rest = [axis for axis in range(magnitude.dim()) if axis not in axes]
    largest = magnitude.amax(dim=rest, keepdim=True) if rest else magnitude
    tensor_scale = largest.amax()
    if not math.isfinite(tensor_scale):
        raise WithinError(
            f"The tensor has {'NaN' if bool(torch.isnan(tensor_scale)) else 'infinite'} elements", where=where
        )
    rounded = largest / torch.where(tensor_scale > 0, tensor_scale, torch.inf)
    # Up to the next float of so many mantissa bits; a carry goes into the exponent by itself.
    below = 2 ** (23 - form.group_mantissa) - 1
    rounded.view(torch.int32).add_(below).bitwise_and_(~below)
    least = max(2.0 ** -(2**form.group_exponent - 1), _SMALLEST)
    return tensor_scale, torch.where(largest > 0, rounded.clamp_(min=least, max=1.0), 0.0)
