"""Fine-grained magnitude pruning: which single weights stay.

Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks", NIPS 2015, section 3: a
layer keeps |w| >= q std(w) with a quality parameter q. Or it keeps a given share of its weights, the largest; or all
layers together do.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from within.core.errors import WithinError

Masks = dict[str, Tensor]  # booleans in the shapes of the weights


def threshold_mask(weight: Float[Tensor, "*shape"], quality: float) -> Bool[Tensor, "*shape"]:
    """Keeps |w| >= q std(w); the standard deviation is over the weights that are not zero yet.

    Raises:
        WithinError: when q is negative or the weight holds NaN or Inf.
    """
    _check(weight)
    if quality < 0:
        raise WithinError(f"A quality parameter of {quality}", where="magnitude pruning", todo="choose q >= 0")
    alive = weight[weight != 0].double()
    deviation = alive.std(correction=0) if alive.numel() else weight.new_zeros((), dtype=torch.float64)
    return (weight.abs().double() >= quality * deviation) & (weight != 0)


def density_mask(scores: Float[Tensor, "*shape"], density: float) -> Bool[Tensor, "*shape"]:
    """Keeps the given share of a tensor, rounded to whole weights: those of the highest scores, ties by position.

    Arguments:
        scores: magnitudes, or another importance >= 0; what scores zero never stays.
        density: kept / all, in [0, 1].

    Raises:
        WithinError: when the density is no share, or a score is NaN or infinite.
    """
    _check(scores)
    if not 0 <= density <= 1:
        raise WithinError(f"A density of {density}", where="magnitude pruning", todo="choose a share from 0 to 1")
    order = scores.flatten().argsort(descending=True, stable=True)
    mask = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    mask[order[: round(density * scores.numel())]] = True
    return mask.reshape(scores.shape) & (scores > 0)


def magnitude_masks(
    weights: Mapping[str, Tensor],
    *,
    density: float | Mapping[str, float] | None = None,
    quality: float | Mapping[str, float] | None = None,
) -> Masks:
    """Returns which weights stay, by name.

    Arguments:
        weights: tensors by name, those to be pruned.
        density: one share for all layers together, whose magnitudes are then compared as they are; or a share for each
            layer by name.
        quality: instead of it, q for all layers or each layer by name.

    Raises:
        WithinError: when not exactly one of the two is given, a name is unknown, or a weight holds NaN or Inf.
    """
    if (density is None) == (quality is None):
        raise WithinError("Give either a density or a quality parameter, one of the two", where="magnitude pruning")
    given = density if quality is None else quality
    names = list(given) if isinstance(given, Mapping) else list(weights)
    unknown = [name for name in names if name not in weights]
    if unknown:
        raise WithinError(f"There is no weight named {unknown[0]!r}", todo=f"the weights are: {', '.join(weights)}")
    if quality is not None:
        qualities = quality if isinstance(quality, Mapping) else dict.fromkeys(names, quality)
        return {name: threshold_mask(weights[name], q) for name, q in qualities.items()}
    if isinstance(density, Mapping):
        return {name: density_mask(weights[name].abs(), share) for name, share in density.items()}
    assert density is not None
    together = density_mask(torch.cat([weight.detach().abs().flatten() for weight in weights.values()]), density)
    parts = together.split([weight.numel() for weight in weights.values()])
    return {name: part.reshape(weights[name].shape) for name, part in zip(weights, parts)}


def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Sets the weights that do not stay to zero, in place; the model stays plain.

    Raises:
        WithinError: when the model has no parameter of a name, or it has another shape.
    """
    parameters = dict(model.named_parameters())
    for name, mask in masks.items():
        if name not in parameters or parameters[name].shape != mask.shape:
            raise WithinError("A mask fits no parameter of the model", where=name, todo="make the masks of this model")
        with torch.no_grad():
            parameters[name].masked_fill_(~mask.to(parameters[name].device), 0.0)  # a product could be -0


def density_of(masks: Mapping[str, Tensor]) -> float:
    """Returns kept / all over the masks."""
    return sum(int(mask.sum()) for mask in masks.values()) / max(sum(mask.numel() for mask in masks.values()), 1)


def _check(weight: Tensor) -> None:
    if not torch.isfinite(weight).all():
        raise WithinError("A weight that is to be pruned holds NaN or Inf", todo="load sound weights")
