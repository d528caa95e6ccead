"""Runs of layers on DLA or GPU: an order of execution that changes device seldom, cut where it changes.

TensorRT makes one loadable of every such run on DLA, and of every batch size within it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from within.core.device.dla_checks import Layer
from within.core.device.dla_graph import LayerGraph

Device = Literal["DLA", "GPU"]


@dataclass(frozen=True)
class Segment:
    """Layers that run one after the other on one device; on DLA, one loadable."""

    device: Device
    nodes: tuple[str, ...]


def cut(graph: LayerGraph, devices: Sequence[Device]) -> tuple[Segment, ...]:
    """Cuts an order of execution into runs on one device and of one batch size; the better of two orders."""
    starts: tuple[Device, Device] = ("DLA", "GPU")
    return min((_runs(graph, devices, start) for start in starts), key=len)


def _runs(graph: LayerGraph, devices: Sequence[Device], start: Device) -> tuple[Segment, ...]:
    """Executes what is ready on the present device before it changes to the other."""
    kinds = [(device, _batch(layer)) for device, layer in zip(devices, graph.layers, strict=True)]
    waiting = {position: set(before) for position, before in enumerate(graph.before)}
    readers: dict[int, list[int]] = {}
    for position, before in enumerate(graph.before):
        for source in before:
            readers.setdefault(source, []).append(position)
    ready = {position for position, before in waiting.items() if not before}
    runs: list[tuple[tuple[Device, int], list[str]]] = []
    while ready:
        same = [position for position in ready if runs and kinds[position] == runs[-1][0]]
        device = runs[-1][0][0] if runs else start
        position = min(same or [one for one in ready if kinds[one][0] == device] or ready)
        ready.discard(position)
        if not same:
            runs.append((kinds[position], []))
        runs[-1][1].append(graph.layers[position].name)
        for reader in readers.get(position, ()):
            waiting[reader].discard(position)
            if not waiting[reader]:
                ready.add(reader)
    return tuple(Segment(kind[0], tuple(names)) for kind, names in _joined(runs))


def _joined(
    runs: Iterable[tuple[tuple[Device, int], list[str]]],
) -> list[tuple[tuple[Device, int], list[str]]]:
    """Joins neighbours on the GPU, where the batch may change."""
    joined: list[tuple[tuple[Device, int], list[str]]] = []
    for kind, names in runs:
        if joined and kind[0] == "GPU" == joined[-1][0][0]:
            joined[-1][1].extend(names)
        else:
            joined.append((kind, list(names)))
    return joined


def _batch(layer: Layer) -> int:
    shape = layer.output_shape
    return shape[0] or 0 if shape else 0
