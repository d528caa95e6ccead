"""Features at the occupied places of a grid of two or three axes."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from within.core.errors import WithinError
from within.perception3d.sparse.rulebook import Rulebook

Sizes = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class SparseTensor:
    """A batch of sparse maps.

    Attributes:
        features: a row for each occupied place.
        indices: batch and coordinates of each row, slowest axis first: (batch, z, y, x) or (batch, y, x); contiguous.
        shape: of the grid.
        batch: number of maps.
        rulebooks: found so far for these places; shared by all tensors that `with_features` makes of this one.
    """

    features: Float[Tensor, "voxels channels"]
    indices: Int32[Tensor, "voxels axes"]
    shape: Sizes
    batch: int
    rulebooks: dict[Hashable, Rulebook] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return int(self.features.shape[0])

    @property
    def channels(self) -> int:
        """Number of features of a place."""
        return int(self.features.shape[1])

    def with_features(self, features: Tensor) -> SparseTensor:
        """Returns other features at the same places."""
        return SparseTensor(features, self.indices, self.shape, self.batch, self.rulebooks)

    def keep(self, rows: Tensor) -> SparseTensor:
        """Returns some of the places; rulebooks are found anew, since rows have other numbers."""
        return SparseTensor(
            self.features.index_select(0, rows), self.indices.index_select(0, rows), self.shape, self.batch
        )

    def dense(self) -> Float[Tensor, "batch channels *shape"]:
        """Returns a dense map with zeros at empty places."""
        found = self.features.new_zeros(self.batch, *self.shape, self.channels)
        found[self.indices.long().unbind(1)] = self.features
        return found.movedim(-1, 1)

    @property
    def occupancy(self) -> float:
        """Share of the grid's cells that are occupied."""
        return len(self) / (self.batch * torch.Size(self.shape).numel())


def sparse_tensor(features: Tensor, indices: Tensor, shape: Sizes, batch: int) -> SparseTensor:
    """Returns a checked sparse tensor.

    Raises:
        WithinError: when sizes do not fit, a place is outside the grid or occurs twice, or a feature is not finite.
    """
    if indices.dim() != 2 or features.dim() != 2 or len(indices) != len(features):
        raise WithinError(
            f"Features of {tuple(features.shape)} and places of {tuple(indices.shape)} do not belong together",
            todo="give a row of each for every voxel",
        )
    if indices.shape[1] != 1 + len(shape) or len(shape) not in (2, 3):
        raise WithinError(
            f"Places of {indices.shape[1]} columns in a grid of {len(shape)} axes",
            todo="give batch, z, y, x for three axes, or batch, y, x for two",
        )
    if indices.is_floating_point():
        raise WithinError(f"Places are whole numbers, not {indices.dtype}")
    places = indices.to(torch.int32).contiguous()
    limits = torch.tensor([batch, *shape], device=places.device)
    outside = ((places < 0) | (places >= limits)).any(1)
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise WithinError(
            f"The place {tuple(places[row].tolist())} lies outside the grid {(batch, *shape)}", where=f"row {row}"
        )
    if len(torch.unique(places, dim=0)) != len(places):
        raise WithinError("A place occurs twice", todo="merge the points of a voxel first")
    if not bool(torch.isfinite(features).all()):
        raise WithinError("A feature is NaN or infinite", todo="drop such points before voxels are made")
    return SparseTensor(features, places, tuple(shape), batch)


def from_dense(dense: Float[Tensor, "batch channels *shape"], mask: Tensor | None = None) -> SparseTensor:
    """Returns the places where any channel is not zero, or where a mask (batch, *shape) is true."""
    moved = dense.movedim(1, -1)
    occupied = (moved != 0).any(-1) if mask is None else mask
    places = occupied.nonzero().to(torch.int32).contiguous()
    features = moved[occupied]
    return SparseTensor(features, places, tuple(dense.shape[2:]), int(dense.shape[0]))
