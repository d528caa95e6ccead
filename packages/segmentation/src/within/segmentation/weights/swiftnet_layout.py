"""SwiftNet's published weights (orsic/swiftnet), single scale and pyramidal: what each tensor of theirs is called here.

Their files also hold mean and deviation of the images, which are constructor arguments here: see `published_arguments`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from within.core.checkpoint import load_tensors, without_parallel_prefix
from within.core.errors import WithinError
from within.segmentation.models.swiftnet_pyramid import SwiftNetPyramid
from within.segmentation.models.swiftnet_single_scale import SwiftNetSingleScale
from within.segmentation.weights.layout import Renames, load_published

MEAN, DEVIATION, SCALE = "backbone.img_mean", "backbone.img_std", "backbone.img_scale"
FUSED, BOTTLENECK = "backbone.spp.spp.spp_fuse.conv.weight", "backbone.layer1.0.conv3.weight"
RENAMES = (
    (r"^backbone\.conv1\.", "encoder.stem.conv."),
    (r"^backbone\.bn1\.", "encoder.stem.bn."),
    *((rf"^backbone\.layer{stage + 1}\.", f"encoder.stages.{stage}.") for stage in range(4)),
    (r"\.bn(\d?)\.(\d+)\.", r".norm\1.levels.\2."),
    (r"^(encoder\..*)\.bn(\d?)\.", r"\1.norm\2.levels.0."),
    (r"\.downsample\.", ".shortcut."),
    (r"^backbone\.spp\.spp\.spp_bn\.", "context.first."),
    (r"^backbone\.spp\.spp\.spp_fuse\.", "context.fuse."),
    (r"^backbone\.spp\.spp\.spp(\d)\.", r"context.levels.\1."),
    (r"^backbone\.upsample\.(\d)\.bottleneck\.", r"bottlenecks.\1."),
    (r"^backbone\.upsample\.(\d)\.blend_conv\.", r"blends.\1."),
    (r"^backbone\.upsample_blends\.(\d)\.blend_conv\.", r"blends.\1."),
)


def load_swiftnet(model: SwiftNetSingleScale | SwiftNetPyramid, path: str | Path) -> None:
    """Copies a checkpoint of orsic/swiftnet, or the state of a network of ours, into a model.

    Arguments:
        model: of the same encoder, classes, levels and output stride, and built with the file's `published_arguments`.
        path: a .safetensors file, or a torch file of plain tensors; nothing in it is ever executed.

    Raises:
        WithinError: when the file is missing or damaged, its tensors are not those of the model or hold NaN, or the
            model was built with other arguments than the file speaks for; the model is then as it was.
    """
    found = published_arguments(path)
    own = {"mean": model.normalise.mean, "deviation": 1 / model.normalise.factor}
    differing = [name for name in own if name in found and not _near(own[name], found[name])]
    if found.get("rectified", False) != getattr(model, "rectified", False) and found:
        differing.append("rectified")
    if differing:
        raise WithinError(
            f"The weights were trained with another {' and another '.join(differing)}",
            where=str(path),
            todo=f"build the network with {', '.join(f'{name}={found.get(name, False)}' for name in differing)}",
        )
    load_published(model, path, (*RENAMES, *_laterals(model)), ignored=(MEAN, DEVIATION, SCALE))


def published_arguments(path: str | Path) -> dict[str, Any]:
    """Returns the constructor arguments that a checkpoint of orsic/swiftnet speaks for; nothing for another file.

    Returns:
        `mean` and `deviation` of the images, on the scale 0..255, and for one scale with basic blocks `rectified`.

    Raises:
        WithinError: when the file is missing or damaged.
    """
    tensors = without_parallel_prefix(load_tensors(path))
    if MEAN not in tensors or DEVIATION not in tensors:
        return {}
    scale = tensors.get(SCALE, torch.ones(1))
    found: dict[str, Any] = {
        "mean": tuple((tensors[MEAN] * scale).flatten().tolist()),
        "deviation": tuple((tensors[DEVIATION] * scale).flatten().tolist()),
    }
    if FUSED in tensors and BOTTLENECK not in tensors:
        found["rectified"] = True
    return found


def _near(own: Tensor, found: Sequence[float]) -> bool:
    return bool(torch.allclose(own.flatten().cpu(), torch.tensor(found), rtol=1e-4))


def _laterals(model: SwiftNetSingleScale | SwiftNetPyramid) -> Renames:
    """Their list of laterals begins with the coarsest, ours with the finest."""
    count = len(model.laterals) if isinstance(model, SwiftNetPyramid) else 0
    name = r"^backbone\.upsample_bottlenecks\.%d\."
    return [(name % place, f"laterals.{count - 1 - place}.") for place in range(count)]
