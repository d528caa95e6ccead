"""Every runtime that is here computes the same, and one that is not says how to get it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from within.core.device import export_onnx, runtime, runtime_names, runtime_statuses
from within.core.errors import WithinError

AVAILABLE = [status.name for status in runtime_statuses() if status.available]


def network() -> nn.Module:
    """A few operators with different kernels in channels_last."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.ConvTranspose2d(16, 5, 2, 2)
    )


@pytest.mark.parametrize("name", [name for name in AVAILABLE if name != "torch_compile"])
def test_runtimes_agree_with_the_module(name: str) -> None:
    """Would catch a runtime fed in another order or layout, or a module run in train mode."""
    model, inputs = network().train(), (torch.rand(2, 3, 16, 16),)
    before = model[1].running_mean.clone()
    result = runtime(name).load(model, inputs).run(inputs)
    assert torch.equal(model[1].running_mean, before)
    assert model.training
    model.eval()
    torch.testing.assert_close(result[0], model(*inputs), rtol=1e-4, atol=1e-5)


def test_a_session_does_not_see_later_changes_of_the_module() -> None:
    """Would catch a session that shares the module, so that pruning it would change what is being timed."""
    model, inputs = network().eval(), (torch.rand(1, 3, 8, 8),)
    session = runtime("torch").load(model)
    expected = session.run(inputs)[0]
    with torch.no_grad():
        model[0].weight.zero_()
    assert torch.equal(session.run(inputs)[0], expected)


def test_the_optimised_graph_can_be_saved(tmp_path: Path) -> None:
    """Would catch an optimisation level that is ignored: at `all` the activation is fused into the convolution."""
    inputs = (torch.rand(1, 3, 16, 16),)
    path = export_onnx(network().eval(), inputs, tmp_path / "model.onnx", dynamic=False).path
    kinds = {}
    for level in ("none", "all"):
        saved = tmp_path / f"{level}.onnx"
        runtime("onnxruntime", optimization=level, save_optimized=saved).load(path)
        kinds[level] = [node.op_type for node in onnx.load(saved).graph.node]
    assert "Relu" in kinds["none"]
    assert "Relu" not in kinds["all"]


def test_one_thread_is_timed_by_the_clock_of_the_calling_thread() -> None:
    """Would catch CPU time of other threads in the figure, or a runtime whose work the thread clock cannot see."""
    assert runtime("onnxruntime", threads=1).load(network(), (torch.rand(1, 3, 8, 8),)).cpu_clock is time.thread_time
    assert runtime("torch", threads=2).load(network()).cpu_clock is time.process_time


def test_onnxruntime_with_one_thread_works_in_the_calling_thread() -> None:
    """Would catch a thread pool: then the thread's CPU time would not cover the work."""
    model = nn.Sequential(*[nn.Conv2d(32, 32, 3, padding=1) for _ in range(4)])
    inputs = (torch.rand(1, 32, 96, 96),)
    session = runtime("onnxruntime", threads=1).load(model, inputs)
    session.run(inputs)
    thread, process = time.thread_time(), time.process_time()
    for _ in range(5):
        session.run(inputs)
    thread, process = time.thread_time() - thread, time.process_time() - process
    assert thread > 0.8 * process


def test_statuses_cover_every_runtime() -> None:
    """Would catch a runtime that `doctor` does not know."""
    statuses = runtime_statuses()
    assert tuple(status.name for status in statuses) == runtime_names()
    assert all(bool(status.version) == status.available != bool(status.reason) for status in statuses)
    assert {"onnxruntime", "torch"} <= set(AVAILABLE)


def test_a_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a bare ImportError."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(WithinError, match=r'pip install "within-core\[openvino\]"'):
        runtime("openvino").load(network(), (torch.rand(1, 3, 8, 8),))


def test_user_errors(tmp_path: Path) -> None:
    """Would catch tracebacks for a wrong name, option, file or missing example."""
    with pytest.raises(WithinError, match="no runtime named"):
        runtime("tflite")
    with pytest.raises(WithinError, match="does not take these options"):
        runtime("torch", arena=True)
    with pytest.raises(WithinError, match="PyTorch runs a module"):
        runtime("torch").load(tmp_path / "model.onnx")
    with pytest.raises(WithinError, match="no such model file"):
        runtime("onnxruntime").load(tmp_path / "model.onnx")
    with pytest.raises(WithinError, match="example input is needed"):
        runtime("onnxruntime").load(network())
    (tmp_path / "broken.onnx").write_bytes(b"not a protobuf")
    with pytest.raises(WithinError, match=r"cannot load the model.*broken\.onnx"):
        runtime("onnxruntime").load(tmp_path / "broken.onnx")


def _file(folder: Path, *nodes: onnx.NodeProto, weight: list[int] | None = None) -> Path:
    """Writes an ONNX file from x [1, 3, 8, 8] to y."""
    tensors = [] if weight is None else [onnx.numpy_helper.from_array(np.zeros(weight, np.float32), "w")]
    ends = [
        onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 8, 8]),
        onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None),
    ]
    graph = onnx.helper.make_graph(list(nodes), "g", ends[:1], ends[1:], tensors)
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("my.operators", 1)]
    path = folder / "model.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


@pytest.mark.parametrize("name", [name for name in AVAILABLE if name in ("onnxruntime", "openvino")])
@pytest.mark.parametrize("domain", ["", "my.operators"])
def test_an_operator_that_the_runtime_lacks_is_named(tmp_path: Path, name: str, domain: str) -> None:
    """Would catch a message from which nobody can tell which node to change."""
    first = onnx.helper.make_node("Relu", ["x"], ["a"], name="first")
    path = _file(tmp_path, first, onnx.helper.make_node("Magic", ["a"], ["y"], name="the_node", domain=domain))
    with pytest.raises(WithinError, match="cannot load the model") as caught:
        runtime(name).load(path)
    assert "the_node" in str(caught.value)
    assert caught.value.todo


def test_a_node_that_fails_at_run_time_is_named(tmp_path: Path) -> None:
    """Would catch an error of the runtime's own class, and a name that exists only after its optimisation."""
    first = onnx.helper.make_node("Relu", ["x"], ["a"], name="first")
    path = _file(tmp_path, first, onnx.helper.make_node("Conv", ["a", "w"], ["y"], name="conv_7"), weight=[4, 5, 3, 3])
    with pytest.raises(WithinError, match="conv_7"):
        runtime("onnxruntime").load(path).run([torch.zeros(1, 3, 8, 8)])


def test_a_wrong_input_names_no_node(tmp_path: Path) -> None:
    """Would catch a node blamed for an input of another shape."""
    path = _file(tmp_path, onnx.helper.make_node("Relu", ["x"], ["y"], name="first"))
    with pytest.raises(WithinError, match="cannot run the model on these inputs") as caught:
        runtime("onnxruntime").load(path).run([torch.zeros(1, 4, 8, 8)])
    assert "node" not in str(caught.value.where)
