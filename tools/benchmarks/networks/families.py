"""The networks of the coverage and trace benches: forty timm families, and four that are written here or ours."""

from __future__ import annotations

import importlib
import logging
import warnings
from typing import Any

import torch
from tools.benchmarks.networks.cifar_resnet import CifarResNet
from tools.benchmarks.networks.shuffle_net import ShuffleNet
from tools.integrations import torchvision_shim
from torch import nn

from within.core.errors import WithinError
from within.lowlevel.models import build, example_inputs

TIMM = (
    "resnet18 resnet50 resnext50_32x4d seresnet50 wide_resnet50_2 skresnet18 res2net50_26w_4s resnest14d ecaresnet50t "
    "densenet121 vgg16_bn mobilenetv2_100 mobilenetv3_large_100 efficientnet_b0 efficientnetv2_rw_t mixnet_s "
    "ghostnet_100 rexnet_100 regnetx_002 regnety_002 cspdarknet53 darknet53 dla34 hrnet_w18_small inception_v3 "
    "xception41 nf_resnet50 convnext_tiny convnextv2_atto vit_tiny_patch16_224 deit_tiny_patch16_224 "
    "swin_tiny_patch4_window7_224 mixer_s32_224 levit_128s poolformer_s12 efficientformer_l1 edgenext_xx_small "
    "mobilevit_s repvgg_a2 coat_tiny"
).split()
OTHERS = ("cifar_resnet20", "shuffle_net", "imdn_x4", "n2n_unet")
ALL = (*TIMM, *OTHERS)


def timm() -> Any:
    """Returns the timm module, quietly.

    Raises:
        WithinError: when it is not installed.
    """
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="timm")
    return _partner("timm")


def torchvision_models() -> Any:
    """Returns torchvision's models.

    Raises:
        WithinError: when it is not installed.
    """
    return _partner("torchvision.models")


def _partner(name: str) -> Any:
    try:
        torchvision_shim.install()
        return importlib.import_module(name)
    except Exception as error:
        raise WithinError(
            f"This bench needs {name}, which cannot be imported ({error})", todo="run it as: make bench NAME=..."
        ) from error


def build_network(name: str) -> nn.Module:
    """Returns a freshly initialised network."""
    if name == "cifar_resnet20":
        return CifarResNet(20)
    if name == "shuffle_net":
        return ShuffleNet()
    if name in OTHERS:
        return build(name)
    model: nn.Module = timm().create_model(name)
    return model


def inputs_for(name: str, model: nn.Module, batch: int = 1) -> tuple[torch.Tensor, ...]:
    """Returns random inputs of the network's default size."""
    if name == "cifar_resnet20":
        return (torch.rand(batch, 3, 32, 32),)
    if name == "shuffle_net":
        return (torch.rand(batch, 3, 64, 64),)
    if name in OTHERS:
        return example_inputs(name, 64, 64, batch=batch)
    return (torch.rand(batch, *model.default_cfg["input_size"]),)


def randomise(model: nn.Module, inputs: tuple[torch.Tensor, ...], seed: int = 0) -> None:
    """Gives normalisations random statistics, scales and shifts, and what starts at zero random values.

    With the initial values (mean 0, variance 1, scale 1, shift 0, layer scales of 0 or 1e-6) most mistakes in a cut
    would not show. Running statistics are random around those of the given batch: far from them a deep network gives
    the same output for every input, and two outputs that agree would prove little.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1, generator=generator)
            elif parameter.dim() >= 1 and name.rpartition(".")[2] in ("gamma", "scale", "layer_scale"):
                parameter.uniform_(0.5, 1.5, generator=generator)
        for module in model.modules():
            if isinstance(module, (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)):
                for name, parameter in module.named_parameters(recurse=False):
                    if name == "weight":
                        parameter.uniform_(0.5, 1.5, generator=generator)
                    else:
                        parameter.normal_(0, 0.1, generator=generator)
        _take_statistics(model, inputs)
        for module in _with_statistics(model):
            deviation = module.running_var.sqrt()
            module.running_mean.add_(deviation * torch.empty_like(deviation).normal_(0, 0.1, generator=generator))
            module.running_var.mul_(torch.empty_like(deviation).uniform_(0.5, 1.5, generator=generator)).add_(1e-3)


def _with_statistics(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None
    ]


def _take_statistics(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    """Runs a batch in training mode and keeps exactly its statistics."""
    training, momenta = model.training, [module.momentum for module in _with_statistics(model)]
    for module in _with_statistics(model):
        module.momentum = 1.0
    model.train()
    model(*inputs)
    model.train(training)
    for module, momentum in zip(_with_statistics(model), momenta, strict=True):
        module.momentum = momentum
