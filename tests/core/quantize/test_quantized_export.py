"""Quantised models as ONNX files: integers inside, both exporters, ONNX Runtime within one unit of the simulation."""

from __future__ import annotations

import onnx
import pytest
import torch
from onnx import numpy_helper
from tests.core.quantize.test_quantize import batches, network
from torch import nn

from within.core.device import runtime
from within.core.errors import WithinError
from within.core.quantize import export_quantized, quantize
from within.core.quantize.export_check import compare_on_grid, compare_operators
from within.core.quantize.insert import insert_quantizers
from within.core.train.quantization_hook import QuantizationHook


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("settings", [{}, {"target": "tensorrt"}, {"weight_bits": 4, "activation_bits": 6}])
def test_the_runtime_computes_what_was_simulated(tmp_path, exporter, settings):
    """Would catch an exporter that moves or drops a pair, other integers in the file, a bias that stays in float."""
    result = quantize(network(), (batches()[0][:1],), batches(3), settings)
    path = tmp_path / "model.onnx"
    check = [(batch,) for batch in batches(4)]
    exported = export_quantized(result.model, (batches()[0][:1],), path, exporter=exporter, check=check)
    assert exported.steps <= 1.001
    assert exported.units <= 1.001
    assert exported.argmax_agreement >= 0.95  # random logits lie close together
    assert exported.integer_operators["Conv"] == 3
    assert exported.integer_operators["Gemm"] == 1
    kinds = {numpy_helper.to_array(item).dtype.name for item in onnx.load(str(path)).graph.initializer if item.dims}
    assert {"int8", "int32"} <= kinds
    sizes = {item.name: item for item in onnx.load(str(path)).graph.initializer}
    stored = [numpy_helper.to_array(item) for item in sizes.values() if len(item.dims) >= 2]
    assert stored
    assert all(array.dtype == "int8" for array in stored)
    assert max(abs(int(array.min())) for array in stored) <= (7 if settings.get("weight_bits") == 4 else 127)


def test_another_size_and_batch(tmp_path):
    """Would catch a file that takes only the size of the example."""

    class Fully(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 3, 3, padding=1))

        def forward(self, x):
            return self.layers(x)

    torch.manual_seed(0)
    result = quantize(Fully().eval(), (torch.randn(1, 3, 16, 16),), [torch.randn(4, 3, 16, 16)])
    check = [(torch.randn(3, 3, 10, 22),)]
    export_quantized(result.model, (torch.randn(1, 3, 16, 16),), tmp_path / "model.onnx", check=check)
    (answer,) = runtime("onnxruntime").load(tmp_path / "model.onnx").run([torch.randn(2, 3, 8, 12)])
    assert answer.shape == (2, 3, 8, 12)


def test_a_changed_file_is_noticed(tmp_path):
    """Would catch a comparison that cannot fail."""
    result = quantize(network(), (batches()[0][:1],), batches(3))
    path = tmp_path / "model.onnx"
    export_quantized(result.model, (batches()[0][:1],), path)
    model = onnx.load(str(path))
    for item in model.graph.initializer:
        if len(item.dims) == 4:
            array = numpy_helper.to_array(item).copy()
            array[0] = -array[0]
            item.CopyFrom(numpy_helper.from_array(array, item.name))
    onnx.save(model, str(path))
    units, differing, _ = compare_on_grid(result.model, path, [(batches()[0],)])
    assert units > 1
    assert differing > 0
    assert compare_operators(result.model, path, [(batches()[0],)]) > 1


def test_one_wrong_operator_is_noticed_where_it_is(tmp_path):
    """Would catch a comparison operator by operator that skips some: each layer's weights are changed by themselves."""
    result = quantize(network(), (batches()[0][:1],), batches(3), {"activation_bits": 4})
    path = tmp_path / "model.onnx"
    exported = export_quantized(result.model, (batches()[0][:1],), path)
    assert exported.steps <= 1
    whole = onnx.load(str(path))
    layers = [item.name for item in whole.graph.initializer if len(item.dims) >= 2]
    assert len(layers) == 4
    for name in layers:
        model = onnx.load(str(path))
        item = next(item for item in model.graph.initializer if item.name == name)
        item.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(item), name))
        onnx.save(model, str(tmp_path / "changed.onnx"))
        assert compare_operators(result.model, tmp_path / "changed.onnx", [(batches()[0],)]) > 1, name


def test_few_bits_in_a_deep_network_keep_the_proof(tmp_path):
    """Would catch a proof that fails because one rounding is amplified by coarse grids behind it."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3 if number == 0 else 16, 16, 3, padding=1) for number in range(12)]
    deep = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU()))).eval()
    data = [torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    bits = {str(2 * number): (8, 2 + number % 3) for number in range(1, 12)}
    result = quantize(deep, (data[0][:1],), data, {"bits": bits, "correction": "moments"})
    exported = export_quantized(result.model, (data[0][:1],), tmp_path / "model.onnx", check=[(each,) for each in data])
    assert exported.steps <= 1.001


def test_what_cannot_be_exported_is_said(tmp_path):
    """Would catch an uncalibrated model in a file, and a format that no kernel reads."""
    x = batches()[0][:1]
    bare = insert_quantizers(network(), (x,)).module
    with pytest.raises(WithinError, match="no range"):
        export_quantized(bare, (x,), tmp_path / "model.onnx")
    groups = quantize(network(), (x,), batches(1), {"weight_group_size": 1, "correction": "none"})
    with pytest.raises(WithinError, match="groups"):
        export_quantized(groups.model, (x,), tmp_path / "model.onnx")
    with pytest.raises(WithinError, match="no exporter"):
        export_quantized(quantize(network(), (x,), batches(1)).model, (x,), tmp_path / "m.onnx", exporter="mail")
    assert list(tmp_path.iterdir()) == []


def test_training_through_the_runner_keeps_the_proof(tmp_path):
    """Would catch biases that leave their grid in training, and a hook that does not switch."""
    from within.core.train import fit

    data = torch.cat(batches(4))
    model = network()
    result = quantize(model, (data[:1],), list(data.split(8)), {"weight_bits": 4})
    seen = []

    def objective(student, inputs, target):
        quantizer = student.get_submodule("activation_quantizers.x")
        seen.append((quantizer.enabled, student.get_submodule("weight_quantizers.head_weight").follow))
        with torch.no_grad():
            wanted = model(*inputs)
        return {"loss": (student(*inputs) - wanted).square().mean()}

    hook = QuantizationHook(activations_from=2, freeze_ranges_at=4)
    fit(result.model, data, iterations=6, batch_size=8, objective=objective, hooks=[hook])
    assert seen == [(False, True)] * 2 + [(True, True)] * 2 + [(True, False)] * 2
    exported = export_quantized(result.model.eval(), (data[:1],), tmp_path / "model.onnx", check=[(data,)])
    assert exported.units <= 1


def test_the_module_itself_is_not_changed(tmp_path):
    """Would catch weights rounded in place by the export."""
    result = quantize(network(), (batches()[0][:1],), batches(2))
    before = {name: value.clone() for name, value in result.model.state_dict().items()}
    export_quantized(result.model, (batches()[0][:1],), tmp_path / "model.onnx")
    assert all(torch.equal(value, before[name]) for name, value in result.model.state_dict().items())
