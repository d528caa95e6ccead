"""MobileNetV1 (Howard et al., 2017) with the width of every layer given, so that pruned forms are rows too."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

FULL = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
# The strategy that AMC found at half of the FLOPs (He et al., ECCV 2018, as published with its checkpoints).
AMC_HALF = (24, 48, 96, 80, 192, 200, 328, 352, 368, 360, 328, 400, 736, 752)
STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


def _normalised(convolution: nn.Conv2d) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True)]


class MobileNetV1(nn.Module):
    """A strided convolution, then thirteen pairs of depthwise and pointwise convolutions.

    Arguments:
        widths: output channels of the first convolution and of the thirteen pointwise ones.
    """

    def __init__(self, widths: Sequence[int] = FULL, classes: int = 1000) -> None:
        super().__init__()
        layers = _normalised(nn.Conv2d(3, widths[0], 3, STRIDES[0], padding=1, bias=False))
        for inputs, outputs, stride in zip(widths, widths[1:], STRIDES[1:]):
            layers += _normalised(nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False))
            layers += _normalised(nn.Conv2d(inputs, outputs, 1, bias=False))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean(dim=(2, 3)))
