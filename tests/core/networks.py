"""Small networks for tests: single patterns of coupled channels, and random compositions of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn


def seeded(model: nn.Module, seed: int = 0) -> nn.Module:
    """Fills every parameter and every running statistic with random values and returns the model in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            fan = max(1, parameter[0].numel() if parameter.dim() > 1 else 1)
            parameter.normal_(0, fan**-0.5, generator=generator)
        for module in model.modules():
            if isinstance(module, (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)) and (
                module.weight is not None
            ):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.3, generator=generator)
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


class Function(nn.Module):
    """A module from named submodules and a function of (self, inputs)."""

    def __init__(self, function, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.function = function

    def forward(self, *inputs: Tensor):
        return self.function(self, *inputs)


def conv(inputs: int, outputs: int, kernel: int = 3, **options) -> nn.Conv2d:
    """A convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


class ConvNorm(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = conv(inputs, outputs, kernel, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs)
        self.second = conv(outputs, inputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class Concatenated(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.branch = conv(inputs, outputs, 1)
        self.outputs = inputs + outputs

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([F.leaky_relu(self.branch(x), 0.1), x], dim=1)


class UnequalSplit(nn.Module):
    """The sizes of the split are Python numbers."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.sizes = [max(1, inputs // 3), inputs - max(1, inputs // 3)]
        self.conv = conv(self.sizes[1], outputs)
        self.outputs = self.sizes[0] + outputs

    def forward(self, x: Tensor) -> Tensor:
        kept, rest = torch.split(x, self.sizes, dim=1)
        return torch.cat([kept, self.conv(rest)], dim=1)


class Grouped(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        groups = math.gcd(inputs, 2) if inputs % 3 else 3
        self.outputs = groups * max(1, outputs // groups)
        self.conv = conv(inputs, self.outputs, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.conv(x))


class Depthwise(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.outputs = inputs * (1 + outputs % 2)
        self.conv = conv(inputs, self.outputs, groups=inputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.conv(x))


class SqueezeExcite(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(inputs, outputs, 1)
        self.expand = nn.Conv2d(outputs, inputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(gate)


class Shuffled(nn.Module):
    """A convolution and a channel shuffle written as reshape, transpose and reshape with Python sizes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.outputs = 2 * max(1, outputs // 2)
        self.conv = conv(inputs, self.outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        batch, _, height, width = y.shape
        y = y.view(batch, 2, self.outputs // 2, height, width).transpose(1, 2)
        return y.reshape(batch, self.outputs, height, width)


class PixelShuffled(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = conv(inputs, 4 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.pixel_shuffle(self.conv(x), 2), 2)


class PixelUnshuffled(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = conv(4 * inputs, outputs, 1)
        self.up = nn.ConvTranspose2d(outputs, outputs, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(F.relu(self.conv(F.pixel_unshuffle(x, 2))))


class ZeroPadded(nn.Module):
    """The option A shortcut: channels of zeros are padded on both sides."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.padding = 1 + outputs // 4
        self.outputs = inputs + 2 * self.padding
        self.conv = conv(inputs, self.outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + F.pad(x, (0, 0, 0, 0, self.padding, self.padding)))


class Gated(nn.Module):
    """Halves multiplied, as in NAFNet."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = conv(inputs, 2 * outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.conv(x).chunk(2, dim=1)
        return first * second


class Slopes(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = conv(inputs, outputs)
        self.prelu = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(self.conv(x))


class GroupNormed(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.outputs = 2 * max(2, outputs // 2)
        self.conv = conv(inputs, self.outputs)
        self.norm = nn.GroupNorm(2, self.outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class LayerNormed(nn.Module):
    """Layer normalisation over channels, moved last and back."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs)
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.linear(self.norm(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)


class InPlace(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = conv(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv(x), inplace=True)
        y += 1
        return y


class Shared(nn.Module):
    """One convolution used twice."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = conv(inputs, inputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(F.relu(self.conv(x))))


class Attention(nn.Module):
    """Self-attention over positions with one projection for query, key and value, and heads of Python sizes."""

    def __init__(self, inputs: int, outputs: int, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.width = heads, max(2, outputs // 2)
        self.qkv = nn.Linear(inputs, 3 * self.heads * self.width)
        self.proj = nn.Linear(self.heads * self.width, inputs)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        qkv = self.qkv(tokens).reshape(batch, height * width, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        scores = (query * self.width**-0.5) @ key.transpose(-2, -1)
        mixed = (scores.softmax(dim=-1) @ value).transpose(1, 2).reshape(batch, height * width, -1)
        return x + self.proj(mixed).transpose(1, 2).reshape(batch, channels, height, width)


PATTERNS: dict[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in (
        ConvNorm, Residual, Concatenated, UnequalSplit, Grouped, Depthwise, SqueezeExcite, Shuffled, PixelShuffled,
        PixelUnshuffled, ZeroPadded, Gated, Slopes, GroupNormed, LayerNormed, InPlace, Shared, Attention,
    )
}  # fmt: skip
KEEPS_WIDTH = {"Residual", "SqueezeExcite", "Shared", "Attention"}
HEADS = ("pooled", "flattened", "image")


class Composed(nn.Module):
    """A stem, a sequence of patterns of given widths, and a head, for 8x8 images with three channels."""

    def __init__(self, patterns: Sequence[tuple[str, int]], head: str, stem: int = 6) -> None:
        super().__init__()
        self.stem, self.head, self.patterns = ConvNorm(3, stem), head, tuple(patterns)
        width, blocks = stem, []
        for name, outputs in patterns:
            block = PATTERNS[name](width, outputs)
            blocks.append(block)
            width = width if name in KEEPS_WIDTH else getattr(block, "outputs", outputs)
        self.blocks = nn.Sequential(*blocks)
        if head == "image":
            self.last: nn.Module = conv(width, 2)
        else:
            self.last = nn.Linear(width * (16 if head == "flattened" else 1), 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        if self.head == "image":
            return self.last(x)
        if self.head == "pooled":
            return self.last(x.mean((2, 3)))
        return self.last(F.max_pool2d(x, 2).flatten(1))


def image(batch: int = 1, size: int = 8, channels: int = 3) -> tuple[Tensor]:
    """One random image, as the inputs of a network."""
    return (torch.rand(batch, channels, size, size, generator=torch.Generator().manual_seed(1)),)


@st.composite
def composed(draw: st.DrawFn, exclude: Sequence[str] = (), most: int = 4) -> nn.Module:
    """A random composition; widths are rarely divisible by 2, 3 or 8."""
    names = st.sampled_from([name for name in PATTERNS if name not in exclude])
    patterns = draw(st.lists(st.tuples(names, st.integers(2, 9)), min_size=1, max_size=most))
    return seeded(Composed(patterns, draw(st.sampled_from(HEADS)), draw(st.integers(3, 8))), draw(st.integers(0, 99)))


def random_kept(graph, seed: int, fraction: float | None = None) -> dict[str, list[int]]:
    """Random atoms of every group, of a random or a given fraction, at least one."""
    generator = torch.Generator().manual_seed(seed)
    kept = {}
    for group in graph.channel_groups():
        part = float(torch.rand((), generator=generator)) if fraction is None else fraction
        count = max(1, round(part * group.size))
        kept[group.name] = sorted(torch.randperm(group.size, generator=generator)[:count].tolist())
    return kept
