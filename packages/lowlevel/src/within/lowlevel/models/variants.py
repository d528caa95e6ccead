"""The variants of the networks as data: constructor arguments, task, and counts.

`parameters` and `macs` are exact for the constructor's arguments and an input of `size`; MACs are those of
convolutions and matrix products. `published` quotes what the authors state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from torch import nn

from within.core.registry import by_name
from within.lowlevel.models.carn import CARN
from within.lowlevel.models.cyclegan import ResnetGenerator
from within.lowlevel.models.dce_net import DCENet
from within.lowlevel.models.dncnn import DnCNN
from within.lowlevel.models.edsr import EDSR
from within.lowlevel.models.ffdnet import FFDNet
from within.lowlevel.models.imdn import IMDN, ResidualIMDN
from within.lowlevel.models.msrresnet import MSRResNet
from within.lowlevel.models.nafnet import NAFNet
from within.lowlevel.models.noise2noise_unet import Noise2NoiseUNet
from within.lowlevel.models.pmrid import PMRID
from within.lowlevel.models.rcan import RCAN
from within.lowlevel.models.restormer import Restormer
from within.lowlevel.models.rrdbnet import RRDBNet
from within.lowlevel.models.unet import UNet

Task = Literal["denoise", "sr", "deblur", "enhance", "translate"]


@dataclass(frozen=True)
class Variant:
    """One network with fixed arguments.

    Attributes:
        network: its class.
        arguments: what the class is constructed with.
        task: what it was published for.
        channels: of the input image.
        scale: upscaling factor, 1 where the size stays.
        inputs: what `forward` takes.
        parameters: number of parameters, frozen ones included.
        macs: multiply-accumulates for one image of `size`.
        size: height and width of the input that `macs` holds for.
        published: counts or quality as the authors state them, or empty.
    """

    name: str
    network: type[nn.Module]
    arguments: Mapping[str, Any]
    task: Task
    channels: int
    scale: int
    parameters: int
    macs: int
    size: tuple[int, int]
    published: str = ""
    inputs: tuple[str, ...] = ("image",)


def _row(
    name: str,
    network: type[nn.Module],
    task: Task,
    parameters: int,
    macs: int,
    *,
    published: str = "",
    size: tuple[int, int] | None = None,
    inputs: tuple[str, ...] = ("image",),
    **arguments: Any,
) -> Variant:
    scale = arguments.get("scale", 1)
    channels = arguments.get("channels", 4 if network is PMRID else 1 if network in (DnCNN, FFDNet) else 3)
    size = size or (SIZE_FOR_720P[scale] if task == "sr" else (256, 256))
    frozen = MappingProxyType(arguments)
    return Variant(name, network, frozen, task, channels, scale, parameters, macs, size, published, inputs)


# Super-resolution papers count for an output of 1280x720; at x3 the nearest whole input is 426 wide.
SIZE_FOR_720P = {2: (360, 640), 3: (240, 426), 4: (180, 320)}
_CARN_M = {"groups": 4, "shared": True}
_EDSR_LARGE = {"width": 256, "depth": 32, "residual_scale": 0.1}
_GOPRO = {"encoder": (1, 1, 1, 28), "middle": 1, "decoder": (1, 1, 1, 1)}
_FFDNET_INPUTS = ("image", "noise_level")

VARIANTS: Mapping[str, Variant] = by_name(
    _row("dncnn_s", DnCNN, "denoise", 556_032, 36_314_284_032, published="BSD68 29.23 dB at sigma 25"),
    _row("dncnn_b", DnCNN, "denoise", 667_008, 43_562_041_344, depth=20, published="BSD68 29.16 dB at sigma 25"),
    _row("dncnn_merged", DnCNN, "denoise", 555_137, 36_314_284_032, batch_norm=False),
    _row("dncnn_b_merged", DnCNN, "denoise", 665_921, 43_562_041_344, depth=20, batch_norm=False),
    _row("dncnn_color", DnCNN, "denoise", 668_227, 43_713_036_288, channels=3, depth=20, batch_norm=False),
    _row("ffdnet_gray", FFDNet, "denoise", 485_316, 7_936_671_744, inputs=_FFDNET_INPUTS),
    _row(
        "ffdnet_color",
        FFDNet,
        "denoise",
        852_108,
        13_943_439_360,
        channels=3,
        depth=12,
        width=96,
        inputs=_FFDNET_INPUTS,
    ),
    _row("imdn_x2", IMDN, "sr", 694_404, 158_765_878_272, scale=2, published="694K, 158.8 G; Set5 38.00 dB"),
    _row("imdn_x3", IMDN, "sr", 703_059, 71_335_713_792, scale=3),
    _row("imdn_x4", IMDN, "sr", 715_176, 40_885_865_472, scale=4, published="715K, 40.9 G; Set5 32.21 dB"),
    _row("imdn_rtc_x2", ResidualIMDN, "sr", 20_190, 1_719_273_600, scale=2, size=(240, 360)),
    _row("imdn_aim_x4", ResidualIMDN, "sr", 893_936, 51_355_238_400, width=64, depth=8, tail_kernel=3, scale=4),
    _row("carn_x2", CARN, "sr", 1_591_963, 222_831_129_600, scale=2, published="1,592K, 222.8 G"),
    _row("carn_x3", CARN, "sr", 1_591_963, 118_614_144_960, scale=3),
    _row("carn_x4", CARN, "sr", 1_591_963, 90_882_259_200, scale=4, published="1,592K, 90.9 G"),
    _row("carn_m_x2", CARN, "sr", 414_811, 91_182_412_800, scale=2, **_CARN_M, published="412K, 91.2 G"),
    _row("carn_m_x3", CARN, "sr", 414_811, 46_061_369_280, scale=3, **_CARN_M),
    _row("carn_m_x4", CARN, "sr", 414_811, 32_489_683_200, scale=4, **_CARN_M, published="412K, 32.5 G"),
    _row("edsr_baseline_x2", EDSR, "sr", 1_369_859, 316_248_883_200, scale=2, published="1.37M, 316.3 G"),
    _row("edsr_baseline_x3", EDSR, "sr", 1_554_499, 160_063_672_320, scale=3),
    _row("edsr_baseline_x4", EDSR, "sr", 1_517_571, 114_230_476_800, scale=4, published="1.52M, 114.0 G"),
    _row("edsr_large_x2", EDSR, "sr", 40_729_603, 9_384_748_646_400, scale=2, **_EDSR_LARGE),
    _row("edsr_large_x3", EDSR, "sr", 43_680_003, 4_469_533_655_040, scale=3, **_EDSR_LARGE),
    _row("edsr_large_x4", EDSR, "sr", 43_089_923, 2_894_546_534_400, scale=4, **_EDSR_LARGE, published="43.1M"),
    _row("msrresnet_x2", MSRResNet, "sr", 1_369_859, 341_729_280_000, scale=2),
    _row("msrresnet_x3", MSRResNet, "sr", 1_554_499, 190_215_475_200, scale=3),
    _row("msrresnet_x4", MSRResNet, "sr", 1_517_571, 146_080_972_800, scale=4),
    _row("rcan_x2", RCAN, "sr", 15_444_643, 3_526_778_982_400, scale=2),
    _row("rcan_x3", RCAN, "sr", 15_629_283, 1_584_736_460_800, scale=3),
    _row("rcan_x4", RCAN, "sr", 15_592_355, 916_863_078_400, scale=4, published="15.6M"),
    _row("rrdbnet_x2", RRDBNet, "sr", 16_703_171, 1_032_885_043_200, scale=2),
    _row("rrdbnet_x4", RRDBNet, "sr", 16_697_987, 1_032_586_444_800, scale=4, published="16.7M"),
    _row("nafnet_sidd_w32", NAFNet, "denoise", 29_159_715, 16_045_035_520, width=32, published="SIDD 39.9672 dB"),
    _row("nafnet_sidd_w64", NAFNet, "denoise", 115_982_915, 63_236_423_680, width=64, published="SIDD 40.3045 dB"),
    _row(
        "nafnet_gopro_w32",
        NAFNet,
        "deblur",
        17_111_907,
        15_956_027_392,
        width=32,
        **_GOPRO,
        published="GoPro 32.8705 dB",
    ),
    _row(
        "nafnet_gopro_w64",
        NAFNet,
        "deblur",
        67_888_835,
        63_054_979_072,
        width=64,
        **_GOPRO,
        published="GoPro 33.7103 dB",
    ),
    _row("restormer", Restormer, "deblur", 26_126_644, 154_882_031_616, published="26.1M"),
    _row("restormer_color", Restormer, "denoise", 26_111_668, 154_882_031_616, norm_bias=False),
    _row("restormer_gray", Restormer, "denoise", 26_109_076, 154_712_162_304, channels=1, norm_bias=False),
    _row(
        "cyclegan_resnet9",
        ResnetGenerator,
        "translate",
        11_378_179,
        49_551_507_456,
        published="11.4M, 56.8 G by output size",
    ),
    _row("n2n_unet", Noise2NoiseUNet, "denoise", 700_611, 13_205_864_448),
    _row("pmrid", PMRID, "denoise", 1_031_908, 981_106_688, published="1.03M"),
    _row("dce_net", DCENet, "enhance", 79_416, 5_190_451_200, published="79K"),
    _row("unet", UNet, "denoise", 7_760_931, 12_125_732_864),
    # The project's own denoiser, small enough to be shipped.
    _row("unet_denoise", UNet, "denoise", 218_563, 1_820_327_936, widths=(16, 32, 48, 64), up="nearest"),
)
ALIASES: Mapping[str, str] = MappingProxyType({"carn": "carn_x4", "carn_m": "carn_m_x4"})
