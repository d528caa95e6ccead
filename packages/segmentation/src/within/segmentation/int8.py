"""Post-training quantisation of a segmentation network to 8 bits, and what half precision costs.

Weights by output channel, symmetric; activations by tensor, with ranges of least squared error over training images.
(Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018.)
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from within.core.errors import WithinError
from within.core.files import atomic_write
from within.core.quantize import QuantizationResult, QuantizedOnnx, export_quantized, quantize
from within.segmentation.data import SegmentationPairs

ROUNDING = 0.01  # of a step: what single precision makes of an exact one
SETTINGS: Mapping[str, Any] = {"calibrator": "mse"}


def calibration_images(
    pairs: SegmentationPairs, count: int, size: tuple[int, int] | None = None
) -> list[Float[Tensor, "1 3 height width"]]:
    """Returns images spread evenly over a data set, at a working size.

    Raises:
        WithinError: when none are asked for, or an image cannot be read.
    """
    if count < 1:
        raise WithinError("Calibration needs at least one image", where="images")
    found = []
    for index in sorted({round(place) for place in np.linspace(0, len(pairs) - 1, min(count, len(pairs)))}):
        image = pairs.read(index)[0][None].float()
        if size is not None and image.shape[-2:] != size:
            image = F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)
        found.append(image)
    return found


def quantised(
    model: nn.Module, calibration: Sequence[Tensor], settings: Mapping[str, Any] | None = None
) -> QuantizationResult:
    """Returns the network on integers of 8 bits, simulated.

    Arguments:
        model: in floating point; not modified.
        calibration: batches of images, of one size.
        settings: of `within.core.quantize.quantize`, in place of `SETTINGS`.

    Raises:
        WithinError: as `quantize` does.
    """
    if not calibration:
        raise WithinError("There are no images to calibrate on")
    return quantize(model.eval(), (calibration[0],), list(calibration), {**SETTINGS, **dict(settings or {})})


def export_int8(
    result: QuantizationResult, images: Sequence[Tensor], path: str | Path, *, opset: int = 20
) -> QuantizedOnnx:
    """Writes a quantised network for images of one size, proven operator by operator.

    Operators between the integer kernels that stay in float (PReLU, batch normalisation before a ReLU, resizing) can
    carry one step of one kernel's grid into several of the scores'; the result says how many classes change.

    Arguments:
        result: from `quantised`.
        images: of that size; the first is the example, the next two are compared as well.
        path: the file; written whole or not at all.
        opset: of the file.

    Raises:
        WithinError: when an operator differs by more than one step of its grid.
    """
    check = [(image,) for image in images[1:3]]
    with atomic_write(path) as temporary:
        found = export_quantized(
            result.model, (images[0],), temporary, dynamic=False, opset=opset, check=check, units=None
        )
        if found.steps > 1 + ROUNDING:
            raise WithinError(
                f"ONNX Runtime differs from the simulation by {found.steps:.3f} steps of an operator's grid",
                where=str(path),
                todo="report this network",
            )
    return replace(found, path=Path(path))


class HalfPrecision(nn.Module):
    """A network whose weights and arithmetic are float16, as TensorRT's FP16 engines; scores come back in float32.

    Arguments:
        model: is not modified.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).half().eval()
        self.size_multiple = getattr(model, "size_multiple", 1)

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch classes height width"]:
        """Returns class scores."""
        scores: Tensor = self.model(image.half())
        return scores.float()
