"""Our detectors against MMDetection3D's own, with the same weights on real frames; skipped where that is not installed.

`make test-mmdet3d` sets it up and runs them.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tests.integrations import mmdet3d_networks as theirs

from within.core.checkpoint import load_into
from within.perception3d.eval import decoded
from within.perception3d.partners.mmdet3d_config import read_mmdet3d_config
from within.perception3d.training_scenes import network_inputs as our_inputs
from within.perception3d.weights import from_mmdet3d, load_mmdet3d, save_mmdet3d, to_mmdet3d

pytest.importorskip("mmdet3d", reason="MMDetection3D is not installed; run make test-mmdet3d", exc_type=ImportError)
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not (theirs.DATA / "kitti").is_dir(), reason="the real frames are not there"),
]

NETWORKS = {
    "PointPillars": "pointpillars/pointpillars_hv_secfpn_8xb6-160e_kitti-3d-3class.py",
    "SECOND": "second/second_hv_secfpn_8xb6-80e_kitti-3d-3class.py",
    "CenterPoint pillars": "centerpoint/centerpoint_pillar02_second_secfpn_8xb4-cyclic-20e_nus-3d.py",
    "CenterPoint voxels 0.1": "centerpoint/centerpoint_voxel01_second_secfpn_8xb4-cyclic-20e_nus-3d.py",
    "CenterPoint voxels 0.075": "centerpoint/centerpoint_voxel0075_second_secfpn_8xb4-cyclic-20e_nus-3d.py",
}


@pytest.fixture(scope="module", params=NETWORKS)
def pair(request):
    """A network of theirs, ours with its weights, what the configuration says, frames and its inputs."""
    path = theirs.prepare() / NETWORKS[request.param]
    config = theirs.read_config(NETWORKS[request.param])
    network = theirs.build(config.model)
    found = read_mmdet3d_config(path)
    ours = found.build().eval()
    load_into(ours, from_mmdet3d(network.state_dict(), ours, plain_neck=found.plain_neck), where=request.param)
    kitti = "kitti" in NETWORKS[request.param]
    scenes = [theirs.kitti_scene(0), theirs.kitti_scene(5)] if kitti else [theirs.nuscenes_scene()]
    inputs, samples = theirs.preprocessed(network, scenes, tuple(config.class_names))
    return request.param, network, ours, found, scenes, inputs, samples


def test_the_heads_give_equal_maps(pair, record_property):
    from within.perception3d.partners.mmdet3d_detector import network_inputs

    name, network, ours, _, _, inputs, _ = pair
    with torch.no_grad():
        expected, maps = theirs.head_maps(network, inputs), ours(*network_inputs(inputs))
    assert len(expected) == len(maps)
    largest = 0.0
    for other, own in zip(expected, maps, strict=True):
        assert set(other) == set(own)
        for key, value in other.items():
            assert own[key].shape == value.shape, key
            assert value.std() > 1e-3, f"{key} is flat: the comparison would say nothing"
            largest = max(largest, float((own[key] - value).abs().max()))
    print(f"\n{name}: largest difference of the head's maps {largest:.2e}")
    record_property("largest_difference", largest)
    assert largest < 1e-4


def test_voxels_are_equal(pair):
    from within.perception3d.partners.mmdet3d_detector import network_inputs

    _, _, ours, _, scenes, inputs, _ = pair
    own = our_inputs([scene.points for scene in scenes], ours.grid, ours.columns)
    for first, second in zip(own, network_inputs(inputs), strict=True):
        assert torch.equal(first, second)


def test_final_boxes_are_equal(pair):
    from within.perception3d.partners.mmdet3d_detector import network_inputs

    name, network, ours, found, _, inputs, samples = pair
    with torch.no_grad():
        results = network.predict(copy.deepcopy(inputs), samples)
        own = decoded(ours, ours(*network_inputs(inputs)), found.decoding)
    for other, mine in zip(results, own, strict=True):
        instances = other.pred_instances_3d
        boxes = torch.cat([instances.bboxes_3d.gravity_center, instances.bboxes_3d.tensor[:, 3:]], dim=1).numpy()
        scores, labels = instances.scores_3d.numpy(), instances.labels_3d.numpy()
        assert len(mine) == len(boxes) >= 10
        # Boxes with scores that differ by a rounding may change places, so each is looked for by all its numbers; and
        # where the frame is empty many score the same, so that either may be the last to stay.
        rows = [
            np.concatenate([each, 10 * kinds[:, None], 10 * chances[:, None]], axis=1)
            for each, kinds, chances in ((boxes, labels, scores), (mine.boxes, mine.labels, mine.scores))
        ]
        away = np.abs(rows[1][:, None] - rows[0][None]).max(2)
        nearest, equal = away.min(1), away.min(1) < 1e-3
        print(
            f"\n{name}: {equal.sum()} of {len(mine)} boxes, largest difference of a number {nearest[equal].max():.2e}"
        )
        assert equal.mean() >= 0.98
        assert len(set(away.argmin(1)[equal])) == equal.sum()
        for row in np.flatnonzero(~equal):
            assert (np.abs(mine.scores - mine.scores[row]) < 1e-6).sum() > 1, "it has no equal that took its place"


def test_weights_go_out_and_in(pair, tmp_path):
    _, network, ours, found, _, _, _ = pair
    state = to_mmdet3d(ours, plain_neck=found.plain_neck)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert sorted(state) == sorted(before)
    with torch.no_grad():
        for value in network.state_dict().values():
            value.zero_()
    network.load_state_dict(state)
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())
    torch.save({"meta": {}, "state_dict": network.state_dict()}, tmp_path / "theirs.pth")
    save_mmdet3d(ours, tmp_path / "ours.pth", plain_neck=found.plain_neck)
    for file in ("theirs.pth", "ours.pth"):  # as spconv 2 keeps them in memory, and as spconv 1 does
        fresh = found.build()
        load_mmdet3d(fresh, tmp_path / file, plain_neck=found.plain_neck)
        assert all(torch.equal(value, ours.state_dict()[key]) for key, value in fresh.state_dict().items())


def test_our_modules_stand_in_for_theirs(pair):
    """The same configuration with our modules, and the same checkpoint: equal maps, and written names are theirs."""
    import within.perception3d.partners.mmdet3d_registry  # noqa: F401

    name, network, _, _, _, inputs, _ = pair
    model = theirs.read_config(NETWORKS[name]).model
    prefix = "pts_" if "pts_backbone" in model else ""
    for key, kind in (("middle_encoder", "WithinVoxelBackbone"), ("backbone", "WithinBevBackbone"),
                      ("neck", "WithinBevNeck")):  # fmt: skip
        part = model[prefix + key]
        part.type = "WithinPillarScatter" if part.type == "PointPillarsScatter" else kind
        if part.type == "WithinPillarScatter":
            part.execution = "dense"
    swapped = theirs.build(model, seed=1)
    state = {key: value.movedim(0, -1) if value.dim() == 5 else value for key, value in network.state_dict().items()}
    swapped.load_state_dict(state)
    assert sorted(swapped.state_dict()) == sorted(state)
    with torch.no_grad():
        expected, found = theirs.head_maps(network, inputs), theirs.head_maps(swapped, inputs)
    for other, own in zip(expected, found, strict=True):
        for key, value in other.items():
            torch.testing.assert_close(own[key], value, rtol=1e-4, atol=1e-4)
