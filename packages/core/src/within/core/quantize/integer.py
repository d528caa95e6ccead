"""Run a quantised model as an integer kernel does: exact sums of integer products, rounded once.

    y = s_x s_w (sum (q_x - z_x) q_w + q_b)

Simulation in float32 rounds every partial sum, by up to some thousandths of a unit of the next grid, so one value in a
hundred falls to the other side of an edge. Here the sums are of whole numbers, in double precision, hence exact.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from within.core.device.inference import evaluating
from within.core.quantize.bias import accumulator_scale, input_quantizer
from within.core.quantize.grid import spread
from within.core.quantize.insert import quantizer_of
from within.core.transform.editable import arguments, kind


def integer_forward(module: fx.GraphModule, *inputs: Tensor) -> Any:
    """Returns the outputs of a calibrated quantised module, its layers computed on integers."""
    with evaluating(module):
        return _Integers(module).run(*inputs)


class _Integers(fx.Interpreter):
    def run_node(self, n: fx.Node) -> Any:
        module = self.module
        assert isinstance(module, fx.GraphModule)
        scale = accumulator_scale(module, n)
        if scale is None:
            return super().run_node(n)
        given = arguments(n)
        source = input_quantizer(module, n)
        weight_quantizer = quantizer_of(module, given["weight"])
        assert source is not None
        assert weight_quantizer is not None
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        values, weight, *rest = args
        weight_steps = spread(weight_quantizer.scale, weight.shape, weight_quantizer.grid).double()
        whole = [torch.round(values.double() / source.scale.double()), torch.round(weight.double() / weight_steps)]
        axis = values.dim() - 1 if kind(n) == "linear" else 1
        shape = [-1 if place == axis else 1 for place in range(values.dim())]
        bias = rest[0] if rest else kwargs.get("bias")
        if bias is not None:
            bias = torch.round(bias.double() / scale.double())
        kwargs = {name: value for name, value in kwargs.items() if name != "bias"}
        sums = n.target(*whole, bias, *rest[1:], **kwargs)  # type: ignore[operator]
        step = scale if scale.dim() == 0 else scale.reshape(shape)
        return (sums * step.double()).to(values.dtype)
