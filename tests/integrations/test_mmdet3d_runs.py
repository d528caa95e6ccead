"""MMDetection3D's configurations run end to end with our modules in them, and its data sets read our information files.

Skipped where MMDetection3D is not installed; `make test-mmdet3d` sets it up.
"""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from tests.integrations import mmdet3d_networks as theirs
from torch import nn

from within.perception3d.data.info_files import read_info_file, write_info_file
from within.perception3d.data.kitti import find_kitti
from within.perception3d.data.kitti_export import openpcdet_infos
from within.perception3d.data.kitti_infos import openpcdet_to_v2
from within.perception3d.models.bev_layers import SpatialSparseNorm

pytest.importorskip("mmdet3d", reason="MMDetection3D is not installed; run make test-mmdet3d", exc_type=ImportError)
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not (theirs.DATA / "kitti").is_dir(), reason="the real frames are not there"),
]
PILLARS = "pointpillars/pointpillars_hv_secfpn_8xb6-160e_kitti-3d-3class.py"
SECOND = "second/second_hv_secfpn_8xb6-80e_kitti-3d-3class.py"
CENTER_POINT = "centerpoint/centerpoint_voxel01_second_secfpn_8xb4-cyclic-20e_nus-3d.py"
SPBN = {"type": "SPBN", "eps": 1e-3, "momentum": 0.01}


def registry():
    """Registers our networks."""
    theirs.prepare()
    import within.perception3d.partners.mmdet3d_registry as found

    return found


def coarse(model, factor: int):
    """Returns a model with voxels larger by a factor on the ground, for the sake of time."""
    layer = model.data_preprocessor.voxel_layer
    layer.voxel_size = [layer.voxel_size[0] * factor, layer.voxel_size[1] * factor, layer.voxel_size[2]]
    if "voxel_encoder" in model and "voxel_size" in model.voxel_encoder:
        model.voxel_encoder.voxel_size = layer.voxel_size
    if "sparse_shape" in model.middle_encoder:
        depth, height, width = model.middle_encoder.sparse_shape
        model.middle_encoder.sparse_shape = [depth, height // factor, width // factor]
    else:
        model.middle_encoder.output_shape = [size // factor for size in model.middle_encoder.output_shape]
    return model


def swapped(model, **changes):
    """Returns a model with our modules in the places of theirs."""
    model.middle_encoder.type = (
        "WithinVoxelBackbone" if model.middle_encoder.type == "SparseEncoder" else "WithinPillarScatter"
    )
    model.backbone.type, model.neck.type = "WithinBevBackbone", "WithinBevNeck"
    model.middle_encoder.update(changes.get("middle_encoder", {}))
    model.backbone.update(changes.get("backbone", {}))
    model.neck.update(changes.get("neck", {}))
    return model


@pytest.mark.parametrize(("path", "factor"), [(PILLARS, 2), (SECOND, 4)])
def test_losses_and_gradients_are_those_of_their_modules(path, factor):
    """Same weights, same frame, training mode: would catch another batch norm, or a gradient that stops."""
    registry()
    config = theirs.read_config(path)
    scene = theirs.kitti_scene(5)
    losses, gradients = [], []
    first = theirs.build(coarse(config.model, factor)).train()
    second = theirs.build(
        swapped(coarse(theirs.read_config(path).model, factor), middle_encoder={"execution": "dense"}), seed=1
    ).train()
    state = {key: value.movedim(0, -1) if value.dim() == 5 else value for key, value in first.state_dict().items()}
    second.load_state_dict(state)
    for network in (first, second):
        inputs, samples = theirs.preprocessed(network, [scene], tuple(config.class_names))
        found = network.loss(inputs, samples)
        total, values = network.parse_losses(found)
        total.backward()
        losses.append({key: float(value) for key, value in values.items()})
        gradients.append({name: float(each.grad.norm()) for name, each in network.bbox_head.named_parameters()})
        deepest = [*network.voxel_encoder.parameters(), *network.middle_encoder.parameters()][0]
        gradients[-1]["deepest"] = float(deepest.grad.norm())
    assert losses[0].keys() == losses[1].keys()
    for key, value in losses[0].items():
        assert losses[1][key] == pytest.approx(value, rel=1e-4), key
    for key, value in gradients[0].items():
        assert value > 0
        assert gradients[1][key] == pytest.approx(value, rel=0.05), key  # rounding grows through the norms


def test_gradients_in_double_precision():
    """Without rounding in the way: those of our scatter, 2-D backbone and neck are theirs to twelve digits."""
    registry()
    config = theirs.read_config(PILLARS)
    first = theirs.build(coarse(config.model, 2)).train().double()
    ours = swapped(coarse(theirs.read_config(PILLARS).model, 2), middle_encoder={"execution": "dense"})
    second = theirs.build(ours, seed=1).train().double()
    second.load_state_dict(first.state_dict())
    gradients = []
    for network in (first, second):
        inputs, _ = theirs.preprocessed(network, [theirs.kitti_scene(5)], theirs.KITTI_NAMES)
        inputs["voxels"]["voxels"] = inputs["voxels"]["voxels"].double()
        features = network.extract_feat(inputs)[0]
        weight = torch.randn(features.shape, generator=torch.Generator().manual_seed(0)).double()
        (features * weight).sum().backward()
        parts = (network.voxel_encoder, network.backbone, network.neck)
        gradients.append([each.grad for part in parts for each in part.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert float((one - other).norm() / one.norm()) < 1e-12


@pytest.mark.parametrize("execution", ["masked", "sparse"])
def test_spbn_keeps_maps_sparse_through_their_configuration(execution):
    registry()
    changes = {"middle_encoder": {"execution": execution}, "backbone": {"norm_cfg": SPBN}, "neck": {"norm_cfg": SPBN}}
    config = theirs.read_config(SECOND)
    network = theirs.build(swapped(coarse(config.model, 4), **changes)).train()
    assert sum(isinstance(each, SpatialSparseNorm) for each in network.modules()) == 14
    inputs, samples = theirs.preprocessed(network, [theirs.kitti_scene(5)], tuple(config.class_names))
    total, _ = network.parse_losses(network.loss(inputs, samples))
    total.backward()
    assert torch.isfinite(total)
    assert all(each.grad is not None for each in network.backbone.parameters())
    network.eval()
    with torch.no_grad():
        assert network.predict(inputs, samples)[0].pred_instances_3d.scores_3d.min() > 0.1


def test_spbn_is_a_norm_of_their_own_layers():
    """`norm_cfg=dict(type="SPBN")` in their SECOND, with nothing else of ours."""
    registry()
    model = coarse(theirs.read_config(SECOND).model, 4)
    model.backbone.norm_cfg = model.neck.norm_cfg = SPBN
    network = theirs.build(model)
    assert sum(isinstance(each, SpatialSparseNorm) for each in network.modules()) == 14
    assert network.backbone.blocks[0][1].eps == 1e-3
    image = torch.zeros(1, 256, 16, 16)
    image[:, :, 4:6, 4:6] = 1
    assert (network.backbone(image)[0] != 0).any(1).sum() < 16 * 16


@pytest.fixture(scope="module")
def kitti_folder(tmp_path_factory):
    """KITTI's folder in their form: information files written by us beside the real frames."""
    folder = tmp_path_factory.mktemp("kitti")
    (folder / "training").symlink_to(theirs.DATA / "kitti" / "training")
    infos = openpcdet_to_v2(openpcdet_infos(find_kitti(theirs.DATA / "kitti").take([0, 5])))
    for split in ("train", "val"):
        write_info_file(folder / f"kitti_infos_{split}.pkl", infos)
    return folder


def test_their_data_set_reads_our_information_files(kitti_folder):
    theirs.prepare()
    from mmdet3d.registry import DATASETS

    found = DATASETS.build(
        {
            "type": "KittiDataset", "data_root": str(kitti_folder), "ann_file": "kitti_infos_train.pkl",
            "data_prefix": {"pts": "training/velodyne"}, "pipeline": [], "test_mode": False,
            "metainfo": {"classes": theirs.KITTI_NAMES}, "modality": {"use_lidar": True, "use_camera": False},
        }
    )  # fmt: skip
    assert len(found) == 2
    for index, number in enumerate((0, 5)):
        scene = theirs.kitti_scene(number)
        kept = [row for row, name in enumerate(scene.classes) if name in theirs.KITTI_NAMES]
        information = found.get_data_info(index)
        boxes = information["ann_info"]["gt_bboxes_3d"]
        labels = information["ann_info"]["gt_labels_3d"]
        assert [theirs.KITTI_NAMES[label] for label in labels if label >= 0] == [scene.classes[row] for row in kept]
        own = torch.cat([boxes.gravity_center, boxes.tensor[:, 3:]], dim=1).numpy()[labels >= 0]
        angle = (own[:, 6] - scene.boxes[kept][:, 6] + np.pi) % (2 * np.pi) - np.pi
        np.testing.assert_allclose(own[:, :6], scene.boxes[kept][:, :6], atol=1e-3)
        np.testing.assert_allclose(angle, 0, atol=2e-2)  # theirs turns the corners, ours the angle alone


def test_their_information_files_go_through_ours(tmp_path):
    for name in ("kitti_infos_train",):
        path = theirs.DATA / "mmdet3d_infos" / f"{name}.pkl"
        write_info_file(tmp_path / "again.pkl", read_info_file(path))
        first, second = (pickle.loads(each.read_bytes()) for each in (path, tmp_path / "again.pkl"))
        assert first == second


ADA3D = {
    "type": "WithinDetector",
    "variant": "center_point_small",
    "class_names": list(theirs.KITTI_NAMES),
    "arguments": {
        "norm": "spatial_sparse",
        "execution": "sparse",
        "drop_rates": {"voxels": {"1": 0.75}, "pixels": {"1": 0.5}},
    },
}


@pytest.mark.parametrize("which", ["PointPillars with our modules", "Ada3D as a whole", "its importance predictor"])
def test_their_runner_trains_validates_and_saves(which, kitti_folder, tmp_path):
    from mmengine.runner import Runner

    registry()
    if which.startswith("PointPillars"):
        model = swapped(coarse(theirs.read_config(PILLARS).model, 2), middle_encoder={"execution": "dense"})
    else:
        model = {**ADA3D, "stage": "detector" if which.startswith("Ada3D") else "importance"}
    runner = Runner.from_cfg(theirs.run_settings(kitti_folder, model, theirs.KITTI_NAMES, tmp_path / "work"))
    before = {name: value.clone() for name, value in runner.model.named_parameters()}
    runner.train()
    changed = [name for name, value in runner.model.named_parameters() if not torch.equal(value, before[name])]
    assert changed
    if which.startswith("its"):
        assert all(name.startswith("network.predictor") for name in changed)
    saved = tmp_path / "work" / "epoch_1.pth"
    assert saved.is_file()
    if which.startswith("PointPillars"):
        from within.perception3d.partners.mmdet3d_config import read_mmdet3d_config

        plain = theirs.read_config(PILLARS)
        network = read_mmdet3d_config({"model": coarse(plain.model, 2).to_dict(), "class_names": plain.class_names})
        ours = network.build(saved)  # a training checkpoint of theirs, opened by ours
        weight = runner.model.backbone.blocks[0][0].convolution.weight
        assert torch.equal(ours.bev.blocks[0][0].convolution.weight, weight.cpu())


def test_the_whole_detector_takes_their_labels(kitti_folder):
    """Labels go by name: our variant has another order of classes than the data set."""
    found = registry()
    model = {key: value for key, value in ADA3D.items() if key != "type"}
    detector = found.WithinDetector(**model)
    assert detector.network.classes == ("Car", "Pedestrian", "Cyclist")
    scene = theirs.kitti_scene(5)
    inputs, samples = theirs.preprocessed(detector, [scene], theirs.KITTI_NAMES)
    boxes, labels = detector._targets(samples)
    kept = [row for row, name in enumerate(scene.classes) if name in theirs.KITTI_NAMES]
    assert [detector.network.classes[label] for label in labels[0]] == [scene.classes[row] for row in kept]
    np.testing.assert_allclose(boxes[0, :, :7].numpy(), scene.boxes[kept], atol=1e-5)
    head = detector.network.detector.head
    for task in head.tasks:
        nn.init.constant_(task["heatmap"].output.bias, 0.0)
    detector.eval()
    with torch.no_grad():
        result = detector.predict(inputs, samples)[0].pred_instances_3d
    assert len(result.scores_3d) > 0
    assert set(result.labels_3d.tolist()) <= {0, 1, 2}


def test_center_point_of_nuscenes_trains_with_our_modules():
    registry()
    config = theirs.read_config(CENTER_POINT)
    model = config.model
    for key, kind in (("pts_middle_encoder", "WithinVoxelBackbone"), ("pts_backbone", "WithinBevBackbone"),
                      ("pts_neck", "WithinBevNeck")):  # fmt: skip
        model[key].type = kind
    network = theirs.build(model).train()
    scene = theirs.nuscenes_scene()
    inputs, samples = theirs.preprocessed(network, [scene], tuple(config.class_names))
    total, _ = network.parse_losses(network.loss(inputs, samples))
    total.backward()
    assert torch.isfinite(total)
    assert all(each.grad is not None for each in network.pts_middle_encoder.parameters())
