"""The way of a user: generate, train, predict importance, compress, evaluate, export, time; and what goes wrong."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from within.core.checkpoint import load_state
from within.core.errors import WithinError
from within.perception3d.cli import app
from within.perception3d.compress import main as compress
from within.perception3d.data.kitti import find_kitti
from within.perception3d.eval import detect, evaluate
from within.perception3d.eval import main as evaluate_as_configured
from within.perception3d.models.folding import dense_bev
from within.perception3d.named_detector import build, open_detector
from within.perception3d.scene_sources import find_scenes
from within.perception3d.synthetic_kitti import write_scenes
from within.perception3d.train import main as train

TINY = {
    "norm": "spatial_sparse", "execution": "sparse", "reach": "stay", "blocks": [[2, 8, 1, 2, 8]], "head_width": 8,
    "widths": [4, 4, 8], "top_width": 8,
}  # fmt: skip
PLACES = [[1], [0, 2]]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 5, seed=1)
    return folder


@pytest.fixture(scope="module")
def trained(scenes, tmp_path_factory):
    """Returns the run of a detector and of its importance predictor."""
    folder = tmp_path_factory.mktemp("runs")
    base = {
        "network": "center_point_small", "data": str(scenes), "validate_every": 100, "loss": {"nearest": True},
        "schedule": {"iterations": 3, "batch_size": 2},
    }  # fmt: skip
    train({**base, "name": "detector", "arguments": TINY}, run_directory=folder / "detector")
    train(
        {**base, "name": "importance", "arguments": {**TINY, "places": PLACES}, "stage": "importance",
         "weights": str(folder / "detector"), "validation_split": None},
        run_directory=folder / "importance",
    )  # fmt: skip
    return folder


def run(*words):
    """Runs a command and returns what it printed as JSON."""
    found = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def test_a_run_directory_holds_all(trained):
    for name in ("config.py", "plan.json", "model.safetensors", "last.safetensors", "training.json"):
        assert (trained / "detector" / name).is_file()
    first, second = open_detector(trained / "detector").model, open_detector(trained / "importance").model
    for name, value in first.state_dict().items():  # the stage `importance` leaves the detector as it was
        assert torch.equal(value, second.detector.state_dict()[name])


@pytest.mark.parametrize("stage", ["tuning", "importance"])
def test_what_a_stage_changes(trained, scenes, tmp_path, stage):
    """The tuning changes the detector alone, the importance the predictor alone, with places dropped as without."""
    settings = {
        "name": stage, "network": "center_point_small", "data": str(scenes), "stage": stage,
        "weights": str(trained / "importance"), "validation_split": None, "importance": {"boxes": True},
        "arguments": {**TINY, "places": PLACES, "drop_rates": {"voxels": {1: 0.7}, "pixels": {0: 0.8, 2: 0.6}}},
        "schedule": {"iterations": 1, "batch_size": 2}, "loss": {"nearest": True},
    }  # fmt: skip
    train(settings, run_directory=tmp_path)
    before, after = (open_detector(run).model.state_dict() for run in (trained / "importance", tmp_path))
    moved = {name.partition(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved == {"detector" if stage == "tuning" else "predictor"}


def test_evaluation_needs_no_configuration(trained, scenes, tmp_path):
    found = run(
        "eval", "-w", trained / "detector", "--data", scenes, "--split", "all", "--limit", 3, "--save", tmp_path
    )
    assert found["frames"] == 3
    assert len(list(tmp_path.glob("*.txt"))) == 3
    assert set(found["average_precision"]) == {"Car", "Pedestrian", "Cyclist"}


def test_interrupted_training_ends_where_the_other_does(scenes, tmp_path):
    settings = {
        "name": "a", "network": "center_point_small", "data": str(scenes), "arguments": TINY, "validation_split": None,
        "schedule": {"iterations": 4, "batch_size": 2}, "checkpoint_every": 2,
    }  # fmt: skip
    train(settings, run_directory=tmp_path / "whole")
    with pytest.raises(WithinError, match=r"not empty|checkpoints"):
        train(settings, run_directory=tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "broken")
    for path in sorted((tmp_path / "broken" / "checkpoints").iterdir()):
        if "4" in path.name:
            path.unlink()
    for name in ("model.safetensors", "last.safetensors", "plan.json", "training.json"):
        (tmp_path / "broken" / name).unlink()
    train(settings, run_directory=tmp_path / "broken", resume=True)
    states = [load_state(tmp_path / name / "model.safetensors") for name in ("whole", "broken")]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_compression_keeps_its_budget_and_reports(trained, scenes, tmp_path):
    job = {
        "network": str(trained / "importance"), "data": str(scenes), "macs": 0.6, "widths": [1, 0.5], "scenes": 1,
        "levels": [1, 0.5], "tuning": {"iterations": 2, "batch_size": 2, "division": 1}, "timed": 1, "pictures": 1,
        "loss": {"nearest": True},
    }  # fmt: skip
    found = compress(job, run_directory=tmp_path / "small")
    assert found.solution.cost <= 0.6 * found.solution.dense_cost
    page = (tmp_path / "small" / "report.html").read_text()
    assert "What is dropped" in page
    assert page.count("data:image/png") >= 3
    again = open_detector(tmp_path / "small").model
    for name, value in found.model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    with pytest.raises(WithinError, match="No drop rates keep macs"):
        compress({**job, "macs": 0.001}, run_directory=tmp_path / "never")
    with pytest.raises(WithinError, match="predicts no importance"):
        compress({**job, "network": str(trained / "detector")}, run_directory=tmp_path / "wrong")
    with pytest.raises(WithinError, match="what may be spent"):
        compress({**job, "latency": 0.5}, run_directory=tmp_path / "two")


def test_export_folds_norms_and_runs(trained, tmp_path):
    found = run("export", trained / "detector", tmp_path / "a.onnx")
    reading = json.loads((tmp_path / "a.json").read_text())
    assert reading["outputs"] == found["outputs"] == ["heatmap", "center", "center_z", "dim", "rot"]
    detector = open_detector(trained / "detector").model
    image = torch.rand(found["input_shape"]) * (torch.rand(1, 1, *found["input_shape"][2:]) < 0.1)
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"map": image.numpy()})
    with torch.no_grad():
        for name, one, two in zip(found["outputs"], dense_bev(detector)(image), outputs, strict=True):
            np.testing.assert_allclose(one.numpy(), two, atol=1e-4, err_msg=name)
        expected = detector.eval().head(detector.bev(image))[0]
        torch.testing.assert_close(torch.from_numpy(outputs[0]), expected["heatmap"], atol=1e-4, rtol=0)
    kinds = {node.op_type for node in __import__("onnx").load(tmp_path / "a.onnx").graph.node}
    assert "BatchNormalization" not in kinds


def test_timing_says_what_is_computed(trained, scenes):
    found = run("bench", trained / "detector", "--data", scenes, "--split", "all", "--limit", 1, "--repeats", 1)
    assert set(found) == {"dense", "masked", "sparse"}
    assert found["sparse"]["macs"]["head"] < 0.5 * found["dense"]["macs"]["head"]
    assert found["dense"]["macs"]["3d"] == found["sparse"]["macs"]["3d"]


def test_generated_frames_are_kept(scenes):
    before = {path: path.stat().st_mtime_ns for path in (scenes / "training").rglob("*.bin")}
    assert run("generate", scenes, "--count", 5, "--seed", 1)["frames"] == 5
    assert before == {path: path.stat().st_mtime_ns for path in (scenes / "training").rglob("*.bin")}


def test_every_network_is_listed():
    rows = {row["name"]: row for row in run("networks")["networks"]}
    assert rows["center_point_kitti"]["parameters"] == 4_199_467
    assert rows["center_point_kitti"]["dense MACs"] == 88_553_062_400


def test_what_is_wrong_is_said(scenes, tmp_path, data):
    with pytest.raises(WithinError, match="no data set that is known"):
        find_scenes(tmp_path)
    with pytest.raises(WithinError, match="no list of the part 'test'"):
        find_scenes(scenes, "test")
    with pytest.raises(WithinError, match="did you mean point_pillars_kitti"):
        build("point_pillar_kitti")
    with pytest.raises(WithinError, match="needs a network that predicts importance"):
        train({"name": "a", "network": "center_point_small", "data": str(scenes), "stage": "tuning",
               "schedule": {"epochs": 1}})  # fmt: skip
    with pytest.raises(WithinError, match="no run directory"):
        evaluate_as_configured({"data": str(scenes), "network": str(tmp_path)})


def test_damaged_frames_are_named(scenes, tmp_path):
    frames = find_kitti(scenes, "all").take([0])
    network = build("center_point_small", **TINY).eval()
    folder = tmp_path / "training"
    for part, name in (("velodyne", "000000.bin"), ("calib", "000000.txt"), ("label_2", "000000.txt")):
        (folder / part).mkdir(parents=True)
        (folder / part / name).write_bytes((frames.folder / part / name).read_bytes())
    points = np.fromfile(folder / "velodyne" / "000000.bin", np.float32)
    far = points.reshape(-1, 4).copy()
    far[:, 2] += 500
    far.tofile(folder / "velodyne" / "000000.bin")
    here = find_kitti(tmp_path, "all", in_image=False)
    with pytest.raises(WithinError, match=r"None of .* points lies in the region.*000000"):
        list(detect(network, here))
    (folder / "velodyne" / "000000.bin").write_bytes(points.tobytes()[:-3])
    with pytest.raises(WithinError, match="no whole number of points"):
        list(detect(network, here))
    (folder / "calib" / "000000.txt").unlink()
    with pytest.raises(WithinError, match="calibration"):
        here.scene(0)


def test_nuscenes_is_read_and_scored(data, tmp_path):
    """One real keyframe through an untrained network; its own boxes as detections are worth everything there is."""
    source = data("perception3d") / "nuscenes"
    (tmp_path / "samples" / "LIDAR_TOP").mkdir(parents=True)
    for path in source.iterdir():
        target = (
            tmp_path / "nuscenes_infos_val.pkl"
            if path.suffix == ".pkl"
            else tmp_path / "samples" / "LIDAR_TOP" / path.name
        )
        target.symlink_to(path)
    frames = find_scenes(tmp_path, "val")
    network = build("center_point_nuscenes_pillars").eval()
    found = evaluate(network, frames.take([0]))
    assert found.frames == 1
    assert set(found.summary()) > {"mAP", "NDS", "car", "barrier"}
    assert found.table().rows
