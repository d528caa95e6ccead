"""Losses of semantic segmentation: cross entropy, and SwiftNet's focal loss that weighs pixels near boundaries.

    boundary-aware focal loss (Orsic, Segvic, Pattern Recognition 2021):
    L = (1 / N) sum_i -alpha_i exp(gamma (1 - p_i)) log p_i            N = number of pixels with alpha_i > 0

p is the probability of the true class, taken as a constant in the exponential; alpha falls with the distance to the
nearest other class. Void pixels weigh nothing whatever number stands for void, targets are never written to, and a
batch without a labelled pixel costs 0 with a gradient of zeros. Logits of another size are upsampled to the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor

from within.core.errors import WithinError
from within.segmentation.boundary_distance import boundary_bins

Logits = Float[Tensor, "batch classes logit_height logit_width"]
Target = Integer[Tensor, "images height width"]  # axes that a user may get wrong have names of their own
PixelLoss = Float[Tensor, "images height width"]
Weights = Float[Tensor, " weights"]


def cross_entropy(
    logits: Logits, target: Target, *, ignore: int = 255, weights: Weights | None = None
) -> Float[Tensor, ""]:
    """Returns the mean of -log p over the labelled pixels, weighted by class where weights are given; 0 without any.

    Arguments:
        logits: of any resolution.
        target: class numbers, and `ignore` for void.
        ignore: any number.
        weights: one a class; see `class_weights`.

    Raises:
        WithinError: when the batches or the numbers of classes do not go together.
    """
    pixels = _pixel_cross_entropy(logits, target, ignore, weights)
    labelled = target != ignore
    if weights is None:
        return pixels.sum() / labelled.sum().clamp(min=1)
    share = weights.to(pixels)[target.long().where(labelled, 0)] * labelled
    return pixels.sum() / share.sum().clamp(min=torch.finfo(share.dtype).tiny)


@dataclass(frozen=True, eq=False)  # a tensor has no single truth
class BoundaryAwareFocal:
    """The boundary-aware focal loss.

    Attributes:
        gamma: how much more pixels count that are not yet right.
        bins: distances to the nearest pixel of another class, in pixels, where alpha changes, ascending.
        alphas: weight below the first distance, from the first to the second, ..., from the last on.
        ignore: the number of void in targets; void is another class for its neighbours.
        weights: an additional factor for each class, or None.

    Raises:
        WithinError: when the distances do not ascend, or there is not one alpha more than distances.
    """

    gamma: float = 0.5
    bins: tuple[float, ...] = (16, 64, 128)
    alphas: tuple[float, ...] = (8, 4, 2, 1)
    ignore: int = 255
    weights: Weights | None = None

    def __post_init__(self) -> None:
        if len(self.alphas) != len(self.bins) + 1 or sorted(set(self.bins)) != list(self.bins) or min(self.alphas) < 0:
            raise WithinError(
                f"The bins {self.bins} and weights {self.alphas} of the boundary-aware loss do not go together",
                where="bins and alphas",
                todo="give distances in ascending order, and one weight more than distances, none negative",
            )

    def __call__(self, logits: Logits, target: Target) -> Float[Tensor, ""]:
        """Returns the loss of a batch; arguments and errors as for `cross_entropy`."""
        cost = _pixel_cross_entropy(logits, target, self.ignore, None)  # -log p
        alpha = self.boundary_weights(target)
        count = (alpha > 0).sum()
        if self.weights is not None:
            alpha = alpha * self.weights.to(alpha)[target.long().where(target != self.ignore, 0)]
        hardness = torch.exp(self.gamma * (1 - torch.exp(-cost.detach())))
        return (alpha * hardness * cost).sum() / count.clamp(min=1)

    def boundary_weights(self, target: Target) -> PixelLoss:
        """Returns alpha of each pixel, 0 on void."""
        alphas = torch.tensor(self.alphas, dtype=torch.float32, device=target.device)
        return alphas[boundary_bins(target, self.bins)].masked_fill_(target == self.ignore, 0)


def class_weights(shares: Sequence[float] | Float[np.ndarray, " classes"], *, offset: float = 1.1) -> Weights:
    """Returns 1 / ln(offset + share) for each class, so that rare classes count more (Paszke et al., ENet, 2016).

    Arguments:
        shares: of each class among the labelled pixels; see `SegmentationPairs.class_shares`.
        offset: above 1; the nearer to 1, the more rare classes count (ENet: 1.02).

    Raises:
        WithinError: when the shares are no fractions, or the offset is too small.
    """
    values = torch.as_tensor(np.asarray(shares), dtype=torch.float64)
    if offset <= 1 or not ((values >= 0) & (values <= 1)).all():
        raise WithinError(
            f"Class weights need shares between 0 and 1 and an offset above 1, not {values.tolist()} and {offset}",
            todo="divide the pixels of each class by the number of all labelled pixels",
        )
    return (1 / torch.log(offset + values)).float()


def _pixel_cross_entropy(logits: Logits, target: Target, ignore: int, weights: Weights | None) -> PixelLoss:
    """Returns -w log p of each pixel's class, 0 where it is void, at the resolution of the target."""
    classes = logits.shape[1]
    if len(logits) != len(target) or (weights is not None and len(weights) != classes):
        raise WithinError(
            f"The network returns {len(logits)} images of {classes} classes, the target holds {len(target)} images"
            + (f", there are {len(weights)} class weights" if weights is not None else ""),
            where="loss",
            todo="check the number of classes of the network and of the data",
        )
    void = target == ignore
    wrong = target[~void & ((target < 0) | (target >= classes))]
    if wrong.numel():
        raise WithinError(
            f"The target holds class {int(wrong[0])} in {wrong.numel()} pixels, the network has the classes "
            f"0 to {classes - 1}, and {ignore} is void",
            where="loss",
            todo="convert labels with the data set's label map, or pass ignore= of your labels",
        )
    if logits.shape[2:] != target.shape[1:]:
        logits = F.interpolate(logits, size=target.shape[1:], mode="bilinear", align_corners=False)
    weights = None if weights is None else weights.to(logits)
    return F.cross_entropy(
        logits, target.long().where(~void, -100), weight=weights, ignore_index=-100, reduction="none"
    )
