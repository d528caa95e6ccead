"""ESPNet: segmentation with spatial pyramids of dilated convolutions, an encoder at 1/8 and a decoder of class scores.

Mehta, Rastegari, Caspi, Shapiro, Hajishirzi: ESPNet: Efficient Spatial Pyramid of Dilated Convolutions for Semantic
Segmentation, ECCV 2018. p and q (the paper's alpha_2 and alpha_3) are the numbers of ESP modules at 1/4 and 1/8.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from within.core.errors import WithinError
from within.segmentation.models.espnet_blocks import (
    DILATIONS,
    BatchNormPReLU,
    ConvBatchNormPReLU,
    ESPModule,
    check_size,
    convolution,
)
from within.segmentation.models.normalisation import Normalisation

EPSILON = 1e-3
CITYSCAPES_MEAN, CITYSCAPES_DEVIATION = (73.15840149, 82.90893555, 72.3923111), (44.91483307, 46.15289307, 45.3192215)
SKIPS = ("features", "features_and_image")


class ESPNet(nn.Module):
    """Encoder with the image joined in at 1/2 and 1/4, decoder of transposed convolutions as wide as there are outputs.

    Arguments:
        classes: real classes.
        p, q: ESP modules at 1/4 and at 1/8 besides the strided ones.
        void: one more output, the last, for what belongs to no class; the published networks have it.
        skip: what the decoder takes over at half size. "features", the 16 channels of the first convolution, is the
            network of the published Cityscapes weights; "features_and_image", these and the halved image, normalised
            and activated together (19 channels), is the older one, of the published CamVid weights.
        mean, deviation: of red, green and blue, in 0..255; by default those of Cityscapes.

    Attributes:
        classes: real classes.
        void_class: number of the output that means void; None without one.
        size_multiple: what height and width must be divisible by.

    Raises:
        WithinError: for fewer than five outputs, negative depths, or another `skip`.
    """

    size_multiple = 8

    def __init__(
        self,
        classes: int = 19,
        *,
        p: int = 2,
        q: int = 3,
        void: bool = True,
        skip: str = "features",
        mean: Sequence[float] = CITYSCAPES_MEAN,
        deviation: Sequence[float] = CITYSCAPES_DEVIATION,
    ) -> None:
        super().__init__()
        outputs = classes + void
        if outputs < len(DILATIONS) or p < 0 or q < 0:
            raise WithinError(
                f"An ESPNet cannot have {outputs} outputs and depths {p} and {q}",
                where="classes, p, q",
                todo=f"choose at least {len(DILATIONS)} outputs, one for each dilation, and depths of zero or more",
            )
        if skip not in SKIPS:
            raise WithinError(f"There is no skip {skip!r}", where="skip", todo=f"choose {' or '.join(SKIPS)}")
        self.classes, self.void_class, self.skip = classes, classes if void else None, skip
        self.normalise = Normalisation(mean, deviation)
        self.halve = nn.AvgPool2d(3, stride=2, padding=1)
        self.stem = ConvBatchNormPReLU(3, 16, 3, stride=2, epsilon=EPSILON)
        self.join_half = BatchNormPReLU(16 + 3, EPSILON)
        self.enter_quarter = ESPModule(16 + 3, 64, stride=2, residual=False)
        self.quarter = nn.Sequential(*(ESPModule(64, 64) for _ in range(p)))
        self.join_quarter = BatchNormPReLU(64 + 64 + 3, EPSILON)
        self.enter_eighth = ESPModule(64 + 64 + 3, 128, stride=2, residual=False)
        self.eighth = nn.Sequential(*(ESPModule(128, 128) for _ in range(q)))
        self.join_eighth = BatchNormPReLU(128 + 128, EPSILON)

        self.scores_eighth = convolution(128 + 128, outputs, 1)
        self.norm_eighth = nn.BatchNorm2d(outputs, eps=EPSILON)
        self.up_to_quarter = _doubling(outputs)
        self.scores_quarter = convolution(64 + 64 + 3, outputs, 1)
        self.join_scores = BatchNormPReLU(2 * outputs, EPSILON)
        self.merge_quarter = ESPModule(2 * outputs, outputs, residual=False)
        self.up_to_half = _doubling(outputs)
        self.norm_half = BatchNormPReLU(outputs, EPSILON)
        skipped = 16 if skip == "features" else 16 + 3
        self.merge_half = ConvBatchNormPReLU(outputs + skipped, outputs, 3, epsilon=EPSILON)
        self.head = _doubling(outputs)

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch outputs height width"]:
        """Returns the scores of all outputs, at the size of the image.

        Arguments:
            image: red, green, blue in 0..255.

        Raises:
            WithinError: when height or width is not a multiple of 8.
        """
        check_size("ESPNet", image, self.size_multiple)
        pixels = self.normalise(image).flip(1) / 255  # the weights were trained on blue, green, red, and divided twice
        half_image = self.halve(pixels)
        quarter_image = self.halve(half_image)
        features = self.stem(pixels)
        half = self.join_half(torch.cat((features, half_image), dim=1))
        entered = self.enter_quarter(half)
        quarter = self.join_quarter(torch.cat((self.quarter(entered), entered, quarter_image), dim=1))
        entered = self.enter_eighth(quarter)
        eighth = self.join_eighth(torch.cat((entered, self.eighth(entered)), dim=1))

        coarse = self.up_to_quarter(self.norm_eighth(self.scores_eighth(eighth)))
        scores = self.join_scores(torch.cat((self.scores_quarter(quarter), coarse), dim=1))
        middle = self.norm_half(self.up_to_half(self.merge_quarter(scores)))
        skipped = features if self.skip == "features" else half
        return self.head(self.merge_half(torch.cat((middle, skipped), dim=1)))


def _doubling(channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False)
