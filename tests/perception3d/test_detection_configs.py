"""Every configuration is whole and names a network that exists; every published table finds what trains its rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from within.core.cli.configuration import load_config, read_dataclass
from within.core.errors import WithinError
from within.perception3d.ada3d.thinning import Ada3D
from within.perception3d.compress_settings import DetectorCompression
from within.perception3d.detection_settings import DetectionSettings
from within.perception3d.kinds_of_network import is_on_points
from within.perception3d.named_detector import build
from within.perception3d.synthetic_kitti import write_scenes
from within.perception3d.tables import published_detectors
from within.perception3d.train import main as train

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "packages" / "perception3d" / "configs"
DETECTORS = sorted(
    path for folder in ("kitti", "ada3d", "nuscenes", "once") for path in (CONFIGS / folder).glob("*.py")
)
TABLES = sorted(path for path in (ROOT / "tools" / "reproduce").glob("*.py") if "perception3d" in path.read_text())


@pytest.mark.parametrize("path", DETECTORS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_configuration_is_whole(path):
    config = load_config(path).to_dict()
    if path.stem == "compress":
        assert read_dataclass(DetectorCompression, config, str(path)).fraction == 0.2
        return
    settings = read_dataclass(DetectionSettings, config, str(path))
    with torch.device("meta"):
        network = build(settings.network, **settings.arguments)
    assert isinstance(network, Ada3D) == (settings.stage != "detector")
    assert settings.schedule.steps(1000) > 0
    assert not is_on_points(config)


def test_stages_of_ada3d_follow_each_other():
    first, second, third = (
        read_dataclass(DetectionSettings, load_config(CONFIGS / "ada3d" / name).to_dict(), name)
        for name in ("1_detector.py", "2_importance.py", "3_tuning_b.py")
    )
    assert second.weights == f"runs/{first.name}"
    assert third.weights == f"runs/{second.name}"
    assert (first.schedule.epochs, second.schedule.epochs, third.schedule.epochs) == (80, 30, 40)
    assert third.arguments["drop_rates"]["voxels"] == {"1": 0.75, "3": 0.75}


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_every_row_of_a_table_can_be_trained(path):
    table = load_config(path)
    names = set()
    for row in table.rows:
        config = CONFIGS / row["config"]
        assert config.is_file(), row["name"]
        if "." not in row["weights"]:
            assert load_config(config).name == row["weights"], row["name"]
        assert row["name"] not in names
        names.add(row["name"])
        assert row["published"] > 0


def test_a_table_is_measured_on_the_users_runs(tmp_path):
    write_scenes(tmp_path / "kitti", 5, seed=2)
    tiny = {"norm": "spatial_sparse", "execution": "sparse", "blocks": [[0, 8, 1, 1, 8]], "head_width": 8,
            "widths": [4, 4, 4], "top_width": 8}  # fmt: skip
    train(
        {"name": "x", "network": "center_point_small", "data": str(tmp_path / "kitti"), "arguments": tiny,
         "schedule": {"iterations": 1, "batch_size": 1}, "validation_split": None},
        run_directory=tmp_path / "runs" / "center_point_kitti",
    )  # fmt: skip
    table = load_config(ROOT / "tools" / "reproduce" / "ada3d_kitti.py")
    found = published_detectors(table, tmp_path)
    rows = {row[0]: row for row in found.rows}
    assert rows["CenterPoint, mAP"][3] is not None
    assert rows["B, mAP"][3] is None
    assert "3_tuning_b.py" in rows["B, mAP"][-1]
    with pytest.raises(WithinError, match="None of the 20 rows can be measured"):
        published_detectors(table, tmp_path / "kitti")
