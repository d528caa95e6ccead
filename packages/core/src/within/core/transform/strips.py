"""Run a region of local operators in bands of rows, so that its inner maps never exist in full.

A region ends in one value and holds nodes of one height that only the region reads: convolutions of stride 1 that keep
the height, elementwise operators, evaluated batch normalisation. A value is needed h rows beyond the band, h(exit) = 0,
h(n) = max over its readers u of h(u) + radius(u). Each band computes a node on rows [max(0, a - h), b + h), with the
layer's own zero padding, and drops the rows that saw the padding although the image goes on there: the result is exact,
at the price of the h rows computed twice. (Alwani et al.: Fused-layer CNN accelerators, MICRO 2016.)
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from within.core.errors import WithinError
from within.core.transform.choose import choose
from within.core.transform.distribution import UNARY, overwritten
from within.core.transform.editable import (
    annotate,
    arguments,
    aten,
    duplicate,
    editable,
    empty_like_with,
    finished,
    is_channels_last,
    is_tensor,
    kind,
    value,
    writes,
)
from within.core.transform.lifetimes import Lifetimes, lifetimes, resident_workspace

BINARY = "add sub mul div maximum minimum".split()
ROWS = 2  # the axis of a band


def strips(
    model: nn.Module, inputs: Sequence[Any], *, bands: int = 4, sites: Sequence[str] | None = None
) -> fx.GraphModule:
    """Returns the model with its local regions computed band by band; batch normalisation in them is fixed.

    Arguments:
        bands: number of bands; a region reaches no further than a band is high.
        sites: names of the values in which the regions end; by default those by which the peak falls.

    Raises:
        WithinError: when the model cannot be traced, or for fewer than two bands.
    """
    if bands < 2:
        raise WithinError(f"{bands} bands make no strips", todo="choose at least 2")
    module = editable(model, inputs)
    if sites is None:
        sites = strips_sites(module, inputs, bands=bands)
    return finished(_banded(module, inputs, sites, bands))


def strips_sites(module: fx.GraphModule, inputs: Sequence[Any], *, bands: int) -> list[str]:
    """Returns the ends of the regions of an annotated module whose banding lowers the peak."""
    regions = _regions(module, lifetimes(module), bands)
    chosen = choose(
        lambda choice: _banded(duplicate(module), inputs, list(choice), bands),
        {region.exit.name: (str(bands),) for region in regions},
        inputs,
        near={region.exit.name: [node.name for node in region.halo] for region in regions},
        workspace=resident_workspace(),
    )
    return list(chosen)


@dataclass(frozen=True, eq=False)
class _Region:
    """The nodes of a region in graph order, with the rows that each is needed beyond a band."""

    exit: fx.Node
    halo: dict[fx.Node, int]


def _regions(module: fx.GraphModule, found: Lifetimes, bands: int) -> list[_Region]:
    taken: set[fx.Node] = set()
    regions = []
    for node in reversed(found.nodes):
        if node in taken or not _is_local(module, node):
            continue
        region = _region(module, found, node, bands)
        taken.update(region.halo)
        if sum(kind(member) == "conv2d" for member in region.halo) > 0 and len(region.halo) > 1:
            regions.append(region)
    return regions


def _region(module: fx.GraphModule, found: Lifetimes, exit: fx.Node, bands: int) -> _Region:
    halo = {exit: 0}
    height = value(exit).shape[ROWS]
    outside: set[fx.Node] = set()
    for node in reversed(found.nodes[: found.index[exit]]):
        users = list(node.users)
        if not users or not all(user in halo for user in users):
            continue
        needed = max(halo[user] + _radius(user) for user in users)
        if _is_local(module, node) and value(node).shape[ROWS] == height and needed * bands <= height:
            halo[node] = needed
        else:
            outside.add(node)
    for node in list(halo):  # what is read from outside must still be there, unchanged, at the exit
        outside.update(source for source in node.all_input_nodes if source not in halo)
    if any(overwritten(found, source) for source in outside if is_tensor(source)):
        return _Region(exit, {exit: 0})
    order = sorted(halo)
    return _Region(exit, {node: halo[node] for node in order})


def _is_local(module: fx.GraphModule, node: fx.Node) -> bool:
    if not is_tensor(node) or value(node).dim() != 4:
        return False
    if node.op == "call_module":
        norm = module.get_submodule(str(node.target))
        return isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_mean is not None
    name = kind(node)
    if name == "conv2d":
        given = arguments(node)
        weight, padding = value(given["weight"]), given["padding"]
        if isinstance(padding, str) or tuple(given["stride"]) not in ((1,), (1, 1)):
            return False
        return 2 * padding[0] == given["dilation"][0] * (weight.shape[2] - 1)
    if name in UNARY and name not in ("alias", "contiguous", "clone"):
        return len(node.all_input_nodes) == 1
    return name in BINARY and not node.kwargs.get("rounding_mode") and _same_rows(node)


def _same_rows(node: fx.Node) -> bool:
    height = value(node).shape[ROWS]
    for operand in node.args[:2]:
        if is_tensor(operand) and value(operand).dim() >= 2 and value(operand).shape[-2] not in (1, height):
            return False
    return True


def _radius(node: fx.Node) -> int:
    return int(arguments(node)["padding"][0]) if kind(node) == "conv2d" else 0


def _banded(module: fx.GraphModule, inputs: Sequence[Any], exits: Sequence[str], bands: int) -> fx.GraphModule:
    for name in exits:
        found = lifetimes(module)
        exit = next((node for node in module.graph.nodes if node.name == name), None)
        if exit is None:
            raise WithinError(f"There is no node named {name!r}", where="sites of strips")
        region = _region(module, found, exit, bands)
        _Writer(module, region, bands).write()
        annotate(module, inputs)
    return module


class _Writer:
    """Emits one region in bands."""

    def __init__(self, module: fx.GraphModule, region: _Region, bands: int) -> None:
        self.module, self.graph, self.region, self.bands = module, module.graph, region, bands
        self.sizes: dict[tuple[int, int], Any] = {}

    def write(self) -> None:
        graph, exit = self.graph, self.region.exit
        with graph.inserting_before(exit):
            source = next(item for item in self._outside() if value(item).shape[ROWS] == value(exit).shape[ROWS])
            self.height = graph.call_function(aten.sym_size.int, (source, ROWS))
            width = graph.call_function(aten.sym_size.int, (source, 3))
            same_width = value(source).shape[3] == value(exit).shape[3]
            image = [self.height, width if same_width else int(value(exit).shape[3])]
            last = is_channels_last(value(exit))
            buffer = empty_like_with(graph, source, int(value(exit).shape[1]), image, last=last)
            for band in range(self.bands):
                values: dict[fx.Node, fx.Node] = {}
                for node in self.region.halo:
                    values[node] = self._emit(node, band, values)
                rows = (buffer, ROWS, self._low(band, 0), self._high(band, 0))
                target = graph.call_function(aten.slice.Tensor, rows)
                graph.call_function(aten.copy_.default, (target, values[exit]))
        exit.replace_all_uses_with(buffer)
        for node in reversed(self.region.halo):
            graph.erase_node(node)

    def _outside(self) -> list[fx.Node]:
        inner = self.region.halo
        return [
            source
            for node in inner
            for source in node.all_input_nodes
            if source not in inner and source.op != "get_attr" and is_tensor(source) and value(source).dim() == 4
        ]

    def _emit(self, node: fx.Node, band: int, values: dict[fx.Node, fx.Node]) -> fx.Node:
        halo = self.region.halo[node]
        if kind(node) != "conv2d":
            return self._elementwise(node, band, halo, values)
        given = arguments(node)
        radius = _radius(node)
        given["input"] = self._rows(given["input"], band, halo + radius, values)
        result = self.graph.call_function(node.target, tuple(given.values()))  # type: ignore[arg-type]
        if radius == 0:
            return result
        return self._cut(result, self._low(band, halo + radius), band, halo)

    def _elementwise(self, node: fx.Node, band: int, halo: int, values: dict[fx.Node, fx.Node]) -> fx.Node:
        height = value(node).shape[ROWS]

        def operand(item: Any) -> Any:
            if not is_tensor(item) or item.op == "get_attr" or value(item).dim() < 2:
                return item
            return self._rows(item, band, halo, values) if value(item).shape[-2] == height > 1 else item

        if node.op == "call_module":
            return self._normalise(node, operand(node.args[0]))
        target = node.target
        if writes(node):
            first = node.args[0]
            assert isinstance(first, fx.Node)
            fresh = first in self.region.halo and len(first.users) == 1
            if not fresh:
                packet = getattr(aten, kind(node))
                target = getattr(packet, getattr(target, "_overloadname", "default"))
        args = tuple(operand(item) for item in node.args)
        return self.graph.call_function(target, args, dict(node.kwargs))  # type: ignore[arg-type]

    def _normalise(self, node: fx.Node, source: fx.Node) -> fx.Node:
        norm = self.module.get_submodule(str(node.target))
        assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
        names = ("weight", "bias", "running_mean", "running_var")
        tensors = [
            self.graph.get_attr(f"{node.target}.{name}") if getattr(norm, name) is not None else None for name in names
        ]
        momentum = 0.1 if norm.momentum is None else norm.momentum
        call = (source, *tensors, False, momentum, norm.eps, True)
        return self.graph.call_function(aten.batch_norm.default, call)

    def _rows(self, item: fx.Node, band: int, halo: int, values: dict[fx.Node, fx.Node]) -> fx.Node:
        """Returns the rows of a value that are needed `halo` beyond the band."""
        if item not in self.region.halo:
            rows = (item, ROWS + value(item).dim() - 4, self._low(band, halo), self._high(band, halo))
            return self.graph.call_function(aten.slice.Tensor, rows)
        return self._cut(values[item], self._low(band, self.region.halo[item]), band, halo)

    def _cut(self, node: fx.Node, begins: Any, band: int, halo: int) -> fx.Node:
        """Cuts a value whose first row is row `begins` of the image down to the band and `halo` rows around it."""
        start = self._minus(self._low(band, halo), begins)
        end = self._minus(self._high(band, halo), begins)
        if start == 0 and (end == _END or band == self.bands - 1):
            return node
        return self.graph.call_function(aten.slice.Tensor, (node, ROWS, start, end))

    def _low(self, band: int, halo: int) -> Any:
        """Returns the first row of a band with its halo, inside the image."""
        if band == 0:
            return 0
        if (band, halo) not in self.sizes:
            row = self._minus(self._boundary(band), halo)
            self.sizes[band, halo] = self.graph.call_function(torch.sym_max, (row, 0)) if halo else row
        return self.sizes[band, halo]

    def _high(self, band: int, halo: int) -> Any:
        """Returns the row after a band with its halo; slicing stops at the image."""
        if band == self.bands - 1:
            return _END
        key = (band + 1, -halo)
        if key not in self.sizes:
            row = self._boundary(band + 1)
            self.sizes[key] = self.graph.call_function(operator.add, (row, halo)) if halo else row
        return self.sizes[key]

    def _boundary(self, band: int) -> fx.Node:
        if (band, 0) not in self.sizes:
            scaled = self.graph.call_function(operator.mul, (self.height, band))
            self.sizes[band, 0] = self.graph.call_function(operator.floordiv, (scaled, self.bands))
        found = self.sizes[band, 0]
        assert isinstance(found, fx.Node)
        return found

    def _minus(self, first: Any, second: Any) -> Any:
        if first is second:
            return 0
        if first == _END or second == 0:
            return first
        return self.graph.call_function(operator.sub, (first, second))


_END = 2**63 - 1
