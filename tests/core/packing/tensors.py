"""Random tensors for the tests of packing, from empty to full, with values that are easily lost."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@st.composite
def sparse_tensors(draw: st.DrawFn) -> Tensor:
    """Returns tensors of up to 3,000 elements: density 0 to 1, one to many different values, long runs of zeros."""
    shape = draw(st.sampled_from([(), (0,), (1,), (7,), (0, 4), (3, 5), (40, 50), (2, 3, 5, 5), (3000,)]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    values = torch.randn(shape, generator=generator)
    levels = draw(st.sampled_from([0, 1, 2, 5, 16, None]))
    if levels is not None:
        values = (values * levels).round() / max(levels, 1)
    density = draw(st.sampled_from([0.0, 0.001, 0.02, 0.1, 0.5, 1.0]))
    values = values * (torch.rand(shape, generator=generator) < density)
    return values.to(draw(st.sampled_from(TYPES)))


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors agree in type, shape and every bit; a negative zero is not a zero."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    width = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[one.element_size()]
    return torch.equal(one.contiguous().reshape(-1).view(width), other.contiguous().reshape(-1).view(width))
