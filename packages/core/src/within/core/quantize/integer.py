"""Run a quantised model as integer kernels do: exact sums of integer products, brought to the next grid in one step.

    layer     q_y = round(M (sum (q_x - z_x) q_w + q_b)) + z_y,                M = s_x s_w / s_y
    addition  q_y = round(z_y - (r_a z_a + r_b z_b) + r_b q_b + r_a q_a),       r = s / s_y

M, r and the products are single precision, as in ONNX Runtime's kernels. Simulation in floating point rounds every
partial sum instead, by up to some thousandths of a unit, so one value in a hundred falls to the other side of an edge.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from within.core.device.inference import evaluating
from within.core.quantize.bias import accumulator_scale, input_quantizer
from within.core.quantize.fake_quantize import FakeQuantize
from within.core.quantize.grid import from_integers, spread
from within.core.quantize.insert import quantizer_of
from within.core.transform.editable import arguments, kind


def integer_forward(module: fx.GraphModule, *inputs: Tensor) -> Any:
    """Returns the outputs of a calibrated quantised module, its layers and additions computed on integers."""
    with evaluating(module):
        return IntegerInterpreter(module).run(*inputs)


class IntegerInterpreter(fx.Interpreter):
    """Keeps the integer sums of each layer until the quantiser behind it brings them to its grid."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.graph_module = module
        self.sums: dict[fx.Node, tuple[Tensor, Tensor]] = {}
        self.addends: dict[fx.Node, list[tuple[Tensor, FakeQuantize]]] = {}

    def run_node(self, n: fx.Node) -> Any:
        scale = accumulator_scale(self.graph_module, n)
        if scale is not None:
            return self._layer(n, scale)
        quantizer = quantizer_of(self.graph_module, n)
        if quantizer is not None and quantizer.grid.axis is None and quantizer.ready and quantizer.enabled:
            return self._to_grid(n, quantizer)
        if kind(n) == "add":
            self._remember(n)
        return super().run_node(n)

    def _layer(self, n: fx.Node, scale: Tensor) -> Tensor:
        given = arguments(n)
        source = input_quantizer(self.graph_module, n)
        weight_quantizer = quantizer_of(self.graph_module, given["weight"])
        assert source is not None
        assert weight_quantizer is not None
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        values, weight, *rest = args
        weight_steps = spread(weight_quantizer.scale, weight.shape, weight_quantizer.grid).double()
        whole = [torch.round(values.double() / source.scale.double()), torch.round(weight.double() / weight_steps)]
        bias = rest[0] if rest else kwargs.get("bias")
        if bias is not None:
            bias = torch.round(bias.double() / scale.double())
        kwargs = {name: value for name, value in kwargs.items() if name != "bias"}
        sums = n.target(*whole, bias, *rest[1:], **kwargs)  # type: ignore[operator]
        axis = values.dim() - 1 if kind(n) == "linear" else 1
        step = scale if scale.dim() == 0 else scale.reshape([-1 if at == axis else 1 for at in range(values.dim())])
        self.sums[n] = (sums, step)
        return (sums * step.double()).to(values.dtype)

    def _to_grid(self, n: fx.Node, quantizer: FakeQuantize) -> Tensor:
        (values,), _ = self.fetch_args_kwargs_from_env(n)
        scale, zero_point, grid = quantizer.scale.detach(), quantizer.zero_point, quantizer.grid
        made_by = n.args[0]
        assert isinstance(made_by, fx.Node)
        if kind(made_by) == "relu" and zero_point == grid.lowest:  # the clip at zero is the grid's own
            producer = made_by.args[0]
            assert isinstance(producer, fx.Node)
            made_by = producer if len(producer.users) == 1 else made_by
        if made_by in self.sums:
            sums, step = self.sums.pop(made_by)
            steps = torch.round(sums.float() * (step / scale)) + zero_point
        elif made_by in self.addends:
            steps = _sum(self.addends.pop(made_by), scale, zero_point)
        else:
            steps = torch.round(values / scale) + zero_point
        return from_integers(steps.clamp(grid.lowest, grid.highest), scale, zero_point, grid)

    def _remember(self, n: fx.Node) -> None:
        """Keeps the operands of an addition of two quantisers; one that reads values moved before is in float."""
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        found = [quantizer_of(self.graph_module, argument) for argument in n.args[:2]]
        if len(found) == 2 and found[0] is not None and found[1] is not None and kwargs.get("alpha", 1) == 1:
            self.addends[n] = [(args[0], found[0]), (args[1], found[1])]


def _sum(addends: list[tuple[Tensor, FakeQuantize]], scale: Tensor, zero_point: Tensor) -> Tensor:
    """Returns the integers of a sum: the second operand first, product and addition rounded at once (fused)."""
    ratios = [(quantizer.scale.detach() / scale, quantizer) for _, quantizer in addends]
    offset = sum(ratio * quantizer.zero_point for ratio, quantizer in ratios)
    total = zero_point.float() - offset
    for (values, _), (ratio, quantizer) in reversed(list(zip(addends, ratios, strict=True))):
        whole = torch.round(values / quantizer.scale.detach()) + quantizer.zero_point
        total = (whole.double() * ratio.double() + total.double()).float()
    return torch.round(total)
