"""A detector as a user names it: one of our variants, or a run directory.

center_point_kitti      a variant, see `models.variants.names`
runs/b                  a run directory: plan.json names the variant and its arguments, model.safetensors the weights

With `drop_rates` among the arguments the detector becomes an `Ada3D`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from within.core.checkpoint import WEIGHTS, load_into
from within.core.named_network import NamedNetwork, find_origin
from within.perception3d.ada3d.thinning import Ada3D, drop_rates
from within.perception3d.heatmap import MapGrid
from within.perception3d.models import variants
from within.perception3d.models.detector import Detector
from within.perception3d.weights import published_state, read_checkpoint

DROP_RATES, PLACES, OCCUPIED_ONLY = "drop_rates", "places", "occupied_only"
Network = Detector | Ada3D


def build(name: str, **arguments: Any) -> Network:
    """Returns a freshly initialised detector, which drops places if there are rates for it.

    Arguments:
        name: a variant.
        arguments: of its constructor; `drop_rates` (see `DropRates`), `places`, stages and convolutions, and
            `occupied_only` (see `Ada3D`).

    Raises:
        WithinError: for an unknown name or argument.
    """
    rates, places = arguments.pop(DROP_RATES, None), arguments.pop(PLACES, None)
    occupied_only = bool(arguments.pop(OCCUPIED_ONLY, False))
    detector = variants.build(name, **arguments)
    if rates is None and places is None:
        return detector
    asked = None if places is None else (tuple(places[0]), tuple(places[1]))
    return Ada3D(detector, drop_rates(rates or {}), asked, occupied_only=occupied_only)


def open_detector(
    name: str | Path | None = None,
    *,
    weights: str | Path | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> NamedNetwork:
    """Builds a detector and loads its weights.

    Arguments:
        name: see the module. None where `weights` is a run directory.
        weights: a file, or a run directory; None leaves a variant freshly initialised.
        arguments: beyond those of the name; those of a run directory hold besides.

    Raises:
        WithinError: for unknown names, weights of another network, and damaged or incomplete run directories.
    """
    origin = find_origin(name, weights=weights, arguments=arguments)
    model, file = build(origin.name, **origin.arguments), origin.weights or origin.run
    if file is not None:
        load_detector(model, file)
    return NamedNetwork(origin.name, origin.arguments, model, plan=origin.plan, run=origin.run)


def load_detector(model: Network, path: str | Path) -> None:
    """Copies weights into a network, whole or not at all; those of a detector alone fit into an `Ada3D` as well.

    Arguments:
        model: the network.
        path: a run directory or file of ours, or a checkpoint of MMDetection3D or OpenPCDet.

    Raises:
        WithinError: when the file is missing or damaged, or holds another network.
    """
    file = Path(path) / WEIGHTS if Path(path).is_dir() else Path(path)
    state = read_checkpoint(file)
    wrapped = any(name.startswith("detector.") for name in state)
    target: nn.Module = model.detector if isinstance(model, Ada3D) and not wrapped else model
    if wrapped and isinstance(model, Detector):
        state = {name.removeprefix("detector."): value for name, value in state.items() if name.startswith("detector.")}
    if not wrapped:
        state = published_state(state, detector_of(model))
    load_into(target, state, where=str(file))


def detector_of(network: Network) -> Detector:
    """Returns the detector inside."""
    return network.detector if isinstance(network, Ada3D) else network


def map_grid(network: Network, stride: int | None = None) -> MapGrid:
    """Returns the pixels of the head's maps, or of maps with another stride."""
    detector = detector_of(network)
    step = stride or detector.stride
    x, y, _ = detector.grid.cells
    size = detector.grid.size
    low = detector.grid.low[0], detector.grid.low[1]
    return MapGrid(low, (size[0] * step, size[1] * step), (-(-y // step), -(-x // step)))


def task_labels(network: Network) -> tuple[tuple[int, ...], ...]:
    """Returns the labels of each of the head's tasks."""
    tasks = getattr(detector_of(network).head, "task_classes", (detector_of(network).classes,))
    found, first = [], 0
    for names in tasks:
        found.append(tuple(range(first, first + len(names))))
        first += len(names)
    return tuple(found)
