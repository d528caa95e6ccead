"""A network as a user names it: one of our variants, or a run directory.

swiftnet_rn18      a variant, see `models.names`
runs/half          a run directory: a trained network, or a compressed one (plan and weights)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from within.core.checkpoint import load
from within.core.named_network import NamedNetwork, find_origin, with_attributes
from within.core.named_network import first_plan as plan_of
from within.core.plan import Plan
from within.segmentation.models import build
from within.segmentation.models.espnet import ESPNet
from within.segmentation.models.espnet_v2 import ESPNetV2
from within.segmentation.models.swiftnet_pyramid import SwiftNetPyramid
from within.segmentation.models.swiftnet_single_scale import SwiftNetSingleScale
from within.segmentation.weights import load_espnet, load_espnet_v2, load_swiftnet
from within.segmentation.weights.layout import load_published
from within.segmentation.weights.swiftnet_layout import published_arguments

ATTRIBUTES = dict.fromkeys(("classes", "void_class", "size_multiple", "fixed_size"), False)


def open_network(
    name: str | Path | None = None,
    *,
    weights: str | Path | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> NamedNetwork:
    """Builds a network and loads its weights.

    Arguments:
        name: see the module. None where `weights` is a run directory.
        weights: a file in a published layout or ours, or a run directory; None leaves a variant freshly initialised.
        arguments: constructor arguments of the dense network, beyond those of the name.

    Raises:
        WithinError: for unknown names, weights of another network, and damaged or incomplete run directories.
    """
    origin = find_origin(name, weights=weights, arguments=arguments)
    if origin.run is None:
        known = published_arguments(origin.weights) if origin.weights is not None and "swiftnet" in origin.name else {}
        origin = replace(origin, arguments={**known, **origin.arguments})
    dense = partial(build, origin.name, **origin.arguments)
    model = dense() if origin.run is None else with_attributes(load(origin.run, dense), dense, ATTRIBUTES)
    if origin.weights is not None:
        load_weights(model, origin.weights)
    return NamedNetwork(origin.name, origin.arguments, model, plan=origin.plan, run=origin.run)


def first_plan(
    model: nn.Module, size: tuple[int, int], network: str, arguments: Mapping[str, Any], *, seed: int | None = None
) -> Plan:
    """Returns the plan of a network that is whole: what `open_network` builds it from.

    Arguments:
        model: the network.
        size: height and width of the example image.
        network, arguments: the variant, and what was given beyond its name.
        seed: of its first weights.
    """
    return plan_of(model, network, arguments, (torch.zeros(1, 3, *size),), seed=seed)


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Copies a file of weights into a network, whole or not at all.

    Raises:
        WithinError: when the file is missing or damaged, or holds another network.
    """
    if isinstance(model, ESPNet):
        load_espnet(model, path)
    elif isinstance(model, ESPNetV2):
        load_espnet_v2(model, path)
    elif isinstance(model, (SwiftNetSingleScale, SwiftNetPyramid)):
        load_swiftnet(model, path)
    else:
        load_published(model, path, ())
