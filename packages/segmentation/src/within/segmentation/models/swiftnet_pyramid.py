"""SwiftNet with pyramidal fusion: one encoder over an image pyramid, features of one resolution summed.

Orsic and Segvic: Efficient Semantic Segmentation with Pyramidal Fusion, Pattern Recognition 110, 2021. Level l of the
pyramid (bicubic, half the size each) and stage s of the encoder meet in slot l + s:

    slot_j = sum_{l + s = j} lateral_s(f_{l, s})
    x = slot_last;   x = blend_j(up(x) + slot_j),  j = last - 1, ..., 0;   scores = up(logits(x))
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from within.core.errors import WithinError
from within.segmentation.models.encoders import Depth, encoder
from within.segmentation.models.initialise import initialise
from within.segmentation.models.norm_relu_conv import NormReluConv, resize
from within.segmentation.models.normalisation import CITYSCAPES_DEVIATION, CITYSCAPES_MEAN, Normalisation


class SwiftNetPyramid(nn.Module):
    """Takes images whose sides are multiples of `size_multiple`; some others work too, and the rest are refused.

    Arguments:
        classes: outputs.
        depth: of the ResNet encoder (a number, or blocks a stage), or "mobilenet_v2".
        width: of the first stage of a ResNet.
        features: channels of the decoder.
        levels: of the image pyramid.
        output_stride: 4, 8, 16 or 32: where the scores are computed; finer laterals are left out.
        mean, deviation: of the images' red, green and blue, on the scale 0..255.
    """

    void_class: int | None = None

    def __init__(
        self,
        classes: int = 19,
        *,
        depth: Depth = 18,
        width: int = 64,
        features: int = 128,
        levels: int = 3,
        output_stride: int = 4,
        mean: Sequence[float] = CITYSCAPES_MEAN,
        deviation: Sequence[float] = CITYSCAPES_DEVIATION,
    ) -> None:
        super().__init__()
        if output_stride not in (4, 8, 16, 32):
            raise WithinError(f"An output stride of {output_stride}", todo="choose 4, 8, 16 or 32")
        if levels < 1:
            raise WithinError(f"A pyramid of {levels} levels", todo="choose at least 1")
        self.classes, self.size_multiple = classes, 32 * 2 ** (levels - 1)
        self.normalise = Normalisation(mean, deviation)
        self.encoder = encoder(depth, width, levels)
        self.levels, self.left_out = levels, int(math.log2(output_stride)) - 2
        kept = self.encoder.channels[self.left_out :]
        self.laterals = nn.ModuleList(nn.Conv2d(channels, features, 1, bias=False) for channels in kept)
        slots = levels + len(kept) - 1
        self.blends = nn.ModuleList(NormReluConv(features, features, 3) for _ in range(slots - 1))
        self.logits = NormReluConv(features, classes, 1, bias=True)
        initialise(self)

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch classes height width"]:
        """Returns class scores at the size of the image (RGB, 0..255).

        Raises:
            WithinError: when features that are to be summed differ in size.
        """
        return resize(self.scores(image), image.shape[-2:])

    def scores(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch classes rows columns"]:
        """Returns class scores at the output stride; errors as for `forward`."""
        slots: list[Tensor | None] = [None] * (len(self.blends) + 1)
        for level in range(self.levels):
            features = self.encoder(self._at_level(self.normalise(image), level), level)[self.left_out :]
            for stage, (feature, lateral) in enumerate(zip(features, self.laterals, strict=True)):
                found, slot = slots[level + stage], lateral(feature)
                slots[level + stage] = slot if found is None else self._sum(found, slot, image)
        *finer, x = slots
        for slot, blend in zip(reversed(finer), self.blends, strict=True):
            assert x is not None
            assert slot is not None
            x = blend(resize(x, slot.shape[-2:]) + slot)
        return self.logits(x)

    def _at_level(self, image: Tensor, level: int) -> Tensor:
        if level == 0:
            return image
        height, width = image.shape[-2:]
        size = (height // 2**level, width // 2**level)
        return F.interpolate(image, size=size, mode="bicubic", align_corners=False)

    def _sum(self, first: Tensor, second: Tensor, image: Tensor) -> Tensor:
        if not torch.compiler.is_exporting() and first.shape != second.shape:
            height, width = image.shape[-2:]
            raise WithinError(
                f"Features of the pyramid meet at {tuple(first.shape[-2:])} and {tuple(second.shape[-2:])}",
                where=f"an image of {height} x {width}",
                todo=f"pad height and width to multiples of {self.size_multiple}",
            )
        return first + second
