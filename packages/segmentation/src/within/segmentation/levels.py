"""How long each block of the encoder takes at each level of the image pyramid, and a model of it.

Pruning the first blocks saves most multiply-accumulates and, at the coarse levels, no time at all: the time of a block
is not proportional to its MACs. Each block is exported alone and timed on the runtime; then

    t = max(t_0, a MACs + b bytes + c)          a, b, c, t_0 >= 0, of one block over all levels and widths

is fitted by least relative squares, bytes being those of the block's weights, input and outputs. MACs count channels in
whole vectors of 16. An error is given for every cell, as fitted and as predicted from all other cells of the block.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor, nn

from within.core import Macs, trace
from within.core.device import export_onnx, measure
from within.core.errors import WithinError
from within.core.report import ReportTable

STEM = "stem"
FORWARD = "forward"
VECTOR = 16
ELEMENT_BYTES = 4


@dataclass(frozen=True)
class Cell:
    """One block at one level.

    Attributes:
        network: name of the network, as in "dense".
        level: of the pyramid; 0 is the full image.
        block: "stem", "b1" to "b4", or "forward", the whole encoder.
        macs: multiply-accumulates, channels rounded up to whole vectors.
        bytes: of weights, input and outputs in float32.
        milliseconds: measured, median.
        spread: a quarter to three quarters of the measurements, relative to the median.
        fitted: of the fitted model; None for "forward".
        foretold: by the model fitted on all other cells of the block.
    """

    network: str
    level: int
    block: str
    macs: int
    bytes: int
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


def _parts(name: str, network: nn.Module, level: int, image: Tensor) -> dict[str, tuple[nn.Module, Tensor]]:
    """Returns the blocks of an encoder at a level, each with its input."""
    encoder = getattr(network, "encoder", None)
    if not isinstance(getattr(encoder, "stages", None), nn.ModuleList) or not hasattr(encoder.norm, "levels"):
        raise WithinError("The network has no encoder with stages", where=name, todo="take a SwiftNet on a ResNet")
    assert isinstance(encoder, nn.Module)
    level = min(level, len(encoder.norm.levels) - 1)  # type: ignore[union-attr]
    with torch.no_grad():
        x = network.normalise(image)  # type: ignore[operator]
        found: dict[str, tuple[nn.Module, Tensor]] = {FORWARD: (_Encoder(encoder, level).eval(), x)}
        stem = _Stem(encoder, level).eval()
        found[STEM], x = (stem, x), stem(x)
        for number, stage in enumerate(encoder.stages):  # type: ignore[arg-type]
            block = _Stage(stage, level).eval()
            found[f"b{number + 1}"], x = (block, x), block(x)[1]
    return found


class _Stem(nn.Module):
    def __init__(self, encoder: nn.Module, level: int) -> None:
        super().__init__()
        self.encoder, self.level = encoder, level

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.encoder.norm(self.encoder.conv(x), self.level))  # type: ignore[operator]
        return F.max_pool2d(x, 3, stride=2, padding=1)


class _Stage(nn.Module):
    def __init__(self, blocks: nn.Module, level: int) -> None:
        super().__init__()
        self.blocks, self.level = blocks, level

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = x
        for block in self.blocks:  # type: ignore[attr-defined]
            total = block(x, self.level)
            x = F.relu(total)
        return total, x


class _Encoder(nn.Module):
    def __init__(self, encoder: nn.Module, level: int) -> None:
        super().__init__()
        self.encoder, self.level = encoder, level

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.encoder(x, self.level))


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
        macs, size = _work(module, x)
        spread = (found.upper_quartile - found.lower_quartile) / found.median
        cells.append(Cell(name, level, block, macs, size, found.median * 1e3, spread))
    return cells


def _work(module: nn.Module, x: Tensor) -> tuple[int, int]:
    """Returns multiply-accumulates over whole vectors of channels, and bytes of weights, input and outputs."""
    graph = trace(module, (x,))
    exact = Macs().by_operator(graph)
    macs = 0.0
    for op in graph.operators:
        if op.name in exact:
            outputs = graph.shapes[op.name][1]
            weight = graph.shapes[op.get("weight").name]
            macs += exact[op.name] * _whole(outputs) / outputs * _whole(weight[1]) / weight[1]
    weights = sum(value.numel() for name, value in module.named_parameters() if _used(name, module))
    with torch.no_grad():
        outputs = module(x)
    moved = x.numel() + sum(each.numel() for each in (outputs if isinstance(outputs, tuple) else (outputs,)))
    return round(macs), ELEMENT_BYTES * (weights + moved)


def _whole(channels: int) -> int:
    return -(-channels // VECTOR) * VECTOR


def _used(name: str, module: nn.Module) -> bool:
    """Whether a stem's or stage's own parameter: a wrapped encoder brings its stages along."""
    return not (isinstance(module, _Stem) and ".stages." in name)


def _fitted(cells: Sequence[Cell]) -> list[Cell]:
    found = []
    for cell in cells:
        same = [each for each in cells if each.block == cell.block]
        if cell.block == FORWARD:
            found.append(cell)
            continue
        others = [each for each in same if each is not cell]
        found.append(replace(cell, fitted=BlockModel.fit(same)(cell), foretold=BlockModel.fit(others)(cell)))
    return found


@dataclass(frozen=True)
class BlockModel:
    """t = max(floor, a MACs + b bytes + c), in milliseconds."""

    a: float
    b: float
    c: float
    floor: float

    def __call__(self, cell: Cell) -> float:
        """Returns the time of a cell in milliseconds."""
        return max(self.floor, self.a * cell.macs + self.b * cell.bytes + self.c)

    @classmethod
    def fit(cls, cells: Sequence[Cell]) -> BlockModel:
        """Returns the model of least relative squares; the floor is tried at no time and at each measured time."""
        rows = np.array([[cell.macs, cell.bytes, 1.0] for cell in cells])
        times = np.array([cell.milliseconds for cell in cells])
        best: tuple[float, BlockModel] | None = None
        for floor in (0.0, *sorted(times)[: max(len(times) - 3, 0)]):
            above = times > floor
            found = cls(*_least_relative(rows[above], times[above]), floor)
            residual = sum((found(cell) / cell.milliseconds - 1) ** 2 for cell in cells)
            if best is None or residual < best[0]:
                best = residual, found
        assert best is not None
        return best[1]


def _least_relative(rows: NDArray[np.float64], times: NDArray[np.float64]) -> tuple[float, float, float]:
    relative = rows / times[:, None]
    scale = relative.max(axis=0)
    a, b, c = nnls(relative / scale, np.ones(len(times)))[0] / scale
    return float(a), float(b), float(c)


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
