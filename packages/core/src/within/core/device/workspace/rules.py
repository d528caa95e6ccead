"""How an operator's workspace follows from its shapes: the few mechanisms that CPU convolution libraries use.

`calibrate` measures many operators and keeps, for each family, the rule that fits them best, with its worst error; a
rule is a hypothesis here, never an assumption. In the formulas: S, D the bytes of input and output, S_b, D_b the same
with channels rounded up to the vector block, W the packed weights. `extra` counts beyond the live input and output.

blocked copies, NCHW (oneDNN computes in blocks of 8 or 16 channels): the input is copied into blocks, the weights are
packed, the blocked output is computed; then those are freed and the output is copied to its plain form:
    extra = max(S_b + W + D_b - D, D_b)            less than a block of input channels is read as it is
transposed convolution, NCHW: computed in channels_last, copied to NCHW, then copied once more with the bias:
    extra = max(S + W, 2 D)
channels_last: nothing is reordered but the weights: extra = W.
"""

from __future__ import annotations

from collections.abc import Callable

from within.core.device.workspace.operator_key import OperatorKey

Rule = Callable[[OperatorKey], float]


def none(key: OperatorKey) -> float:
    """No workspace."""
    return 0.0


def packed_weights(key: OperatorKey) -> float:
    """W."""
    return _weights(key, 1)


def input_copy(key: OperatorKey) -> float:
    """S + W: the input is made contiguous first."""
    return key.input_bytes + _weights(key, 1)


def input_copy_and_rows(key: OperatorKey) -> float:
    """S (H + k - s) / H + W: a scratch the size of the input with the border that a transposed convolution adds."""
    return key.input_bytes * (1 + max(key.kernel[0] - 1, 0) / max(key.height, 1)) + _weights(key, 1)


def output_copy(key: OperatorKey) -> float:
    """D."""
    return float(key.output_bytes)


def two_output_copies(key: OperatorKey) -> float:
    """2 D: the int64 indices of max pooling, for one."""
    return 2.0 * key.output_bytes


def blocked_copies_16(key: OperatorKey) -> float:
    """max(S_b + W + D_b - D, D_b) with blocks of 16 channels (AVX-512)."""
    return _blocked(key, 16)


def blocked_copies_8(key: OperatorKey) -> float:
    """max(S_b + W + D_b - D, D_b) with blocks of 8 channels (AVX2)."""
    return _blocked(key, 8)


def blocked_copies_and_subsampled(key: OperatorKey) -> float:
    """As blocked copies of 16, and a blocked scratch of the input at the output's size (strided pointwise)."""
    scratch = 4.0 * key.batch * _up(key.in_channels, 16) * key.out_height * key.out_width
    computing = _blocked_input(key, 16) + scratch + _weights(key, 16) + _excess(key, 16)
    return max(computing, _blocked_output(key, 16))


def transposed_copies(key: OperatorKey) -> float:
    """max(S + W, 2 D)."""
    return max(key.input_bytes + _weights(key, 1), 2.0 * key.output_bytes)


def transposed_copies_and_rows(key: OperatorKey) -> float:
    """max(2 S + W, 2 D): as above with the scratch that is allocated but hardly touched."""
    return max(input_copy_and_rows(key) + key.input_bytes, 2.0 * key.output_bytes)


def input_and_output_copies(key: OperatorKey) -> float:
    """S + D."""
    return float(key.input_bytes + key.output_bytes)


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        none,
        packed_weights,
        input_copy,
        input_copy_and_rows,
        output_copy,
        two_output_copies,
        blocked_copies_16,
        blocked_copies_8,
        blocked_copies_and_subsampled,
        transposed_copies,
        transposed_copies_and_rows,
        input_and_output_copies,
    )
}


def _blocked(key: OperatorKey, block: int) -> float:
    computing = _blocked_input(key, block) + _weights(key, block) + _excess(key, block)
    return max(computing, _blocked_output(key, block))


def _blocked_input(key: OperatorKey, block: int) -> float:
    if key.groups == 1 and key.in_channels < block and key.kernel != (1, 1):
        return 0.0
    return 4.0 * key.batch * _channels(key, key.in_channels, block) * key.height * key.width


def _blocked_output(key: OperatorKey, block: int) -> float:
    return 4.0 * key.batch * _channels(key, key.out_channels, block) * key.out_height * key.out_width


def _excess(key: OperatorKey, block: int) -> float:
    return _blocked_output(key, block) - key.output_bytes


def _channels(key: OperatorKey, channels: int, block: int) -> int:
    # groups of several channels are not padded: their blocks are as wide as the group
    return channels if 1 < key.groups < key.in_channels else _up(channels, block)


def _weights(key: OperatorKey, block: int) -> float:
    if "convolution" not in key.kind or (key.kernel == (1, 1) and key.stride == (1, 1)):
        return 0.0
    size = key.kernel[0] * key.kernel[1] * 4.0
    if key.groups == key.in_channels:
        return size * _up(key.out_channels, block)
    return size * _up(key.in_channels, block) * _up(key.out_channels, block) / key.groups


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
