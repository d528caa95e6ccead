"""A checkpoint of whichever tool box, recognised by its names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from within.perception3d.models.detector import Detector
from within.perception3d.weights.layout import inward, matched
from within.perception3d.weights.mmdet3d_layout import mmdet3d_layout
from within.perception3d.weights.openpcdet_layout import openpcdet_layout


def published_state(tensors: Mapping[str, Tensor], detector: Detector) -> dict[str, Tensor]:
    """Returns weights under our names, whether they are ours, MMDetection3D's or OpenPCDet's.

    Arguments:
        tensors: of a file, see `read_checkpoint`.
        detector: that they are meant for.
    """
    own = detector.state_dict()
    if any(name in tensors for name in own):
        return dict(tensors)
    best = max((mmdet3d_layout(detector), openpcdet_layout(detector)), key=lambda each: matched(tensors, each))
    return inward(tensors, own, best) if matched(tensors, best) else dict(tensors)
