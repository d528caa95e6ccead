"""PointNet++ as an encoder and a decoder, with point-voxel convolutions between where a configuration asks for them.

PVCNN++ has such blocks, PointNet++ has none (Liu et al., NeurIPS 2019; Qi et al., NeurIPS 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from within.perception3d.pvcnn.point_blocks import Block, point_blocks
from within.perception3d.pvcnn.set_abstraction import FeaturePropagation, GlobalAbstraction, SetAbstraction


@dataclass(frozen=True)
class Down:
    """A level of the encoder.

    Attributes:
        widths: of the layers, for each scale.
        centres: how many are sampled; None takes the whole cloud.
        radii, neighbours: of each scale.
        block: layers before it, see `point_blocks`.
    """

    widths: Sequence[Sequence[int]]
    centres: int | None = None
    radii: Sequence[float] = ()
    neighbours: Sequence[int] = ()
    block: Block | None = None


@dataclass(frozen=True)
class Up:
    """A level of the decoder: widths of the layers, and layers after them."""

    widths: Sequence[int]
    block: Block | None = None


class PointPyramid(nn.Module):
    """Features of every point from ever larger neighbourhoods.

    Arguments:
        down, up: the levels, `up` from the coarsest; without `up` the features of the last centres come out.
        in_channels: features of a point that the first level sees, coordinates beside them.
        last_channels: features of a point that the last level of the decoder sees.
        cloud_channels: features of the whole cloud, for the first level of the decoder.
        width, resolution: multiply those of the levels.
        squeeze_excitation: see `PVConv`.
    """

    def __init__(
        self, down: Sequence[Down], up: Sequence[Up], in_channels: int, last_channels: int = 0,
        cloud_channels: int = 0, *, width: float = 1.0, resolution: float = 1.0, squeeze_excitation: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.down_blocks, self.down, self.up_blocks, self.up = (nn.ModuleList() for _ in range(4))
        channels, skipped = in_channels, []
        for number, level in enumerate(down):
            # the first block sees coordinates among the features
            before = channels + 3 if number == 0 and level.block is not None else channels
            skipped.append(before)
            blocks, widths = point_blocks(
                () if level.block is None else (level.block,), before, width=width, resolution=resolution,
                squeeze_excitation=squeeze_excitation,
            )  # fmt: skip
            self.down_blocks.append(blocks)
            channels = widths[-1] if widths else channels
            scaled = [[int(width * each) for each in scale] for scale in level.widths]
            abstraction: SetAbstraction | GlobalAbstraction = (
                GlobalAbstraction(channels, scaled[0])
                if level.centres is None
                else SetAbstraction(channels, level.centres, level.radii, level.neighbours, scaled)
            )
            self.down.append(abstraction)
            channels = abstraction.out_channels
        skipped[0] = last_channels
        channels += cloud_channels
        for level_up, beside in zip(up, reversed(skipped), strict=False):
            self.up.append(FeaturePropagation(channels + beside, [int(width * each) for each in level_up.widths]))
            channels = self.up[-1].out_channels  # type: ignore[assignment]
            blocks, widths = point_blocks(
                () if level_up.block is None else (level_up.block,), channels, width=width, resolution=resolution,
                squeeze_excitation=squeeze_excitation,
            )  # fmt: skip
            self.up_blocks.append(blocks)
            channels = widths[-1] if widths else channels
        self.out_channels = channels

    def forward(
        self, features: Tensor | None, points: Tensor, last: Tensor | None = None, cloud: Tensor | None = None
    ) -> Tensor:
        """Returns features of the points, or of the last centres.

        Arguments:
            features: (batch, in_channels, points), or None for none.
            points: (batch, 3, points).
            last: (batch, last_channels, points), for the last level of the decoder.
            cloud: (batch, cloud_channels), for its first level.
        """
        kept: list[tuple[Tensor, Tensor | None]] = []
        for number, (blocks, level) in enumerate(zip(self.down_blocks, self.down, strict=True)):
            if number == 0 and len(blocks):  # type: ignore[arg-type]
                features = points if features is None else torch.cat([points, features], dim=1)
            kept.append((points, features))
            for block in blocks:  # type: ignore[attr-defined]
                features = block(features, points)
            features, points = level(features, points)
        kept[0] = kept[0][0], last
        assert features is not None
        if cloud is not None:
            features = torch.cat([features, cloud[:, :, None].expand(-1, -1, features.shape[2])], dim=1)
        for blocks, level, (places, own) in zip(self.up_blocks, self.up, reversed(kept), strict=False):
            features, points = level(places, points, features, own), places
            for block in blocks:  # type: ignore[attr-defined]
                features = block(features, points)
        return features
