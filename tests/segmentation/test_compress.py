"""The main job from a network to a report, and the files that come out of it."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tests.segmentation.segmentation_data import ARGUMENTS, small_data

from within.core.errors import WithinError
from within.segmentation.compress import main as compress
from within.segmentation.data import find_dataset
from within.segmentation.export import main as export
from within.segmentation.int8 import HalfPrecision, calibration_images
from within.segmentation.label_map import CAMVID
from within.segmentation.named_network import open_network
from within.segmentation.train import main as train

SCHEDULE = {"iterations": 3, "batch_size": 2, "crop": [64, 64], "scale": (0.5, 1.5), "workers": 0}
SIZE = (64, 96)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmentation")
    data = small_data(folder / "data", val=2)
    schedule = {**SCHEDULE, "iterations": 20, "optimizer": {"type": "AdamW", "lr": 5e-3}, "encoder_factor": 1.0}
    settings = {"name": "x", "network": "swiftnet_rn18", "arguments": ARGUMENTS, "data": str(data)}
    train({**settings, "schedule": schedule, "validation_split": None}, run_directory=folder / "run")
    return folder


@pytest.fixture(scope="module")
def job(trained):
    given = {
        "network": str(trained / "run"), "data": str(trained / "data"), "stages": [1, 2], "size": SIZE,
        "calibration": 3, "fine_tuning": SCHEDULE, "fp16": True,
    }  # fmt: skip
    return compress(given, run_directory=trained / "half")


def test_the_run_directory_holds_all_and_reopens_as_the_same_network(job):
    names = {path.name for path in job.folder.iterdir()}
    assert {"config.py", "plan.json", "model.safetensors", "model.onnx", "int8.onnx", "metrics.json"} <= names
    image = 255 * torch.rand(1, 3, *SIZE)
    torch.testing.assert_close(open_network(job.folder).model.eval()(image), job.model(image))
    assert job.model.encoder.stem.conv.out_channels == 4


def test_the_report_shows_quality_pictures_sensitivity_and_what_stayed_in_float(job):
    assert [row.name.rpartition(", ")[2] for row in job.content.quality] == ["pruned"] * 2 + ["FP16"] * 2 + ["INT8"] * 2
    *images, key, sensitivity = job.content.strips
    assert [len(strip.pictures) for strip in images] == [5, 5]
    assert {picture.caption for picture in key.pictures} <= set(CAMVID.classes)
    assert len(key.pictures) > 1
    assert len(sensitivity.pictures) == 1
    assert {table.title for table in job.content.tables} >= {"Layers", "Intersection over union, %"}
    assert any("float" in notice.reason for notice in job.content.notices)
    assert json.loads((job.folder / "metrics.json").read_text())
    assert "data:image/png" in (job.folder / "report.html").read_text()


def test_the_integer_file_computes_on_integers(job):
    session = onnxruntime.InferenceSession(job.folder / "int8.onnx")
    kinds = {node.op_type for node in onnx.load(job.folder / "int8.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    scores = session.run(None, {session.get_inputs()[0].name: np.zeros((1, 3, *SIZE), np.float32)})[0]
    assert scores.shape == (1, 11, *SIZE)


def test_the_file_resizes_bilinearly(job):
    """The public code's export switches to nearest neighbour without a word."""
    resizes = [node for node in onnx.load(job.folder / "model.onnx").graph.node if node.op_type == "Resize"]
    modes = {attribute.s for node in resizes for attribute in node.attribute if attribute.name == "mode"}
    assert modes == {b"linear"}


def test_single_scale_gets_a_file_for_each_size(trained, tmp_path):
    sizes = [(64, 96), (96, 64)]
    found = export({"network": str(trained / "run"), "output": tmp_path / "x.onnx", "sizes": sizes})
    assert [each.path.name for each in found] == ["x_64x96.onnx", "x_96x64.onnx"]
    model = open_network(trained / "run").model.eval()
    for each in found:
        image = 255 * torch.rand(1, 3, *each.size)
        scores = onnxruntime.InferenceSession(each.path).run(None, {"image": image.numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(scores), model(image), rtol=1e-3, atol=1e-3)


def test_integers_need_images_and_files_an_end(trained, tmp_path):
    with pytest.raises(WithinError, match="calibrate"):
        export({"network": str(trained / "run"), "output": tmp_path / "x.onnx", "int8": True})
    with pytest.raises(WithinError, match=r"\.onnx"):
        export({"network": str(trained / "run"), "output": tmp_path / "x.pb"})
    with pytest.raises(WithinError, match="multiples of 128"):
        export({"network": "swiftnet_pyramid_rn18", "output": tmp_path / "x.onnx", "sizes": [(64, 96)]})


def test_stages_and_budgets_exclude_each_other(trained, tmp_path):
    given = {"network": str(trained / "run"), "data": str(trained / "data"), "stages": [1], "budgets": {"macs": 0.5}}
    with pytest.raises(WithinError, match="one of them"):
        compress(given, run_directory=tmp_path / "run")


def test_a_budget_is_met(trained, tmp_path):
    given = {
        "network": str(trained / "run"), "data": str(trained / "data"), "budgets": {"macs": 0.6}, "size": SIZE,
        "int8": False, "runtimes": [], "limit": 1,
    }  # fmt: skip
    done = compress(given, run_directory=tmp_path / "run")
    (row,) = done.content.budgets
    assert row.held
    assert row.achieved > 0.3 * row.before


def test_half_precision_is_near(trained):
    model = open_network(trained / "run").model.eval()
    (image,) = calibration_images(find_dataset(trained / "data", "val"), 1)
    same = HalfPrecision(model)(image).argmax(1) == model(image).argmax(1)
    assert float(same.double().mean()) > 0.98
