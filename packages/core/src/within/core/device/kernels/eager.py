"""Kernels of PyTorch without a compiler: every operator on its own, in the order of the trace."""

from __future__ import annotations

from collections.abc import Callable

from within.core.device.kernels.kernel import Kernel, Layout
from within.core.device.kernels.steps import Step, Steps, aten_call
from within.core.graph.operator import Shape

_VIEWS = ("reshape", "transpose", "split", "slice", "expand")  # nothing moves; what they cost is one dispatch


def eager_kernels(steps: Steps, shape: Callable[[str], Shape], *, channels_last: bool = False) -> tuple[Kernel, ...]:
    """Returns one kernel for each operator that computes, and one of a common size for each view."""
    return tuple(_kernel(step, shape, channels_last) for step in steps.steps)


def _kernel(step: Step, shape: Callable[[str], Shape], channels_last: bool) -> Kernel:
    layout: Layout = "channels_last" if channels_last else "plain"
    if step.kind in _VIEWS:
        return view_kernel()
    return aten_kernel(step, shape, layout)


def aten_kernel(step: Step, shape: Callable[[str], Shape], layout: Layout) -> Kernel:
    """Returns the kernel that runs one operator as PyTorch defines it."""
    call, names = aten_call(step, shape)
    count = len(dict.fromkeys(step.inputs))
    shapes = [shape(name) for name in names]
    outputs = tuple(shape(name) for name in step.outputs)
    return Kernel("aten", layout, tuple(shapes[:count]), tuple(shapes[count:]), outputs, (("call", call),))


def view_kernel() -> Kernel:
    """Returns the kernel that stands for every view, whatever its size."""
    return Kernel("reshape", "plain", ((1, 16),), (), ((16,),))
