"""A network as a user names it: one of our variants, or a run directory.

swiftnet_rn18      a variant, see `models.names`
runs/half          a run directory: a trained network, or a compressed one (plan and weights)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from within.core.checkpoint import PLAN, WEIGHTS
from within.core.errors import WithinError
from within.core.plan import input_specs
from within.core.pruning import Plan, load, read_plan
from within.segmentation.models import build
from within.segmentation.models.espnet import ESPNet
from within.segmentation.models.espnet_v2 import ESPNetV2
from within.segmentation.models.swiftnet_pyramid import SwiftNetPyramid
from within.segmentation.models.swiftnet_single_scale import SwiftNetSingleScale
from within.segmentation.weights import load_espnet, load_espnet_v2, load_swiftnet
from within.segmentation.weights.layout import load_published
from within.segmentation.weights.swiftnet_layout import published_arguments

ATTRIBUTES = ("classes", "void_class", "size_multiple", "fixed_size")


@dataclass(frozen=True, eq=False)
class NamedNetwork:
    """A network with what is known of it.

    Attributes:
        name, arguments: the dense network and the constructor arguments that were given beyond the name.
        model: the network, with `classes`, `void_class` and `size_multiple`.
        plan: how it was compressed, or None.
        run: the run directory it came from, or None.
    """

    name: str
    arguments: Mapping[str, Any]
    model: nn.Module = field(repr=False)
    plan: Plan | None = None
    run: Path | None = None


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
    run = next((Path(each) for each in (weights, name) if each is not None and (Path(each) / PLAN).is_file()), None)
    if run is not None:
        return _open_run(run)
    for given in (name, weights):
        if given is not None and Path(given).is_dir():
            raise WithinError(f"The folder is no run directory: it has no {PLAN} and {WEIGHTS}", where=str(given))
    if name is None:
        raise WithinError("Nothing says which network it is", where=str(weights), todo="name it with --network")
    known = published_arguments(weights) if weights is not None and "swiftnet" in str(name) else {}
    chosen = {**known, **dict(arguments or {})}
    model = build(str(name), **chosen)
    if weights is not None:
        load_weights(model, weights)
    return NamedNetwork(str(name), chosen, model)


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
    origin = {"network": network, "arguments": dict(arguments)} | ({} if seed is None else {"seed": seed})
    return Plan(type(model).__name__, input_specs((torch.zeros(1, 3, *size),)), provenance=origin)


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


def _open_run(run: Path) -> NamedNetwork:
    plan = read_plan(run / PLAN)
    if "network" not in plan.provenance:
        raise WithinError("The plan names no network of this package", where=str(run / PLAN))
    name, arguments = str(plan.provenance["network"]), dict(plan.provenance.get("arguments") or {})
    dense = partial(build, name, **arguments)
    return NamedNetwork(name, arguments, with_attributes(load(run, dense), dense()), plan, run)


def with_attributes(model: nn.Module, dense: nn.Module) -> nn.Module:
    """Gives a compressed network, which may be a graph module, what the dense one says of itself."""
    for name in ATTRIBUTES:
        if not hasattr(model, name):
            setattr(model, name, getattr(dense, name, False))
    return model
