"""Published restoration figures, measured again with the published weights on the published images.

Passes when every row whose weights and images are there is within 0.02 dB of its reference, and MATLAB's bicubic
downscaling of Set5 is reproduced without a differing byte. Rows whose weights or images are missing are listed with
the reason; they neither pass nor fail.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from within.core.bench import BenchResult
from within.core.errors import WithinError
from within.core.progress import track
from within.lowlevel.data import imresize, modcrop, read_image
from within.lowlevel.eval import EvaluationResult, evaluate
from within.lowlevel.models import build
from within.lowlevel.protocols import find_protocol
from within.lowlevel.weights import load_weights

TOLERANCE_DB = 0.02


@dataclass(frozen=True)
class Row:
    """One figure of a published table.

    Attributes:
        name: network and images.
        network, arguments, weights: what is built, and the file of its weights.
        protocol: see `within.lowlevel.protocols`.
        metric: the variant that the reference is in.
        reference: in dB; what the measured figure must be close to.
        origin: where the reference comes from.
        gt, lq: folders of images.
        images: how many images the reference is the mean of.
        slow: takes several minutes, so only `full` measures it.
        part: mean over the first images, by their number, for folders that hold only these; measured in the same run
            that gave the reference over all of them.
    """

    name: str
    network: str
    weights: str
    protocol: str
    metric: str
    reference: float
    origin: str
    gt: str
    images: int
    lq: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    slow: bool = False
    part: Mapping[int, float] = field(default_factory=dict)


def _set5(name: str, network: str, scale: int, reference: float, origin: str, weights: str) -> Row:
    return Row(
        f"{name} x{scale}, Set5",
        network,
        weights,
        f"set5_x{scale}_y",
        f"psnr_uint8_y_crop{scale}",
        reference,
        origin,
        "Set5/HR",
        5,
        f"Set5/LR_x{scale}",
        {"scale": scale},
    )


_KAIR, _SAOYAN = "dncnn_25_bnmerged_kair.safetensors", "dncnn_s25_bn_saoyan.safetensors"
_GAUSSIAN = ("set12_sigma25_kair", "psnr_float_rgb")
_PAPER = "the authors' figure"
_PROTOCOL = "these weights by this protocol; the authors' procedure differs or they give none"

ROWS = (
    Row("DnCNN-25 (KAIR), Set12", "dncnn_merged", _KAIR, *_GAUSSIAN, 30.436, _PAPER, "Set12", 12),
    Row("DnCNN-S-25 (SaoYan), Set12", "dncnn_s", _SAOYAN, *_GAUSSIAN, 30.404, _PAPER, "Set12", 12),
    Row(
        "DnCNN-S-25 (SaoYan), BSD68",
        "dncnn_s",
        _SAOYAN,
        "bsd68_sigma25_kair",
        "psnr_float_rgb",
        29.21,
        _PAPER,
        "BSD68",
        68,
        slow=True,
    ),
    _set5("IMDN", "imdn_x4", 4, 32.21, _PAPER, "imdn_x4.safetensors"),
    _set5("IMDN", "imdn_x2", 2, 38.00, _PAPER, "imdn_x2.safetensors"),
    _set5("CARN-M", "carn_m", 4, 31.8831, _PROTOCOL, "carn_m.safetensors"),
    _set5("CARN-M", "carn_m", 2, 37.6784, _PROTOCOL, "carn_m.safetensors"),
    Row(
        "N2N U-Net, Kodak",
        "n2n_unet",
        "n2n_unet_gaussian_clean.safetensors",
        "kodak24_n2n",
        "psnr_uint8_rgb",
        31.4735,
        _PROTOCOL,
        "Kodak24",
        24,
        part={8: 31.2552},
    ),
)
FOLDERS_OF_PARTS = {"Kodak24": "Kodak_part"}


def run(full: bool = False) -> BenchResult:
    """Measures every row whose data are there; those that take several minutes only when `full`."""
    data = _data()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        bicubic = {scale: _bicubic(data, scale) for scale in (2, 4)}
        table: list[tuple[Any, ...]] = []
        figures: dict[str, Any] = {"tolerance_db": TOLERANCE_DB, "rows": {}, "not_measurable": {}}
        missed: list[str] = []
        for row in ROWS:
            reason = _missing(data, row) or ("takes several minutes, see --full" if row.slow and not full else None)
            if reason is not None:
                figures["not_measurable"][row.name] = reason
                table.append((row.name, row.metric, row.reference, "-", "-", f"not measured: {reason}"))
                continue
            started = time.perf_counter()
            result = _measure(data, row)
            count, measured = len(result.images), result.mean[row.metric]
            reference = row.reference if count == row.images else row.part[count]
            difference = measured - reference
            close = abs(difference) <= TOLERANCE_DB
            if not close:
                missed.append(row.name)
            origin = row.origin
            if count != row.images:
                origin = f"first {count} of {row.images} images, whose mean over all is {row.reference}"
            figures["rows"][row.name] = {
                "measured_db": measured,
                "reference_db": reference,
                "reference": origin,
                "images": count,
                "all_metrics": result.mean,
                "seconds": round(time.perf_counter() - started, 1),
            }
            table.append((row.name, row.metric, f"{reference:.4f}", f"{measured:.4f}", f"{difference:+.4f}", origin))
    finally:
        torch.set_num_threads(threads)
    for scale, differing in bicubic.items():
        name = f"MATLAB bicubic x{scale}, Set5"
        if isinstance(differing, str):
            figures["not_measurable"][name] = differing
            continue
        figures["rows"][name] = {"differing_bytes": differing, "reference": 0}
        table.append((name, "differing bytes", "0", str(differing), str(differing), "the published files"))
        if differing:
            missed.append(name)
    figures["missed"] = missed
    measured_any = bool(figures["rows"])
    columns = ("row", "figure", "reference", "measured", "difference", "reference is")
    return BenchResult("restoration", measured_any and not missed, figures, columns, table)


def _data() -> Path:
    root = os.environ.get("WITHIN_DATA")
    if not root:
        raise WithinError(
            "The bench needs published weights and images",
            where="environment variable WITHIN_DATA",
            todo="set it to a folder that holds lowlevel/, see docs/data.md",
        )
    folder = Path(root) / "lowlevel"
    if not folder.is_dir():
        raise WithinError("The folder of weights and images does not exist", where=str(folder), todo="see docs/data.md")
    return folder


def _folder(data: Path, row: Row) -> Path:
    whole = data / row.gt
    return whole if whole.is_dir() else data / FOLDERS_OF_PARTS.get(row.gt, row.gt)


def _missing(data: Path, row: Row) -> str | None:
    if not (data / "weights" / row.weights).is_file():
        return f"no weights/{row.weights}"
    if row.lq is not None and not (data / row.lq).is_dir():
        return f"no images in {row.lq}"
    folder = _folder(data, row)
    if not folder.is_dir():
        return f"no images in {row.gt}"
    count = len([path for path in folder.iterdir() if path.is_file()])
    if count != row.images and count not in row.part:
        return f"{count} images in {folder.name}, the reference is the mean of {row.images}"
    return None


def _measure(data: Path, row: Row) -> EvaluationResult:
    model = build(row.network, **row.arguments)
    load_weights(model, data / "weights" / row.weights)
    protocol = find_protocol(row.protocol)
    dataset = protocol.dataset(_folder(data, row), None if row.lq is None else data / row.lq)
    return evaluate(model, dataset, protocol.metrics)


def _bicubic(data: Path, scale: int) -> int | str:
    """Returns how many bytes of the published low-resolution files differ from ours, or why that is unknown."""
    high, low = data / "Set5" / "HR", data / "Set5" / f"LR_x{scale}"
    if not high.is_dir() or not low.is_dir():
        return f"no images in {high if not high.is_dir() else low}"
    differing = 0
    for path in track(sorted(high.iterdir()), f"bicubic x{scale}"):
        published = read_image(low / f"{path.stem}x{scale}{path.suffix}")
        ours = imresize(modcrop(read_image(path), scale), 1 / scale)
        differing += published.size if ours.shape != published.shape else int(np.sum(ours != published))
    return differing
