"""SwiftNet, single scale: an ImageNet encoder, spatial pyramid pooling and a thin ladder of lateral connections.

Orsic, Kreso, Bevandic, Segvic: In Defense of Pre-trained ImageNet Architectures for Real-time Semantic Segmentation of
Road-driving Images, CVPR 2019.

    x = SPP(f4);   x = blend_k(up(x) + bottleneck_k(f_k)),  k = 3, 2, 1;   scores = up(logits(x))
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from within.segmentation.models.encoders import Depth, encoder
from within.segmentation.models.initialise import initialise
from within.segmentation.models.norm_relu_conv import NormReluConv, resize
from within.segmentation.models.normalisation import CITYSCAPES_DEVIATION, CITYSCAPES_MEAN, Normalisation
from within.segmentation.models.spatial_pyramid_pooling import SpatialPyramidPooling


class SwiftNetSingleScale(nn.Module):
    """Takes images of any size.

    Arguments:
        classes: outputs.
        depth: of the ResNet encoder (a number, or blocks a stage), or "mobilenet_v2".
        width: of the first stage of a ResNet.
        features: channels of the decoder.
        rectified: the decoder takes the encoder's features after their ReLU. So do the published weights on ResNet-18
            and ResNet-34: in the code that trained them that ReLU overwrites the sum.
        mean, deviation: of the images' red, green and blue, on the scale 0..255.
    """

    size_multiple = 1
    fixed_size = True  # in an exported file: the grids of the pooling follow the image's shape
    void_class: int | None = None

    def __init__(
        self,
        classes: int = 19,
        *,
        depth: Depth = 18,
        width: int = 64,
        features: int = 128,
        rectified: bool = False,
        mean: Sequence[float] = CITYSCAPES_MEAN,
        deviation: Sequence[float] = CITYSCAPES_DEVIATION,
    ) -> None:
        super().__init__()
        self.classes, self.rectified = classes, rectified
        self.normalise = Normalisation(mean, deviation)
        self.encoder = encoder(depth, width)
        *finer, coarsest = self.encoder.channels
        self.context = SpatialPyramidPooling(coarsest, features)
        self.bottlenecks = nn.ModuleList(NormReluConv(channels, features, 1) for channels in reversed(finer))
        self.blends = nn.ModuleList(NormReluConv(features, features, 3) for _ in finer)
        self.logits = NormReluConv(features, classes, 1, bias=True)
        initialise(self)

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch classes height width"]:
        """Returns class scores at the size of the image (RGB, 0..255)."""
        return resize(self.scores(image), image.shape[-2:])

    def scores(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch classes rows columns"]:
        """Returns class scores at a quarter of the size of the image."""
        features = self.encoder(self.normalise(image))
        *finer, coarsest = [F.relu(feature) for feature in features] if self.rectified else features
        x = self.context(coarsest)
        for feature, bottleneck, blend in zip(reversed(finer), self.bottlenecks, self.blends, strict=True):
            lateral = bottleneck(feature)
            x = blend(resize(x, lateral.shape[-2:]) + lateral)
        return self.logits(x)
