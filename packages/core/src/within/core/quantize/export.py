"""Export a quantised model to ONNX with quantise-dequantise pairs, and prove that the runtime computes the same.

Weights go into the file as int8, biases as int32. ONNX Runtime must agree with the simulation within one unit of the
output's grid: both round, and a sum that lies on the edge between two integers may fall to either side.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
import torch
import torch.ao.quantization.fx._decomposed  # registers the operators quantized_decomposed
from torch import Tensor, fx, nn

from within.core.device import export_onnx, runtime
from within.core.device.onnx_quantized import fold_constants, quantized_operators
from within.core.device.runtimes import as_tuple
from within.core.device.torchscript_export import torchscript_export
from within.core.errors import WithinError
from within.core.files import atomic_write
from within.core.quantize.fake_quantize import FakeQuantize
from within.core.quantize.grid import Grid
from within.core.quantize.insert import WEIGHTS, quantizer_of
from within.core.quantize.integer import integer_forward

Exporter = Literal["dynamo", "torchscript"]
LOOSE = 0.2  # of the intermediate file, whose constants are not folded yet; what counts is verified at the end


@dataclass(frozen=True)
class QuantizedOnnx:
    """An exported quantised model.

    Attributes:
        path: the file.
        file_bytes: its size.
        exporter: which of PyTorch's exporters wrote it.
        integer_operators: number of operators of each ONNX type that read integers only.
        units: largest difference of ONNX Runtime's outputs from the simulation's, in units of the output's grid.
        differing: share of output values that differ by more than half a unit.
        argmax_agreement: share of positions with the same largest entry along axis 1.
    """

    path: Path
    file_bytes: int
    exporter: Exporter
    integer_operators: dict[str, int]
    units: float
    differing: float
    argmax_agreement: float


def export_quantized(
    module: fx.GraphModule,
    inputs: tuple[Tensor, ...],
    path: str | Path,
    *,
    exporter: Exporter = "dynamo",
    dynamic: bool = True,
    opset: int = 20,
    check: Sequence[tuple[Tensor, ...]] = (),
    units: float | None = 1.0,
) -> QuantizedOnnx:
    """Writes a calibrated quantised module as ONNX.

    Arguments:
        module: from `quantize`, or trained since.
        inputs: example inputs.
        path: the file; written whole or not at all.
        exporter: "dynamo" or "torchscript".
        dynamic: leave batch, height and width open where the model permits it.
        opset: of the file; the torchscript exporter takes up to 20.
        check: real inputs to compare on, besides the example.
        units: largest difference allowed, in units of the output's grid; None only reports it.

    Raises:
        WithinError: when a quantiser has no range, bits or groups cannot be written, or the runtime differs.
    """
    exported = exportable(module, exporter)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "draft.onnx"
        if exporter == "dynamo":
            export_onnx(exported, inputs, draft, dynamic=dynamic, opset=opset, tolerance=LOOSE)
        elif exporter == "torchscript":
            torchscript_export(exported, inputs, draft, opset=min(opset, 20), dynamic=dynamic)
        else:
            raise WithinError(f"There is no exporter named {exporter!r}", todo="choose dynamo or torchscript")
        model = fold_constants(onnx.load(str(draft)))
    with atomic_write(path) as temporary:
        onnx.save(model, str(temporary))
        found, differing, agreement = compare_on_grid(module, temporary, [inputs, *check])
        if units is not None and not found <= units:
            raise WithinError(
                f"ONNX Runtime differs from the simulation by {found:.2f} units of the output's grid",
                where=str(path),
                todo="report this network, or pass units=None to write the file all the same",
            )
    size = Path(path).stat().st_size
    return QuantizedOnnx(Path(path), size, exporter, quantized_operators(model), found, differing, agreement)


def exportable(module: fx.GraphModule, exporter: Exporter = "dynamo") -> nn.Module:
    """Returns a copy whose quantisers are plain 8-bit ones that every exporter knows.

    Weights are put on their grid first, so that the wider grid of the file finds the same integers; activations of
    fewer bits are clipped before theirs.

    Raises:
        WithinError: when a quantiser has no range, or weights share scales in groups.
    """
    copied = copy.deepcopy(module)
    for node in copied.graph.nodes:
        quantizer = quantizer_of(copied, node)
        if quantizer is None:
            continue
        if not quantizer.ready or not quantizer.enabled:
            raise WithinError("A quantiser has no range", where=str(node.target), todo="calibrate before exporting")
        if quantizer.grid.group_size is not None:
            raise WithinError(
                "ONNX's int8 kernels have no scales in groups", where=str(node.target), todo="use per-channel scales"
            )
        wide = Grid(8, quantizer.grid.symmetric, quantizer.grid.signed, False, quantizer.grid.axis)
        if str(node.target).startswith(WEIGHTS):
            weight = copied.get_parameter(str(node.args[0].target))
            with torch.no_grad():
                weight.copy_(quantizer(weight))
            low = high = None
        else:
            low, high = _clip_bounds(quantizer, wide)
        _replace(copied, str(node.target), _Exported(wide, quantizer, exporter, low, high))
    copied.recompile()
    return copied.eval()


def compare_on_grid(
    module: fx.GraphModule, path: str | Path, inputs_list: Sequence[tuple[Tensor, ...]]
) -> tuple[float, float, float]:
    """Returns the largest difference in units of the output's grid, the share that differs, and argmax agreement.

    A unit is the scale of the quantiser that makes an output; where none does, a 255th of the output's range.
    """
    session = runtime("onnxruntime").load(path)
    steps = _output_scales(module)
    largest = 0.0
    differing = values = agreed = positions = 0
    for inputs in inputs_list:
        expected = as_tuple(integer_forward(module, *inputs))
        obtained = session.run(inputs)
        for number, (one, other) in enumerate(zip(expected, obtained, strict=True)):
            if not bool(torch.isfinite(other).all()) or one.shape != other.shape:
                return float("inf"), 1.0, 0.0
            step = steps[number] if number < len(steps) and steps[number] else float(one.max() - one.min()) / 255
            gap = (one.double() - other.double()).abs() / (step or 1.0)
            largest = max(largest, float(gap.max()) if gap.numel() else 0.0)
            differing, values = differing + int((gap > 0.5).sum()), values + gap.numel()
            if one.ndim > 1 and one.shape[1] > 1:
                same = one.argmax(1) == other.argmax(1)
                agreed, positions = agreed + int(same.sum()), positions + same.numel()
    return largest, differing / max(values, 1), agreed / positions if positions else 1.0


def _output_scales(module: fx.GraphModule) -> list[float]:
    output = next(node for node in module.graph.nodes if node.op == "output")
    found = []
    for node in torch.utils._pytree.tree_leaves(output.args[0]):
        quantizer = quantizer_of(module, node)
        found.append(float(quantizer.scale) if quantizer is not None and quantizer.ready else 0.0)
    return found


def _clip_bounds(quantizer: FakeQuantize, wide: Grid) -> tuple[float | None, float | None]:
    own = quantizer.grid
    scale, zero = float(quantizer.scale), int(quantizer.zero_point)
    low = (own.lowest - zero) * scale if own.lowest > wide.lowest else None
    high = (own.highest - zero) * scale if own.highest < wide.highest else None
    return low, high


class _Exported(nn.Module):
    """A quantiser of 8 bits with constant scales, after an optional clip."""

    scale: Tensor
    zero_point: Tensor

    def __init__(
        self, grid: Grid, source: FakeQuantize, exporter: Exporter, low: float | None, high: float | None
    ) -> None:
        super().__init__()
        self.grid, self.exporter, self.low, self.high = grid, exporter, low, high
        self.only = (float(source.scale), int(source.zero_point)) if grid.axis is None else None
        if self.only is None:
            self.register_buffer("scale", source.scale.detach().clone())
            self.register_buffer("zero_point", source.zero_point.detach().clone())

    def forward(self, values: Tensor) -> Tensor:
        if self.low is not None or self.high is not None:
            values = values.clamp(self.low, self.high)
        bounds = (self.grid.lowest, self.grid.highest)
        if self.only is None:
            axis = self.grid.axis or 0
            return torch.fake_quantize_per_channel_affine(values, self.scale, self.zero_point, axis, *bounds)
        if self.exporter == "torchscript":
            return torch.fake_quantize_per_tensor_affine(values, *self.only, *bounds)
        # PyTorch's tracer leaves no size open before fake_quantize_per_tensor_affine; of this pair it does
        given = (*self.only, *bounds, torch.int8 if self.grid.signed else torch.uint8)
        integers = torch.ops.quantized_decomposed.quantize_per_tensor(values, *given)
        return torch.ops.quantized_decomposed.dequantize_per_tensor(integers, *given)


def _replace(module: nn.Module, path: str, new: nn.Module) -> None:
    owner, _, leaf = path.rpartition(".")
    module.get_submodule(owner).add_module(leaf, new)
