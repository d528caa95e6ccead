"""Norms folded into the convolutions before them, for deployment; exact up to rounding, in all three forms of a map.

batch norm   W' = W gamma / sqrt(var + eps),   b' = (b - mean) gamma / sqrt(var + eps) + beta
SP-BN        W' = W gamma / sqrt(var + eps),   no bias: empty places stay empty

Where a detector runs sparse, the first convolutions of CenterPoint's branches, which all read one map, become one.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from within.perception3d.ada3d.importance import ConvolutionNormSigmoid
from within.perception3d.models.bev_backbone import BevBackbone, ConvolutionNormRelu
from within.perception3d.models.bev_layers import BevConvolution, BevUpsample, SpatialSparseNorm
from within.perception3d.models.center_head import Branch, CenterHead, JoinedBranches
from within.perception3d.models.detector import Detector
from within.perception3d.models.voxel_backbone import ConvolutionBlock, ResidualBlock

PAIRS = (
    (ConvolutionNormRelu, (("convolution", "norm"),)),
    (ConvolutionBlock, (("convolution", "norm"),)),
    (ResidualBlock, (("convolution1", "norm1"), ("convolution2", "norm2"))),
    (Branch, (("convolution", "norm"),)),
    (CenterHead, (("shared_convolution", "shared_norm"),)),
    (ConvolutionNormSigmoid, (("convolution", "norm"),)),
)


def folded(model: nn.Module, *, least_score: float | None = None) -> Any:
    """Returns a copy in evaluation mode whose convolutions contain their norms; see the module.

    Arguments:
        model: a detector, an `Ada3D`, or a part of them.
        least_score: detectors that run sparse compute boxes only where a score is above it: the detections above it
            stay the same.
    """
    found = copy.deepcopy(model).eval()
    for module in found.modules():
        for kind, pairs in PAIRS:
            if isinstance(module, kind):
                for convolution, norm in pairs:
                    _fold(getattr(module, convolution), getattr(module, norm))
                    setattr(module, norm, nn.Identity())
    for module in found.modules():
        if isinstance(module, Detector) and module.execution == "sparse" and isinstance(module.head, CenterHead):
            module.head.tasks = nn.ModuleList(JoinedBranches(task, least_score) for task in module.head.tasks)
    for module in found.modules():
        if isinstance(module, BevConvolution):
            module.pack()
    return found


class DenseBev(nn.Module):
    """The part of a detector that sees from above, over dense maps: what is exported.

    Arguments:
        bev: the 2-D backbone.
        head: of the detector.
    """

    def __init__(self, bev: BevBackbone, head: nn.Module) -> None:
        super().__init__()
        self.bev, self.head = bev, head

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Returns the head's maps, task by task, in the order of their names."""
        return tuple(each for task in self.head(self.bev(x)) for each in task.values())


def dense_bev(detector: Detector) -> DenseBev:
    """Returns the dense part of a detector with its norms folded."""
    return DenseBev(folded(detector.bev), folded(detector.head))


def output_names(detector: Detector) -> list[str]:
    """Returns the names of the outputs of `DenseBev`; those of later tasks carry their number."""
    shape = (1, detector.bev.in_channels, 16, 16)
    with torch.no_grad():
        tasks = copy.deepcopy(detector.head).eval()(copy.deepcopy(detector.bev).eval()(torch.zeros(shape)))
    return [name if len(tasks) == 1 else f"{name}_{number}" for number, task in enumerate(tasks) for name in task]


def _fold(convolution: Any, norm: Any) -> None:
    bias = convolution.bias
    with torch.no_grad():
        if isinstance(norm, SpatialSparseNorm):
            scale, shift = norm.scale(norm.running_var), None
        else:
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            before = -norm.running_mean if bias is None else bias - norm.running_mean
            shift = before * scale + norm.bias
        axis = 1 if isinstance(convolution, BevUpsample) else 0
        view = [1] * convolution.weight.dim()
        view[axis] = -1
        convolution.weight.mul_(scale.view(view))
        if shift is not None:
            convolution.bias = nn.Parameter(shift)
        elif bias is not None:
            convolution.bias = nn.Parameter(bias * scale)
