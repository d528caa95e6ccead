"""The usual scale of a codebook: alternate between the nearest levels and the best scale for them, as k-means does.

    c(n) = nearest level to w_n / alpha;    alpha = sum w c / sum c^2

Each step lowers the squared error or stops, at a local optimum only: started at the absolute maximum it ends above the
global optimum of `optimal_scale` on most int8 tensors. It is here to be compared with.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from within.core.quantize.codebook import Codebook
from within.core.quantize.partition import partition
from within.core.quantize.residuals import refitted

STEPS = 1000


def alternating_scale(
    weights: Float[Tensor, "*shape"],
    codebook: Codebook,
    *,
    axis: int | None = None,
    group_size: int | None = None,
    steps: int = STEPS,
) -> tuple[Float[Tensor, "*scales"], Float[Tensor, "*scales"]]:
    """Returns the scale where the alternation stops, and its squared error (float64), shaped as by `optimal_scale`.

    It starts where the largest weight meets the level of largest magnitude; with `steps=0` that scale is the result.

    Raises:
        WithinError: when there are no weights, one is NaN or infinite, or an option does not fit.
    """
    parts = partition(weights, axis, group_size)
    largest = np.maximum.reduceat(np.abs(parts.values), parts.starts[:-1])
    scales = np.where(largest > 0, largest / max(abs(level) for level in codebook.levels), 1.0)
    scales, errors = refitted(parts, scales, codebook, steps)
    scale, error = (torch.from_numpy(item).reshape(parts.shape).to(weights.device) for item in (scales, errors))
    return scale, error
