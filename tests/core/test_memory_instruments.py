"""The memory instruments against figures worked out by hand, against each other, and against the workspace table."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from within.core.device import export_onnx
from within.core.device.memory import (
    allocation_peak,
    count_storages,
    cuda_peak,
    graph_module,
    live_eager,
    live_graph_measured,
    onnxruntime_memory,
    process_memory,
    read_all,
    resident_peak,
    rows,
    trace_eager,
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

MIB = 2**20
AVX512 = pytest.mark.skipif(
    not packaged_workspace_table().holds_here(),
    reason="the packaged workspace table was measured with another PyTorch or processor capability",
)


class KeepsLocals(nn.Module):
    """Three convolutions of 8 channels whose results stay in local variables; a skip joins the first and the last."""

    def __init__(self, channels: int = 8, inplace: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.third = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU(inplace)

    def forward(self, x: Tensor) -> Tensor:
        one = self.relu(self.first(x))
        two = self.relu(self.second(one))
        three = self.relu(self.third(two))
        return torch.cat([one, three], 1)


class Split(nn.Module):
    """Distillation as in IMDN: a slice of a split keeps the whole tensor alive."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.second = nn.Conv2d(6, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept, passed = torch.split(self.first(x), (2, 6), 1)
        return torch.cat([kept, self.second(passed)], 1)


class Pooled(nn.Module):
    """Max pooling makes int64 indices, twice the bytes of its output."""

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x + 1, 2)


def small_network(channels: int = 8) -> nn.Module:
    """A factory for the measuring process."""
    return KeepsLocals(channels)


def bytes_of(channels: int, height: int = 16, width: int = 24) -> int:
    return 4 * channels * height * width


# (a) the storage counter


@pytest.mark.parametrize("compute", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
def test_eager_keeps_what_local_variables_hold(inplace: bool, compute: bool) -> None:
    """Would catch references that the counter misses, and in-place results counted twice."""
    model, x = KeepsLocals(inplace=inplace), torch.rand(1, 3, 16, 24)
    assert live_eager(model, [x], compute=compute).bytes == bytes_of(8 + 8 + 8 + 16)


@pytest.mark.parametrize("compute", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
def test_the_graph_executor_frees_at_last_use(inplace: bool, compute: bool) -> None:
    """Would catch values kept past their last use: `two` is gone when the maps are joined."""
    model, x = KeepsLocals(inplace=inplace), torch.rand(1, 3, 16, 24)
    assert live_graph_measured(model, [x], compute=compute).bytes == bytes_of(8 + 8 + 16)


def test_the_timeline_has_one_entry_a_node() -> None:
    """Would catch a peak that cannot be attributed to an operator."""
    model, x = KeepsLocals(inplace=True), torch.rand(1, 3, 16, 24)
    timeline = trace_graph(model, [x]).timeline
    names = [name for name, _ in timeline]
    assert names == ["conv2d", "relu_", "conv2d_1", "relu__1", "conv2d_2", "relu__2", "cat"]
    assert [size // bytes_of(1) for _, size in timeline] == [8, 8, 16, 16, 24, 16, 32]
    assert max(size for _, size in trace_eager(model, [x]).timeline) == trace_eager(model, [x]).peak


def test_a_slice_keeps_the_whole_tensor() -> None:
    """Would catch the bytes of a view being counted instead of those of its storage."""
    x = torch.rand(1, 3, 16, 24)
    assert live_graph_measured(Split(), [x]).bytes == bytes_of(8 + 8 + 10)


def test_indices_of_max_pooling_count() -> None:
    """Would catch int64 results counted with four bytes: 96 values in, 24 out with their indices."""
    x = torch.rand(1, 1, 8, 12)
    assert live_graph_measured(Pooled(), [x]).bytes == 4 * 96 + 4 * 24 + 8 * 24


def test_weights_input_and_views_of_them_do_not_count() -> None:
    """Would catch a flattened input or a transposed weight taken for an activation."""
    weight, x = torch.rand(5, 6), torch.rand(4, 2, 3)
    trace_ = count_storages(lambda: x.flatten(1) @ weight.t(), excluded=[weight, x])
    assert trace_.peak == 4 * 4 * 5


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    keep=st.booleans(),
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
)
def test_fake_and_real_runs_count_the_same(widths: list[int], keep: bool, size: tuple[int, int]) -> None:
    """Would catch a prediction that differs from a run: lifetimes depend on the code alone."""

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            pairs = zip([2, *widths], widths, strict=False)
            self.layers = nn.ModuleList(nn.Conv2d(before, after, 1) for before, after in pairs)

        def forward(self, x: Tensor) -> Tensor:
            kept = []
            for layer in self.layers:
                x = torch.relu(layer(x))
                kept.append(x if keep else x.mean())
            return x + sum(value.mean() for value in kept)

    model, x = Chain(), torch.rand(1, 2, *size)
    assert live_eager(model, [x]).bytes == live_eager(model, [x], compute=True).bytes
    fake, real = live_graph_measured(model, [x]), live_graph_measured(model, [x], compute=True)
    assert fake.bytes == real.bytes <= live_eager(model, [x]).bytes


def test_the_model_is_left_as_it_was() -> None:
    """Would catch weights replaced by fake tensors, or a model left in eval mode."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    live_eager(model, [torch.rand(1, 3, 4, 4)])
    live_graph_measured(model, [torch.rand(1, 3, 4, 4)])
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_results_without_a_storage_are_named() -> None:
    """Would catch sparse results silently counted as nothing."""
    trace_ = count_storages(lambda: torch.eye(3).to_sparse())
    assert any("sparse" in operator for operator in trace_.uncounted)


# (b) the profiler


def test_the_profiler_sees_live_bytes_and_workspace(capfd: pytest.CaptureFixture[str]) -> None:
    """Would catch events summed out of order, and the profiler library printing on standard error."""
    x = torch.rand(1, 8, 64, 64)
    reading = allocation_peak(lambda: (x + 1) * 2)
    assert 2 * bytes_of(8, 64, 64) <= reading.bytes <= 2 * bytes_of(8, 64, 64) + 4096
    model = nn.Conv2d(64, 64, 3, padding=1)
    y = torch.rand(1, 64, 64, 64)
    assert allocation_peak(lambda: model(y)).bytes >= bytes_of(64, 64, 64)
    assert capfd.readouterr().err == ""


# (c) resident memory, (d) ONNX Runtime


def test_resident_memory_of_a_known_block() -> None:
    """Would catch a high-water mark that is not set back between readings."""
    for mebibytes in (96, 48):  # the C library may keep, and so reuse, blocks of up to 32 MiB
        peak = resident_peak(lambda size=mebibytes: torch.ones(size * MIB // 4))
        assert abs(peak.bytes - mebibytes * MIB) < 2 * MIB
        assert abs(peak.left) < 2 * MIB


def test_a_fresh_process_agrees_with_the_counter() -> None:
    """Would catch baseline or warm-up inside the figure, variants mixed up, or freed tensors that stay resident."""
    x = torch.rand(1, 3, 160, 160)
    source = f"{__name__}:small_network"
    eager = process_memory(source, [x], arguments={"channels": 48}, variant="eager, channels_last", runs=2)
    live = live_eager(KeepsLocals(48), [x]).bytes
    assert abs(eager.bytes - live) < 0.05 * live + MIB
    assert eager.definition == "rss"
    assert "first run" in eager.note
    kept = process_memory(source, [x], arguments={"channels": 48}, return_freed=False, runs=2)
    assert kept.note.startswith(f"first run {kept.mebibytes:.1f} MiB; default allocator")


def test_sending_an_exported_program(tmp_path: Path) -> None:
    """Would catch a saved program whose executor holds more than the one that was traced."""
    x = torch.rand(1, 3, 160, 160)
    program = torch.export.export(KeepsLocals(48, inplace=True).eval(), (x,))
    graph = process_memory(program, [x], variant="graph, channels_last", runs=2)
    live = live_graph_measured(program, [x]).bytes
    assert abs(graph.bytes - live) < 0.05 * live + MIB
    with pytest.raises(WithinError, match="no eager forward"):
        process_memory(program, [x], variant="eager")


def test_a_factory_that_is_not_there() -> None:
    """Would catch a traceback of the measuring process."""
    with pytest.raises(WithinError, match="factory cannot be found"):
        process_memory("torch.nn:NoSuchNetwork", [torch.rand(1)])
    with pytest.raises(WithinError, match="not an nn"):
        process_memory("builtins:dict", [torch.rand(1)])


def test_a_module_of_a_local_class_asks_for_a_factory() -> None:
    """Would catch a pickling error reaching the user."""

    class Local(nn.Module):
        pass

    with pytest.raises(WithinError, match="name a factory"):
        process_memory(Local(), [torch.rand(1)])


def test_onnxruntime_reports_two_runs(tmp_path: Path) -> None:
    """Would catch a figure without the output, or the second run measured from a baseline that holds the first."""
    x = torch.rand(1, 3, 160, 160)
    path = export_onnx(KeepsLocals(48, inplace=True), (x,), tmp_path / "model.onnx", dynamic=False).path
    first, second = onnxruntime_memory(path, [x])
    live = live_graph_measured(KeepsLocals(48, inplace=True), [x]).bytes
    assert first.definition == second.definition == "rss"
    assert 0.7 * live < second.bytes < 2.5 * live
    assert abs(first.bytes - second.bytes) < 0.2 * live + 2 * MIB


def test_all_instruments_side_by_side() -> None:
    """Would catch an instrument left out of the table, or a definition given to the wrong one."""
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(True), nn.Conv2d(16, 3, 3, padding=1))
    readings = read_all(model, [torch.rand(1, 3, 64, 64)], variants=["graph"])
    found = [(reading.instrument.split(":")[0], reading.definition) for reading in readings]
    assert found[:7] == [
        ("storage counter", "live_eager"),
        ("storage counter", "live_graph"),
        ("profiler", "alloc"),
        ("profiler", "alloc"),
        ("process", "rss"),
        ("onnxruntime", "rss"),
        ("onnxruntime", "rss"),
    ]
    assert readings[1].bytes == bytes_of(16 + 3, 64, 64)
    assert [row[3] for row in rows(readings)] == [reading.bytes for reading in readings]


def test_the_fallback_is_an_upper_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a process without /proc/self/clear_refs reporting nothing, or kilobytes for bytes."""
    monkeypatch.setattr("within.core.device.memory.resident._reset_high_water", lambda: False)
    peak = resident_peak(lambda: torch.ones(64 * MIB // 4))
    assert peak.method.startswith("ru_maxrss")
    assert peak.bytes > 62 * MIB


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc/self/clear_refs")
def test_freed_memory_is_returned_in_any_order() -> None:
    """Would catch a C library that keeps blocks freed below a live one: a U-Net's skip pins what was made before it.

    In a process of its own, because the setting lasts.
    """
    script = """
import torch
from within.core.device.memory import resident_peak, return_freed_memory
assert return_freed_memory()
kept = []
def run():
    torch.ones(6 << 20)  # freeing 24 MiB raises glibc's own threshold above the blocks that follow
    blocks = [torch.ones(1 << 20) for _ in range(40)]
    kept.append(blocks[-1])
print(resident_peak(run).left)
"""
    command = [sys.executable, "-c", script]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(finished.stdout) < 6 * MIB


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_peak_of_a_known_block() -> None:
    """Would catch a peak that includes what was allocated before."""
    before = torch.ones(MIB, device="cuda")
    assert cuda_peak(lambda: before * 2).bytes == before.nbytes


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device() -> None:
    """Would catch an assertion of PyTorch instead of a sentence."""
    with pytest.raises(WithinError, match="no CUDA device"):
        cuda_peak(lambda: None)


# the workspace table


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
