"""Export a detector's part that sees from above as ONNX, its norms folded in; this is `within perception3d export`.

What comes before it, voxels or pillars and the sparse 3-D backbone, has no operators in ONNX; its result, a map, is the
file's input. The file is run and compared with the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from within.core.cli.configuration import read_dataclass
from within.core.device import export_onnx
from within.core.errors import WithinError
from within.core.files import write_json
from within.perception3d.models.detector import Detector
from within.perception3d.models.folding import dense_bev, output_names
from within.perception3d.models.voxel_backbone import VoxelBackbone
from within.perception3d.named_detector import detector_of, map_grid, open_detector


@dataclass(frozen=True)
class DetectorExportSettings:
    """What is exported.

    Attributes:
        network: a variant or a run directory.
        output: the ONNX file; beside it a `.json` says how boxes are read from its outputs.
        weights, arguments: of the network, see `open_detector`.
        opset: of the file.
    """

    network: str | Path
    output: str | Path
    weights: str | Path | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 20


@dataclass(frozen=True)
class ExportedDetector:
    """The file.

    Attributes:
        path: of the ONNX file.
        input_shape: batch, channels, height and width of the map.
        outputs: names of the outputs.
        file_bytes: its size.
        largest_difference: from the network, relative to the largest output.
    """

    path: Path
    input_shape: tuple[int, ...]
    outputs: tuple[str, ...]
    file_bytes: int
    largest_difference: float

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return asdict(self) | {"path": str(self.path)}


def main(config: Mapping[str, Any]) -> ExportedDetector:
    """Exports as a configuration says.

    Arguments:
        config: the settings, see `DetectorExportSettings`; None stands for a default.

    Raises:
        WithinError: when a key is unknown or missing, and as `open_detector` and `export_onnx` do.
    """
    given = {key: value for key, value in config.items() if value is not None}
    settings = read_dataclass(DetectorExportSettings, given, "export")
    named = open_detector(settings.network, weights=settings.weights, arguments=settings.arguments)
    return export(detector_of(named.model), settings.output, opset=settings.opset)


def export(detector: Detector, output: str | Path, *, opset: int = 20) -> ExportedDetector:
    """Writes the dense part of a detector.

    Raises:
        WithinError: when the file is no `.onnx`, and as `export_onnx` does.
    """
    path = Path(output)
    if path.suffix != ".onnx":
        raise WithinError("The file has to end in .onnx", where=str(path))
    shape = map_shape(detector)
    generator = torch.Generator().manual_seed(0)
    places = torch.rand(1, 1, *shape[1:], generator=generator) < 0.1
    image = torch.rand(1, *shape, generator=generator) * places
    names = output_names(detector)
    found = export_onnx(
        dense_bev(detector), (image,), path, opset=opset, input_names=["map"], output_names=names, dynamic=False
    )
    grid = map_grid(detector)
    reading = {
        "classes": list(detector.classes), "outputs": names, "low": grid.low, "pixel": grid.pixel, "shape": grid.shape,
        "order": "x = (column + center_x) * pixel_x + low_x; dim are logarithms; rot are cosine and sine of the yaw",
    }  # fmt: skip
    write_json(path.with_suffix(".json"), reading)
    return ExportedDetector(path, (1, *shape), tuple(names), path.stat().st_size, found.verification.max_relative)


def map_shape(detector: Detector) -> tuple[int, int, int]:
    """Returns channels, height and width of the map that the 2-D backbone is given."""
    x, y, _ = detector.grid.cells
    stride = detector.backbone.stride if isinstance(detector.backbone, VoxelBackbone) else 1
    return detector.bev.in_channels, -(-y // stride), -(-x // stride)
