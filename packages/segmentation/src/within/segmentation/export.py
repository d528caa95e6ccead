"""Export a segmentation network: ONNX, verified against it, in float or as proven integers, and its plan and weights.

A single file leaves batch, height and width open, as multiples of what the network needs; those whose pooling grid
follows the image's shape (SwiftNet of a single scale) have the size fixed in the file, and so have the files of several
sizes, as in `--size 512x1024 --size 256x512`. Scores are resized bilinearly between pixel centres in every file, never
by nearest neighbour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from within.core.cli.configuration import read_dataclass
from within.core.device import OnnxModel, export_onnx
from within.core.errors import WithinError
from within.core.named_network import NamedNetwork
from within.segmentation.data import SegmentationPairs, find_dataset
from within.segmentation.int8 import calibration_images, export_int8, quantised
from within.segmentation.named_network import open_network

DEFAULT_SIZE = (256, 512)


@dataclass(frozen=True)
class ExportSettings:
    """What is exported.

    Attributes:
        network: a variant or a run directory.
        output: the ONNX file.
        weights, arguments: of the network, see `open_network`.
        sizes: height and width of each file.
        opset: of the files.
        int8: compute on integers.
        data: for integers, folder of a data set whose training images calibrate.
        images: how many of them.
        quantization: settings of `within.core.quantize.quantize`.
        target: "cpu" (unsigned activations) or "tensorrt" (signed).
    """

    network: str | Path
    output: str | Path
    weights: str | Path | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    sizes: Sequence[Sequence[int]] = (DEFAULT_SIZE,)
    opset: int = 20
    int8: bool = False
    data: str | Path | None = None
    images: int = 32
    quantization: Mapping[str, Any] = field(default_factory=dict)
    target: str | None = None


@dataclass(frozen=True)
class Exported:
    """One file.

    Attributes:
        path: of the ONNX file.
        size: height and width it was traced at.
        fixed: whether it takes that size only.
        file_bytes: its size.
        largest_difference: from the network, relative to the largest score; of integers, in units of the scores' grid.
        argmax_agreement: share of pixels with the same class.
        int8: whether it computes on integers.
    """

    path: Path
    size: tuple[int, int]
    fixed: bool
    file_bytes: int
    largest_difference: float
    argmax_agreement: float
    int8: bool = False

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return asdict(self) | {"path": str(self.path), "size": list(self.size)}


def main(config: Mapping[str, Any]) -> list[Exported]:
    """Exports as a configuration says; this is `within segmentation export`.

    Arguments:
        config: the settings, see `ExportSettings`; None stands for a default.

    Raises:
        WithinError: when a key is unknown or missing, and as `open_network`, `quantize` and `export_onnx` do.
    """
    given = {key: value for key, value in config.items() if value is not None}
    settings = read_dataclass(ExportSettings, given, "export")
    named = open_network(settings.network, weights=settings.weights, arguments=settings.arguments)
    sizes = [(int(size[0]), int(size[1])) for size in settings.sizes]
    if not settings.int8:
        return export(named, settings.output, sizes, opset=settings.opset)
    if settings.data is None:
        raise WithinError("Integers need real images to calibrate on", todo="give data, the folder of a data set")
    quantization = dict(settings.quantization) | ({} if settings.target is None else {"target": settings.target})
    pairs = find_dataset(settings.data, "train")
    return export_integers(
        named, settings.output, sizes, pairs, images=settings.images, settings=quantization, opset=settings.opset
    )


def export(
    named: NamedNetwork, output: str | Path, sizes: Sequence[tuple[int, int]] = (DEFAULT_SIZE,), *, opset: int = 20
) -> list[Exported]:
    """Writes one file that leaves batch, height and width open where the network allows it, or a file for each size.

    Raises:
        WithinError: when a size is no multiple of what the network needs, and as `export_onnx` does.
    """
    path, several, found = _onnx_path(output), len(sizes) > 1, []
    for size in sizes:
        _check_multiple(named, size)
    dynamic = not several and not getattr(named.model, "fixed_size", False)
    for size in sizes:
        onnx = export_onnx(
            named.model.eval(),
            (_image(size),),
            _place(path, size, several=several),
            dynamic=dynamic,
            opset=opset,
            input_names=["image"],
            output_names=["scores"],
        )
        found.append(_described(onnx, size, not dynamic or onnx.static_reason is not None))
    return found


def export_integers(
    named: NamedNetwork,
    output: str | Path,
    sizes: Sequence[tuple[int, int]],
    pairs: SegmentationPairs,
    *,
    images: int = 32,
    settings: Mapping[str, Any] | None = None,
    opset: int = 20,
) -> list[Exported]:
    """Writes a quantised file for each size, each calibrated at that size and proven against the simulation.

    Arguments:
        named: the network.
        output: the file; with several sizes each file has its size in the name.
        sizes: height and width of each file.
        pairs: images to calibrate on.
        images: how many of them.
        settings: of `within.core.quantize.quantize`, besides those of `int8.quantised`.
        opset: of the files.

    Raises:
        WithinError: as `quantize` and `int8.export_int8` do.
    """
    path, found = _onnx_path(output), []
    for size in sizes:
        _check_multiple(named, size)
        batches = calibration_images(pairs, images, size)
        result = quantised(named.model, batches, settings)
        place = _place(path, size, several=len(sizes) > 1)
        onnx = export_int8(result, batches, place, opset=opset)
        found.append(Exported(onnx.path, size, True, onnx.file_bytes, onnx.units, onnx.argmax_agreement, int8=True))
    return found


def _described(onnx: OnnxModel, size: tuple[int, int], fixed: bool) -> Exported:
    check = onnx.verification
    agreement = 1.0 if check.argmax_agreement is None else check.argmax_agreement
    return Exported(onnx.path, size, fixed, onnx.path.stat().st_size, check.max_relative, agreement)


def _onnx_path(output: str | Path) -> Path:
    path = Path(output)
    if path.suffix != ".onnx":
        raise WithinError(f"The file {path.name!r} must end in .onnx", where=str(path))
    return path


def _check_multiple(named: NamedNetwork, size: tuple[int, int]) -> None:
    multiple = int(getattr(named.model, "size_multiple", 1))
    height, width = size
    if height % multiple or width % multiple:
        raise WithinError(
            f"{named.name} takes sizes that are multiples of {multiple}, not {height} x {width}",
            todo=f"export at {height + -height % multiple} x {width + -width % multiple}",
        )


def _place(path: Path, size: tuple[int, int], *, several: bool) -> Path:
    return path.with_stem(f"{path.stem}_{size[0]}x{size[1]}") if several else path


def _image(size: tuple[int, int]) -> Tensor:
    return 255 * torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
