"""A kernel alone, as an ONNX model: what is timed in ONNX Runtime.

Blocked kernels are written in ONNX Runtime's own operators, on activations that are blocked already, so that no
reordering counts, and run as they are. Plain ones are written in ONNX and optimised as in a whole model. An operator
that has no writer is exported by PyTorch.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from within.core.device.kernels.aten import AtenModule
from within.core.device.kernels.kernel import Kernel
from within.core.device.kernels.micro_operators import WRITERS
from within.core.device.kernels.micro_writer import MicroModel, MicroWriter
from within.core.errors import WithinError


def micro_model(kernel: Kernel) -> MicroModel:
    """Returns the model of a kernel.

    Raises:
        WithinError: when an operator cannot be exported to ONNX.
    """
    if kernel.kind == "aten":
        return _exported(kernel)
    writer = WRITERS.get(kernel.kind)
    if writer is None:
        raise WithinError(f"There is no kernel of kind {kernel.kind!r}", where=kernel.key)
    model = MicroWriter(kernel)
    writer(model)
    return model.finish()


def _exported(kernel: Kernel) -> MicroModel:
    import onnx

    from within.core.device.export import export_onnx

    inputs = tuple(torch.rand(shape) for shape in kernel.inputs)
    names = [f"input{position}" for position in range(len(inputs))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.onnx"
        export_onnx(AtenModule(kernel), inputs, path, dynamic=False, input_names=names)
        data = path.read_bytes()
    values = onnx.load_from_string(data).graph.output
    outputs = tuple(
        (value.name, tuple(size.dim_value for size in value.type.tensor_type.shape.dim)) for value in values
    )
    return MicroModel(data, tuple(zip(names, kernel.inputs, strict=True)), (), outputs, None, True)
