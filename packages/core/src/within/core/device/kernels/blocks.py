"""How many channels ONNX Runtime puts in a block on this processor."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np


@functools.cache
def block_size() -> int:
    """Returns how many channels a block has on this processor, 1 where ONNX Runtime has no blocked kernels.

    Read off what it makes of a convolution with one output channel, which it pads to a whole block.
    """
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.zeros((1, 16, 1, 1), np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["input", "weight"], ["output"])],
        "probe",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 16, 4, 4])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1, 4, 4])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        optimised = onnx.load(options.optimized_model_filepath).graph
    sizes = [value.dims[0] for value in optimised.initializer if len(value.dims) == 4]
    blocked = any(node.domain == "com.microsoft.nchwc" for node in optimised.node)
    return int(max(sizes)) if blocked and sizes else 1
