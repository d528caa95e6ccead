"""How each kind of kernel is written in ONNX: one function a kind, and the table of them.

The activations are `input0`, `input1`, ...; the results `output0`, `output1`, ...
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from within.core.device.kernels.micro_writer import MicroWriter
from within.core.graph.operator import Shape


def _conv(model: MicroWriter) -> None:
    kernel = model.kernel
    (weight,) = kernel.constants
    bias: Shape = (kernel.outputs[0][1],)
    inputs = ["input0", model.weight(weight), model.weight(bias)]
    attributes = {
        "kernel_shape": weight[2:],
        "strides": kernel.setting("stride"),
        "pads": kernel.setting("padding"),
        "dilations": kernel.setting("dilation"),
        "group": kernel.setting("groups"),
    }
    activation = kernel.setting("activation")
    if model.blocked:
        if kernel.setting("add"):
            inputs.append("input1")
        if activation:
            attributes["activation"] = _ONNX_NAMES[activation]
            if activation in _ACTIVATION_PARAMETERS:
                attributes["activation_params"] = _ACTIVATION_PARAMETERS[activation]
        model.node("Conv", inputs, ["output0"], blocked=True, **attributes)
        return
    stages = ["Conv", *(["Add"] if kernel.setting("add") else []), *(["Activation"] if activation else [])]
    results = [*(f"stage{position}" for position in range(len(stages) - 1)), "output0"]
    for position, (stage, result) in enumerate(zip(stages, results, strict=True)):
        if stage == "Conv":
            model.node("Conv", inputs, [result], **attributes)
        elif stage == "Add":
            model.node("Add", [results[position - 1], "input1"], [result])
        else:
            _activate(model, activation, results[position - 1], result)


def _conv_transpose(model: MicroWriter) -> None:
    kernel = model.kernel
    (weight,) = kernel.constants
    bias: Shape = (kernel.outputs[0][1],)
    model.node(
        "ConvTranspose",
        ["input0", model.weight(weight), model.weight(bias)],
        ["output0"],
        kernel_shape=weight[2:],
        strides=kernel.setting("stride"),
        pads=kernel.setting("padding"),
        output_padding=kernel.setting("output_padding"),
        dilations=kernel.setting("dilation"),
        group=kernel.setting("groups"),
    )


def _linear(model: MicroWriter) -> None:
    kernel = model.kernel
    (weight,) = kernel.constants
    if len(kernel.inputs[0]) == 2:
        model.node("Gemm", ["input0", model.weight(weight), model.weight(weight[:1])], ["output0"], transB=1)
    else:
        model.node("MatMul", ["input0", model.weight(weight[::-1])], ["product"])
        model.node("Add", ["product", model.weight(weight[:1])], ["output0"])


def _batch_norm(model: MicroWriter) -> None:
    channels: Shape = (model.kernel.inputs[0][1],)
    model.node("BatchNormalization", ["input0", *(model.weight(channels) for _ in range(4))], ["output0"])


def _activation(model: MicroWriter) -> None:
    _activate(model, model.kernel.setting("activation"), "input0", "output0")


def _activate(model: MicroWriter, activation: str, source: str, result: str) -> None:
    if activation == "clip":
        limits = [model.constant(np.float32(0)), model.constant(np.float32(6))]
        model.node("Clip", [source, *limits], [result])
    elif activation == "silu":
        model.node("Sigmoid", [source], ["gate"])
        model.node("Mul", [source, "gate"], [result])
    elif activation == "hardswish":
        model.node("HardSigmoid", [source], ["gate"])
        model.node("Mul", [source, "gate"], [result])
    else:
        model.node(_ONNX_NAMES[activation], [source], [result])


def _elementwise(model: MicroWriter) -> None:
    kernel = model.kernel
    inputs = [f"input{position}" for position in range(len(kernel.inputs))]
    if len(inputs) == 1:
        inputs.append(model.weight(kernel.constants[0]) if kernel.constants else model.constant(np.float32(0.5)))
    model.node({"add": "Add", "mul": "Mul", "sub": "Sub", "div": "Div"}[kernel.kind], inputs, ["output0"])


def _concat(model: MicroWriter) -> None:
    inputs = [f"input{position}" for position in range(len(model.kernel.inputs))]
    model.node("Concat", inputs, ["output0"], axis=model.kernel.setting("axis"))


def _pool(model: MicroWriter) -> None:
    kernel = model.kernel
    attributes = {
        "kernel_shape": kernel.setting("kernel"),
        "strides": kernel.setting("stride"),
        "pads": kernel.setting("padding"),
        "ceil_mode": kernel.setting("ceil"),
    }
    if kernel.kind == "max_pool":
        model.node(
            "MaxPool",
            ["input0"],
            ["output0"],
            blocked=model.blocked,
            dilations=kernel.setting("dilation"),
            **attributes,
        )
    else:
        model.node("AveragePool", ["input0"], ["output0"], blocked=model.blocked, count_include_pad=1, **attributes)


def _mean(model: MicroWriter) -> None:
    axes = model.constant(np.array(model.kernel.setting("axes"), np.int64))
    model.node("ReduceMean", ["input0", axes], ["output0"], keepdims=model.kernel.setting("keep"))


def _resize(model: MicroWriter) -> None:
    kernel = model.kernel
    factors = [after // before for before, after in zip(kernel.inputs[0][2:], kernel.outputs[0][2:], strict=True)]
    mode = kernel.setting("mode")
    where = {"nearest": "asymmetric", "linear": "half_pixel", "linear_corners": "align_corners"}[mode]
    if model.blocked:
        model.node(
            "Upsample",
            ["input0"],
            ["output0"],
            blocked=True,
            scales=[1, 1, *factors],
            mode="nearest" if mode == "nearest" else "linear",
            coordinate_transformation_mode=where,
        )
        return
    sizes = model.constant(np.array(kernel.outputs[0], np.int64))
    model.node(
        "Resize",
        ["input0", "", "", sizes],
        ["output0"],
        mode="nearest" if mode == "nearest" else "linear",
        coordinate_transformation_mode=where,
        nearest_mode="floor",
    )


def _pixel_shuffle(model: MicroWriter) -> None:
    model.node("DepthToSpace", ["input0"], ["output0"], blocksize=model.kernel.setting("factor"), mode="CRD")


def _transpose(model: MicroWriter) -> None:
    model.node("Transpose", ["input0"], ["output0"], perm=model.kernel.setting("order"))


def _split(model: MicroWriter) -> None:
    kernel = model.kernel
    axis = kernel.setting("axis")
    sizes = model.constant(np.array([shape[axis] for shape in kernel.outputs], np.int64))
    model.node("Split", ["input0", sizes], [f"output{part}" for part in range(len(kernel.outputs))], axis=axis)


def _slice(model: MicroWriter) -> None:
    kernel = model.kernel
    axis = kernel.setting("axis")
    numbers = ([0], [kernel.outputs[0][axis]], [axis])
    model.node("Slice", ["input0", *(model.constant(np.array(number, np.int64)) for number in numbers)], ["output0"])


def _expand(model: MicroWriter) -> None:
    model.node("Expand", ["input0", model.constant(np.array(model.kernel.outputs[0], np.int64))], ["output0"])


def _reshape(model: MicroWriter) -> None:
    model.node("Reshape", ["input0", model.constant(np.array(model.kernel.outputs[0], np.int64))], ["output0"])


def _reorder_input(model: MicroWriter) -> None:
    model.node("ReorderInput", ["input0"], ["output0"], blocked=True)


def _reorder_output(model: MicroWriter) -> None:
    model.node("ReorderOutput", ["input0"], ["output0"], blocked=True, channels=model.kernel.outputs[0][1])


def _session(model: MicroWriter) -> None:
    """Takes the model's inputs, returns tensors of its outputs' shapes, and does as little as possible between."""
    for position, shape in enumerate(model.kernel.outputs):
        model.node("ConstantOfShape", [model.constant(np.array(shape, np.int64))], [f"output{position}"])


WRITERS: dict[str, Callable[[MicroWriter], None]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "activation": _activation,
    "add": _elementwise,
    "mul": _elementwise,
    "sub": _elementwise,
    "div": _elementwise,
    "concat": _concat,
    "max_pool": _pool,
    "average_pool": _pool,
    "mean": _mean,
    "resize": _resize,
    "pixel_shuffle": _pixel_shuffle,
    "transpose": _transpose,
    "split": _split,
    "slice": _slice,
    "expand": _expand,
    "reshape": _reshape,
    "reorder_input": _reorder_input,
    "reorder_output": _reorder_output,
    "session": _session,
}
_ONNX_NAMES = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "leaky_relu": "LeakyRelu",
    "hardsigmoid": "HardSigmoid",
    "clip": "Clip",
    "gelu": "Gelu",
    "elu": "Elu",
    "hardswish": "HardSwish",
}
_ACTIVATION_PARAMETERS = {"leaky_relu": [0.01], "hardsigmoid": [0.2, 0.5], "clip": [0.0, 6.0]}
