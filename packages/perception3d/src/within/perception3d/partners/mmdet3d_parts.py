"""Parts of MMDetection3D's models before the head, read as arguments of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from within.core.errors import WithinError
from within.perception3d.models.bev_backbone import Norm

ENCODER_CHANNELS = ((16,), (32, 32, 32), (64, 64, 64), (64, 64, 64))  # of a SparseEncoder by default
ENCODER_PADDINGS = ((1,), (1, 1, 1), (1, 1, 1), ((0, 1, 1), 1, 1))
SECOND = {"in_channels": 128, "out_channels": (128, 128, 256), "layer_nums": (3, 5, 5), "layer_strides": (2, 2, 2)}
NECK = {"out_channels": (256, 256, 256), "upsample_strides": (1, 2, 4)}


@dataclass(frozen=True)
class Part:
    """An entry of a configuration.

    Attributes:
        value: its content.
        where: its place, for errors.
    """

    value: Mapping[str, Any]
    where: str


def part(model: Mapping[str, Any], key: str, where: str) -> Part:
    """Returns a part of a model.

    Raises:
        WithinError: when it is not there.
    """
    if not isinstance(model.get(key), Mapping):
        raise WithinError(f"The model has no {key}", where=where)
    return Part(model[key], f"{where}, {key}")


def expect(mapping: Mapping[str, Any], key: str, allowed: Sequence[Any], where: str, default: Any = None) -> Any:
    """Returns the value of an entry that has to be one of some.

    Raises:
        WithinError: when it is another.
    """
    value = mapping.get(key, default)
    value = value.removeprefix("mmdet3d.").removeprefix("mmdet.") if isinstance(value, str) else value
    if value not in allowed:
        raise WithinError(
            f"{key} is {value!r}, which our networks do not have",
            where=where,
            todo=f"choose {' or '.join(repr(each) for each in allowed)}",
        )
    return value


def plain(values: Any) -> Any:
    """Returns nested sequences as lists."""
    return [plain(each) for each in values] if isinstance(values, Sequence) and not isinstance(values, str) else values


def grid_of(model: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns the arguments of a `VoxelGrid`; of the numbers of voxels that for evaluation.

    Raises:
        WithinError: when they are not there.
    """
    layer = (model.get("data_preprocessor") or {}).get("voxel_layer") or {}
    place = f"{where}, data_preprocessor, voxel_layer"
    for key in ("point_cloud_range", "voxel_size", "max_num_points", "max_voxels"):
        if key not in layer:
            raise WithinError(f"There is no {key}", where=place)
    region, most = plain(layer["point_cloud_range"]), plain(layer["max_voxels"])
    return {
        "low": region[:3],
        "high": region[3:],
        "size": plain(layer["voxel_size"]),
        "most_points": int(layer["max_num_points"]),
        "most_voxels": int(most[-1] if isinstance(most, list) else most),
    }


def pillars_of(encoder: Part, middle: Part) -> dict[str, Any]:
    """Returns the arguments of an encoder of pillars."""
    found = encoder.value
    for key, only in (
        ("with_distance", False), ("with_cluster_center", True), ("with_voxel_center", True), ("mode", "max")
    ):  # fmt: skip
        expect(found, key, (only,), encoder.where, only)
    widths = plain(found.get("feat_channels", (64,)))
    if len(widths) != 1:
        raise WithinError(f"There are {len(widths)} layers; our encoder has one", where=encoder.where)
    expect(middle.value, "type", ("PointPillarsScatter", "WithinPillarScatter"), middle.where)
    return {
        "columns": int(found.get("in_channels", 4)),
        "width": int(widths[0]),
        "relative": bool(found.get("legacy", True)),
    }


def stages_of(encoder: Part, middle: Part, grid: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a `VoxelBackbone`, and whether its blocks are residual."""
    expect(encoder.value, "type", ("HardSimpleVFE",), encoder.where)
    found, where = middle.value, middle.where
    expect(found, "type", ("SparseEncoder", "WithinVoxelBackbone"), where)
    order = plain(found.get("order", ("conv", "norm", "act")))
    if order != ["conv", "norm", "act"]:
        raise WithinError(f"The order is {order}; our layers are convolution, norm and ReLU", where=where)
    cells = [round((grid["high"][axis] - grid["low"][axis]) / grid["size"][axis]) for axis in (2, 1, 0)]
    expected, shape = [cells[0] + 1, *cells[1:]], plain(found["sparse_shape"])
    if shape != expected:
        raise WithinError(f"sparse_shape is {shape}; the grid says {expected}", where=where)
    return {"columns": int(found["in_channels"]), **encoder_stages(found, where)}


def encoder_stages(found: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns widths, paddings and form of a SparseEncoder's stages.

    Raises:
        WithinError: when it is built in another way than ours.
    """
    kind = expect(found, "block_type", ("conv_module", "basicblock"), where, "conv_module")
    residual = kind == "basicblock"
    channels = plain(found.get("encoder_channels", ENCODER_CHANNELS))
    paddings = plain(found.get("encoder_paddings", ENCODER_PADDINGS))
    widths = [stage[0] for stage in channels]
    last = len(widths) - 1
    if residual:
        expected = [[width, width, *widths[at + 1 : at + 2]] for at, width in enumerate(widths)]
    else:
        expected = [[width] * (3 if at else 1) for at, width in enumerate(widths)]
    if channels != expected or found.get("base_channels", 16) != widths[0]:
        raise WithinError(f"The channels are {channels}; ours would be {expected}", where=where)
    if [len(each) for each in paddings] != [len(each) for each in channels]:
        raise WithinError(f"The paddings are {paddings}, not one for each of {channels}", where=where)
    steps = [paddings[at][2] for at in range(last)] if residual else [each[0] for each in paddings[1:]]
    return {
        "widths": widths,
        "top_width": int(found.get("output_channels", 128)),
        "paddings": steps,
        "residual": residual,
        "residual_bias": False,
    }


def blocks_of(backbone: Part, neck: Part) -> tuple[list[list[float]], bool]:
    """Returns the values of the `BevBlock`s, and whether the neck has plain convolutions where nothing is enlarged.

    Raises:
        WithinError: when backbone and neck do not belong together, or are of other kinds.
    """
    expect(backbone.value, "type", ("SECOND", "WithinBevBackbone"), backbone.where)
    expect(neck.value, "type", ("SECONDFPN", "WithinBevNeck"), neck.where)
    layers, strides, widths = (
        plain(backbone.value.get(key, SECOND[key])) for key in ("layer_nums", "layer_strides", "out_channels")
    )
    upsamples, upsample_widths = (plain(neck.value.get(key, NECK[key])) for key in ("upsample_strides", "out_channels"))
    counts = {len(each) for each in (layers, strides, widths, upsamples, upsample_widths)}
    if len(counts) != 1:
        raise WithinError("Backbone and neck are of different lengths", where=neck.where)
    return (
        [list(each) for each in zip(layers, widths, strides, upsamples, upsample_widths, strict=True)],
        bool(neck.value.get("use_conv_for_no_stride", False)),
    )


def norm_of(found: Part) -> Norm:
    """Returns the norm of a 2-D backbone or neck."""
    kind = (found.value.get("norm_cfg") or {}).get("type", "BN")
    return "spatial_sparse" if kind == "SPBN" else "batch"
