"""How long each block of the encoder takes at each level of the image pyramid, and a model of it.

Pruning the first blocks saves most multiply-accumulates and, on some devices, no time at all at the coarse levels: the
time of a block is not proportional to its MACs. Each block is exported alone and timed on the runtime; then a
`BlockModel` is fitted to each block at each level, over all widths: channels are filled up to whole vectors of 16, and
those that are no multiple of 4 leave the blocked layout. An error is given for every cell, as fitted and as predicted
from all other widths.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from within.core import Macs, trace
from within.core.device import export_onnx, measure
from within.core.errors import WithinError
from within.core.report import ReportTable
from within.segmentation.block_latency import BlockModel, Work
from within.segmentation.models.resnet_encoder import ResNetEncoder
from within.segmentation.stage_pruning import prune_stages

STEM = "stem"
FORWARD = "forward"
VECTOR, QUARTER = 16, 4
ELEMENT_BYTES = 4
IMAGE_CHANNELS = 3


@dataclass(frozen=True)
class Cell:
    """One block at one level.

    Attributes:
        network: name of the network, as in "dense".
        level: of the pyramid; 0 is the full image.
        block: "stem", "b1" to "b4", or "forward", the whole encoder.
        work: what the block has to do.
        milliseconds: measured, median.
        spread: a quarter to three quarters of the measurements, relative to the median.
        fitted: of the fitted model; None for "forward".
        foretold: by the model fitted on all other widths.
    """

    network: str
    level: int
    block: str
    work: Work
    milliseconds: float
    spread: float
    fitted: float | None = None
    foretold: float | None = None

    @property
    def error(self) -> float | None:
        """(fitted - measured) / measured."""
        return None if self.fitted is None else self.fitted / self.milliseconds - 1

    @property
    def foretold_error(self) -> float | None:
        """(foretold - measured) / measured."""
        return None if self.foretold is None else self.foretold / self.milliseconds - 1


def latency_table(
    networks: Mapping[str, nn.Module],
    size: tuple[int, int],
    *,
    levels: int = 3,
    runtime: str = "onnxruntime",
    repeats: int = 20,
    seed: int = 0,
) -> list[Cell]:
    """Times every block of every network at every level, and fits the model.

    Arguments:
        networks: by name; SwiftNets on a ResNet, dense or pruned by stages. Networks of one scale have their batch
            normalisation of level 0 everywhere.
        size: height and width of the full image.
        levels: of the pyramid.
        runtime: name of a runtime.
        repeats: rounds; all networks take turns within a level and block.
        seed: of the input.

    Raises:
        WithinError: when a network has no stages, or the size cannot be halved so often.
    """
    height, width = size
    if height % (32 * 2 ** (levels - 1)) or width % (32 * 2 ** (levels - 1)):
        raise WithinError(
            f"{height}x{width} cannot be halved for {levels} levels", todo=f"take multiples of {32 * 2 ** (levels - 1)}"
        )
    cells = []
    with tempfile.TemporaryDirectory() as folder:
        for level in range(levels):
            image = 255 * torch.rand(
                1, 3, height >> level, width >> level, generator=torch.Generator().manual_seed(seed)
            )
            parts = {name: _parts(name, network, level, image) for name, network in networks.items()}
            for block in next(iter(parts.values())):
                cells += _timed(
                    {name: found[block] for name, found in parts.items()}, level, block, Path(folder), runtime, repeats
                )
    return _fitted(cells)


def dense_and_pruned(
    model: nn.Module, size: tuple[int, int], stages: Sequence[int], fraction: float, *, widths: int = 5
) -> dict[str, nn.Module]:
    """Returns a network and its forms with narrower stages, down to a fraction of their widths, by name.

    Arguments:
        model: a SwiftNet on a ResNet.
        size: height and width of an example image.
        stages: that are cut.
        fraction: of their widths, of the narrowest network.
        widths: number of networks; the fit needs some.

    Raises:
        WithinError: as `prune_stages` does.
    """
    example, found = (torch.zeros(1, 3, *size),), {"dense": model.eval()}
    for part in np.linspace(1, fraction, widths)[1:]:
        found[f"{part:.1%}"] = prune_stages(model, example, stages, float(part)).model.eval()
    return found


def _parts(name: str, network: nn.Module, level: int, image: Tensor) -> dict[str, tuple[nn.Module, Tensor]]:
    """Returns the blocks of an encoder at a level, each with its input."""
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, ResNetEncoder):
        raise WithinError("The network has no encoder with stages", where=name, todo="take a SwiftNet on a ResNet")
    level = min(level, encoder.levels - 1)
    with torch.no_grad():
        x = network.normalise(image)  # type: ignore[operator]
        found: dict[str, tuple[nn.Module, Tensor]] = {FORWARD: (_AtLevel(encoder, level), x)}
        found[STEM], x = (_AtLevel(encoder.stem, level), x), encoder.stem(x, level)
        for number, stage in enumerate(encoder.stages):
            found[f"b{number + 1}"], x = (_AtLevel(stage, level), x), stage(x, level)[1]
    return found


class _AtLevel(nn.Module):
    """A part of an encoder, at one level of the pyramid."""

    def __init__(self, part: nn.Module, level: int) -> None:
        super().__init__()
        self.part, self.level = part.eval(), level

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        found = self.part(x, self.level)
        return (found,) if isinstance(found, Tensor) else tuple(found)


def _timed(
    parts: Mapping[str, tuple[nn.Module, Tensor]], level: int, block: str, folder: Path, runtime: str, repeats: int
) -> list[Cell]:
    files = {
        name: export_onnx(module, (x,), folder / f"{level}-{block}-{number}.onnx", dynamic=False).path
        for number, (name, (module, x)) in enumerate(parts.items())
    }
    times = measure(files, {name: (x,) for name, (_, x) in parts.items()}, runtime=runtime, repeats=repeats)
    cells = []
    for name, (module, x) in parts.items():
        found = times[name]
        spread = (found.upper_quartile - found.lower_quartile) / found.median
        cells.append(Cell(name, level, block, _work(module, x), found.median * 1e3, spread))
    return cells


def _work(module: nn.Module, x: Tensor) -> Work:
    graph = trace(module, (x,))
    exact = Macs().by_operator(graph)
    macs, moved = {True: 0.0, False: 0.0}, 0
    for op in graph.operators:
        if op.name in exact:
            outputs, inputs = graph.shapes[op.name], graph.shapes[op.node.all_input_nodes[0].name]
            of_image = inputs[1] == x.shape[1] == IMAGE_CHANNELS
            blocked = outputs[1] % VECTOR == 0 if of_image else outputs[1] % QUARTER == inputs[1] % QUARTER == 0
            filled = _filled(outputs[1]) * (1 if of_image else _filled(inputs[1])) if blocked else 1
            macs[blocked] += exact[op.name] * filled
            moved += 0 if blocked else math.prod(outputs) + math.prod(inputs)
    kept = [*graph.parameters, *graph.input_names, *(node.name for node in graph.output_nodes)]
    size = sum(math.prod(graph.shape(value)) for value in kept)
    return Work(macs[True], macs[False], ELEMENT_BYTES * size, ELEMENT_BYTES * moved)


def _filled(channels: int) -> float:
    """Returns by how much channels grow when they are filled up to whole vectors."""
    return -(-channels // VECTOR) * VECTOR / channels


def _fitted(cells: Sequence[Cell]) -> list[Cell]:
    found = []
    for cell in cells:
        if cell.block == FORWARD:
            found.append(cell)
            continue
        same = [each for each in cells if (each.block, each.level) == (cell.block, cell.level)]
        works, times = [each.work for each in same], [each.milliseconds for each in same]
        here = same.index(cell)
        fitted = BlockModel.fit(works, times)(works[here])
        foretold = None
        if len(same) > 1:
            others = BlockModel.fit(works[:here] + works[here + 1 :], times[:here] + times[here + 1 :])
            foretold = others(works[here])
        found.append(replace(cell, fitted=fitted, foretold=foretold))
    return found


def as_table(cells: Sequence[Cell], title: str = "Milliseconds by block and level") -> ReportTable:
    """Returns level x network rows and block columns, measured time and the fit's error in per cent."""
    blocks = [STEM, *sorted({cell.block for cell in cells} - {STEM, FORWARD}), FORWARD]
    rows = []
    for level, network in dict.fromkeys((cell.level, cell.network) for cell in cells):
        row = {cell.block: cell for cell in cells if (cell.level, cell.network) == (level, network)}
        rows.append((level, network, *(_shown(row[block]) for block in blocks)))
    return ReportTable(
        title, ("level", "network", *blocks), tuple(rows), "in brackets: error of the fitted model, and when foretold"
    )


def _shown(cell: Cell) -> str:
    if cell.error is None or cell.foretold_error is None:
        return f"{cell.milliseconds:.2f}"
    return f"{cell.milliseconds:.2f} ({cell.error:+.0%}, {cell.foretold_error:+.0%})"
