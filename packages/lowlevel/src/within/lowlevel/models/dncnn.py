"""DnCNN, the residual denoiser.

Zhang, Zuo, Chen, Meng, Zhang: Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising, TIP 2017.
The network R predicts the noise: x = y - R(y).
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from within.lowlevel.models.convolution_stack import convolution_stack


class DnCNN(nn.Module):
    """DnCNN-S is 17 convolutions deep, DnCNN-B (blind) 20; both 64 wide.

    Arguments:
        channels: image channels, 1 or 3.
        depth: number of convolutions.
        width: hidden channels.
        batch_norm: separate normalisation layers; without them the network is the one that has them merged.
        bias: biases in the convolutions; by default exactly when there is no normalisation.
        output: "image" returns y - R(y), "noise" returns R(y).
        inplace: ReLUs that overwrite their input.
    """

    scale = 1
    size_multiple = 1

    def __init__(
        self,
        channels: int = 1,
        depth: int = 17,
        width: int = 64,
        *,
        batch_norm: bool = True,
        bias: bool | None = None,
        output: Literal["image", "noise"] = "image",
        inplace: bool = True,
    ) -> None:
        super().__init__()
        bias = not batch_norm if bias is None else bias
        self.output = output
        self.layers = convolution_stack(
            channels, channels, width, depth, batch_norm=batch_norm, bias=bias, inplace=inplace
        )

    def forward(
        self, image: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Returns the clean image, or the noise; images are in [0, 1]."""
        noise = self.layers(image)
        return noise if self.output == "noise" else image - noise
