"""A point network as a user names it: a variant such as `pvcnn_s3dis_c0p125`, or a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from within.core.checkpoint import PLAN, load
from within.core.errors import WithinError
from within.core.plan import Plan, input_specs, read_plan
from within.perception3d.pvcnn.published_layout import load_weights
from within.perception3d.pvcnn.registry import build, variant
from within.perception3d.pvcnn.variants import Variant


@dataclass(frozen=True, eq=False)
class NamedNetwork:
    """A network with what is known of it.

    Attributes:
        variant: what it was built as.
        arguments: constructor arguments that were given beyond the variant's.
        model: the network.
    """

    variant: Variant
    arguments: Mapping[str, Any]
    model: nn.Module = field(repr=False)


def open_network(
    name: str | Path | None = None,
    *,
    weights: str | Path | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> NamedNetwork:
    """Builds a network and loads its weights.

    Arguments:
        name: a variant, or a run directory. None where `weights` is one.
        weights: a file in the published layout or ours, or a run directory; None leaves a variant freshly initialised.
        arguments: constructor arguments beyond those of the variant.

    Raises:
        WithinError: for unknown names, weights of another network, and damaged or incomplete run directories.
    """
    run = next((Path(each) for each in (weights, name) if each is not None and (Path(each) / PLAN).is_file()), None)
    if run is not None:
        plan = read_plan(run / PLAN)
        if "network" not in plan.provenance:
            raise WithinError("The plan names no network of this package", where=str(run / PLAN))
        known, given = str(plan.provenance["network"]), dict(plan.provenance.get("arguments") or {})
        return NamedNetwork(variant(known), given, load(run, partial(build, known, **given)))
    if name is None:
        raise WithinError("Nothing says which network it is", where=str(weights), todo="name it with --network")
    model = build(str(name), **dict(arguments or {}))
    if weights is not None:
        load_weights(model, weights)
    return NamedNetwork(variant(str(name)), dict(arguments or {}), model)


def first_plan(
    model: nn.Module, name: str, arguments: Mapping[str, Any], inputs: tuple[torch.Tensor, ...], *, seed: int
) -> Plan:
    """Returns the plan of a network that is whole: what `open_network` builds it from.

    Arguments:
        model: the network.
        name, arguments: the variant, and what was given beyond its name.
        inputs: examples.
        seed: of its first weights.
    """
    origin = {"network": name, "arguments": dict(arguments), "seed": seed}
    return Plan(type(model).__name__, input_specs(inputs), provenance=origin)
