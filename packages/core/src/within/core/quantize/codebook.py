"""Codebooks: the fixed levels c_1 < .. < c_K that quantised values take, up to one scale alpha per tensor or channel.

A value w is stored as the index of its nearest level and read back as alpha c_k. The families are those of Idelbayev,
Molchanov, Shen, Yin, Carreira-Perpinan, Alvarez, Optimal Quantization using Scaled Codebook, CVPR 2021.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from within.core.errors import WithinError
from within.core.quantize.partition import expand


@dataclass(frozen=True)
class Codebook:
    """Levels before scaling.

    Attributes:
        levels: finite, distinct and ascending; at least one is not zero.
        name: for tables and messages.
    """

    levels: tuple[float, ...]
    name: str

    @property
    def symmetric(self) -> bool:
        """Whether -c is a level for every level c; then a scale is never negative."""
        return self.levels == tuple(-level for level in reversed(self.levels))

    @property
    def middles(self) -> tuple[float, ...]:
        """Midpoints of neighbouring levels: between which the nearest level changes."""
        return tuple((low + high) / 2 for low, high in zip(self.levels, self.levels[1:]))

    def __len__(self) -> int:
        return len(self.levels)


def arbitrary(levels: Iterable[float], name: str = "arbitrary") -> Codebook:
    """Returns a codebook of any levels, in any order; repeated levels count once.

    Raises:
        WithinError: when a level is NaN or infinite, or none differs from zero.
    """
    found = [float(level) + 0.0 for level in levels]  # -0.0 + 0.0 is 0.0
    if not all(math.isfinite(level) for level in found):
        raise WithinError("A level of the codebook is NaN or infinite", where=name, todo="give finite levels")
    if not any(found):
        raise WithinError("The codebook has no level other than zero", where=name, todo="give at least one such level")
    return Codebook(tuple(sorted(set(found))), name)


def integer(bits: int, narrow: bool = True) -> Codebook:
    """Returns {-Q, .., Q}, Q = 2^(bits-1) - 1; with `narrow=False` also -Q - 1.

    Raises:
        WithinError: when `bits` is not between 2 and 8.
    """
    if not 2 <= bits <= 8:
        raise WithinError(f"An integer codebook has 2 to 8 bits, not {bits}", todo="use ternary() or binary() below 2")
    largest = 2 ** (bits - 1) - 1
    name = f"int{bits}" if narrow else f"int{bits}, full range"
    return arbitrary(range(-largest - (not narrow), largest + 1), name)


def powers_of_two(largest_exponent: int, *, include_two: bool = True) -> Codebook:
    """Returns {0, +-1, +-2, +-4, .., +-2^largest_exponent}.

    Arguments:
        include_two: whether +-2 is a level: the published list goes from +-1 to +-2^2, so it may be left out.

    Raises:
        WithinError: when the exponent is negative.
    """
    if largest_exponent < 0:
        raise WithinError(f"The largest exponent is {largest_exponent}", todo="give a whole number from 0 on")
    positive = [2.0**exponent for exponent in range(largest_exponent + 1) if include_two or exponent != 1]
    name = f"powers of two to {2**largest_exponent}{'' if include_two else ' without 2'}"
    return arbitrary([0.0, *positive, *(-level for level in positive)], name)


def logarithmic(largest: int) -> Codebook:
    """Returns {0, +-log 2, +-log 3, .., +-log largest}, natural logarithms.

    Raises:
        WithinError: when `largest` is below 2.
    """
    if largest < 2:
        raise WithinError(f"The largest argument of the logarithm is {largest}", todo="give a whole number from 2 on")
    positive = [math.log(value) for value in range(2, largest + 1)]
    return arbitrary([0.0, *positive, *(-level for level in positive)], f"logarithms to log {largest}")


def ternary() -> Codebook:
    """Returns {-1, 0, 1}."""
    return arbitrary((-1.0, 0.0, 1.0), "ternary")


def binary() -> Codebook:
    """Returns {-1, 1}."""
    return arbitrary((-1.0, 1.0), "binary")


def level_indices(
    weights: Float[Tensor, "*shape"],
    scale: Float[Tensor, "*scales"] | float,
    codebook: Codebook,
    *,
    axis: int | None = None,
    group_size: int | None = None,
) -> Int[Tensor, "*shape"]:
    """Returns, for every weight, the index of the level whose scaled value is nearest (int64, the shape of `weights`).

    Halfway between two levels the one nearer to zero is taken, so that w and -w are treated alike. The scale belongs to
    the whole tensor, to each index of `axis`, or to each group, as `optimal_scale` with the same options returned it.

    Raises:
        WithinError: when the shape of the scale does not fit the options.
    """
    factor = expand(torch.as_tensor(scale, dtype=torch.float64, device=weights.device), weights, axis, group_size)
    middles = torch.tensor(codebook.middles, dtype=torch.float64, device=weights.device)
    ratio = torch.where(factor == 0, 0.0, weights.double() / factor).contiguous()  # at scale 0 every level gives 0
    toward_zero = torch.bucketize(ratio, middles)
    return torch.where(ratio > 0, toward_zero, torch.bucketize(ratio, middles, right=True))


def quantize_to_codebook(
    weights: Float[Tensor, "*shape"],
    scale: Float[Tensor, "*scales"] | float,
    codebook: Codebook,
    *,
    axis: int | None = None,
    group_size: int | None = None,
) -> Float[Tensor, "*shape"]:
    """Returns alpha c_k with the nearest level for every weight, in the shape and dtype of `weights`.

    Raises:
        WithinError: when the shape of the scale does not fit the options.
    """
    indices = level_indices(weights, scale, codebook, axis=axis, group_size=group_size)
    levels = torch.tensor(codebook.levels, dtype=torch.float64, device=weights.device)
    factor = expand(torch.as_tensor(scale, dtype=torch.float64, device=weights.device), weights, axis, group_size)
    return (factor * levels[indices]).to(weights.dtype)
