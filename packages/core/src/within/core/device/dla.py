"""What of an ONNX graph runs on the DLA of an NVIDIA Jetson or DRIVE, found without the device.

TensorRT moves a layer that a DLA cannot run to the GPU, silently when fallback is allowed; each change of device then
costs a copy and a synchronisation. The rules are data (`dla_rules.json`) for every release of TensorRT. Tensors on a
DLA are stored in blocks of channels, C' = m ceil(C / m) with m = 16 in FP16 and 32 in INT8: what is padded is wasted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from within.core.device.dla_checks import CHECKS, Layer, Shape
from within.core.device.dla_graph import LayerGraph, layer_graph, read_model
from within.core.device.dla_rules import DlaRules, Status, channel_step, dla_rules
from within.core.device.dla_segments import Device, Segment, cut

__all__ = ["ChannelHint", "DlaReport", "Finding", "Segment", "channel_step", "lint_dla"]

_GRAPH = "graph"


@dataclass(frozen=True)
class Finding:
    """One rule that one layer breaks.

    Attributes:
        node: name of the layer, of a graph input, or "graph".
        operator: its ONNX operator; "input" for an input.
        rule: name of the rule, as in `convolution.kernel`.
        what: what is wrong.
        todo: what to do about it.
        source: where the rule is written.
        status: whether the rule was read there, or is from memory.
    """

    node: str
    operator: str
    rule: str
    what: str
    todo: str
    source: str
    status: Status


@dataclass(frozen=True)
class ChannelHint:
    """Channels of a convolution's output, what they are padded to, and the share of the padded ones that is empty."""

    node: str
    channels: int
    padded: int

    @property
    def wasted(self) -> float:
        """Share of the stored channels that hold nothing."""
        return 1 - self.channels / self.padded


@dataclass(frozen=True)
class DlaReport:
    """What runs where.

    Attributes:
        precision: "fp16" or "int8".
        tensorrt: the release that the rules are of.
        fallback: whether layers may run on the GPU.
        where: machines on which this release has a DLA, in words.
        findings: the rules broken.
        segments: contiguous runs on one device, in an order of execution that changes device seldom.
        channels: for each convolution what its output is padded to.
    """

    precision: str
    tensorrt: str
    fallback: bool
    where: str
    findings: tuple[Finding, ...]
    segments: tuple[Segment, ...]
    channels: tuple[ChannelHint, ...]

    @property
    def transitions(self) -> int:
        """How often execution changes between DLA and GPU."""
        return sum(first.device != second.device for first, second in zip(self.segments, self.segments[1:]))

    @property
    def loadables(self) -> int:
        """How many loadables the DLA gets."""
        return sum(segment.device == "DLA" for segment in self.segments)

    @property
    def fallen_back(self) -> tuple[str, ...]:
        """Names of the layers that run on the GPU."""
        return tuple(name for segment in self.segments if segment.device == "GPU" for name in segment.nodes)

    @property
    def builds(self) -> bool:
        """Whether the builder would accept the graph: without fallback, every layer must run on DLA."""
        return self.fallback or not self.fallen_back

    @property
    def wasted(self) -> float:
        """Share of all channels stored for convolutions that hold nothing."""
        stored = sum(hint.padded for hint in self.channels)
        return 1 - sum(hint.channels for hint in self.channels) / stored if stored else 0.0


def lint_dla(
    path_or_model: str | Path | onnx.ModelProto,
    *,
    precision: str = "int8",
    tensorrt: str = "10.3",
    fallback: bool = True,
) -> DlaReport:
    """Checks an ONNX graph against the rules of TensorRT's DLA.

    This is static: the builder may still refuse a combination of layers that exceeds the accelerator's memory. How
    segments are cut is an estimate, too; the builder's log has the last word.

    Arguments:
        path_or_model: an ONNX file, or the model. Its batch normalisations are best folded, its sizes fixed.
        precision: "int8" or "fp16".
        tensorrt: the release, as in "10.3".
        fallback: whether layers may run on the GPU.

    Raises:
        WithinError: when the file cannot be read, or precision or release are unknown.
    """
    multiple, rules = channel_step(precision), dla_rules(tensorrt)
    quantisers = frozenset(rules.table["quantised"]["operators"]) if rules.explicit else frozenset()
    graph = layer_graph(read_model(path_or_model), precision, frozenset(rules.table["removed"]) | quantisers)
    general = _graph_findings(graph, rules, precision)
    shape_findings, blocked = _shape_findings(graph, rules)
    layer_findings = [finding for layer in graph.layers for finding in _layer_findings(layer, graph, rules)]
    refused = blocked | {finding.node for finding in layer_findings}
    devices: list[Device] = ["GPU" if general or layer.name in refused else "DLA" for layer in graph.layers]
    segments = cut(graph, devices)
    findings = [*general, *shape_findings, *layer_findings, *_loadable_findings(segments, rules)]
    channels = tuple(_hint(layer, multiple) for layer in graph.layers if _channels(layer))
    return DlaReport(precision, tensorrt, fallback, rules.where, tuple(findings), segments, channels)


def _graph_findings(graph: LayerGraph, rules: DlaRules, precision: str) -> list[Finding]:
    """What keeps the whole graph from DLA."""
    if not rules.available:
        release = next(entry for entry in rules.table["releases"] if entry["where"] == rules.where)
        what = f"TensorRT {rules.tensorrt} has a DLA {rules.where}"
        todo = "build with TensorRT 10.7 or older, or with 11.4.1 or later on Jetson AGX Orin"
        return [Finding(_GRAPH, _GRAPH, "release.available", what, todo, rules.source(release), release["status"])]
    if not rules.explicit:
        return []
    entry = rules.table["typed"]
    if precision == "int8" and not graph.quantised:
        what = "types decide the precision in this release, and nothing in the graph is quantised"
    elif precision == "fp16" and "FLOAT" in graph.weight_types:
        what = "types decide the precision in this release, and the weights are stored in float32"
    else:
        return []
    return [
        Finding(_GRAPH, _GRAPH, "release.types", what, entry["todo"][precision], rules.source(entry), entry["status"])
    ]


def _shape_findings(graph: LayerGraph, rules: DlaRules) -> tuple[list[Finding], set[str]]:
    """Returns findings, one for each tensor where the trouble begins, and the names of all layers that touch it."""
    entries = rules.table["shapes"]
    findings: list[Finding] = []
    reported: set[str] = set()
    blocked: set[str] = set()
    for name in graph.inputs:
        shape = graph.shapes.get(name)
        if shape is None or None in shape:
            entry, reported = entries["static"], reported | {name}
            what = f"its sizes are open: {_written(shape)}"
            findings.append(
                Finding(name, "input", "shape.static", what, entry["todo"], rules.source(entry), entry["status"])
            )
    for layer in graph.layers:
        faults = {name: _shape_fault(graph.shapes.get(name), entries) for name in layer.activations()}
        inherited = {faults[name][0] for name in layer.inputs if name in faults}
        for name, (rule, what) in faults.items():
            if rule is None:
                continue
            blocked.add(layer.name)
            begins = rule not in inherited if name in layer.outputs else name in graph.inputs
            if begins and name not in reported:
                reported.add(name)
                entry = entries[rule]
                what = f"{name}: {what}"
                findings.append(
                    _finding(layer, f"shape.{rule}", what, entry["todo"], rules.source(entry), entry["status"])
                )
    return findings, blocked


def _shape_fault(shape: Shape | None, entries: dict[str, dict[str, int]]) -> tuple[str | None, str]:
    if shape is None or None in shape:
        return "static", f"its sizes are open: {_written(shape)}"
    sizes = [size or 0 for size in shape]
    split = max(len(sizes) - 3, 1)  # all axes before channels, height and width count as the batch
    batch, rest = math.prod(sizes[:split]), sizes[split:]
    if batch > entries["batch"]["most"]:
        return "batch", f"the batch is {batch}, DLA takes {entries['batch']['most']}"
    if rest and max(rest) > entries["sizes"]["most"]:
        return "sizes", f"an axis has {max(rest)} values, DLA takes {entries['sizes']['most']}"
    return None, ""


def _layer_findings(layer: Layer, graph: LayerGraph, rules: DlaRules) -> list[Finding]:
    if layer.operator in rules.table["quantised"]["operators"]:
        entry = rules.table["quantised"]
        what = f"DLA takes no quantised graph in TensorRT {rules.tensorrt}; it reads scales from a calibration cache"
        return [_finding(layer, "operator.quantised", what, entry["todo"], rules.source(entry), entry["status"])]
    if layer.operator not in rules.operators:
        entry = rules.table["unsupported"]
        todo = rules.table["replacements"].get(layer.operator, entry["todo"])
        what = f"DLA has no {layer.operator} in TensorRT {rules.tensorrt}"
        return [_finding(layer, "operator.unsupported", what, todo, rules.source(entry), entry["status"])]
    types = rules.table["types"]
    wrong = {graph.types[name] for name in layer.activations() if name in graph.types} - set(types["accepted"])
    if wrong:
        what = f"it computes in {', '.join(sorted(wrong))}, DLA in FP16 and INT8 only"
        return [_finding(layer, "operator.type", what, types["todo"], rules.source(types), types["status"])]
    findings = []
    for rule in rules.rules:
        fault = CHECKS[rule.check](layer, rule.limits) if layer.operator in rule.operators else None
        if fault is not None:
            findings.append(_finding(layer, rule.id, fault, rule.todo, rule.source, rule.status))
    return findings


def _finding(layer: Layer, rule: str, what: str, todo: str, source: str, status: Status) -> Finding:
    return Finding(layer.name, layer.operator, rule, what, todo, source, status)


def _loadable_findings(segments: Sequence[Segment], rules: DlaRules) -> list[Finding]:
    entry = rules.table["loadables"]
    count = sum(segment.device == "DLA" for segment in segments)
    if count <= entry["most"]:
        return []
    what = f"it splits into {count} loadables, a DLA core holds {entry['most']}"
    return [Finding(_GRAPH, _GRAPH, "graph.loadables", what, entry["todo"], rules.source(entry), entry["status"])]


def _channels(layer: Layer) -> int:
    """Returns the output channels of a convolution; 0 for other layers, or where the weights' shape is unknown."""
    weight = layer.shape(1)
    if layer.operator not in ("Conv", "ConvTranspose") or not weight:
        return 0
    if layer.operator == "Conv":
        return weight[0] or 0
    return (weight[1] or 0) * layer.ints("group")[0]


def _hint(layer: Layer, multiple: int) -> ChannelHint:
    channels = _channels(layer)
    return ChannelHint(layer.name, channels, -(-channels // multiple) * multiple)


def _written(shape: Shape | None) -> str:
    return "unknown" if shape is None else "x".join("?" if size is None else str(size) for size in shape)
