"""`lint_dla`: what of a graph runs on DLA, which rule the rest breaks, and what is padded."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from within.core.cli import main
from within.core.cost import Budget, Macs
from within.core.device import export_onnx
from within.core.device.dla import DlaReport, channel_step, lint_dla
from within.core.device.dla_checks import CHECKS
from within.core.device.dla_rules import dla_rules
from within.core.errors import WithinError
from within.core.pruning import prune

IMAGE = (torch.rand(1, 3, 32, 32),)


def plain(width: int = 32) -> nn.Sequential:
    """Returns a network that a DLA runs as a whole."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1, groups=2),
        nn.ReLU6(),
        nn.Upsample(scale_factor=2),
        nn.ConvTranspose2d(2 * width, width, 2, 2),
        nn.AvgPool2d(8),
        nn.Flatten(),
        nn.Linear(width * 64, 10),
    )


def exported(model: nn.Module, folder: Path, dynamic: bool = False) -> Path:
    """Returns the ONNX file of a model."""
    return export_onnx(model.eval(), IMAGE, folder / "model.onnx", dynamic=dynamic).path


def with_nodes(nodes: list[onnx.NodeProto], shape: list, constants: dict | None = None, **kind) -> onnx.ModelProto:
    """Returns a model of these nodes from tensor `x` to tensor `y`."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kind.get("input", TensorProto.FLOAT), shape)],
        [helper.make_tensor_value_info("y", kind.get("output", TensorProto.FLOAT), None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def broken(report: DlaReport) -> list[tuple[str, str]]:
    """Returns (operator, rule) of every finding."""
    return [(finding.operator, finding.rule) for finding in report.findings]


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_plain_network_stays_on_dla(tmp_path: Path, precision: str) -> None:
    """Would catch a rule that refuses what DLA runs."""
    report = lint_dla(exported(plain(), tmp_path), precision=precision, fallback=False)
    assert report.findings == ()
    assert (report.loadables, report.transitions, report.builds) == (1, 0, True)
    assert [hint.channels for hint in report.channels] == [32, 64, 32]
    assert report.wasted == 0


@pytest.mark.parametrize(
    ("layer", "operator", "rule", "what"),
    [
        (nn.Conv2d(32, 32, 33, padding=16), "Conv", "convolution.kernel", "33x33"),
        (nn.Conv2d(32, 32, 9, stride=9), "Conv", "convolution.stride", "9x9"),
        (nn.Conv2d(32, 32, 1, padding=2), "Conv", "convolution.padding-below-kernel", "2x2x2x2"),
        (nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), "Resize", "resize.coordinates", "align_"),
        (nn.Upsample(scale_factor=8, mode="bilinear"), "Resize", "resize.scale", "8 and 8"),
        (nn.Upsample(scale_factor=2, mode="bicubic"), "Resize", "resize.mode", "cubic"),
        (nn.Upsample(size=(40, 40)), "Resize", "resize.scale", "1.25"),
        (nn.ConvTranspose2d(32, 32, 4, 2, 1), "ConvTranspose", "deconvolution.padding", "1x1x1x1"),
        (nn.ConvTranspose2d(32, 32, 2, 2, groups=2), "ConvTranspose", "deconvolution.groups", "2"),
        (nn.MaxPool2d(9, 1, 4), "MaxPool", "pooling.window", "9x9"),
        (nn.Hardtanh(-1, 1), "Clip", "activation.clip", "-1 .. 1"),
        (nn.AdaptiveAvgPool2d(1), "ReduceMean", "operator.unsupported", "ReduceMean"),
        (nn.GELU(), "Gelu", "operator.unsupported", "Gelu"),
        (nn.Softmax(0), "Softmax", "softmax.size", "batch"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else None,
)
def test_what_falls_back_is_named(tmp_path: Path, layer: nn.Module, operator: str, rule: str, what: str) -> None:
    """Would catch a layer that is silently moved to the GPU, and a finding on the wrong layer or for a wrong reason."""
    model = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.Sigmoid(), layer, nn.Sigmoid())
    report = lint_dla(exported(model, tmp_path), fallback=False)
    assert broken(report) == [(operator, rule)]
    assert what in report.findings[0].what
    assert report.fallen_back == (report.findings[0].node,)
    assert [segment.device for segment in report.segments] == ["DLA", "GPU", "DLA"]
    assert (report.transitions, report.loadables, report.builds) == (2, 2, False)


def test_open_sizes_are_a_finding_of_the_input(tmp_path: Path) -> None:
    """Would catch an exception, or one finding for each of a hundred layers."""
    model = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    report = lint_dla(exported(model, tmp_path, dynamic=True))
    assert broken(report) == [("input", "shape.static")]
    assert "?x3x" in report.findings[0].what
    assert len(report.fallen_back) == 3
    assert report.builds


def test_rules_change_with_the_release(tmp_path: Path) -> None:
    """Would catch one table for all releases: 8.2 resizes by nearest only, 10.8 has no DLA, 11.4.1 goes by types."""
    model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.Upsample(scale_factor=2, mode="bilinear"))
    path = exported(model, tmp_path)
    assert broken(lint_dla(path, tensorrt="10.7.0")) == []
    assert broken(lint_dla(path, tensorrt="8.2")) == [("Resize", "resize.nearest-only")]
    for release in ("10.8", "11.0", "11.3.1", "11.4.0"):
        report = lint_dla(path, tensorrt=release)
        assert broken(report) == [("graph", "release.available")]
        assert report.loadables == 0
    assert broken(lint_dla(path, tensorrt="11.4.1")) == [("graph", "release.types")]
    assert broken(lint_dla(path, tensorrt="11.4.1", precision="fp16")) == [("graph", "release.types")]


def test_a_quantised_graph_is_for_new_releases_only() -> None:
    """Would catch Q/DQ given to a release that reads a cache, and weights behind Q/DQ taken for computed."""
    scale, zero = {"scale": np.float32(0.1)}, {"zero": np.int8(0)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], "quantise"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], "dequantise"),
        helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["v"], "weights"),
        helper.make_node("Conv", ["d", "v"], ["y"], "convolution"),
    ]
    model = with_nodes(nodes, [1, 3, 8, 8], {**scale, **zero, "w": np.ones((32, 3, 3, 3), np.int8)})
    old = lint_dla(model)
    assert [(finding.node, finding.rule) for finding in old.findings] == [
        ("quantise", "operator.quantised"),
        ("dequantise", "operator.quantised"),
    ]
    new = lint_dla(model, tensorrt="11.4.1")
    assert new.findings == ()
    assert [segment.nodes for segment in new.segments] == [("convolution",)]
    assert [hint.channels for hint in new.channels] == [32]


@pytest.mark.parametrize(
    ("shape", "rule"),
    [
        ([4096, 3, 8, 8], None),
        ([4097, 3, 8, 8], "shape.batch"),
        ([1, 3, 8, 8192], None),
        ([1, 3, 8, 8193], "shape.sizes"),
    ],
)
def test_the_largest_tensors(shape: list[int], rule: str | None) -> None:
    """Would catch a limit that is off by one, and a second finding for the tensor behind it."""
    report = lint_dla(
        with_nodes([helper.make_node("Relu", ["x"], ["m"]), helper.make_node("Relu", ["m"], ["y"])], shape)
    )
    assert [finding.rule for finding in report.findings] == ([rule] if rule else [])
    assert len(report.fallen_back) == (2 if rule else 0)


def test_batch_is_the_product_of_all_axes_before_channels() -> None:
    """Would catch a tensor of five axes whose first axis alone is taken for the batch."""
    report = lint_dla(with_nodes([helper.make_node("Relu", ["x"], ["y"])], [65, 64, 3, 8, 8]))
    assert broken(report) == [("Relu", "shape.batch")]


def test_integers_are_not_computed_on_dla() -> None:
    """Would catch an index computation that counts as a layer on DLA."""
    kind = {"input": TensorProto.INT64, "output": TensorProto.INT64}
    report = lint_dla(with_nodes([helper.make_node("Add", ["x", "x"], ["y"])], [1, 3, 8, 8], **kind))
    assert broken(report) == [("Add", "operator.type")]


def test_sixteen_loadables_are_the_most() -> None:
    """Would catch a network that is cut into more pieces than a core holds."""

    def alternating(count: int) -> onnx.ModelProto:
        names = ["x", *(f"t{position}" for position in range(2 * count - 2)), "y"]
        pairs = pairwise(names)
        kinds = ["Relu", "Erf"] * count
        return with_nodes(
            [helper.make_node(kind, [a], [b]) for kind, (a, b) in zip(kinds, pairs, strict=False)], [1, 3, 8, 8]
        )

    assert "graph.loadables" not in {finding.rule for finding in lint_dla(alternating(16)).findings}
    assert "graph.loadables" in {finding.rule for finding in lint_dla(alternating(17)).findings}


def test_branches_are_not_counted_as_changes() -> None:
    """Would catch transitions counted in the file's order, in which two branches may alternate."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a0"]),
        helper.make_node("Erf", ["x"], ["b0"]),
        helper.make_node("Sigmoid", ["a0"], ["a1"]),
        helper.make_node("Erf", ["b0"], ["b1"]),
        helper.make_node("Tanh", ["a1"], ["a2"]),
        helper.make_node("Erf", ["b1"], ["b2"]),
        helper.make_node("Add", ["a2", "b2"], ["y"]),
    ]
    report = lint_dla(with_nodes(nodes, [1, 3, 8, 8]))
    assert [len(segment.nodes) for segment in report.segments] == [3, 4]
    assert [segment.device for segment in report.segments] == ["GPU", "DLA"]


@given(channels=st.integers(1, 400), precision=st.sampled_from(["int8", "fp16"]))
def test_padding_of_channels(channels: int, precision: str) -> None:
    """Would catch a wrong multiple: padded to the next one, by less than one, and nothing wasted on multiples."""
    node = helper.make_node("Conv", ["x", "w"], ["y"], "convolution")
    model = with_nodes([node], [1, 1, 4, 4], {"w": np.zeros((channels, 1, 1, 1), np.float32)})
    (hint,) = lint_dla(model, precision=precision).channels
    step = {"int8": 32, "fp16": 16}[precision]
    assert hint.padded % step == 0
    assert 0 <= hint.padded - channels < step
    assert hint.wasted == pytest.approx(1 - channels / hint.padded)


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_the_pruner_takes_the_step(tmp_path: Path, precision: str) -> None:
    """Would catch a step that the pruner and the format disagree on: widths pruned by it are not padded, others are."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 96, 3, padding=1), nn.ReLU(), nn.Conv2d(96, 128, 3, padding=1), nn.ReLU(), nn.Conv2d(128, 32, 1)
    )

    def wasted(step: int) -> float:
        slim = prune(model, IMAGE, budgets=[Budget(Macs(), fraction=0.37)], step=step).model
        report = lint_dla(exported(slim, tmp_path), precision=precision)
        assert [hint.channels for hint in report.channels] != [96, 128, 32]
        return report.wasted

    assert wasted(channel_step(precision)) == 0
    assert wasted(1) > 0


def test_every_rule_is_whole() -> None:
    """Would catch a rule without a test, a source or a status, and one for an operator that no release runs."""
    for release in ("8.0", "8.6", "10.3", "11.4.1"):
        rules = dla_rules(release)
        for rule in rules.rules:
            assert rule.check in CHECKS
            assert rule.source
            assert rule.status in ("verified", "recalled")
            assert rule.todo
            assert set(rule.operators) <= set(rules.table["operators"])
    assert {rule["check"] for rule in rules.table["rules"]} == set(CHECKS)


@pytest.mark.parametrize("release", ["7.2", "12.0", "11.5", "ten", ""])
def test_an_unknown_release_is_an_error(release: str) -> None:
    """Would catch rules of one release applied to another."""
    with pytest.raises(WithinError, match=r"TensorRT"):
        lint_dla(with_nodes([helper.make_node("Relu", ["x"], ["y"])], [1, 3, 8, 8]), tensorrt=release)


def test_an_unknown_precision_is_an_error() -> None:
    """Would catch fp32, which a DLA does not compute in."""
    with pytest.raises(WithinError, match="int8"):
        channel_step("fp32")


@pytest.mark.parametrize("content", [b"", b"no protobuf at all", None])
def test_a_file_that_is_no_model_is_named(tmp_path: Path, content: bytes | None) -> None:
    """Would catch a traceback of protobuf, and an empty file taken for a model that passes."""
    path = tmp_path / "bad.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WithinError, match=r"bad\.onnx"):
        lint_dla(path)


def test_a_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    """Would catch half a model that passes."""
    path = exported(plain(), tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(WithinError, match=r"model\.onnx"):
        lint_dla(path)


class Shuffle(nn.Module):
    """Moves the batch, which DLA does not."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(0, 1)


def test_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Would catch an exit code of 0 for what a build without fallback refuses, and JSON that is not one object."""
    good = str(exported(plain(), tmp_path / "good"))
    bad = str(exported(nn.Sequential(nn.ReLU(), Shuffle()), tmp_path / "bad"))
    assert main(["lint-dla", good, "--no-fallback"]) == 0
    assert "10 of 10 layers run on DLA in 1 loadable," in capfd.readouterr().out
    assert main(["lint-dla", bad]) == 0
    out = capfd.readouterr().out
    assert "shuffle.batch" in out
    assert "1 of 2 layers run on DLA" in out
    assert main(["lint-dla", bad, "--no-fallback", "--json"]) == 1
    record = json.loads(capfd.readouterr().out)
    assert (record["transitions"], record["builds"], record["findings"][0]["rule"]) == (1, False, "shuffle.batch")
    assert main(["lint-dla", bad, "--tensorrt", "7"]) == 2
