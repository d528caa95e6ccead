"""A point network as a user names it: a variant such as `pvcnn_s3dis_c0p125`, or a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from within.core.checkpoint import load
from within.core.named_network import NamedNetwork, find_origin
from within.perception3d.pvcnn.published_layout import load_weights
from within.perception3d.pvcnn.registry import build


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
    origin = find_origin(name, weights=weights, arguments=arguments)
    dense = partial(build, origin.name, **origin.arguments)
    model = dense() if origin.run is None else load(origin.run, dense)
    if origin.weights is not None:
        load_weights(model, origin.weights)
    return NamedNetwork(origin.name, origin.arguments, model, plan=origin.plan, run=origin.run)
