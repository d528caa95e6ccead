"""Weight sharing: one-dimensional k-means over the weights of a layer that are not pruned.

Han, Mao, Dally, "Deep Compression", ICLR 2016, section 3: minimise sum_i sum_{w in c_i} |w - c_i|^2 (eq. 2). Centroids
start evenly over [min, max] ("linear", the paper's choice: large weights are few and matter most), at quantiles
("density") or at random weights ("random"). Afterwards they are trained: a centroid's gradient is the sum of its
members' gradients (eq. 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from within.core.errors import WithinError

Initial = Literal["linear", "density", "random"]
INITIALS = ("linear", "density", "random")


@dataclass(frozen=True)
class SharedWeight:
    """A tensor whose elements are zero or one of k centroids.

    Attributes:
        codes: 0 where the weight is pruned, i for centroid i - 1; int64, in the shape of the tensor.
        centroids: ascending, in the tensor's type.
    """

    codes: Int[Tensor, "*shape"]
    centroids: Float[Tensor, " clusters"]

    def weight(self) -> Float[Tensor, "*shape"]:
        """Returns the tensor."""
        return torch.cat([self.centroids.new_zeros(1), self.centroids])[self.codes]

    def centroid_gradient(self, gradient: Float[Tensor, "*shape"]) -> Float[Tensor, " clusters"]:
        """Returns the sum of the members' gradients for every centroid (eq. 3)."""
        sums = gradient.new_zeros(len(self.centroids) + 1)
        return sums.index_add_(0, self.codes.flatten(), gradient.flatten())[1:]

    def gathered(self, values: Float[Tensor, "*shape"]) -> SharedWeight:
        """Returns the same sharing with each centroid at the mean of what its members have become."""
        sums = values.new_zeros(len(self.centroids) + 1, dtype=torch.float64)
        sums.index_add_(0, self.codes.flatten(), values.detach().flatten().double())
        members = torch.bincount(self.codes.flatten(), minlength=len(self.centroids) + 1)
        return SharedWeight(self.codes, (sums / members.clamp(min=1))[1:].to(values.dtype))


def share_weights(
    weight: Float[Tensor, "*shape"], clusters: int, *, initial: Initial = "linear", iterations: int = 300, seed: int = 0
) -> SharedWeight:
    """Clusters the nonzero elements of a tensor.

    With at most `clusters` different values nothing changes: they become the centroids themselves. Centroids that end
    without members are dropped.

    Arguments:
        weight: zeros stay zero and take no part.
        clusters: k.
        initial: where the centroids start.
        iterations: at most so many; it ends earlier when nothing moves.
        seed: for the random start.

    Raises:
        WithinError: when the tensor holds NaN or Inf, k is not positive, or the start is unknown.
    """
    if clusters < 1:
        raise WithinError(f"{clusters} clusters", where="weight sharing", todo="choose at least one")
    if initial not in INITIALS:
        raise WithinError(f"There is no start named {initial!r}", todo=f"choose one of: {', '.join(INITIALS)}")
    if not torch.isfinite(weight).all():
        raise WithinError("A weight that is to be shared holds NaN or Inf", todo="load sound weights")
    weight = weight.detach()
    kept = weight != 0
    codes = torch.zeros(weight.shape, dtype=torch.int64, device=weight.device)
    values, order = weight[kept].double().sort()
    distinct = values.unique_consecutive()
    if len(distinct) > clusters:
        distinct = _k_means(values, _start(values, clusters, initial, seed), iterations)
        # Only centroids that differ in the tensor's own type can be told apart.
        distinct = distinct.to(weight.dtype).unique().double()
        distinct = distinct[torch.bincount(_nearest(values, distinct), minlength=len(distinct)) > 0]
    if len(distinct):
        found = torch.empty_like(order)
        found[order] = _nearest(values, distinct) + 1
        codes[kept] = found
    return SharedWeight(codes, distinct.to(weight.dtype))


def _start(values: Tensor, clusters: int, initial: Initial, seed: int) -> Tensor:
    if initial == "linear":
        return torch.linspace(float(values[0]), float(values[-1]), clusters, dtype=torch.float64, device=values.device)
    if initial == "density":
        ranks = (torch.arange(clusters, dtype=torch.float64, device=values.device) + 0.5) / clusters * len(values)
        return values[ranks.long()].clone()
    chosen = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))[:clusters]
    return values[chosen.to(values.device)].sort().values


def _k_means(values: Tensor, centroids: Tensor, iterations: int) -> Tensor:
    """Lloyd's iteration on sorted values: a cluster is an interval, its mean a difference of two running sums."""
    sums = torch.cat([values.new_zeros(1), values.cumsum(0)])
    for _ in range(iterations):
        edges = torch.searchsorted(values, (centroids[1:] + centroids[:-1]) / 2)
        edges = torch.cat([edges.new_zeros(1), edges, edges.new_full((1,), len(values))])
        members = edges.diff()
        means = torch.where(members > 0, sums[edges].diff() / members.clamp(min=1), centroids)
        moved = not torch.equal(means, centroids)
        centroids = means.sort().values  # an empty cluster stays where it is and may be overtaken
        if not moved:
            break
    return centroids


def _nearest(values: Tensor, centroids: Tensor) -> Tensor:
    return torch.searchsorted((centroids[1:] + centroids[:-1]) / 2, values)
