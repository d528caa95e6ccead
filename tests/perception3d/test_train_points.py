"""Training and evaluation of point networks, on small data in the fields' formats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.perception3d.point_data import small_kitti, small_rooms, small_shapes

from within.core.cli.configuration import load_config, read_dataclass
from within.core.errors import WithinError
from within.perception3d.pvcnn import eval as evaluation
from within.perception3d.pvcnn.named_network import open_network
from within.perception3d.pvcnn.registry import names, variant
from within.perception3d.pvcnn.train import main
from within.perception3d.pvcnn.training_settings import PointSchedule, PointTrainingSettings
from within.perception3d.pvcnn.voting import Votes, vote

CONFIGS = Path(__file__).parents[2] / "packages" / "perception3d" / "configs" / "pvcnn"


def test_every_variant_with_a_published_figure_has_a_configuration():
    found = {}
    for path in sorted(CONFIGS.glob("*.py")):
        settings = read_dataclass(PointTrainingSettings, load_config(path).to_dict(), str(path))
        assert path.stem == settings.name
        assert settings.schedule.batch_size in (24, 32)
        found[settings.network] = settings
    assert {name for name in names() if variant(name).published} <= set(found)
    assert found["pvcnn_s3dis_c1"].schedule.epochs == 50
    assert found["pvcnn_s3dis_c1"].schedule.optimizer["weight_decay"] == 1e-5
    assert found["frustum_pvcnn_e"].schedule.epochs == 209
    assert found["pointnet_shapenet"].normals is False


def test_rooms_are_learnt_and_the_best_weights_kept(tmp_path):
    """Colour tells the classes apart: chance is a third, and few steps do better."""
    data = small_rooms(tmp_path / "data", side=1.6, points=500)
    settings = {
        "name": "rooms", "network": "pvcnn_s3dis_c0p125", "data": str(data), "points": 256, "validate_every": 5,
        "arguments": {"resolution": 0.25},
        "schedule": {"iterations": 20, "batch_size": 4, "optimizer": {"type": "Adam", "lr": 1e-2}, "workers": 0},
    }  # fmt: skip
    result = main(settings, run_directory=tmp_path / "run")
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    assert best["overall accuracy"] > 60
    assert best["mean IoU"] == max(figures["mean IoU"] for _, figures in result.metrics)
    again = evaluation.main({"data": str(data), "network": str(tmp_path / "run"), "points": 256, "device": "cpu"})
    assert again.figures == pytest.approx(best)
    assert [row[0] for row in again.rows][:3] == ["clutter", "ceiling", "floor"]
    assert again.table().rows == again.rows
    assert (tmp_path / "run" / "last.safetensors").is_file()


def test_interrupted_training_ends_with_the_same_weights(tmp_path):
    data = small_shapes(tmp_path / "data")
    settings = {
        "name": "parts", "network": "pvcnn_shapenet_c0p125", "data": str(data), "points": 64, "validate_every": 0,
        "arguments": {"resolution": 0.25}, "schedule": {"iterations": 4, "batch_size": 4, "workers": 0},
        "checkpoint_every": 2,
    }  # fmt: skip
    whole = main(settings, run_directory=tmp_path / "whole").model.state_dict()
    main(settings, run_directory=tmp_path / "parts")
    for path in (tmp_path / "parts" / "checkpoints").glob("*4*"):
        path.unlink()
    again = main(settings, run_directory=tmp_path / "parts", resume=True)
    assert again.resumed_from == 2
    resumed = again.model.state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    found = evaluation.main({"data": str(data), "network": str(tmp_path / "whole"), "points": 64, "votes": 2})
    assert set(found.details["categories"]) == {"Lamp", "Mug"}


def test_frustums_are_trained_and_evaluated(tmp_path):
    data = small_kitti(tmp_path / "data")
    settings = {
        "name": "frustums", "network": "frustum_pvcnn_e", "data": str(data), "points": 128, "validate_every": 1,
        "copies": 2, "log_every": 1, "arguments": {"width": 0.125, "object_points": 64},
        "schedule": {"iterations": 3, "batch_size": 4, "workers": 0},
    }  # fmt: skip
    result = main(settings, run_directory=tmp_path / "run")
    assert len(result.losses) == 3
    assert all(np.isfinite(loss) for _, loss in result.losses)
    assert {name for _, figures in result.metrics for name in figures} >= {"class mean accuracy", "mean overlap"}
    boxes = tmp_path / "boxes.txt"
    labels = [line.split() for line in (data / "training" / "label_2" / "000002.txt").read_text().splitlines()]
    numbers = {"Pedestrian": 1, "Car": 2}
    boxes.write_text("".join(f"x/000002.png {numbers[each[0]]} 0.9 {' '.join(each[4:8])}\n" for each in labels))
    found = evaluation.main(
        {"data": str(data), "network": str(tmp_path / "run"), "points": 128, "detections": str(boxes),
         "save": str(tmp_path / "found"), "device": "cpu"}
    )  # fmt: skip
    assert "Car moderate AP" in found.figures
    assert len((tmp_path / "found" / "000002.txt").read_text().splitlines()) == 3


def test_votes_keep_the_most_confident_answer():
    votes = Votes.none(4)
    votes.add(np.array([0, 0, 2]), np.array([0.4, 0.9, 0.5], np.float32), np.array([1, 2, 3]))
    votes.add(np.array([2, 3, 3]), np.array([0.4, 0.3, 0.2], np.float32), np.array([5, 6, 7]))
    assert votes.classes.tolist() == [2, -1, 3, 6]


def test_voting_sees_every_point_and_answers_only_what_is_allowed():
    """A network that reads the class off the first channel is heard for every point."""

    class Reader(torch.nn.Module):
        def forward(self, clouds):
            return 10 * torch.nn.functional.one_hot(clouds[:, 0].long(), 6).movedim(2, 1).float()

    features = np.arange(50, dtype=np.float32)[None] % 6
    generator = np.random.default_rng(0)
    found = vote(Reader(), features, points=16, rounds=1, generator=generator)
    assert np.array_equal(found.classes, features[0].astype(int))
    found = vote(Reader(), features, points=16, rounds=5, classes=range(2, 4), generator=generator)
    assert set(found.classes.tolist()) <= {2, 3}
    assert (found.classes[features[0] == 3] == 3).all()


def test_settings_that_cannot_be_are_named(tmp_path):
    with pytest.raises(WithinError, match="epochs or iterations"):
        PointSchedule()
    with pytest.raises(WithinError, match="cannot be normalised"):
        PointSchedule(epochs=1, batch_size=1)
    with pytest.raises(WithinError, match="no setting 'epoch'"):
        main({"name": "x", "network": "pvcnn_s3dis_c1", "data": str(tmp_path), "schedule": {"epoch": 1}})
    with pytest.raises(WithinError, match="Nothing says which network"):
        open_network()
