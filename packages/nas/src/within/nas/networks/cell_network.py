"""Networks of normal and reduction cells for small pictures: see `within.nas.spaces.cell_network`.

Liu et al.: DARTS, ICLR 2019. Cell k takes what the two cells before it gave, s_{k-2} and s_{k-1}; its node i is
o_1(s_a) + o_2(s_b), a, b < i; it gives the concatenation of some nodes.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from within.core.errors import WithinError
from within.nas.spaces.cell_network import DILATED, INPUTS, SEPARABLE, Cell


class CellNetwork(nn.Module):
    """A network of cells; in training with `auxiliary` it returns a second classifier's logits as well.

    Arguments:
        normal, reduction: the two cells, such as `darts.cells(architecture)`.
        channels: of the first cells.
        layers: cells in all; those at a third and two thirds are reduction cells.
        classes: of the last layer.
        auxiliary: with a second classifier after the second reduction cell, for pictures of 32 x 32.
    """

    def __init__(
        self,
        normal: Cell,
        reduction: Cell,
        channels: int = 36,
        layers: int = 20,
        classes: int = 10,
        *,
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        reductions = (layers // 3, 2 * layers // 3)
        self.stem = nn.Sequential(nn.Conv2d(3, 3 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(3 * channels))
        self.cells = nn.ModuleList()
        before, last = 3 * channels, 3 * channels
        self.auxiliary_at, self.auxiliary = reductions[1], None
        for layer in range(layers):
            reduces = layer in reductions
            channels *= 2 if reduces else 1
            cell = reduction if reduces else normal
            halves = layer - 1 in reductions
            self.cells.append(CellModule(cell, before, last, channels, reduces=reduces, halves=halves))
            before, last = last, len(cell.concatenated) * channels
            if auxiliary and layer == self.auxiliary_at:
                self.auxiliary = auxiliary_classifier(last, classes)
        self.classifier = nn.Linear(last, classes)

    def forward(
        self, pictures: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch classes"] | tuple[Float[Tensor, "batch classes"], Float[Tensor, "batch classes"]]:
        """Returns the logits."""
        second = None
        before = last = self.stem(pictures)
        for layer, cell in enumerate(self.cells):
            before, last = last, cell(before, last)
            if self.auxiliary is not None and self.training and layer == self.auxiliary_at:
                second = self.auxiliary(last)
        logits = self.classifier(last.mean((2, 3)))
        return logits if second is None else (logits, second)


class CellModule(nn.Module):
    """A cell.

    Arguments:
        cell: what it does.
        before, last: channels of the outputs of the cell before the last one, and of the last one.
        channels: of its nodes.
        reduces: operations on the two inputs have stride 2.
        halves: the cell before reduced, so that the first input is twice as large as the second one.
    """

    def __init__(self, cell: Cell, before: int, last: int, channels: int, *, reduces: bool, halves: bool) -> None:
        super().__init__()
        self.origins, self.concatenated = tuple(node for _, node in cell.edges), cell.concatenated
        self.first = HalvedConvolution(before, channels) if halves else pointwise(before, channels)
        self.second = pointwise(last, channels)
        self.operations = nn.ModuleList(
            operation(name, channels, 2 if reduces and node < INPUTS else 1) for name, node in cell.edges
        )

    def forward(
        self, before: Float[Tensor, "batch before height width"], last: Float[Tensor, "batch last height_2 width_2"]
    ) -> Float[Tensor, "batch channels height_3 width_3"]:
        """Returns the concatenated nodes."""
        states = [self.first(before), self.second(last)]
        edges = list(zip(self.operations, self.origins, strict=True))
        for (one, a), (two, b) in zip(edges[::2], edges[1::2], strict=True):
            states.append(one(states[a]) + two(states[b]))
        return torch.cat([states[node] for node in self.concatenated], dim=1)


class HalvedConvolution(nn.Module):
    """ReLU, a 1 x 1 convolution of stride 2 for each half of the channels, the second one a pixel further on, BN."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs height_2 width_2"]:
        """Returns half as large pictures; their sides must be even."""
        x = torch.relu(x)
        return self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1))


def operation(name: str, channels: int, stride: int) -> nn.Module:
    """Returns an operation of a cell.

    Raises:
        WithinError: when there is none of this name.
    """
    if name in SEPARABLE:
        kernel = SEPARABLE[name]
        return nn.Sequential(separable(channels, kernel, stride), separable(channels, kernel, 1))
    if name in DILATED:
        return separable(channels, DILATED[name], stride, dilation=2)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else HalvedConvolution(channels, channels)
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, padding=1)
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    raise WithinError(f"There is no operation {name!r} of a cell")


def separable(channels: int, kernel: int, stride: int, dilation: int = 1) -> nn.Sequential:
    """Returns ReLU, a depthwise convolution, a 1 x 1 convolution and BN."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, dilation * (kernel // 2), dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )


def pointwise(inputs: int, outputs: int) -> nn.Sequential:
    """Returns ReLU, a 1 x 1 convolution and BN."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


def auxiliary_classifier(channels: int, classes: int) -> nn.Sequential:
    """Returns the second classifier, for 8 x 8 numbers a channel."""
    return nn.Sequential(
        nn.ReLU(),
        nn.AvgPool2d(5, stride=3, count_include_pad=False),
        nn.Conv2d(channels, 128, 1, bias=False),
        nn.BatchNorm2d(128),
        nn.ReLU(),
        nn.Conv2d(128, 768, 2, bias=False),
        nn.BatchNorm2d(768),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(768, classes),
    )
