"""A detector that drops what is not important, at several places of both its backbones.

Ada3D, section 3.1: after stages of the 3-D backbone voxels go, before convolutions of the 2-D backbone pixels do. What
is dropped costs nothing from there on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from within.core.cli.configuration import check_keys
from within.core.errors import WithinError
from within.perception3d.ada3d.filtering import Filter, kept
from within.perception3d.ada3d.importance import Importance, ImportancePredictor
from within.perception3d.models.bev_map import BevMap, MaskedMap, masked, occupied
from within.perception3d.models.detector import Detector
from within.perception3d.models.voxel_backbone import VoxelBackbone
from within.perception3d.sparse import SparseTensor

WINDOWS = {"3d": (16, 0.2), "2d": (8, 0.15)}  # pixels and exponent of the published configuration


@dataclass(frozen=True)
class DropRates:
    """What stays at each place.

    Attributes:
        voxels: share of the occupied columns that stay, by the number of the stage after which they are chosen.
        pixels: share of the occupied pixels, by the number of the convolution before which they are chosen.
        density: correct importance by the local density.
    """

    voxels: Mapping[int, float] = field(default_factory=dict)
    pixels: Mapping[int, float] = field(default_factory=dict)
    density: bool = True

    def filters(self, progress: float = 1.0) -> dict[tuple[str, int], Filter]:
        """Returns the filter of each place.

        Arguments:
            progress: from 0, where all stays, to 1.
        """
        found = {}
        for kind, shares in (("3d", self.voxels), ("2d", self.pixels)):
            window, exponent = WINDOWS[kind]
            for at, keep in shares.items():
                found[kind, int(at)] = Filter(
                    keep if progress == 1 else 1 - (1 - keep) * progress, self.density, window, exponent
                )
        return found


def drop_rates(given: DropRates | Mapping[str, Any]) -> DropRates:
    """Returns drop rates of plain values, whose keys may be text as JSON has them.

    Raises:
        WithinError: for an unknown key, or a share that cannot be.
    """
    if isinstance(given, DropRates):
        return given
    check_keys(given, ("voxels", "pixels", "density"), "drop_rates")
    shares = {
        kind: {int(at): float(keep) for at, keep in dict(given.get(kind) or {}).items()}
        for kind in ("voxels", "pixels")
    }
    found = DropRates(**shares, density=bool(given.get("density", True)))
    found.filters()
    return found


@dataclass(frozen=True, eq=False)
class Choice:
    """What happened at one place.

    Attributes:
        kind, at: "3d" and the stage, or "2d" and the convolution.
        predicted: importance of the occupied pixels of the predictor's map.
        rows: of those that stay, or None where all do.
    """

    kind: str
    at: int
    predicted: Importance
    rows: Int64[Tensor, " stay"] | None

    @property
    def importance(self) -> Float[Tensor, "batch classes height width"]:
        """By class; zero where nothing was predicted."""
        return self.predicted.dense()

    @property
    def before(self) -> Bool[Tensor, "batch height width"]:
        """Which pixels were occupied."""
        return occupied(self.predicted.pixels)

    @property
    def after(self) -> Bool[Tensor, "batch height width"]:
        """Which pixels stay."""
        pixels = self.predicted.pixels
        return occupied(pixels if self.rows is None else pixels.keep(self.rows))


class Ada3D(nn.Module):
    """See the module.

    Arguments:
        detector: with SP-BN, so that dropped pixels stay empty.
        rates: what stays.
        places: stages and convolutions at which importance is predicted; those of `rates` by default.
        occupied_only: see `ImportancePredictor`.
    """

    def __init__(
        self,
        detector: Detector,
        rates: DropRates,
        places: tuple[tuple[int, ...], tuple[int, ...]] | None = None,
        *,
        occupied_only: bool = False,
    ) -> None:
        super().__init__()
        stages, convolutions = places or (tuple(rates.voxels), tuple(rates.pixels))
        self.detector, self.rates = detector, rates
        self.register_buffer("progress", torch.ones(()))  # of the shares, from 1 to the rates
        voxel_channels, map_channels, stride = _channels(detector)
        for kind, asked, there in (("stage", stages, voxel_channels), ("convolution", convolutions, map_channels)):
            unknown = [at for at in asked if at not in there]
            if unknown:
                raise WithinError(f"The detector has no {kind} {unknown[0]}", todo=f"choose among {sorted(there)}")
        self.predictor = ImportancePredictor(
            {at: voxel_channels[at] for at in stages},
            {at: map_channels[at] for at in convolutions},
            len(detector.classes),
            stride,
            occupied_only=occupied_only,
        )
        self.places = stages, convolutions
        missing = (set(rates.voxels) - set(stages)) | (set(rates.pixels) - set(convolutions))
        if missing:
            raise WithinError(f"Nothing predicts importance at {sorted(missing)}", todo="add them to the places")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes it detects."""
        return self.detector.classes

    progress: Tensor

    def forward(self, *inputs: Tensor) -> list[dict[str, Any]]:
        """Returns the head's maps; see `Detector`."""
        return self.run(*inputs)[0]

    def importance(self, *inputs: Tensor) -> list[Choice]:
        """Returns the importance at every place with nothing dropped; gradients reach the predictor alone."""
        return self.run(*inputs, dropping=False, head=False)[1]

    def run(
        self, *inputs: Tensor, dropping: bool = True, head: bool = True
    ) -> tuple[list[dict[str, Any]], list[Choice]]:
        """Returns the head's maps and what was chosen where.

        Arguments:
            inputs: as of `Detector`.
            dropping: whether anything is dropped.
            head: whether the head is asked; otherwise there are no maps.
        """
        filters = self.rates.filters(float(self.progress)) if dropping else {}
        choices: list[Choice] = []
        stages, convolutions = self.places

        def after(stage: int, x: SparseTensor) -> SparseTensor:
            if stage not in stages:
                return x
            choice = chosen("3d", stage, self.predictor.of_voxels(stage, x))
            return x if choice.rows is None else _kept_voxels(x, choice.after, self.predictor.stride // 2**stage)

        def before(convolution: int, x: BevMap) -> BevMap:
            if convolution not in convolutions:
                return x
            choice = chosen("2d", convolution, self.predictor.of_map(convolution, x))
            return x if choice.rows is None else kept_pixels(x, choice)

        def chosen(kind: str, at: int, predicted: Importance) -> Choice:
            how = filters.get((kind, at))
            choices.append(Choice(kind, at, predicted, None if how is None else kept(predicted.pixels, how)))
            return choices[-1]

        if head:
            return self.detector(*inputs, after=after, before=before), choices
        self.detector.bev(self.detector.seen_from_above(*inputs, after=after), before)
        return [], choices

    @contextmanager
    def using(self, rates: DropRates) -> Iterator[None]:
        """Drops by other rates, and asks the predictor there alone, until the end of the block."""
        before = self.rates, self.places
        self.rates, self.places = rates, (tuple(rates.voxels), tuple(rates.pixels))
        try:
            yield
        finally:
            self.rates, self.places = before


def kept_pixels(x: BevMap, choice: Choice) -> BevMap:
    """Returns a map without the pixels that do not stay; of a plain tensor they become zero."""
    if isinstance(x, SparseTensor):
        assert choice.rows is not None
        return x.keep(choice.rows)
    return masked(x.features, choice.after) if isinstance(x, MaskedMap) else x * choice.after[:, None]


def _kept_voxels(x: SparseTensor, stays: Tensor, factor: int) -> SparseTensor:
    batch, _, row, column = x.indices.long().unbind(1)
    factor = max(factor, 1)
    return x.keep(stays[batch, row // factor, column // factor].nonzero()[:, 0])


def _channels(detector: Detector) -> tuple[dict[int, int], dict[int, int], int]:
    """Returns features after each stage and before each convolution of the first block, and the map's stride."""
    pixels = {number: layer.convolution.in_channels for number, layer in enumerate(detector.bev.blocks[0])}  # type: ignore[arg-type,union-attr]
    if not isinstance(detector.backbone, VoxelBackbone):
        return {}, pixels, 1
    widths = detector.backbone.widths
    return dict(enumerate(widths)), pixels, 2 ** (len(widths) - 1)
