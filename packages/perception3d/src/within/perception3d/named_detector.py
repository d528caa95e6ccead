"""A detector as a user names it: one of our variants, or a run directory.

center_point_kitti      a variant, see `models.variants.names`
runs/b                  a run directory: plan.json names the variant and its arguments, model.safetensors the weights

With `drop_rates` among the arguments the detector becomes an `Ada3D`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from within.core.checkpoint import PLAN, WEIGHTS, load_into
from within.core.errors import WithinError
from within.core.plan import Plan, read_plan
from within.perception3d.ada3d.thinning import Ada3D, drop_rates
from within.perception3d.heatmap import MapGrid
from within.perception3d.models import variants
from within.perception3d.models.detector import Detector
from within.perception3d.weights import published_state, read_checkpoint

DROP_RATES, PLACES, OCCUPIED_ONLY = "drop_rates", "places", "occupied_only"
Network = Detector | Ada3D


@dataclass(frozen=True, eq=False)
class NamedDetector:
    """A detector with what is known of it.

    Attributes:
        name, arguments: the variant, and the constructor arguments beyond those of the name.
        model: the network.
        run: the run directory it came from, or None.
    """

    name: str
    arguments: Mapping[str, Any]
    model: Network = field(repr=False)
    run: Path | None = None


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
) -> NamedDetector:
    """Builds a detector and loads its weights.

    Arguments:
        name: see the module. None where `weights` is a run directory.
        weights: a file, or a run directory; None leaves a variant freshly initialised.
        arguments: beyond those of the name; those of a run directory hold besides.

    Raises:
        WithinError: for unknown names, weights of another network, and damaged or incomplete run directories.
    """
    run = next((Path(each) for each in (weights, name) if each is not None and (Path(each) / PLAN).is_file()), None)
    known: dict[str, Any] = {}
    if run is not None:
        plan = read_plan(run / PLAN)
        if "network" not in plan.provenance:
            raise WithinError("The plan names no network of this package", where=str(run / PLAN))
        name, known = str(plan.provenance["network"]), dict(plan.provenance.get("arguments") or {})
        weights = run / WEIGHTS if weights is None or Path(weights) == run else weights
    for given in (name, weights):
        if given is not None and Path(given).is_dir():
            raise WithinError(f"The folder is no run directory: it has no {PLAN} and {WEIGHTS}", where=str(given))
    if name is None:
        raise WithinError("Nothing says which detector it is", where=str(weights), todo="name it with --network")
    chosen = {**known, **dict(arguments or {})}
    model = build(str(name), **chosen)
    if weights is not None:
        load_detector(model, weights)
    return NamedDetector(str(name), chosen, model, run)


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


def first_plan(network: Network, name: str, arguments: Mapping[str, Any], *, seed: int | None = None) -> Plan:
    """Returns the plan of a network that is whole: what `open_detector` builds it from."""
    origin = {"network": name, "arguments": dict(arguments)} | ({} if seed is None else {"seed": seed})
    return Plan(type(network).__name__, (), provenance=origin)
