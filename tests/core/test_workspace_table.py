"""The workspace table: looked up, kept, calibrated, and against the allocator."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.core.memory_cases import MIB, Split
from torch import Tensor, fx, nn

from within.core.device.memory import (
    allocation_peak,
    graph_module,
    trace_graph,
)
from within.core.device.memory.graph_executor import GraphExecutor
from within.core.device.runtimes import channels_last, channels_last_module
from within.core.device.workspace import (
    OperatorKey,
    WorkspaceTable,
    calibrate_workspace,
    graph_workspace,
    host_description,
    load_workspace_table,
    operator_key,
    packaged_workspace_table,
)
from within.core.device.workspace.table import Measured
from within.core.errors import WithinError
from within.core.graph import trace

AVX512 = pytest.mark.skipif(
    not packaged_workspace_table().holds_here(),
    reason="the packaged workspace table was measured with another PyTorch or processor capability",
)


def convolution_key(channels: int, size: int, **changes: object) -> OperatorKey:
    key = OperatorKey("convolution", "nchw", 1, channels, channels, size, size, size, size, (3, 3))
    return replace(key, **changes)


def test_lookup_is_exact_then_linear_then_by_rule() -> None:
    """Would catch an interpolation that replaces a measurement, or a rule that replaces an interpolation."""
    entries = {convolution_key(64, size): Measured(1000 + 2 * size * size, 500) for size in (32, 64)}
    table = WorkspaceTable("test", {}, {}).with_entries(entries)
    assert table.lookup(convolution_key(64, 32), "alloc").bytes == 1000 + 2 * 32 * 32
    assert table.lookup(convolution_key(64, 32)).source == "measured"
    for size in (16, 48, 128):  # before, between and after the measured sizes
        found = table.lookup(convolution_key(64, size), "alloc")
        assert (found.bytes, found.source) == (1000 + 2 * size * size, "interpolated")
    assert table.lookup(convolution_key(48, 32)).source == "rule"
    assert table.lookup(convolution_key(48, 32, layout="channels_last")) == (
        table.lookup(convolution_key(1, 1, kind="unheard of"))
    )
    assert table.lookup(None).bytes == 0


def test_a_table_survives_a_file(tmp_path: Path) -> None:
    """Would catch keys that come back as other types and are then never found."""
    table = packaged_workspace_table()
    table.save(tmp_path / "table.json")
    assert load_workspace_table(tmp_path / "table.json") == table
    (tmp_path / "table.json").write_text(json.dumps({"entries": [{"kind": "convolution"}]}))
    with pytest.raises(WithinError, match="not a workspace table"):
        load_workspace_table(tmp_path / "table.json")


def test_rules_of_the_packaged_table_fit_its_measurements() -> None:
    """Would catch a rule kept for a family that it does not describe."""
    table = packaged_workspace_table()
    assert len(table.entries) > 250
    worst = {
        (definition, family): rule.worst for definition, rules in table.rules.items() for family, rule in rules.items()
    }
    assert {family: value for family, value in worst.items() if value > 0.1} == {}
    dense = {family: value for family, value in worst.items() if family[1].startswith("convolution nchw dense spatial")}
    assert dense
    assert max(dense.values()) < 1e-3


def test_keys_are_read_off_a_traced_graph() -> None:
    """Would catch a layout, stride or group count read from the wrong place."""
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.Conv2d(16, 16, 5, padding=2, groups=16),
        nn.ConvTranspose2d(16, 4, 2, 2),
    )
    x = torch.rand(1, 3, 32, 48)

    def keys(graph: fx.GraphModule) -> list[OperatorKey]:
        return [key for key in map(operator_key, graph.graph.nodes) if key is not None]

    expected = [
        OperatorKey("convolution", "nchw", 1, 3, 16, 32, 48, 16, 24, (3, 3), (2, 2)),
        OperatorKey("convolution", "nchw", 1, 16, 16, 16, 24, 16, 24, (5, 5), (1, 1), 16),
        OperatorKey("transposed_convolution", "nchw", 1, 16, 4, 16, 24, 32, 48, (2, 2), (2, 2)),
    ]
    assert keys(graph_module(model, [x])) == expected
    last = [replace(key, layout="channels_last") for key in expected]
    assert keys(graph_module(channels_last_module(model), [channels_last(x)])) == last


def test_a_slice_of_channels_is_a_layout_of_its_own() -> None:
    """Would catch the copy that a convolution makes of a slice of a channels_last tensor being forgotten."""
    module = graph_module(channels_last_module(Split()), [channels_last(torch.rand(1, 3, 16, 16))])
    layouts = [key.layout for key in map(operator_key, module.graph.nodes) if key is not None]
    assert layouts == ["channels_last", "channels_last_view"]


def test_the_workspace_of_a_graph_follows_a_decision() -> None:
    """Would catch dense sizes used for a pruned network: depthwise convolutions stay depthwise, others get thinner."""
    model = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.Conv2d(64, 3, 1)
    )
    graph = trace(model.eval(), (torch.rand(1, 3, 64, 64),))
    workspace = graph_workspace(definition="alloc")
    vector = graph.width_vector() // 2
    dense = [workspace(operator, graph.shape) for operator in graph.operators]
    thin = [workspace(operator, lambda value: graph.shape(value, vector)) for operator in graph.operators]
    assert all(half < whole or half == whole == 0 for half, whole in zip(thin, dense, strict=True))
    assert any(dense)


@AVX512
@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
@pytest.mark.parametrize(("channels", "size"), [(20, (65, 47)), (33, (64, 96))])
def test_live_bytes_and_workspace_predict_the_allocator(channels: int, size: tuple[int, int], layout: str) -> None:
    """Would catch a workspace that is wrong for channel counts and sizes that were never measured."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(3, channels, 3, padding=1),
                nn.ReLU(True),
                nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
                nn.Conv2d(channels, channels + 5, 3, padding=1),
                nn.ReLU(True),
                nn.ConvTranspose2d(channels + 5, channels, 2, 2),
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x)

    model, x = Network().eval(), torch.rand(1, 3, *size)
    if layout == "channels_last":
        model, x = channels_last_module(model), channels_last(x)
    module = graph_module(model, [x])
    live, table = dict(trace_graph(module, [x]).timeline), packaged_workspace_table()
    predicted = max(
        live[node.name] + table.lookup(operator_key(node), "alloc").bytes
        for node in module.graph.nodes
        if node.name in live
    )
    measured = allocation_peak(lambda: GraphExecutor(module).run(x)).bytes
    assert abs(predicted - measured) < 0.02 * measured


@AVX512
def test_calibration_reproduces_the_packaged_table() -> None:
    """Would catch an operator that is built with other sizes than its key says."""
    table = packaged_workspace_table()
    keys: list[OperatorKey] = []
    families: set[str] = set()
    for key in sorted(table.entries):
        if key.family not in families and key.output_bytes < 4 * MIB:
            families.add(key.family)
            keys.append(key)
    again = calibrate_workspace(keys=keys)
    assert dict(again.host) == host_description()
    for key in keys:
        now, then = again.entries[key], table.entries[key]
        assert abs(now.alloc - then.alloc) <= 64 * 1024, key
        assert abs(now.rss - then.rss) <= MIB, key


def test_calibration_keeps_what_it_knows() -> None:
    """Would catch operators measured again although the table has them."""
    table = packaged_workspace_table()
    known = next(iter(table.entries))
    assert calibrate_workspace(keys=[known], table=table).entries == table.entries
    with pytest.raises(WithinError, match="no backend named"):
        calibrate_workspace("tpu", keys=[])
