"""CenterPoint's head: a heat map of object centres for each class, and what a box is at each centre.

Yin, Zhou, Krähenbühl: Center-based 3D Object Detection and Tracking, CVPR 2021. Classes are shared out among tasks;
each task has its own branches after one shared convolution.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from within.perception3d.models.bev_layers import BevConvolution, BevNorm, relu
from within.perception3d.models.bev_map import BevMap, split
from within.perception3d.sparse import SparseTensor

REGRESSION: Mapping[str, int] = {"center": 2, "center_z": 1, "dim": 3, "rot": 2}
ROUNDING = 1e-4  # of a score's logarithm of odds, so that no box is missing
HEATMAP_BIAS = -2.19  # sigmoid of it is 0.1: few pixels are centres


class Branch(nn.Module):
    """A convolution with batch norm and ReLU, and one to the outputs.

    Arguments:
        channels: in.
        outputs: out.
        bias: of the first convolution; the last one always has one.
    """

    def __init__(self, channels: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.convolution = BevConvolution(channels, channels, bias=bias, reach="stay")
        self.norm = BevNorm(channels, eps=1e-5, momentum=0.1)
        self.output = BevConvolution(channels, outputs, bias=True, reach="stay")

    def forward(self, x: BevMap) -> Any:
        """Returns the outputs, at the places of the input."""
        return self.output(relu(self.norm(self.convolution(x))))


class Branches(nn.ModuleDict):
    """The branches of one task, by the name of what they predict."""

    def forward(self, x: BevMap) -> dict[str, Any]:
        """Returns the outputs of each branch."""
        return {name: branch(x) for name, branch in self.items()}


class JoinedBranches(nn.Module):
    """Branches without norms whose first convolutions are one: neighbours are gathered once, and products are larger.

    Arguments:
        branches: whose norms have been folded; see `folding`.
        least_score: sparse maps get boxes only where a score of the heat map is above it, and nothing is computed that
            no such box needs; None gives boxes everywhere.
    """

    def __init__(self, branches: Branches, least_score: float | None = None) -> None:
        super().__init__()
        self.least = None if least_score is None else math.log(least_score / (1 - least_score)) - ROUNDING
        each = {name: branch for name, branch in branches.items() if self.least is None or name != "heatmap"}
        self.heatmap = None if self.least is None else branches["heatmap"]
        first = [branch.convolution for branch in each.values()]
        self.widths = [convolution.out_channels for convolution in first]
        self.convolution = BevConvolution(first[0].in_channels, sum(self.widths), bias=True, reach="stay")
        with torch.no_grad():
            self.convolution.weight.copy_(torch.cat([convolution.weight for convolution in first]))
            self.convolution.bias.copy_(torch.cat([convolution.bias for convolution in first]))  # type: ignore[union-attr]
        self.outputs = nn.ModuleDict({name: branch.output for name, branch in each.items()})

    def forward(self, x: BevMap) -> dict[str, Any]:
        """Returns the outputs of each branch."""
        found = {} if self.heatmap is None else {"heatmap": self.heatmap(x)}
        if found and isinstance(x, SparseTensor):
            hidden = self._where_needed(x, found["heatmap"].features)
        else:
            hidden = self.convolution(x)
        parts = split(relu(hidden), self.widths)
        boxes = {name: output(part) for (name, output), part in zip(self.outputs.items(), parts, strict=True)}
        return {**found, **boxes}

    def _where_needed(self, x: SparseTensor, logits: Tensor) -> SparseTensor:
        """Returns the hidden features that boxes at high scores are made of, with the way to these boxes."""
        book, key = self.convolution.rulebook(x), self.convolution.key
        last = book.towards((logits.amax(1) > self.least).nonzero()[:, 0])
        needed, places = last.inputs.unique(return_inverse=True)
        first = book.towards(needed.long())
        hidden: SparseTensor = self.convolution(SparseTensor(x.features, x.indices, x.shape, x.batch, {key: first}))
        hidden.rulebooks[key] = replace(last, inputs=places.int(), in_rows=len(needed), tables={})
        return hidden


class CenterHead(nn.Module):
    """See the module.

    Arguments:
        in_channels: of the map.
        tasks: names of the classes of each task.
        shared: width of the shared convolution and of the branches.
        velocity: predict velocities as well.
        shared_bias, branch_bias: whether the convolutions before a norm have a bias: the shared one, those of branches.
    """

    def __init__(
        self,
        in_channels: int = 256,
        tasks: Sequence[Sequence[str]] = (("Car", "Pedestrian", "Cyclist"),),
        *,
        shared: int = 64,
        velocity: bool = False,
        shared_bias: bool = True,
        branch_bias: bool = True,
    ) -> None:
        super().__init__()
        self.velocity = velocity
        self.task_classes = tuple(tuple(names) for names in tasks)
        self.shared_convolution = BevConvolution(in_channels, shared, bias=shared_bias, reach="stay")
        self.shared_norm = BevNorm(shared, eps=1e-5, momentum=0.1)
        regression = {**REGRESSION, "vel": 2} if velocity else dict(REGRESSION)
        self.tasks = nn.ModuleList(
            Branches(
                {
                    name: Branch(shared, size, bias=branch_bias)
                    for name, size in {"heatmap": len(names), **regression}.items()
                }
            )
            for names in self.task_classes
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights of the branches: Kaiming normal, the heat maps near 0.1 everywhere."""
        for module in self.tasks.modules():
            if isinstance(module, BevConvolution):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for task in self.tasks:
            nn.init.constant_(task["heatmap"].output.bias, HEATMAP_BIAS)  # type: ignore[index,union-attr,arg-type]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes, task by task."""
        return tuple(name for names in self.task_classes for name in names)

    def forward(self, x: BevMap) -> list[dict[str, Any]]:
        """Returns, for each task, maps by name: heatmap (before the sigmoid), center, center_z, dim (logarithms), rot
        (cosine, sine) and, if predicted, vel; in the form of the input.
        """
        x = relu(self.shared_norm(self.shared_convolution(x)))
        return [task(x) for task in self.tasks]


def sigmoid_clamped(scores: torch.Tensor) -> torch.Tensor:
    """Returns the sigmoid, kept within [1e-4, 1 - 1e-4] as the loss needs it."""
    return torch.sigmoid(scores).clamp(1e-4, 1 - 1e-4)
