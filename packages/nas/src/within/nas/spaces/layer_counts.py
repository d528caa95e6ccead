"""Parameters and multiply-accumulates (MACs) of layers, to be added up to those of a network.

Parameters are what is trained: weights, biases, and two numbers a channel of a batch norm. MACs are those of
convolutions and linear layers, without biases, batch norms, activations and pooling.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """See the module.

    Attributes:
        params: number of parameters.
        macs: multiply-accumulates of one picture.
    """

    params: int = 0
    macs: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.params + other.params, self.macs + other.macs)

    def __mul__(self, times: int) -> Counts:
        return Counts(self.params * times, self.macs * times)


def convolution(
    inputs: int, outputs: int, kernel: int, size: int, *, groups: int = 1, norm: bool = True, bias: bool = False
) -> Counts:
    """Returns the counts of a convolution and its batch norm.

    Arguments:
        inputs, outputs: channels.
        kernel: its side.
        size: side of what comes out.
        groups: that channels are in.
        norm: a batch norm follows.
        bias: the convolution has one.
    """
    weights = kernel**2 * inputs * outputs // groups
    return Counts(weights + 2 * outputs * norm + outputs * bias, weights * size**2)


def linear(inputs: int, outputs: int) -> Counts:
    """Returns the counts of a linear layer with a bias."""
    return Counts(inputs * outputs + outputs, inputs * outputs)


def squeeze_excite(channels: int, middle: int) -> Counts:
    """Returns the counts of squeeze-and-excite: two 1 x 1 convolutions with biases on averages."""
    return convolution(channels, middle, 1, 1, norm=False, bias=True) + convolution(
        middle, channels, 1, 1, norm=False, bias=True
    )


def inverted_residual(
    inputs: int, outputs: int, middle: int, kernel: int, size: int, stride: int = 1, squeezed: int = 0
) -> Counts:
    """Returns the counts of a MobileNet block: 1 x 1 if it widens, depthwise, squeeze-and-excite if any, 1 x 1.

    Arguments:
        inputs, outputs, middle: channels; no first layer when `middle` is `inputs`.
        kernel: of the depthwise convolution.
        size: side of what comes in.
        stride: of the depthwise convolution.
        squeezed: channels between the two layers of squeeze-and-excite; 0 for none.
    """
    after = strided(size, stride)
    found = convolution(inputs, middle, 1, size) if middle != inputs else Counts()
    found += convolution(middle, middle, kernel, after, groups=middle)
    if squeezed:
        found += squeeze_excite(middle, squeezed)
    return found + convolution(middle, outputs, 1, after)


def strided(size: int, stride: int) -> int:
    """Returns the side of what comes out of a layer that is padded by half its kernel."""
    return -(-size // stride)


def divisible(channels: float, divisor: int = 8) -> int:
    """Returns the nearest multiple, at least one and never more than a tenth below; halves are rounded up."""
    found = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return found + divisor if found < 0.9 * channels else found
