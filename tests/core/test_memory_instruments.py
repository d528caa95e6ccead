"""The memory instruments (profiler, resident memory, ONNX Runtime, CUDA) against known blocks and each other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.core.memory_cases import MIB, KeepsLocals, bytes_of
from torch import nn

from within.core.device import export_onnx
from within.core.device.memory import (
    allocation_peak,
    cuda_peak,
    live_eager,
    live_graph_measured,
    onnxruntime_memory,
    process_memory,
    read_all,
    resident_peak,
    rows,
)
from within.core.errors import WithinError


def test_the_profiler_sees_live_bytes_and_workspace(capfd: pytest.CaptureFixture[str]) -> None:
    """Would catch events summed out of order, and the profiler library printing on standard error."""
    x = torch.rand(1, 8, 64, 64)
    reading = allocation_peak(lambda: (x + 1) * 2)
    assert 2 * bytes_of(8, 64, 64) <= reading.bytes <= 2 * bytes_of(8, 64, 64) + 4096
    model = nn.Conv2d(64, 64, 3, padding=1)
    y = torch.rand(1, 64, 64, 64)
    assert allocation_peak(lambda: model(y)).bytes >= bytes_of(64, 64, 64)
    assert capfd.readouterr().err == ""


def test_resident_memory_of_a_known_block() -> None:
    """Would catch a high-water mark that is not set back between readings."""
    for mebibytes in (96, 48):  # the C library may keep, and so reuse, blocks of up to 32 MiB
        peak = resident_peak(lambda size=mebibytes: torch.ones(size * MIB // 4))
        assert abs(peak.bytes - mebibytes * MIB) < 2 * MIB
        assert abs(peak.left) < 2 * MIB


def test_a_fresh_process_agrees_with_the_counter() -> None:
    """Would catch baseline or warm-up inside the figure, variants mixed up, or freed tensors that stay resident."""
    x = torch.rand(1, 3, 160, 160)
    source = "tests.core.memory_cases:small_network"
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
    # three times: the kernel may take other pages of the process away meanwhile
    peaks = [resident_peak(lambda: torch.ones(64 * MIB // 4)) for _ in range(3)]
    assert all(peak.method.startswith("ru_maxrss") for peak in peaks)
    assert max(peak.bytes for peak in peaks) > 62 * MIB


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
