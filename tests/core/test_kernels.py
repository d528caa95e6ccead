"""Kernels: those of a decision are those of the cut model, those that ONNX Runtime makes, and each can run alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.networks import Composed, Function, composed, conv, image, random_kept, seeded
from torch import nn

from within.core.device.export import export_onnx
from within.core.device.kernels import lower, timed_runtimes
from within.core.device.kernels.blocks import block_size
from within.core.device.kernels.micro_model import micro_model
from within.core.device.narrow_onnx import narrow_onnx
from within.core.device.runtimes import runtime
from within.core.graph import Graph, trace
from within.core.graph.rewrite import Rewrite
from within.core.pruning.slim import slim

SIZES = ((32, 48), (36, 20), (7, 33))


@settings(deadline=None, max_examples=12)
@given(model=composed(), seed=st.integers(0, 99))
def test_kernels_of_a_decision_are_those_of_the_cut_model(model: nn.Module, seed: int):
    """A prediction for widths that differs from that of the model with these widths is wrong somewhere."""
    graph = trace(model, image())
    kept = random_kept(graph, seed)
    cut = trace(slim(graph, kept), image())
    widths = {name: len(atoms) for name, atoms in kept.items()}
    for name in timed_runtimes():
        assert lower(graph, name).kernels(widths) == lower(cut, name).kernels()
        assert lower(graph, name).kernels() == lower(graph, name).kernels(graph.width_vector())


def unet(one: int, two: int) -> nn.Module:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        skip = F.relu(m.first(x))
        low = F.relu(m.second(F.max_pool2d(skip, 2)))
        return x + m.last(torch.cat([skip, F.interpolate(m.up(low), scale_factor=2.0, mode="nearest")], 1))

    return Function(forward, first=conv(3, one), second=conv(one, two), up=conv(two, one, 1), last=conv(2 * one, 3))


def residual(one: int, two: int) -> nn.Module:
    return Composed([("ConvNorm", two), ("Residual", one)], "pooled", stem=one)


def mobile(one: int, two: int) -> nn.Module:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = F.relu6(m.wide(F.relu(m.stem(x))))
        y = F.hardswish(m.depth(y))
        return m.narrow(F.avg_pool2d(y, 2)).sigmoid()

    return Function(
        forward, stem=conv(3, one), wide=conv(one, two, 1), depth=conv(two, two, groups=two), narrow=conv(two, one, 1)
    )


def _optimised(path: Path) -> Counter[tuple[str, bool, str, bool]]:
    """Returns what ONNX Runtime makes of a file: convolutions, poolings, reordering, by what is fused into them."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path.with_suffix(".optimised"))
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found: Counter[tuple[str, bool, str, bool]] = Counter()
    for node in onnx.load(options.optimized_model_filepath).graph.node:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        activation = attributes["activation"].s.decode().lower() if "activation" in attributes else ""
        blocked, name = node.domain.endswith("nchwc"), node.op_type
        if name in ("Conv", "FusedConv"):
            found["conv", blocked, activation, len(node.input) > 3] += 1
        elif name in _NAMES:
            found[_NAMES[name], blocked, "", False] += 1
    return found


_NAMES = {
    "ReorderInput": "reorder_input", "ReorderOutput": "reorder_output", "MaxPool": "max_pool",
    "AveragePool": "average_pool", "Concat": "concat", "Gemm": "linear", "Add": "add",
}  # fmt: skip


def _predicted(graph: Graph) -> Counter[tuple[str, bool, str, bool]]:
    found: Counter[tuple[str, bool, str, bool]] = Counter()
    for kernel in lower(graph, "onnxruntime").kernels():
        if kernel.kind == "conv":
            activation, adds = kernel.setting("activation", ""), bool(kernel.setting("add"))
            found["conv", kernel.layout == "blocked", activation, adds] += 1
        elif kernel.kind in _NAMES.values():
            found[kernel.kind, kernel.layout == "blocked", "", False] += 1
    return found


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("build", [unet, residual, mobile])
def test_kernels_are_those_that_onnxruntime_makes(tmp_path: Path, build, sizes: tuple[int, int]):
    """Which convolutions are blocked, what is fused into them, where values are reordered; at odd widths too."""
    graph = trace(seeded(build(*sizes)), image(size=16))
    path = export_onnx(graph.model, graph.inputs, tmp_path / "model.onnx", dynamic=False).path
    assert _predicted(graph) == _optimised(path)


def test_a_block_is_no_larger_than_a_vector():
    """Read off the optimiser; 1 where it has no blocked kernels."""
    assert block_size() in (1, 4, 8, 16)


def _run(model: bytes) -> list[tuple[int, ...]]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    inputs = {value.name: np.zeros(value.shape, np.float32) for value in session.get_inputs()}
    return [value.shape for value in session.run(None, inputs)]


@pytest.mark.parametrize("build", [unet, residual, mobile])
def test_each_kernel_runs_alone_and_makes_what_it_says(build):
    """A kernel of other sizes would be timed for the wrong work."""
    for sizes in SIZES[1:]:
        graph = trace(seeded(build(*sizes)), image(size=16))
        for kernel in dict.fromkeys(lower(graph, "onnxruntime").kernels()):
            assert _run(micro_model(kernel).onnx) == list(kernel.outputs), kernel.key


def test_an_operator_without_a_rule_is_exported_as_it_is():
    """Here a group normalisation, after a cut."""
    graph = trace(seeded(Composed([("GroupNormed", 16)], "pooled")), image())
    half = {group.name: group.size // 2 for group in graph.channel_groups()}
    kernels = [kernel for kernel in lower(graph, "onnxruntime").kernels(half) if kernel.kind == "aten"]
    assert len(kernels) == 1
    assert _run(micro_model(kernels[0]).onnx) == list(kernels[0].outputs)


@pytest.mark.parametrize("build", [unet, mobile])
def test_a_narrowed_file_computes_what_the_cut_module_does(tmp_path: Path, build):
    """The models that predictions are compared with must be the right ones, groups and sizes included."""
    graph = trace(seeded(build(32, 48)), image(size=16))
    dense = export_onnx(graph.model, graph.inputs, tmp_path / "dense.onnx", dynamic=False).path
    widths = np.array([max(1, group.size // 3) for group in graph.channel_groups()])
    path = narrow_onnx(graph, dense, widths, tmp_path / "narrow.onnx")
    assert path.stat().st_size < dense.stat().st_size
    module = _cut(graph, widths)
    with torch.no_grad():
        expected = module(*graph.inputs)
    (found,) = runtime("onnxruntime").load(path).run(graph.inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def _cut(graph: Graph, widths: Sequence[int] | np.ndarray) -> nn.Module:
    masks = [np.arange(group.size) < width for group, width in zip(graph.channel_groups(), widths, strict=True)]
    return Rewrite(graph, masks).module().eval()
