"""Loads the checkpoints of PVCNN's authors, and of the baselines they trained, into the networks here.

    point_features.0.voxel_layers.0.weight  ->  point_layers.0.voxel_layers.0.weight
    sa_layers.0.2.mlps.0.layers.0.weight    ->  pyramid.down.0.mlps.0.0.weight
    center_reg_net.features.1.layers.0.bias ->  centre.point_layers.3.bias

Names that are ours already are left alone, so that files of this package load as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from within.core.checkpoint import load_into, load_tensors, without_parallel_prefix

IGNORED = ("size_templates",)
RENAMES: tuple[tuple[str, str], ...] = (
    (r"^inst_seg_net\.", "mask."),
    (r"^box_est_net\.classifier\.", "box.cloud_layers."),
    (r"^box_est_net\.features\.(\d+)\.mlps\.", r"box.sa_layers.\1.mlps."),
    (r"^box_est_net\.features\.", "box.point_layers."),
    (r"^box_est_net\.", "box."),
    (r"^center_reg_net\.regression\.", "centre.cloud_layers."),
    *((rf"^center_reg_net\.features\.{n}\.layers\.{k}\.", f"centre.point_layers.{3 * n + k}.") for n in range(3)
      for k in range(2)),
    (r"(^|\.)sa_layers\.(\d+)\.(?:\d+\.)?mlps\.(\d+)\.layers\.", r"\1pyramid.down.\2.mlps.\3."),
    (r"(^|\.)sa_layers\.(\d+)\.(\d+)\.", r"\1pyramid.down_blocks.\2.\3."),
    (r"(^|\.)fp_layers\.(\d+)\.(?:0\.)?mlp\.layers\.", r"\1pyramid.up.\2.mlp."),
    *((rf"(^|\.)fp_layers\.(\d+)\.{n + 1}\.", rf"\1pyramid.up_blocks.\2.{n}.") for n in range(9)),
    (r"(layers|blocks\.\d+|point_features)\.(\d+)\.point_features\.layers\.", r"\1.\2.point_layers."),
    (r"(^|\.)point_features\.", r"\1point_layers."),
    (r"(^|\.)cloud_features\.", r"\1cloud_layers."),
    (r"(^|\.)classifier\.(\d+)\.layers\.", r"\1classifier.\2."),
    (r"\.voxel_layers\.6\.fc\.", ".voxel_layers.6.gate."),
)  # fmt: skip


def our_name(name: str) -> str:
    """Returns the name here of a tensor of a published checkpoint."""
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Copies all tensors of a checkpoint into a network, or none.

    Arguments:
        model: of this package.
        path: a run directory, a .safetensors file, or a torch file, with or without the `module.` of parallel training.

    Raises:
        WithinError: when the file is missing, damaged, or could run code (the authors' files hold their configuration
            as objects; save its `model` alone first); when tensors are missing, unexpected or of another shape, as in
            a checkpoint of another width; or when one holds NaN.
    """
    load_into(model, renamed_state(load_tensors(path)), where=str(path))


def renamed_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of a checkpoint under their names here."""
    found = without_parallel_prefix(tensors)
    return {our_name(name): tensor for name, tensor in found.items() if name not in IGNORED}
