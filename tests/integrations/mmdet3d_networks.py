"""MMDetection3D's networks with weights that are all random, and real frames as its preprocessor gives them."""

from __future__ import annotations

import copy
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from within.perception3d.data.kitti import find_kitti
from within.perception3d.data.nuscenes import find_nuscenes
from within.perception3d.data.scene import Scene

DATA = Path(os.environ.get("WITHIN_DATA", "")) / "perception3d"
KITTI_NAMES = ("Pedestrian", "Cyclist", "Car")


def prepare() -> Path:
    """Makes MMDetection3D ready on a CPU, and returns the folder of its configurations."""
    warnings.simplefilter("ignore")
    import mmdet3d
    import spconv.pytorch.ops
    from mmdet3d.utils import register_all_modules

    if not torch.cuda.is_available():
        spconv.pytorch.ops.get_current_stream = lambda: 0  # its gradients ask for a stream of CUDA
    register_all_modules(init_default_scope=True)
    return Path(mmdet3d.__file__).parent / ".mim" / "configs"


def read_config(path: str) -> Any:
    """Returns one of its configurations."""
    from mmengine.config import Config

    return Config.fromfile(prepare() / path)


def build(model: Any, seed: int = 0) -> Any:
    """Returns a network of theirs in evaluation mode, norms and all, with scores that find something."""
    from mmdet3d.registry import MODELS

    torch.manual_seed(seed)
    network = MODELS.build(model)
    network.init_weights()
    randomise(network)
    return network.eval()


def randomise(network: torch.nn.Module) -> None:
    """Draws norms, and weights of the last layers."""
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.8, 1.2)
            torch.nn.init.uniform_(module.bias, -0.1, 0.3)
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
        if name.endswith(("conv_cls", "heatmap.1")):
            torch.nn.init.normal_(module.weight, std=0.05 if name.endswith("conv_cls") else 0.02)
            torch.nn.init.constant_(module.bias, -2.0)
        if name.endswith(("dim.1", "reg.1")):
            torch.nn.init.normal_(module.weight, std=0.005)


def kitti_scene(number: int = 0) -> Scene:
    """Returns a real frame of KITTI."""
    return find_kitti(DATA / "kitti").scene(number)


def nuscenes_scene() -> Scene:
    """Returns a real frame of nuScenes."""
    name = next((DATA / "nuscenes").glob("*.pkl"))
    return find_nuscenes(DATA / "nuscenes", name).scene(0)


def sample_of(scene: Scene, names: tuple[str, ...]) -> Any:
    """Returns a sample of theirs with the objects of a frame."""
    from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    kept = [row for row, name in enumerate(scene.classes) if name in names]
    boxes = torch.from_numpy(scene.boxes[kept].astype(np.float32))
    sample = Det3DDataSample(metainfo={"box_type_3d": LiDARInstance3DBoxes, "sample_idx": 0})
    instances = InstanceData()
    instances.bboxes_3d = LiDARInstance3DBoxes(boxes, box_dim=boxes.shape[1], origin=(0.5, 0.5, 0.5))
    instances.labels_3d = torch.tensor([names.index(scene.classes[row]) for row in kept], dtype=torch.int64)
    sample.gt_instances_3d = instances
    sample.eval_ann_info = None
    return sample


def preprocessed(network: Any, scenes: list[Scene], names: tuple[str, ...]) -> tuple[dict[str, Any], list[Any]]:
    """Returns inputs and samples as their preprocessor gives them."""
    data = {
        "inputs": {"points": [torch.from_numpy(scene.points) for scene in scenes]},
        "data_samples": [sample_of(scene, names) for scene in scenes],
    }
    found = network.data_preprocessor(data, training=network.training)
    return found["inputs"], found["data_samples"]


def head_maps(network: Any, inputs: dict[str, Any]) -> list[dict[str, torch.Tensor]]:
    """Returns their head's maps under our names."""
    inputs = copy.deepcopy(inputs)  # its pillar encoder changes what it is given
    if hasattr(network, "pts_bbox_head"):
        features = network.extract_pts_feat(inputs["voxels"])
        tasks = [task[0] for task in network.pts_bbox_head(features)]
        names = {"reg": "center", "height": "center_z"}
        return [
            {names.get(name, name): value.flip(1) if name == "rot" else value for name, value in task.items()}
            for task in tasks
        ]
    scores, boxes, directions = network.bbox_head(network.extract_feat(inputs))
    return [{"heatmap": scores[0], "boxes": boxes[0], "directions": directions[0]}]


def run_settings(folder, model, classes, work):
    """Returns a configuration of theirs that trains two steps on a CPU and writes detections."""
    from mmengine.config import Config

    load = {"type": "LoadPointsFromFile", "coord_type": "LIDAR", "load_dim": 4, "use_dim": 4}
    pack = {"type": "Pack3DDetInputs", "keys": ["points", "gt_bboxes_3d", "gt_labels_3d"]}
    region = [0, -40, -3, 70.4, 40, 1]

    def loader(split: str, pipeline: list, training: bool) -> dict:
        dataset = {
            "type": "KittiDataset", "data_root": str(folder), "ann_file": f"kitti_infos_{split}.pkl",
            "data_prefix": {"pts": "training/velodyne"}, "pipeline": pipeline, "test_mode": not training,
            "metainfo": {"classes": classes}, "modality": {"use_lidar": True, "use_camera": False},
            "box_type_3d": "LiDAR",
        }  # fmt: skip
        sampler = {"type": "DefaultSampler", "shuffle": training}
        return {"batch_size": 1, "num_workers": 0, "sampler": sampler, "dataset": dataset}

    training = [load, {"type": "LoadAnnotations3D", "with_bbox_3d": True, "with_label_3d": True},
                {"type": "PointsRangeFilter", "point_cloud_range": region},
                {"type": "ObjectRangeFilter", "point_cloud_range": region},
                {"type": "ObjectNameFilter", "classes": list(classes)}, pack]  # fmt: skip
    testing = [load, {"type": "PointsRangeFilter", "point_cloud_range": region}, {**pack, "keys": ["points"]}]
    metric = {
        "type": "KittiMetric", "ann_file": str(folder / "kitti_infos_val.pkl"), "format_only": True,
        "submission_prefix": str(work / "found"), "pklfile_prefix": str(work / "found"),
    }  # fmt: skip
    return Config(
        {
            "custom_imports": {"imports": ["within.perception3d.partners.mmdet3d_registry"]},
            "default_scope": "mmdet3d",
            "model": model,
            "train_dataloader": loader("train", training, True),
            "val_dataloader": loader("val", testing, False),
            "test_dataloader": loader("val", testing, False),
            "train_cfg": {"by_epoch": True, "max_epochs": 1, "val_interval": 1},
            "val_cfg": {},
            "test_cfg": {},
            "optim_wrapper": {"type": "OptimWrapper", "optimizer": {"type": "AdamW", "lr": 1e-4}},
            "val_evaluator": metric,
            "test_evaluator": metric,
            "work_dir": str(work),
            "log_level": "ERROR",
            "experiment_name": work.name,
            "default_hooks": {"checkpoint": {"type": "CheckpointHook", "interval": 1}},
        }
    )
