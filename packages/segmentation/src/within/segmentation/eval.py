"""Mean intersection over union of a network on a data set; this is `within segmentation eval`.

One confusion matrix over all images, at the full size of the labels; void in all three conventions (see `metrics`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from within.core.cli.configuration import load_config
from within.core.errors import WithinError
from within.core.files import atomic_write
from within.core.progress import track
from within.segmentation.data import SegmentationPairs, find_dataset
from within.segmentation.label_map import LabelMap
from within.segmentation.metrics import VOID_CONVENTIONS, ConfusionMatrix, Scores
from within.segmentation.named_network import open_network
from within.segmentation.pictures import coloured
from within.segmentation.prediction import Forward, class_scores

KEYS = ("network", "weights", "arguments", "data", "split", "size", "classes", "limit", "device", "save")


@dataclass(frozen=True)
class Evaluation:
    """What was counted.

    Attributes:
        matrix: all pixels of the set.
        label_map: the classes.
        images: number of images.
    """

    matrix: ConfusionMatrix
    label_map: LabelMap
    images: int

    def scores(self, void: str = "V0") -> Scores:
        """Returns the metrics under a convention for void pixels."""
        return self.matrix.scores(void)

    def to_json(self) -> dict[str, Any]:
        """Returns the metrics under every convention, as fractions of 1."""
        scores = {void: self.scores(void).to_json(self.label_map.classes) for void in VOID_CONVENTIONS}
        return {"data": self.label_map.name, "images": self.images, "scores": scores}


def evaluate(
    forward: nn.Module | Forward,
    pairs: SegmentationPairs,
    *,
    size: tuple[int, int] | None = None,
    order: Sequence[int] | None = None,
    device: str | torch.device = "cpu",
    save: str | Path | None = None,
    description: str = "Evaluating",
) -> Evaluation:
    """Counts every pixel of a data set.

    Arguments:
        forward: a network, which is put into `eval` mode, or what runs one.
        pairs: images with labels.
        size: height and width at which the network works; that of each image by default.
        order: where class k of the network stands in the data set's order, see `LabelMap.reordered`.
        device: where the network is.
        save: a folder for predictions, PNG files in the data set's colours.
        description: of the progress bar.

    Raises:
        WithinError: when an image or label cannot be used, or the network has neither as many outputs as there are
            classes, nor one more, for void.
    """
    if isinstance(forward, nn.Module):
        forward.eval()
    classes = pairs.label_map.num_classes
    places = None if order is None else _places(order, classes)
    matrix = ConfusionMatrix(classes, ignore=pairs.label_map.ignore)
    for index in track(range(len(pairs)), description):
        image, label = pairs.read(index)
        with torch.no_grad():
            scores = class_scores(forward, image[None].float().to(device), size=size)
        if scores.shape[1] not in (classes, classes + 1):  # one more is void
            raise WithinError(
                f"The network has {scores.shape[1]} outputs, {pairs.label_map.name} has {classes} classes",
                where=f"{pairs.label_map.name}: {', '.join(pairs.label_map.classes[:4])}, ...",
                todo="take weights that were trained for this data set, or build the network with classes=...",
            )
        found = scores.argmax(1)[0].cpu()
        if places is not None:
            found = places[found]
        matrix.update(found, label)
        if save is not None:
            _write(Path(save) / f"{pairs.images[index].stem}.png", coloured(found, pairs.label_map))
    return Evaluation(matrix, pairs.label_map, len(pairs))


def main(config: str | Path | Mapping[str, Any]) -> Evaluation:
    """Evaluates as a configuration says.

    Arguments:
        config: `network` (a variant or run directory) and `data` (a folder); and where needed `weights`, `arguments`
            (of the constructor), `split` ("val"), `size` (height and width for the network), `classes` (names of the
            network's outputs in their order, where it differs from the data set's), `limit` (first images only),
            `device`, `save` (a folder for predictions).

    Raises:
        WithinError: for unknown or missing keys, and as `open_network`, `find_dataset` and `evaluate` do.
    """
    given = dict(load_config(Path(config)).to_dict() if isinstance(config, (str, Path)) else config)
    given = {key: value for key, value in given.items() if value is not None}
    unknown = sorted(set(given) - set(KEYS))
    if unknown:
        raise WithinError(f"There is no key named {unknown[0]!r}", todo=f"the keys are: {', '.join(KEYS)}")
    if "data" not in given:
        raise WithinError("Nothing says which images to evaluate on", todo="give data, the folder of a data set")
    pairs = find_dataset(given["data"], given.get("split", "val"))
    if "limit" in given:
        pairs = pairs.take(range(min(int(given["limit"]), len(pairs))))
    arguments = dict(given.get("arguments") or {})
    named = open_network(given.get("network"), weights=given.get("weights"), arguments=arguments)
    device = given.get("device", "cuda" if torch.cuda.is_available() else "cpu")
    return evaluate(
        named.model.to(device),
        pairs,
        size=tuple(given["size"]) if "size" in given else None,
        order=pairs.label_map.reordered(given["classes"]) if "classes" in given else None,
        device=device,
        save=given.get("save"),
    )


def _places(order: Sequence[int], classes: int) -> Tensor:
    places = torch.full((256,), classes)  # outputs beyond the classes mean void
    places[: len(order)] = torch.tensor(list(order))
    return places


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
