"""Detectors' weights in the layouts of the two public tool boxes, MMDetection3D and OpenPCDet, in and out."""

from within.perception3d.weights.checkpoint_file import read_checkpoint
from within.perception3d.weights.mmdet3d_layout import from_mmdet3d, load_mmdet3d, save_mmdet3d, to_mmdet3d
from within.perception3d.weights.openpcdet_layout import from_openpcdet, load_openpcdet, save_openpcdet, to_openpcdet
from within.perception3d.weights.published import published_state

__all__ = [
    "from_mmdet3d",
    "from_openpcdet",
    "load_mmdet3d",
    "load_openpcdet",
    "published_state",
    "read_checkpoint",
    "save_mmdet3d",
    "save_openpcdet",
    "to_mmdet3d",
    "to_openpcdet",
]
