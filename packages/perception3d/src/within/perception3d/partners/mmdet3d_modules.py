"""Our 3-D and 2-D backbones in the places of MMDetection3D's, with the arguments and the weights of those.

    SparseEncoder        WithinVoxelBackbone     sparse convolution without spconv
    PointPillarsScatter  WithinPillarScatter
    SECOND               WithinBevBackbone       maps may stay masked or sparse between these three
    SECONDFPN            WithinBevNeck           gives dense maps to the head

A checkpoint of either fits into the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from within.core.errors import WithinError
from within.perception3d.models.bev_backbone import BevBackbone, BevBlock
from within.perception3d.models.bev_layers import BevUpsample, Reach, SpatialSparseNorm
from within.perception3d.models.bev_map import BevMap, concatenate, dense
from within.perception3d.models.height_compression import Execution, compress_height
from within.perception3d.models.voxel_backbone import VoxelBackbone
from within.perception3d.partners.interchange import interchangeable
from within.perception3d.partners.mmdet3d_parts import ENCODER_CHANNELS, ENCODER_PADDINGS, Part, encoder_stages, norm_of
from within.perception3d.sparse import SparseTensor
from within.perception3d.weights.mmdet3d_layout import mmdet3d_voxel_name

NORM: Mapping[str, Any] = {"type": "BN", "eps": 1e-3, "momentum": 0.01}
KAIMING = {"type": "Kaiming", "layer": ["Conv2d", "ConvTranspose2d"]}


class WithinVoxelBackbone(VoxelBackbone):
    """See the module.

    Arguments:
        in_channels, sparse_shape, order, norm_cfg, base_channels, output_channels, encoder_channels, encoder_paddings,
            block_type: as of MMDetection3D's SparseEncoder.
        execution: the form of the map that is returned, see `compress_height`; other forms than "dense" need our 2-D
            backbone and neck.

    Raises:
        WithinError: for channels, paddings or an order that our backbone does not have.
    """

    def __init__(
        self,
        in_channels: int,
        sparse_shape: Sequence[int],
        order: Sequence[str] = ("conv", "norm", "act"),
        norm_cfg: Mapping[str, Any] = {"type": "BN1d", "eps": 1e-3, "momentum": 0.01},
        base_channels: int = 16,
        output_channels: int = 128,
        encoder_channels: Sequence[Sequence[int]] = ENCODER_CHANNELS,
        encoder_paddings: Sequence[Any] = ENCODER_PADDINGS,
        block_type: str = "conv_module",
        execution: Execution = "dense",
    ) -> None:
        where = type(self).__name__
        if tuple(order) != ("conv", "norm", "act"):
            raise WithinError(f"The order is {order}; our layers are convolution, norm and ReLU", where=where)
        given = {
            "base_channels": base_channels, "output_channels": output_channels, "encoder_channels": encoder_channels,
            "encoder_paddings": encoder_paddings, "block_type": block_type,
        }  # fmt: skip
        found = encoder_stages(given, where)
        super().__init__(
            in_channels,
            found["widths"],
            found["top_width"],
            residual=found["residual"],
            residual_bias=found["residual_bias"],
            paddings=found["paddings"],
        )
        self.sparse_shape, self.execution = tuple(sparse_shape), execution
        _set_norms(self, norm_cfg)
        interchangeable(self, mmdet3d_voxel_name(residual=found["residual"]), read=_read_sparse, write=_written_sparse)

    def forward(self, voxel_features: Tensor, coors: Tensor, batch_size: int) -> BevMap:  # type: ignore[override]
        """Returns the map seen from above.

        Arguments:
            voxel_features: a row for each voxel.
            coors: batch, z, y and x of each.
            batch_size: number of clouds.
        """
        with torch.autocast(voxel_features.device.type, enabled=False):
            voxels = SparseTensor(voxel_features.float(), coors.int().contiguous(), self.sparse_shape, int(batch_size))
            return compress_height(super().forward(voxels), self.execution)


class WithinPillarScatter(nn.Module):
    """Pillars as a map, also a masked or sparse one.

    Arguments:
        in_channels: features of a pillar.
        output_shape: height and width of the map.
        execution: see `WithinVoxelBackbone`.
    """

    def __init__(self, in_channels: int, output_shape: Sequence[int], execution: Execution = "sparse") -> None:
        super().__init__()
        self.in_channels, self.output_shape, self.execution = in_channels, tuple(output_shape), execution

    def forward(self, voxel_features: Tensor, coors: Tensor, batch_size: int) -> BevMap:
        """Returns the map; see `WithinVoxelBackbone`."""
        places = coors[:, [0, 2, 3]].int().contiguous()
        return compress_height(SparseTensor(voxel_features, places, self.output_shape, int(batch_size)), self.execution)


class WithinBevBackbone(BaseModule):
    """See the module.

    Arguments:
        in_channels, out_channels, layer_nums, layer_strides: as of MMDetection3D's SECOND.
        norm_cfg: of batch norm, or `dict(type="SPBN")` for SP-BN.
        reach: how far outputs on masked and sparse maps reach, see `BevBackbone`.
        init_cfg: of mmengine.
    """

    def __init__(
        self,
        in_channels: int = 128,
        out_channels: Sequence[int] = (128, 128, 256),
        layer_nums: Sequence[int] = (3, 5, 5),
        layer_strides: Sequence[int] = (2, 2, 2),
        norm_cfg: Mapping[str, Any] = NORM,
        conv_cfg: Mapping[str, Any] | None = None,
        reach: Reach | Sequence[Reach] = "grow",
        init_cfg: Any = KAIMING,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if conv_cfg is not None and (conv_cfg.get("type", "Conv2d") != "Conv2d" or conv_cfg.get("bias", False)):
            raise WithinError(f"Convolutions are {dict(conv_cfg)}; ours are Conv2d without bias")
        blocks = [
            BevBlock(layers, width, stride, 1, 1)
            for layers, width, stride in zip(layer_nums, out_channels, layer_strides, strict=True)
        ]
        self.blocks = BevBackbone(in_channels, blocks, norm=_kind(norm_cfg), reach=reach).blocks
        _set_norms(self, norm_cfg)
        interchangeable(self, _block_name)

    def forward(self, x: BevMap) -> tuple[Any, ...]:
        """Returns the maps of all blocks."""
        found = []
        for block in self.blocks:
            for layer in block:  # type: ignore[attr-defined]
                x = layer(x)
            found.append(x)
        return tuple(found)


class WithinBevNeck(BaseModule):
    """See the module.

    Arguments:
        in_channels, out_channels, upsample_strides, use_conv_for_no_stride: as of MMDetection3D's SECONDFPN.
        norm_cfg, init_cfg: see `WithinBevBackbone`.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (128, 128, 256),
        out_channels: Sequence[int] = (256, 256, 256),
        upsample_strides: Sequence[float] = (1, 2, 4),
        norm_cfg: Mapping[str, Any] = NORM,
        upsample_cfg: Mapping[str, Any] | None = None,
        conv_cfg: Mapping[str, Any] | None = None,
        use_conv_for_no_stride: bool = False,
        init_cfg: Any = KAIMING,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if (upsample_cfg or {}).get("type", "deconv") != "deconv" or (conv_cfg or {}).get("type", "Conv2d") != "Conv2d":
            raise WithinError(f"The layers are {upsample_cfg} and {conv_cfg}; ours are deconv and Conv2d")
        blocks = [
            BevBlock(0, width, 1, stride, out)
            for width, out, stride in zip(in_channels, out_channels, upsample_strides, strict=True)
        ]
        self.deblocks = BevBackbone(1, blocks, norm=_kind(norm_cfg)).upsamples
        _set_norms(self, norm_cfg)
        turned = {
            f"deblocks.{number}.convolution.weight"
            for number, layer in enumerate(self.deblocks)
            if use_conv_for_no_stride
            and isinstance(layer.convolution, BevUpsample)
            and layer.convolution.kernel_size == (1, 1)
        }
        interchangeable(
            self,
            lambda name: name.replace(".convolution.", ".0.").replace(".norm.", ".1."),
            read=lambda name, value, _: value.transpose(0, 1) if name in turned else value,
            write=lambda name, value: value.transpose(0, 1) if name in turned else value,
        )

    def forward(self, x: Sequence[BevMap]) -> list[Tensor]:
        """Returns the joined map, dense."""
        return [dense(concatenate([layer(each) for layer, each in zip(self.deblocks, x, strict=True)]))]


def _kind(norm_cfg: Mapping[str, Any]) -> Any:
    return norm_of(Part({"norm_cfg": norm_cfg}, "norm_cfg"))


def _set_norms(module: nn.Module, norm_cfg: Mapping[str, Any]) -> None:
    for each in module.modules():
        if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d | SpatialSparseNorm):
            each.eps, each.momentum = norm_cfg.get("eps", 1e-5), norm_cfg.get("momentum", 0.1)


def _block_name(name: str) -> str:
    _, block, layer, part, rest = name.split(".", 4)
    return f"blocks.{block}.{3 * int(layer) + (part == 'norm')}.{rest}"


def _read_sparse(_: str, value: Tensor, own: Tensor) -> Tensor:
    if value.dim() == 5 and value.shape != own.shape and value.movedim(-1, 0).shape == own.shape:
        return value.movedim(-1, 0)
    return value


def _written_sparse(_: str, value: Tensor) -> Tensor:
    return value.movedim(0, -1) if value.dim() == 5 else value
