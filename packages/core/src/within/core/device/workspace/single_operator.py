"""Build one operator alone, at one size and in one memory format, to measure what it allocates."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from within.core.device.workspace.operator_key import OperatorKey
from within.core.errors import WithinError


def single_operator(key: OperatorKey) -> Callable[[], Tensor]:
    """Returns a function that runs the operator on random data; input and weights exist already.

    Raises:
        WithinError: when the sizes in the key belong to no operator of that kind.
    """
    source = _source(key)
    channels_last = key.layout != "nchw"

    def weight(*shape: int) -> Tensor:
        value = torch.rand(shape)
        return value.to(memory_format=torch.channels_last) if channels_last else value

    if key.kind == "convolution":
        filters = weight(key.out_channels, key.in_channels // key.groups, *key.kernel)
        padding = [
            -(-((out - 1) * stride + kernel - size) // 2)
            for size, out, kernel, stride in zip(_size(key), _out_size(key), key.kernel, key.stride)
        ]
        if min(padding) < 0:
            raise WithinError("No padding gives this output size", where=str(key))
        bias = torch.rand(key.out_channels)
        return lambda: F.conv2d(source, filters, bias, key.stride, padding, 1, key.groups)
    if key.kind == "transposed_convolution":
        filters = weight(key.in_channels, key.out_channels // key.groups, *key.kernel)
        (top, bottom), (left, right) = _transposed_padding(key, 0), _transposed_padding(key, 1)
        bias = torch.rand(key.out_channels)
        return lambda: F.conv_transpose2d(source, filters, bias, key.stride, (top, left), (bottom, right), key.groups)
    if key.kind == "linear":
        matrix, bias = torch.rand(key.out_channels, key.in_channels), torch.rand(key.out_channels)
        return lambda: F.linear(source, matrix, bias)
    return _without_weights(key, source)


def _without_weights(key: OperatorKey, source: Tensor) -> Callable[[], Tensor]:
    mean, variance = torch.zeros(key.in_channels), torch.ones(key.in_channels)
    makers: dict[str, Callable[[], Tensor]] = {
        "max_pool": lambda: F.max_pool2d(source, key.kernel, key.stride),
        "average_pool": lambda: F.avg_pool2d(source, key.kernel, key.stride),
        "nearest": lambda: F.interpolate(source, _out_size(key), mode="nearest"),
        "bilinear": lambda: F.interpolate(source, _out_size(key), mode="bilinear"),
        "bicubic": lambda: F.interpolate(source, _out_size(key), mode="bicubic"),
        "batch_norm": lambda: F.batch_norm(source, mean, variance),
        "instance_norm": lambda: F.instance_norm(source),
        "group_norm": lambda: F.group_norm(source, 1),
        "layer_norm": lambda: F.layer_norm(source, (key.in_channels,)),
        "pixel_shuffle": lambda: F.pixel_shuffle(source, key.out_height // key.height),
        "pixel_unshuffle": lambda: F.pixel_unshuffle(source, key.height // key.out_height),
    }
    if key.kind not in makers:
        raise WithinError(f"There is no operator kind named {key.kind!r}", where=str(key))
    return makers[key.kind]


def _source(key: OperatorKey) -> Tensor:
    if key.kind in ("linear", "layer_norm"):
        return torch.rand(key.batch, key.in_channels)
    # a slice of channels keeps the strides of a wider tensor
    channels = key.in_channels + (16 if key.layout == "channels_last_view" else 0)
    source = torch.rand(key.batch, channels, key.height, key.width)
    if key.layout != "nchw":
        source = source.to(memory_format=torch.channels_last)
    return source[:, channels - key.in_channels :]


def _transposed_padding(key: OperatorKey, axis: int) -> tuple[int, int]:
    size, out = _size(key)[axis], _out_size(key)[axis]
    kernel, stride = key.kernel[axis], key.stride[axis]
    for output_padding in range(stride):
        twice = (size - 1) * stride + kernel + output_padding - out
        if twice >= 0 and twice % 2 == 0:
            return twice // 2, output_padding
    raise WithinError("No padding gives this output size", where=str(key))


def _size(key: OperatorKey) -> tuple[int, int]:
    return key.height, key.width


def _out_size(key: OperatorKey) -> tuple[int, int]:
    return key.out_height, key.out_width
