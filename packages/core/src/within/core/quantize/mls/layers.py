"""Layers that train in the MLS format: all three operands of every product are quantised.

    forward    z = q(w) * q(a)
    backward   e = q(dL/dz),   dL/da = q(w)^T * e,   dL/dw = q(a) * e,

with a straight-through gradient through q, float32 master weights and a float32 update. `to_low_bit` turns a model's
convolutions and linear layers into such layers in place, parameters and names unchanged, and `restore` turns them back,
so that training in between is the plain `within.core.train.fit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from within.core.errors import WithinError
from within.core.quantize.mls.format import MlsFormat, quantise


@dataclass(frozen=True)
class MlsSettings:
    """How the operands of a layer are quantised; None leaves an operand in float.

    In training mode rounding is stochastic and draws from torch's global generator, which `fit` seeds at every step, so
    that an interrupted training resumes to the bit. In evaluation mode it rounds to nearest.

    The first and the last layer stay in float by default, the practice of low-bit training since DoReFa-Net (Zhou et
    al., 2016, and its published code): the one reads the image, the other is no convolution in the networks of the MLS
    paper, which quantises the operands of convolutions, and both are a small share of all products.

    Attributes:
        weight, activation, error: formats of the three operands.
        first_and_last: whether the first and the last layer, in the order in which the model registers them, are
            low-bit, too.
    """

    weight: MlsFormat | None = field(default_factory=MlsFormat)
    activation: MlsFormat | None = field(default_factory=MlsFormat)
    error: MlsFormat | None = field(default_factory=MlsFormat)
    first_and_last: bool = False

    @classmethod
    def same(cls, form: MlsFormat, *, first_and_last: bool = False) -> MlsSettings:
        """Returns settings with one format for all three operands."""
        return cls(form, form, form, first_and_last)


class QuantisedValue(torch.autograd.Function):
    """q(x) forward, the identity backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, form: MlsFormat, stochastic: bool, where: str) -> Tensor:
        return quantise(x, form, stochastic=stochastic, where=where)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], None, None, None


class QuantisedError(torch.autograd.Function):
    """The identity forward, q(e) backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, form: MlsFormat, stochastic: bool, where: str) -> Tensor:
        ctx.form, ctx.stochastic, ctx.where = form, stochastic, where
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        error = quantise(gradients[0], ctx.form, stochastic=ctx.stochastic, where=ctx.where)
        return error, None, None, None


class _LowBit:
    """What the low-bit layers share."""

    settings: MlsSettings
    layer: str
    training: bool

    def operand(self, x: Tensor, form: MlsFormat | None, operand: str) -> Tensor:
        if form is None:
            return x
        return cast(Tensor, QuantisedValue.apply(x, form, self.training, f"{self.layer}: {operand}"))

    def product(self, x: Tensor) -> Tensor:
        form = self.settings.error
        if form is None:
            return x
        return cast(Tensor, QuantisedError.apply(x, form, self.training, f"{self.layer}: error"))


class MlsLinear(_LowBit, nn.Linear):
    """A linear layer whose products are low-bit; the bias is added in float."""

    def forward(self, input: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        weight = self.operand(self.weight, self.settings.weight, "weight")
        output = self.product(F.linear(self.operand(input, self.settings.activation, "activation"), weight))
        return output if self.bias is None else output + self.bias


class _LowBitConvolution(_LowBit):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        plain = super()._conv_forward  # type: ignore[misc]
        activation = self.operand(input, self.settings.activation, "activation")
        output = self.product(plain(activation, self.operand(weight, self.settings.weight, "weight"), None))
        return output if bias is None else output + bias.view(-1, *[1] * (weight.dim() - 2))


class MlsConvolution1d(_LowBitConvolution, nn.Conv1d):
    """A convolution over one axis whose products are low-bit; the bias is added in float."""


class MlsConvolution(_LowBitConvolution, nn.Conv2d):
    """A convolution whose products are low-bit; the bias is added in float."""


class MlsConvolution3d(_LowBitConvolution, nn.Conv3d):
    """A convolution over three axes whose products are low-bit; the bias is added in float."""


_LOW_BIT: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: MlsLinear,
    nn.Conv1d: MlsConvolution1d,
    nn.Conv2d: MlsConvolution,
    nn.Conv3d: MlsConvolution3d,
}
_PLAIN = {low: plain for plain, low in _LOW_BIT.items()}


def to_low_bit(
    model: nn.Module, settings: MlsSettings | None = None, *, keep_float: Sequence[str] = ()
) -> tuple[str, ...]:
    """Turns the convolutions and linear layers of a model into low-bit ones, in place.

    Modules, parameters, hooks and names stay the very same objects; only what a layer computes changes. Subclasses of
    torch's layers are left alone, because they may compute something else.

    Arguments:
        model: any module; one that is a layer itself included.
        settings: the formats; None is <2, 1> for all three operands. Given again, they replace those in place.
        keep_float: qualified names of layers that stay as they are, besides the first and the last.

    Returns:
        the names of the layers that are low-bit now.

    Raises:
        WithinError: when `keep_float` names no such layer, or there is nothing to turn.
    """
    settings = MlsSettings() if settings is None else settings
    layers = {name: module for name, module in model.named_modules() if _kind(module) is not None}
    unknown = sorted(set(keep_float) - set(layers))
    if unknown:
        raise WithinError(f"There is no convolution or linear layer named {unknown[0]!r}", where="keep_float")
    names = list(layers)
    kept = {*keep_float, *([] if settings.first_and_last else names[:1] + names[-1:])}
    if not set(names) - kept:
        raise WithinError(
            "The model has no convolution or linear layer to train in low bits",
            where="to_low_bit",
            todo="the first and the last layer stay in float unless the settings say first_and_last=True",
        )
    for name, module in layers.items():
        if name in kept:
            _restore(module)
            continue
        low = _kind(module)
        assert low is not None
        module.__class__ = low
        cast(_LowBit, module).settings, cast(_LowBit, module).layer = settings, name or type(model).__name__
    return low_bit_layers(model)


def restore(model: nn.Module) -> tuple[str, ...]:
    """Turns all low-bit layers of a model back into torch's own, in place; returns their names."""
    names = low_bit_layers(model)
    for name in names:
        _restore(model.get_submodule(name))
    return names


def low_bit_layers(model: nn.Module) -> tuple[str, ...]:
    """Returns the names of the low-bit layers of a model."""
    return tuple(name for name, module in model.named_modules() if type(module) in _PLAIN)


def _kind(module: nn.Module) -> type[nn.Module] | None:
    return type(module) if type(module) in _PLAIN else _LOW_BIT.get(type(module))


def _restore(module: nn.Module) -> None:
    if type(module) in _PLAIN:
        del cast(_LowBit, module).settings, cast(_LowBit, module).layer
        module.__class__ = _PLAIN[type(module)]
