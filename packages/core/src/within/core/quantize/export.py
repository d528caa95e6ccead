"""Export a quantised model to ONNX with quantise-dequantise pairs, and prove that the runtime computes the same.

Weights go into the file as int8, biases as int32. Every operator must agree with the simulation within one step of its
grid when it reads what ONNX Runtime computed before it, and with activations of 8 bits so must the outputs as a whole:
both round, and a sum that lies on the edge between two integers may fall to either side. On a grid of few bits such a
step is large, and what follows may amplify it; then the outputs' difference is reported, not judged.
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

from within.core.device import export_onnx
from within.core.device.onnx_quantized import fold_constants, quantized_operators
from within.core.device.torchscript_export import torchscript_export
from within.core.errors import WithinError
from within.core.files import atomic_write
from within.core.quantize.export_check import ROUNDING, compare_on_grid, compare_operators
from within.core.quantize.fake_quantize import FakeQuantize
from within.core.quantize.grid import Grid
from within.core.quantize.insert import ACTIVATIONS, WEIGHTS, quantizer_of

Exporter = Literal["dynamo", "torchscript"]
UNCHECKED = float("inf")  # of the intermediate file, whose constants are not folded yet; what counts is verified later


@dataclass(frozen=True)
class QuantizedOnnx:
    """An exported quantised model.

    Attributes:
        path: the file.
        file_bytes: its size.
        exporter: which of PyTorch's exporters wrote it.
        steps: largest difference of any operator's result from the simulation of that operator on the runtime's own
            values, in steps of its grid.
        integer_operators: number of operators of each ONNX type that read integers only.
        units: largest difference of ONNX Runtime's outputs from the simulation's, in units of the output's grid.
        differing: share of output values that differ by more than half a unit.
        argmax_agreement: share of positions with the same largest entry along axis 1.
    """

    path: Path
    file_bytes: int
    exporter: Exporter
    integer_operators: dict[str, int]
    steps: float
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
        units: largest difference allowed, in steps of each operator's grid, and of the output's where activations have
            8 bits; None only reports both.

    Raises:
        WithinError: when a quantiser has no range, bits or groups cannot be written, or the runtime differs.
    """
    exported = exportable(module, exporter)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "draft.onnx"
        if exporter == "dynamo":
            export_onnx(exported, inputs, draft, dynamic=dynamic, opset=opset, tolerance=UNCHECKED)
        elif exporter == "torchscript":
            torchscript_export(exported, inputs, draft, opset=min(opset, 20), dynamic=dynamic)
        else:
            raise WithinError(f"There is no exporter named {exporter!r}", todo="choose dynamo or torchscript")
        model = fold_constants(onnx.load(str(draft)))
    with atomic_write(path) as temporary:
        onnx.save(model, str(temporary))
        checked = [inputs, *check]
        steps = compare_operators(module, temporary, checked)
        found, differing, agreement = compare_on_grid(module, temporary, checked)
        judged = max(steps, found) if _all_eight_bits(module) else steps
        if units is not None and not judged <= units + ROUNDING:
            what = f"by {steps:.2f} steps of an operator's grid, {found:.2f} units of the output's"
            raise WithinError(
                f"ONNX Runtime differs from the simulation {what}",
                where=str(path),
                todo="report this network, or pass units=None to write the file all the same",
            )
    size = Path(path).stat().st_size
    return QuantizedOnnx(Path(path), size, exporter, quantized_operators(model), steps, found, differing, agreement)


def _all_eight_bits(module: fx.GraphModule) -> bool:
    quantizers = (part for name, part in module.named_modules() if name.startswith(ACTIVATIONS))
    return all(part.grid.bits == 8 for part in quantizers if isinstance(part, FakeQuantize))


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
