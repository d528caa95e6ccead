"""FFDNet, a denoiser that works at half resolution and is told the noise level.

Zhang, Zuo, Zhang: FFDNet: Toward a Fast and Flexible Solution for CNN-Based Image Denoising, TIP 2018.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from within.lowlevel.models.convolution_stack import convolution_stack


class FFDNet(nn.Module):
    """Pixel-unshuffle by 2, a map of the noise level as the last channel, a stack of convolutions, pixel-shuffle.

    Arguments:
        channels: image channels; the published widths are 64 (15 deep) for gray and 96 (12 deep) for colour.
        batch_norm: separate normalisation layers, as in training; the published weights have them merged.
        inplace: ReLUs that overwrite their input.
    """

    scale = 1
    size_multiple = 2

    def __init__(
        self, channels: int = 1, depth: int = 15, width: int = 64, *, batch_norm: bool = False, inplace: bool = True
    ) -> None:
        super().__init__()
        self.unshuffle = nn.PixelUnshuffle(2)
        self.layers = convolution_stack(
            4 * channels + 1, 4 * channels, width, depth, batch_norm=batch_norm, bias=True, inplace=inplace
        )
        self.shuffle = nn.PixelShuffle(2)

    def forward(
        self,
        image: Float[Tensor, "batch channels height width"],
        noise_level: Float[Tensor, "#batch 1 level_height level_width"],
    ) -> Float[Tensor, "batch channels height width"]:
        """Returns the clean image.

        Arguments:
            image: noisy image in [0, 1].
            noise_level: standard deviation of the noise on the scale of the image (25/255, say): one value an image
                (1x1), or a map at half the image's height and width.
        """
        halved = self.unshuffle(image)
        level = noise_level.expand(halved.shape[0], 1, halved.shape[2], halved.shape[3])
        return self.shuffle(self.layers(torch.cat((halved, level), dim=1)))
