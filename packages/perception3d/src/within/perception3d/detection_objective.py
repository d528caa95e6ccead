"""What training a detector minimises, at each of Ada3D's three stages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from within.core.errors import WithinError
from within.perception3d.ada3d.importance_loss import PUBLISHED, ImportanceTarget, importance_loss, importance_target
from within.perception3d.ada3d.thinning import Ada3D
from within.perception3d.anchor_loss import AnchorLossWeights, anchor_loss
from within.perception3d.center_loss import CenterLossWeights, center_loss
from within.perception3d.models.anchor_head import AnchorHead
from within.perception3d.named_detector import Network, detector_of, map_grid, task_labels

Objective = Callable[[nn.Module, tuple[Tensor, ...], tuple[Tensor, Tensor]], dict[str, Tensor]]


def detection_objective(network: Network, weights: CenterLossWeights, anchor_weights: AnchorLossWeights) -> Objective:
    """Returns the losses of the head, places dropped if the network drops any; the importance predictor stays."""
    head, grid, tasks = detector_of(network).head, map_grid(network), task_labels(network)
    region = detector_of(network).grid
    fixed: list[Tensor] = []

    def objective(module: nn.Module, inputs: tuple[Tensor, ...], target: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        inner = getattr(module, "module", module)
        if isinstance(inner, Ada3D):
            inner.predictor.eval()
        outputs, (boxes, labels) = module(*inputs), target
        if not isinstance(head, AnchorHead):
            return center_loss(outputs, boxes, labels, tasks, grid, weights)
        if not fixed:
            fixed.append(head.anchors(grid.shape, region.low, region.high).to(boxes.device))
        return anchor_loss(
            outputs,
            boxes,
            labels,
            fixed[0],
            head.anchor_classes,
            anchor_weights,
            direction_offset=head.direction_offset,
        )

    return objective


def importance_objective(network: Ada3D, how: ImportanceTarget = PUBLISHED) -> Objective:
    """Returns the loss of the importance predictor; nothing is dropped and the detector stays as it is.

    Arguments:
        network: whose predictor is trained.
        how: the target is drawn.
    """
    grid = map_grid(network, network.predictor.stride)
    classes = len(network.classes)

    def objective(module: nn.Module, inputs: tuple[Tensor, ...], target: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        inner = getattr(module, "module", module)
        inner.detector.eval()
        choices = inner.importance(*inputs)
        return {
            "importance": importance_loss(
                choices, importance_target(*target, classes, grid, how), occupied_only=network.predictor.occupied_only
            )
        }

    return objective


def freeze(network: Network, stage: str) -> list[nn.Parameter]:
    """Stops the gradients of what a stage leaves alone, and returns those parameters.

    Arguments:
        network: to be trained.
        stage: "detector", "importance" or "tuning".

    Raises:
        WithinError: when the network predicts no importance and the stage needs it.
    """
    if stage == "detector" and not isinstance(network, Ada3D):
        return []
    if not isinstance(network, Ada3D):
        raise WithinError(f"The stage {stage!r} needs a network that predicts importance")
    resting = network.detector if stage == "importance" else network.predictor
    found = [parameter for parameter in resting.parameters() if parameter.requires_grad]
    for parameter in found:
        parameter.requires_grad_(False)
    return found


def with_gradual_rates(objective: Objective, network: Ada3D, steps: int) -> Objective:
    """Returns an objective during which the shares that stay fall evenly from 1 to the network's rates."""

    def gradual(module: nn.Module, inputs: tuple[Tensor, ...], target: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        with torch.no_grad():
            network.progress.add_(1 / steps).clamp_(max=1)
        return objective(module, inputs, target)

    network.progress.zero_()
    return gradual


def finish_rates(network: Any) -> None:
    """Sets the shares that stay to the network's rates."""
    if isinstance(network, Ada3D):
        network.progress.fill_(1)
