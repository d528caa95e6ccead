"""Weights for an encoder: ImageNet classifiers as torchvision and timm name them, or the encoder of another SwiftNet.

Statistics and affine parameters of batch norm are copied to every level of a pyramid.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from within.core.checkpoint import load_into, load_tensors, without_parallel_prefix
from within.core.errors import WithinError
from within.segmentation.models.resnet_encoder import ResNetEncoder
from within.segmentation.weights.layout import renamed

OWN, LOGITS, SCORES = "encoder.", "logits.", "logits.conv."
RENAMES = (
    (r"^conv1\.", "stem.conv."),
    (r"^bn1\.", "stem.norm."),
    *((rf"^layer{stage + 1}\.", f"stages.{stage}.") for stage in range(4)),
    (r"\.bn(\d)\.", r".norm\1."),
    (r"\.downsample\.", ".shortcut."),
)
_LEVEL = re.compile(r"(^|\.)(norm\d?)\.")


def load_encoder(encoder: nn.Module, path: str | Path) -> None:
    """Copies trained weights into an encoder, whole or not at all.

    Arguments:
        encoder: of a SwiftNet.
        path: a run directory or file of a network of this package, whose `encoder` is taken; or, for a ResNet, a
            .safetensors or .pth file of torchvision's or timm's names, whose last layer is left out.

    Raises:
        WithinError: when the file is missing or damaged, or its tensors are not those of this encoder.
    """
    tensors = without_parallel_prefix(load_tensors(path))
    own = {name.removeprefix(OWN): tensor for name, tensor in tensors.items() if name.startswith(OWN)}
    if own:
        load_into(encoder, own, where=str(path))
        return
    if not isinstance(encoder, ResNetEncoder):
        raise WithinError(
            "The file holds no encoder of this package, and ImageNet weights fit a ResNet only", where=str(path)
        )
    state = {renamed(name, RENAMES): tensor for name, tensor in tensors.items() if not name.startswith("fc.")}
    load_into(encoder, _at_every_level(state, levels=encoder.levels), where=str(path))


def load_for_other_classes(
    network: nn.Module, path: str | Path, counterparts: Sequence[int | None] | None = None
) -> None:
    """Copies the weights of the same network for other classes.

    Arguments:
        network: whose layer of class scores stays as it is, but for the classes with a counterpart.
        path: a run directory or file.
        counterparts: for each class of the network its number in the file, or None; see `LabelMap.counterparts`.

    Raises:
        WithinError: when the file is missing or damaged, or holds another network.
    """
    file = load_tensors(path)
    own = {name: value.clone() for name, value in network.state_dict().items() if name.startswith(LOGITS)}
    for name, value in own.items() if counterparts is not None else ():
        theirs = file.get(name)
        if theirs is None or theirs.shape[1:] != value.shape[1:]:
            raise WithinError(f"The file has no {name} of this network", where=str(path))
        if not name.startswith(SCORES):
            value.copy_(theirs)
            continue
        for row, place in enumerate(counterparts or ()):
            if place is not None:
                value[row] = theirs[place]
    load_into(network, {name: value for name, value in file.items() if name not in own} | own, where=str(path))


def _at_every_level(state: Mapping[str, Tensor], levels: int) -> dict[str, Tensor]:
    found = {}
    for name, tensor in state.items():
        if _LEVEL.search(name):
            found |= {_LEVEL.sub(rf"\1\2.levels.{level}.", name): tensor.clone() for level in range(levels)}
        else:
            found[name] = tensor
    return found
