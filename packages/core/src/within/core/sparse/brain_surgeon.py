"""Optimal brain surgeon, layer by layer: removes what changes the layer's output least, and repairs with the rest.

Hassibi, Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon", NIPS 1992, on the layer's own
squared error E||W x - W' x||^2, whose Hessian is H = 2 E[x x^T] for every row. With S the weights of a row that stay:

    removing w_j raises the error by  w_j^2 / [H_SS^-1]_jj  (eq. 5)
    and the best row on S is  w_S + H_SS^-1 H_SR w_R  with R the weights removed so far

Weights go in several rounds, ranked over all rows of the layer; after each, the rows are solved anew.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from within.core.errors import WithinError
from within.core.sparse.magnitude import density_mask


def brain_surgeon(
    weight: Float[Tensor, "outputs inputs"],
    second_moment: Float[Tensor, "inputs inputs"],
    density: float,
    *,
    rounds: int = 4,
    damping: float = 1e-3,
) -> tuple[Float[Tensor, "outputs inputs"], Bool[Tensor, "outputs inputs"]]:
    """Prunes one layer to a density.

    Arguments:
        weight: W; a convolution's flattened to rows of (channel, kernel position).
        second_moment: E[x x^T] of what the layer reads.
        density: kept / all.
        rounds: steps, in equal ratios of density.
        damping: added to the diagonal, relative to its mean: an input that never varies would make H singular.

    Returns:
        The repaired weight and its mask.

    Raises:
        WithinError: when shapes do not match, or the moments are not those of finite data.
    """
    if second_moment.shape != (weight.shape[1],) * 2:
        raise WithinError(
            f"Moments of {tuple(second_moment.shape)} for a weight of {tuple(weight.shape)}", where="brain surgeon"
        )
    if not torch.isfinite(second_moment).all() or not torch.isfinite(weight).all():
        raise WithinError("The moments or the weights hold NaN or Inf", where="brain surgeon")
    dense = weight.detach().double()
    moment = second_moment.double()
    moment = moment + max(float(moment.diagonal().mean()) * damping, 1e-12) * torch.eye(len(moment)).to(moment)
    mask = dense != 0
    repaired = dense.clone()
    start = max(float(mask.double().mean()), density)
    for step in range(1, rounds + 1):
        scores = _scores(repaired, moment, mask)
        mask = density_mask(scores, start * (density / start) ** (step / rounds) if density else 0.0) & mask
        repaired = _repair(dense, moment, mask)
    return repaired.to(weight.dtype), mask


def _scores(weight: Tensor, moment: Tensor, mask: Tensor) -> Tensor:
    """What the error would rise by without each weight (eq. 5); 0 for those that are gone."""
    scores = torch.zeros_like(weight)
    for row, kept in _rows(mask):
        inverse = torch.linalg.inv(moment[kept][:, kept])
        scores[row[:, None], kept] = weight[row[:, None], kept] ** 2 / inverse.diagonal()
    return scores


def _repair(dense: Tensor, moment: Tensor, mask: Tensor) -> Tensor:
    """The rows that are closest in output to the dense ones among those with these zeros."""
    repaired = torch.zeros_like(dense)
    for row, kept in _rows(mask):
        target = moment[kept] @ dense[row].T
        repaired[row[:, None], kept] = torch.linalg.solve(moment[kept][:, kept], target).T
    return repaired


def _rows(mask: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Returns (rows, weights kept) for rows with the same weights kept, so that each system is solved once."""
    patterns, group = mask.unique(dim=0, return_inverse=True)
    found = [((group == number).nonzero()[:, 0], kept.nonzero()[:, 0]) for number, kept in enumerate(patterns)]
    return [(row, kept) for row, kept in found if len(kept)]
