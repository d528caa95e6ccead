"""The CIFAR ResNet-20 with its real weights, every layer quantised to bits of its own: what a search evaluates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from tools.benchmarks.networks.real import trained_cifar_resnet
from torch import Tensor, nn

from within.core import trace
from within.core.quantize.cost_table import Bits, mac_bits


class QuantisedResNet:
    """The CIFAR ResNet-20 with its published weights, quantised to given bits on demand."""

    def __init__(self, images: Tensor, bits: Sequence[int]) -> None:
        self.model = trained_cifar_resnet(20)
        self.graph = trace(self.model, (images[:1],))
        self.table = mac_bits(self.graph, weight_bits=bits, activation_bits=bits)
        self.layers = [self.model.get_submodule(name) for name in self.table.layers]
        self.weights = [layer.weight.detach().clone() for layer in self.layers]  # type: ignore[union-attr]
        self.bits: list[Bits] = [(-1, -1)] * len(self.layers)
        self.ranges = [(0.0, 0.0)] * len(self.layers)
        handles = [layer.register_forward_pre_hook(partial(self._observe, n)) for n, layer in enumerate(self.layers)]
        self.answers = self(images)
        for handle in handles:
            handle.remove()
        for number, layer in enumerate(self.layers):
            layer.register_forward_pre_hook(partial(self._quantise, number))

    def set(self, bits: Sequence[Bits]) -> None:
        """Quantises weights and, from now on, activations to these bits; -1 is float."""
        for layer, weight, (old, _), (new, _) in zip(self.layers, self.weights, self.bits, bits, strict=True):
            if new != old:
                layer.weight.data = weight if new < 0 else quantised_weights(weight, new)
        self.bits = list(bits)

    def __call__(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([self.model(part) for part in images.split(128)])

    def _observe(self, number: int, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        low, high = self.ranges[number]
        self.ranges[number] = (min(low, float(inputs[0].min())), max(high, float(inputs[0].max())))

    def _quantise(self, number: int, layer: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
        bits = self.bits[number][1]
        return None if bits < 0 else (quantised_activations(inputs[0], bits, *self.ranges[number]),)


def quantised_weights(weight: Tensor, bits: int) -> Tensor:
    """Symmetric, a scale for each output channel; one bit is the sign times the mean magnitude."""
    rest = tuple(range(1, weight.dim()))
    if bits == 1:
        return weight.sign() * weight.abs().mean(rest, keepdim=True)
    scale = weight.abs().amax(rest, keepdim=True).clamp(min=1e-12) / (2 ** (bits - 1) - 1)
    return (weight / scale).round() * scale


def quantised_activations(x: Tensor, bits: int, low: float | None = None, high: float | None = None) -> Tensor:
    """Affine, one scale for the tensor, zero exactly representable."""
    low = min(0.0, float(x.min()) if low is None else low)
    high = max(0.0, float(x.max()) if high is None else high)
    scale = (high - low) / (2**bits - 1) or 1.0
    zero = round(-low / scale)
    return ((x / scale).round().add_(zero).clamp_(0, 2**bits - 1).sub_(zero)).mul_(scale)
