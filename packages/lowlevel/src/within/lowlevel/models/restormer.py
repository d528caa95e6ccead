"""Restormer, a U-shaped transformer that attends between channels instead of pixels.

Zamir et al.: Restormer: Efficient Transformer for High-Resolution Image Restoration, CVPR 2022.
Attention over channels: softmax(temperature * normalise(Q) normalise(K)^T) V, with Q, K, V of shape C/heads x HW.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from within.lowlevel.models.layer_norm import LayerNorm2d


class Restormer(nn.Module):
    """Four levels; skips are concatenated and, but for the outermost, reduced by a 1x1 convolution.

    Arguments:
        width: channels at full resolution, doubled at each level.
        depths: transformer blocks at each level, from the outside in.
        refinement: blocks after the decoder.
        heads: attention heads at each level.
        expansion: of the feed-forward network.
        norm_bias: False for the bias-free normalisation of the denoising networks.
    """

    scale = 1

    def __init__(
        self,
        channels: int = 3,
        width: int = 48,
        *,
        depths: Sequence[int] = (4, 6, 6, 8),
        refinement: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        expansion: float = 2.66,
        norm_bias: bool = True,
    ) -> None:
        super().__init__()

        def stage(level: int, count: int, stage_width: int) -> nn.Sequential:
            return nn.Sequential(
                *(TransformerBlock(stage_width, heads[level], expansion, norm_bias) for _ in range(count))
            )

        levels = range(len(depths) - 1)
        widths = [width * 2**level for level in range(len(depths))]
        self.size_multiple = 2 ** len(levels)
        self.patch_embed = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(stage(level, depths[level], widths[level]) for level in levels)
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(widths[level], widths[level] // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))
            for level in levels
        )
        self.latent = stage(len(levels), depths[-1], widths[-1])
        # Indexed by the level they lead to. The outermost level keeps both halves of its concatenation.
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(widths[level + 1], 2 * widths[level + 1], 3, padding=1, bias=False), nn.PixelShuffle(2)
            )
            for level in levels
        )
        self.reduce = nn.ModuleList(
            nn.Conv2d(2 * widths[level], widths[level], 1, bias=False) if level else nn.Identity() for level in levels
        )
        self.decoder = nn.ModuleList(stage(level, depths[level], widths[max(level, 1)]) for level in levels)
        self.refinement = stage(0, refinement, 2 * width)
        self.output = nn.Conv2d(2 * width, channels, 3, padding=1, bias=False)

    def forward(
        self, image: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Returns the restored image."""
        features, skips = self.patch_embed(image), []
        for encoder, down in zip(self.encoder, self.down, strict=True):
            features = encoder(features)
            skips.append(features)
            features = down(features)
        features = self.latent(features)
        for level in reversed(range(len(skips))):
            joined = torch.cat((self.up[level](features), skips.pop()), dim=1)
            features = self.decoder[level](self.reduce[level](joined))
        return self.output(self.refinement(features)) + image


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, width: int, heads: int, expansion: float, norm_bias: bool) -> None:
        super().__init__()
        self.norm1 = LayerNorm2d(width, eps=1e-5, bias=norm_bias)
        self.attn = ChannelAttention(width, heads)
        self.norm2 = LayerNorm2d(width, eps=1e-5, bias=norm_bias)
        self.ffn = GatedFeedForward(width, expansion)

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        features = features + self.attn(self.norm1(features))
        return features + self.ffn(self.norm2(features))


class ChannelAttention(nn.Module):
    """Multi-Dconv head transposed attention: the attention map is C/heads x C/heads, whatever the image size."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * width, 3 * width, 3, padding=1, groups=3 * width, bias=False)
        self.project_out = nn.Conv2d(width, width, 1, bias=False)

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        batch, _, height, width = features.shape
        query, key, value = (
            part.reshape(batch, self.heads, -1, height * width)
            for part in self.qkv_dwconv(self.qkv(features)).chunk(3, dim=1)
        )
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
        attention = (query @ key.transpose(-2, -1) * self.temperature).softmax(dim=-1)
        return self.project_out((attention @ value).reshape(batch, -1, height, width))


class GatedFeedForward(nn.Module):
    """Gated-Dconv feed-forward: GELU of one half of the depthwise features times the other half."""

    def __init__(self, width: int, expansion: float) -> None:
        super().__init__()
        hidden = int(width * expansion)
        self.project_in = nn.Conv2d(width, 2 * hidden, 1, bias=False)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, width, 1, bias=False)

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        gate, value = self.dwconv(self.project_in(features)).chunk(2, dim=1)
        return self.project_out(F.gelu(gate) * value)
