"""The parameter names of published checkpoints, and what each is called here: one table of renames a repository.

Networks whose published names are kept (NAFNet, and the BasicSR forms of EDSR, RCAN, RRDBNet, MSRResNet) need none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

Replacement = str | Callable[[re.Match[str]], str]


@dataclass(frozen=True)
class Layout:
    """How one repository names the parameters of one network.

    Attributes:
        source: the repository and network.
        renames: regular expressions and their replacements, applied one after the other to each name.
        dropped: names of which this is a prefix match are no parameters here (statistics that are never used).
        batch_norm_eps: of the repository's normalisation layers; here it is torch's 1e-5.
    """

    source: str
    renames: tuple[tuple[str, Replacement], ...] = ()
    dropped: str | None = None
    batch_norm_eps: float = 1e-5

    def rename(self, name: str) -> str | None:
        """Returns the name here, or None for a dropped one."""
        if self.dropped is not None and re.match(self.dropped, name):
            return None
        for pattern, replacement in self.renames:
            name = re.sub(pattern, replacement, name)
        return name


def _minus(offset: int, form: str) -> Callable[[re.Match[str]], str]:
    """Replaces a match by `form`, with `{}` for the first group as a number less `offset`."""
    return lambda match: form.format(int(match[1]) - offset)


LAYOUTS: tuple[Layout, ...] = (
    Layout("within, XPixelGroup/BasicSR, megvii-research/NAFNet"),
    Layout("SaoYan/DnCNN-PyTorch", ((r"^dncnn\.", "layers."),)),
    Layout("MatConvNet", ((r"^matconvnet\.", "layers."),)),
    Layout("cszn/KAIR DnCNN, FFDNet", ((r"^model\.", "layers."),), batch_norm_eps=1e-4),
    Layout(
        "Zheng222/IMDN",
        (
            (r"^fea_conv\.", "head."),
            (r"^IMDB(\d+)\.", _minus(1, "blocks.{}.")),
            (r"^(blocks\.\d+)\.c([1-4])\.", r"\1.conv\2."),
            (r"^(blocks\.\d+)\.c5\.", r"\1.fuse."),
            (r"\.cca\.conv_du\.0\.", ".attention.squeeze."),
            (r"\.cca\.conv_du\.2\.", ".attention.excite."),
            (r"^c\.", "fuse."),
            (r"^LR_conv\.", "tail."),
            (r"^upsampler\.", "upsample."),
        ),
    ),
    Layout(
        "Zheng222/IMDN IMDN_RTC, cszn/KAIR IMDN",
        (
            (r"^model\.0\.", "head."),
            (r"^model\.1\.sub\.\d+\.(weight|bias)$", r"tail.\1"),
            (r"^model\.1\.sub\.(\d+)\.(?:c|conv)([1-4])\.(?:0\.)?", r"blocks.\1.conv\2."),
            (r"^model\.1\.sub\.(\d+)\.(?:c5|conv1x1)\.", r"blocks.\1.fuse."),
            (r"^model\.2\.", "upsample.0."),
        ),
    ),
    Layout(
        "nmhkahn/CARN-pytorch",
        (
            (r"^sub_mean\.shifter\.", "subtract_mean."),
            (r"^add_mean\.shifter\.", "add_mean."),
            (r"^entry\.", "head."),
            (r"^b(\d)\.", _minus(1, "blocks.{}.")),
            (r"(?<=\.)b(\d)\.body\.", _minus(1, "units.{}.body.")),
            (r"(?:^|(?<=\.))c(\d)\.body\.", _minus(1, "fuse.{}.")),
            (r"^upsample\.up(\d)\.body\.", r"upsample.\1."),
            (r"^exit\.", "tail."),
        ),
    ),
    Layout(
        "joeylitalien/noise2noise-pytorch",
        (
            (r"^_block1\.", "encode_first."),
            (r"^_block2\.", "encode."),
            (r"^_block3\.", "bottleneck."),
            (r"^_block4\.", "decode_first."),
            (r"^_block5\.", "decode."),
            (r"^_block6\.", "output."),
        ),
    ),
    Layout(
        "swz30/Restormer",
        (
            (r"^patch_embed\.proj\.", "patch_embed."),
            (r"^(encoder|decoder)_level(\d)\.", lambda match: f"{match[1]}.{int(match[2]) - 1}."),
            (r"^down(\d)_\d\.body\.", _minus(1, "down.{}.")),
            (r"^up\d_(\d)\.body\.", _minus(1, "up.{}.")),
            (r"^reduce_chan_level(\d)\.", _minus(1, "reduce.{}.")),
            (r"\.(norm\d)\.body\.", r".\1."),
        ),
    ),
    Layout(
        "MegEngine/PMRID",
        (
            (r"^conv0\.conv\.", "head.0."),
            (r"^enc(\d)\.", r"encoder\1."),
            (r"\.proj\.", ".project."),
            (r"^encdec\.", "bottleneck."),
            (r"^dec(\d)\.", r"decoder\1."),
            (r"\.proj_conv\.", ".project."),
            (r"^(decoder\d)\.decode_conv\.", r"\1.refine."),
            (r"^out0\.", "refine."),
            (r"((?:^|\.)refine)\.conv1\.", r"\1.conv2."),
            (r"((?:^|\.)refine)\.conv0\.", r"\1.conv1."),
            (r"^out1\.conv\.", "tail."),
        ),
    ),
    Layout("Li-Chongyi/Zero-DCE", ((r"^e_conv(\d)\.", r"conv\1."),)),
    Layout(
        "junyanz/pytorch-CycleGAN-and-pix2pix, 9 blocks",
        (
            (r"^model\.1\.", "head.0."),
            (r"^model\.4\.", "down.0.0."),
            (r"^model\.7\.", "down.1.0."),
            (r"^model\.(1[0-8])\.conv_block\.", _minus(10, "blocks.{}.")),
            (r"^(blocks\.\d)\.1\.", r"\1.conv1."),
            (r"^(blocks\.\d)\.[56]\.", r"\1.conv2."),  # 6 where dropout lies between
            (r"^model\.19\.", "up.0.0."),
            (r"^model\.22\.", "up.1.0."),
            (r"^model\.26\.", "tail.0."),
        ),
        # Files from before PyTorch 0.4 carry the statistics of instance normalisation, which it does not use.
        dropped=r".*\.(running_mean|running_var|num_batches_tracked)$",
    ),
    Layout(
        "sanghyun-son/EDSR-PyTorch",
        (
            (r"^head\.0\.", "conv_first."),
            (r"^body\.(\d+)\.body\.0\.", r"body.\1.conv1."),
            (r"^body\.(\d+)\.body\.2\.", r"body.\1.conv2."),
            (r"^body\.\d+\.(weight|bias)$", r"conv_after_body.\1"),
            (r"^tail\.0\.", "upsample."),
            (r"^tail\.1\.", "conv_last."),
        ),
        dropped=r"^(sub_mean|add_mean)\.",
    ),
    Layout(
        "yulunzhang/RCAN",
        (
            (r"^head\.0\.", "conv_first."),
            (r"^body\.(\d+)\.body\.(\d+)\.body\.3\.conv_du\.0\.", r"body.\1.residual_group.\2.rcab.3.attention.1."),
            (r"^body\.(\d+)\.body\.(\d+)\.body\.3\.conv_du\.2\.", r"body.\1.residual_group.\2.rcab.3.attention.3."),
            (r"^body\.(\d+)\.body\.(\d+)\.body\.", r"body.\1.residual_group.\2.rcab."),
            (r"^body\.(\d+)\.body\.\d+\.(weight|bias)$", r"body.\1.conv.\2"),
            (r"^body\.\d+\.(weight|bias)$", r"conv_after_body.\1"),
            (r"^tail\.0\.", "upsample."),
            (r"^tail\.1\.", "conv_last."),
        ),
        dropped=r"^(sub_mean|add_mean)\.",
    ),
    Layout(
        "xinntao/ESRGAN, cszn/KAIR RRDB",
        (
            (r"^RRDB_trunk\.(\d+)\.RDB", r"body.\1.rdb"),
            (r"^trunk_conv\.", "conv_body."),
            (r"^upconv", "conv_up"),
            (r"^HRconv\.", "conv_hr."),
        ),
    ),
    Layout("cszn/KAIR MSRResNet", ((r"^recon_trunk\.", "body."), (r"^HRconv\.", "conv_hr."))),
)
