"""ESPNetv2 for segmentation: depthwise spatial pyramids down to 1/16, a decoder that pools at five sizes.

Mehta, Rastegari, Shapiro, Hajishirzi: ESPNetv2: A Light-weight, Power Efficient, and General Purpose Convolutional
Neural Network, CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from within.core.errors import WithinError
from within.segmentation.models.espnet_blocks import (
    BatchNormPReLU,
    ConvBatchNormPReLU,
    check_size,
)
from within.segmentation.models.espnet_v2_blocks import (
    GatedProjection,
    PyramidPooling,
    ResidualEESP,
    StridedEESP,
    resize,
)
from within.segmentation.models.initialise import initialise
from within.segmentation.models.normalisation import IMAGENET_DEVIATION, IMAGENET_MEAN, Normalisation

WIDTHS = {  # at 1/2, 1/4, 1/8, 1/16
    0.5: (16, 32, 64, 128),
    1.0: (32, 64, 128, 256),
    1.5: (32, 96, 192, 384),
    2.0: (32, 128, 256, 512),
}
DECODER_WIDTHS = (64, 48, 32)  # at 1/16, 1/8, 1/4
WIDE, NARROW = (1, 2, 3, 4), (1, 1, 2, 3)  # dilations; at 1/16 a receptive field of 9 is too much


class ESPNetV2(nn.Module):
    """Encoder with the image joined in at 1/4, 1/8 and 1/16, decoder with a gated shortcut at every size.

    Arguments:
        classes: real classes.
        scale: of the encoder's widths: 0.5, 1.0, 1.5 or 2.0.
        void: one more output, the last, for what belongs to no class; the published Cityscapes networks have it.
        mean, deviation: of red, green and blue, in 0..255; by default those of ImageNet.

    Attributes:
        classes: real classes.
        void_class: number of the output that means void; None without one.
        size_multiple: what height and width must be divisible by.

    Raises:
        WithinError: for fewer than two outputs, or another scale.
    """

    size_multiple = 16

    def __init__(
        self,
        classes: int = 19,
        *,
        scale: float = 1.0,
        void: bool = True,
        mean: Sequence[float] = IMAGENET_MEAN,
        deviation: Sequence[float] = IMAGENET_DEVIATION,
    ) -> None:
        super().__init__()
        if scale not in WIDTHS:
            raise WithinError(
                f"There is no ESPNetv2 of scale {scale}",
                where="scale",
                todo=f"choose one of {', '.join(map(str, WIDTHS))}",
            )
        outputs = classes + void
        if classes < 1 or outputs < 2:
            raise WithinError(f"ESPNetv2 needs two outputs, not {outputs}", where="classes")
        self.classes, self.void_class = classes, classes if void else None
        half, quarter, eighth, sixteenth = WIDTHS[scale]
        self.normalise = Normalisation(mean, deviation)
        self.halve = nn.AvgPool2d(3, stride=2, padding=1)
        self.stem = ConvBatchNormPReLU(3, half, 3, stride=2)
        self.enter_quarter = StridedEESP(half, quarter, WIDE)
        self.enter_eighth = StridedEESP(quarter, eighth, WIDE)
        self.eighth = nn.Sequential(*(ResidualEESP(eighth, WIDE) for _ in range(3)))
        self.enter_sixteenth = StridedEESP(eighth, sixteenth, WIDE)
        self.sixteenth = nn.Sequential(*(ResidualEESP(sixteenth, NARROW) for _ in range(7)))

        pooled = min(outputs // 2, 16)
        deep, middle, shallow = DECODER_WIDTHS
        self.pool_sixteenth = PyramidPooling(sixteenth, pooled, deep)
        self.shortcut_eighth = GatedProjection(eighth, deep)
        self.join_eighth = BatchNormPReLU(deep)
        self.pool_eighth = PyramidPooling(deep, pooled, middle)
        self.shortcut_quarter = GatedProjection(quarter, middle)
        self.join_quarter = BatchNormPReLU(middle)
        self.pool_quarter = PyramidPooling(middle, pooled, shallow)
        self.shortcut_half = GatedProjection(half, shallow)
        self.join_half = BatchNormPReLU(shallow)
        self.head = PyramidPooling(shallow, pooled, outputs, last=True)
        initialise(self)

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch outputs height width"]:
        """Returns the scores of all outputs, at the size of the image.

        Arguments:
            image: red, green, blue in 0..255.

        Raises:
            WithinError: when height or width is not a multiple of 16.
        """
        check_size("ESPNetv2", image, self.size_multiple)
        pixels = self.normalise(image)
        quarter_image = self.halve(self.halve(pixels))
        eighth_image = self.halve(quarter_image)
        half = self.stem(pixels)
        quarter = self.enter_quarter(half, quarter_image)
        eighth = self.eighth(self.enter_eighth(quarter, eighth_image))
        sixteenth = self.sixteenth(self.enter_sixteenth(eighth, self.halve(eighth_image)))

        features = self.pool_sixteenth(sixteenth)
        features = self.pool_eighth(self.join_eighth(_joined(self.shortcut_eighth(eighth), features)))
        features = self.pool_quarter(self.join_quarter(_joined(self.shortcut_quarter(quarter), features)))
        scores = self.head(self.join_half(_joined(self.shortcut_half(half), features)))
        return resize(scores, image.shape[-2:])


def _joined(finer: Tensor, coarser: Tensor) -> Tensor:
    return finer + resize(coarser, finer.shape[-2:])
