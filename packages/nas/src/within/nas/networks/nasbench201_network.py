"""Networks of NAS-Bench-201 for pictures of 32 x 32; `within.nas.spaces.nasbench201` says what they cost.

Dong and Yang: NAS-Bench-201, ICLR 2020. Node j of a cell is the sum over i < j of op_ij(node i), node 0 its input and
node 3 its output. Convolutions are ReLU, convolution, batch norm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from within.nas.spaces import Architecture
from within.nas.spaces.nasbench201 import CELLS, EDGES, KERNELS, NODES, NONE, POOL, SPACE, WIDTHS


class Nasbench201Network(nn.Module):
    """See the module.

    Arguments:
        architecture: six operations.
        classes: of the last layer.

    Raises:
        WithinError: when it is no architecture of the space.
    """

    def __init__(self, architecture: Architecture, classes: int = 10) -> None:
        super().__init__()
        cell = SPACE.check(architecture)
        before = WIDTHS[0]
        layers: list[nn.Module] = [nn.Conv2d(3, before, 3, padding=1, bias=False), nn.BatchNorm2d(before)]
        for width in WIDTHS:
            if width != before:
                layers.append(Reduction(before, width))
            layers += [Nasbench201Cell(cell, width) for _ in range(CELLS)]
            before = width
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(before), nn.ReLU())
        self.classifier = nn.Linear(before, classes)

    def forward(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch classes"]:
        """Returns the logits."""
        return self.classifier(self.features(pictures).mean((2, 3)))


class Nasbench201Cell(nn.Module):
    """A cell; operations that nothing reaches, or that lead nowhere, stay in it, as published."""

    def __init__(self, architecture: Architecture, width: int) -> None:
        super().__init__()
        self.kinds = architecture
        self.operations = nn.ModuleList(_operation(op, width) for op in architecture)

    def forward(self, x: Float[Tensor, "batch width height width_"]) -> Float[Tensor, "batch width height width_"]:
        """Returns the output node."""
        nodes = [x]
        for node in range(1, NODES):
            total = torch.zeros_like(x)
            for operation, kind, (before, after) in zip(self.operations, self.kinds, EDGES, strict=True):
                if after == node and kind != NONE:
                    total = total + operation(nodes[before])
            nodes.append(total)
        return nodes[-1]


class Reduction(nn.Module):
    """The residual block between two stages, which halves height and width."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first, self.second = _convolution(before, after, 3, stride=2), _convolution(after, after, 3)
        self.shortcut = nn.Conv2d(before, after, 1, bias=False)

    def forward(self, x: Float[Tensor, "batch before height width"]) -> Float[Tensor, "batch after height_ width_"]:
        """Returns the sum of both ways."""
        return self.second(self.first(x)) + self.shortcut(F.avg_pool2d(x, 2))


def _operation(kind: int, width: int) -> nn.Module:
    if kind in KERNELS:
        return _convolution(width, width, KERNELS[kind])
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False) if kind == POOL else nn.Identity()


def _convolution(before: int, after: int, kernel: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), convolution, nn.BatchNorm2d(after))
