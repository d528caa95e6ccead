"""`export_onnx`: the file computes what the module computes, at more sizes than the one it was traced at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from within.core.device import export_onnx, runtime, verify
from within.core.errors import WithinError


class SmallUNet(nn.Module):
    """One level of a U-Net: takes even sizes only."""

    def __init__(self, size_multiple: int | None = None) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, padding=1)
        self.normalise = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.out = nn.Conv2d(11, 3, 3, padding=1)
        if size_multiple is not None:
            self.size_multiple = size_multiple

    def forward(self, x: Tensor) -> Tensor:
        deep = F.max_pool2d(F.relu(self.normalise(self.down(x))), 2)
        return self.out(torch.cat([self.up(deep), x], 1))


class FixedReshape(nn.Module):
    """Takes one image size and batch 1 only."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(1, 3, 256) * 2


class Flattened(nn.Module):
    """Takes any batch, one image size."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 16 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))


class SingularValues(nn.Module):
    """Uses an operator that ONNX does not have."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.svd(x)[1]


class ValueDependent(nn.Module):
    """Branches on the values of its input."""

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return x + 1


@pytest.mark.parametrize("size_multiple", [None, 2])
def test_batch_and_image_size_stay_open(tmp_path: Path, size_multiple: int | None) -> None:
    """Would catch sizes baked in by the trace, and a multiple (stated or found) that is not kept."""
    torch.manual_seed(0)
    model = SmallUNet(size_multiple).train()
    result = export_onnx(model, (torch.rand(1, 3, 16, 24),), tmp_path / "model.onnx")
    assert result.dynamic_axes == ((0, 2, 3),)
    assert result.static_reason is None
    assert [shape[0] for shape in result.verification.shapes] == [(1, 3, 16, 24), (2, 3, 18, 28)]
    assert model.training
    assert model.normalise.training
    verify(model, result.path, [(torch.rand(3, 3, 2, 6),), (torch.rand(1, 3, 40, 8),)])


def test_the_file_is_whole_and_holds_its_weights(tmp_path: Path) -> None:
    """Would catch weights in a second file, which a rename would leave behind, and leftovers of the writing."""
    result = export_onnx(Flattened(), (torch.rand(2, 3, 16, 16),), tmp_path / "model.onnx", opset=18)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    loaded = onnx.load(result.path, load_external_data=False)
    onnx.checker.check_model(loaded)
    assert loaded.opset_import[0].version == result.opset == 18
    assert not any(tensor.external_data for tensor in loaded.graph.initializer)


@pytest.mark.parametrize(("factory", "axes"), [(FixedReshape, ()), (Flattened, (0,))])
def test_sizes_that_cannot_be_open_are_reported(
    tmp_path: Path, factory: Callable[[], nn.Module], axes: tuple[int, ...]
) -> None:
    """Would catch an axis announced as open that the model itself cannot change."""
    result = export_onnx(factory(), (torch.rand(1, 3, 16, 16),), tmp_path / "model.onnx")
    assert result.dynamic_axes == (axes,)
    assert result.static_reason
    assert "does not take an input of 2x3x17x18" in result.static_reason
    assert len(result.verification.shapes) == 2


def test_static_on_request(tmp_path: Path) -> None:
    """Would catch `dynamic=False` being ignored: fixed-function engines refuse open sizes."""
    result = export_onnx(SmallUNet(), (torch.rand(1, 3, 16, 16),), tmp_path / "model.onnx", dynamic=False)
    assert (result.dynamic_axes, result.static_reason) == (((),), None)
    dimensions = onnx.load(result.path).graph.input[0].type.tensor_type.shape.dim
    assert [dimension.dim_value for dimension in dimensions] == [1, 3, 16, 16]


def test_several_inputs_share_their_open_sizes(tmp_path: Path) -> None:
    """Would catch one set of sizes an input: the sum of unlike sizes cannot be traced."""

    class Weighted(nn.Module):
        def forward(self, x: Tensor, weight: Tensor) -> Tensor:
            return x * weight

    inputs = (torch.rand(1, 3, 8, 8), torch.rand(1, 1, 8, 8))
    result = export_onnx(Weighted(), inputs, tmp_path / "model.onnx", input_names=["image", "weight"])
    assert result.dynamic_axes == ((0, 2, 3), (0, 2, 3))
    assert [value.name for value in onnx.load(result.path).graph.input] == ["image", "weight"]


def test_an_unsupported_operator_is_named_with_its_line(tmp_path: Path) -> None:
    """Would catch the exporter's report of several pages reaching the user, and a half-written file."""
    with pytest.raises(WithinError, match=r"no counterpart for the operator aten\._?linalg_svd") as caught:
        export_onnx(SingularValues(), (torch.rand(1, 3, 8, 8),), tmp_path / "model.onnx")
    assert __file__ in (caught.value.where or "")
    assert not list(tmp_path.iterdir())


def test_a_model_that_cannot_be_traced_names_the_users_line(tmp_path: Path) -> None:
    """Would catch an error that points into the tracer."""
    line = ValueDependent.forward.__code__.co_firstlineno + 1
    with pytest.raises(WithinError, match="cannot be traced") as caught:
        export_onnx(ValueDependent(), (torch.rand(1, 3, 8, 8),), tmp_path / "model.onnx")
    assert caught.value.where == f"{__file__}, line {line}"


def test_nan_weights_are_refused_by_name(tmp_path: Path) -> None:
    """Would catch a broken model being exported: its verification could only say that NaN differs from NaN."""
    model = SmallUNet()
    with torch.no_grad():
        model.up.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(WithinError, match=r"NaN.*up\.weight"):
        export_onnx(model, (torch.rand(1, 3, 8, 8),), tmp_path / "model.onnx")


def test_a_file_that_computes_something_else_is_not_kept(tmp_path: Path) -> None:
    """Would catch verification after the file is in place: the old file has to survive a failed export."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"before")

    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.rand_like(x)

    with pytest.raises(WithinError, match="differs"):
        export_onnx(Noisy(), (torch.rand(1, 3, 8, 8),), path)
    assert path.read_bytes() == b"before"
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_a_module_loads_into_onnxruntime_through_export() -> None:
    """Would catch a session that reads a temporary file after it is gone."""
    model = Flattened()
    inputs = (torch.rand(2, 3, 16, 16),)
    session = runtime("onnxruntime").load(model, inputs)
    torch.testing.assert_close(session.run(inputs)[0], model(*inputs), rtol=1e-4, atol=1e-5)
