"""A whole detector of ours, also one that drops places (Ada3D), as a model of MMDetection3D.

MMDetection3D reads the data, makes voxels, trains and evaluates; network, losses and decoding are ours:

    rates = dict(voxels={"1": 0.75}, pixels={"1": 0.5})
    model = dict(type="WithinDetector", variant="center_point_kitti", class_names=class_names,
                 arguments=dict(norm="spatial_sparse", execution="sparse", drop_rates=rates))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmdet3d.models.detectors import Base3DDetector
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.structures import InstanceData
from torch import Tensor

from within.core.errors import WithinError
from within.perception3d.anchor_loss import AnchorLossWeights
from within.perception3d.center_decoding import Decoding
from within.perception3d.center_loss import CenterLossWeights
from within.perception3d.detection_objective import detection_objective, freeze, importance_objective
from within.perception3d.detections import Detections
from within.perception3d.eval import decoded
from within.perception3d.named_detector import build, detector_of, load_detector

CENTRE = (0.5, 0.5, 0.5)  # of a box; MMDetection3D keeps the middle of its lower face


class WithinDetector(Base3DDetector):  # type: ignore[misc]
    """See the module.

    Arguments:
        variant: a name of `models.variants.names()`.
        arguments: that replace its own; with `drop_rates` it is an `Ada3D`.
        class_names: of the data set, by label; the network's own order by default.
        checkpoint: weights to start from: ours, MMDetection3D's or OpenPCDet's.
        stage: "detector", "importance" or "tuning", see `detection_objective.freeze`.
        loss: weights of the losses, `CenterLossWeights` or `AnchorLossWeights`.
        decoding: how boxes are read, `Decoding`; that of the head's kind by default.
        most_training_voxels: of a cloud in training.
        data_preprocessor: of MMDetection3D; by default it makes voxels of the network's grid.
        train_cfg, test_cfg: are taken, and mean nothing here.
        init_cfg: of mmengine.

    Raises:
        WithinError: for an unknown variant, argument, class or stage, and as `load_detector` does.
    """

    def __init__(
        self,
        variant: str,
        arguments: Mapping[str, Any] | None = None,
        class_names: Sequence[str] | None = None,
        checkpoint: str | None = None,
        stage: str = "detector",
        loss: Mapping[str, Any] | None = None,
        decoding: Mapping[str, Any] | None = None,
        most_training_voxels: int = 16_000,
        data_preprocessor: Mapping[str, Any] | None = None,
        train_cfg: Any = None,
        test_cfg: Any = None,
        init_cfg: Any = None,
    ) -> None:
        network = build(variant, **_plain(arguments or {}))
        grid = detector_of(network).grid
        preprocessor = data_preprocessor or {
            "type": "Det3DDataPreprocessor",
            "voxel": True,
            "voxel_layer": {
                "max_num_points": grid.most_points,
                "point_cloud_range": [float(each) for each in (*grid.low, *grid.high)],
                "voxel_size": [float(each) for each in grid.size],
                "max_voxels": (most_training_voxels, grid.most_voxels),
            },
        }
        super().__init__(data_preprocessor=preprocessor, init_cfg=init_cfg)
        self.network = network
        if checkpoint is not None:
            load_detector(network, checkpoint)
        own = network.classes
        names = tuple(class_names or own)
        if set(names) != set(own):
            raise WithinError(f"The classes are {list(names)}, those of {variant} are {list(own)}", where="class_names")
        self.to_theirs = [names.index(name) for name in own]
        self.to_ours = [own.index(name) for name in names]
        self.decoding = None if decoding is None else Decoding(**decoding)
        given = dict(loss or {})
        centers = hasattr(detector_of(network).head, "task_classes")
        self.objective = (
            importance_objective(network)  # type: ignore[arg-type]
            if stage == "importance"
            else detection_objective(
                network,
                CenterLossWeights(**given) if centers else CenterLossWeights(),
                AnchorLossWeights() if centers else AnchorLossWeights(**given),
            )
        )
        freeze(network, stage)

    def extract_feat(self, batch_inputs_dict: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Returns the head's maps."""
        return self.network(*network_inputs(batch_inputs_dict))  # type: ignore[no-any-return]

    _forward = extract_feat

    def loss(self, batch_inputs_dict: Mapping[str, Any], batch_data_samples: Any, **_: Any) -> dict[str, Tensor]:
        """Returns the losses by name."""
        target = self._targets(batch_data_samples)
        losses = self.objective(self.network, network_inputs(batch_inputs_dict), target)
        return {f"loss_{name}": value for name, value in losses.items()}

    def predict(self, batch_inputs_dict: Mapping[str, Any], batch_data_samples: Any, **_: Any) -> Any:
        """Returns the samples with what was found in them, in `pred_instances_3d`."""
        found = decoded(self.network, self.extract_feat(batch_inputs_dict), self.decoding)
        results = [
            self._instances(each, sample.metainfo.get("box_type_3d", LiDARInstance3DBoxes))
            for each, sample in zip(found, batch_data_samples, strict=True)
        ]
        return self.add_pred_to_datasample(batch_data_samples, results)

    def _instances(self, found: Detections, kind: Any) -> InstanceData:
        device = next(self.network.parameters()).device
        boxes = torch.from_numpy(np.asarray(found.boxes, np.float32)).to(device)
        labels = np.array(self.to_theirs, np.int64)[found.labels.astype(np.int64)]
        result = InstanceData()
        result.bboxes_3d = kind(boxes, box_dim=boxes.shape[1], origin=CENTRE)
        result.scores_3d = torch.from_numpy(np.asarray(found.scores, np.float32)).to(device)
        result.labels_3d = torch.from_numpy(labels).to(device)
        return result

    def _targets(self, samples: Any) -> tuple[Tensor, Tensor]:
        values = detector_of(self.network).values
        device = next(self.network.parameters()).device
        instances = [sample.gt_instances_3d for sample in samples]
        most = max(1, *(len(each.labels_3d) for each in instances))
        boxes = torch.zeros(len(samples), most, values, device=device)
        labels = torch.full((len(samples), most), -1, device=device)
        to_ours = torch.tensor(self.to_ours, device=device)
        for row, each in enumerate(instances):
            known = (each.labels_3d >= 0).nonzero()[:, 0].to(device)
            own = torch.cat([each.bboxes_3d.gravity_center, each.bboxes_3d.tensor[:, 3:]], dim=1).to(device)[known]
            boxes[row, : len(known), : own.shape[1]] = own[:, :values]
            labels[row, : len(known)] = to_ours[each.labels_3d.to(device)[known].long()]
        return boxes, labels


def network_inputs(batch_inputs_dict: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns what `Detector` takes, of what MMDetection3D's preprocessor gives."""
    voxels = batch_inputs_dict["voxels"]
    places = voxels["coors"]
    clouds = len(batch_inputs_dict["points"]) if "points" in batch_inputs_dict else int(places[:, 0].max()) + 1
    held = torch.bincount(places[:, 0].long(), minlength=clouds)
    return voxels["voxels"], voxels["num_points"].int(), places[:, 1:].int().contiguous(), held


def _plain(value: Any) -> Any:
    """Returns a configuration's values without the classes of mmengine."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
