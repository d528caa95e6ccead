"""Evaluation: one matrix at the labels' size, whatever size the network works at, and clear words for bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tests.segmentation.segmentation_data import HEIGHT, WIDTH, small_data
from torch import Tensor

from within.core.errors import WithinError
from within.segmentation.data import find_dataset
from within.segmentation.eval import evaluate
from within.segmentation.eval import main as evaluate_config
from within.segmentation.label_map import CAMVID
from within.segmentation.prediction import class_scores, predict


@pytest.fixture
def pairs(tmp_path):
    return find_dataset(small_data(tmp_path / "data"), "val")


def by_colour(image: Tensor) -> Tensor:
    """Scores that are right for the small data: how near a pixel is to each class's colour."""
    colours = torch.tensor(CAMVID.colours, dtype=torch.float32)
    return -((image[:, None] - colours[None, :, :, None, None]) ** 2).sum(2)


def test_a_network_that_sees_the_colours_is_right_everywhere(pairs):
    found = evaluate(by_colour, pairs)
    assert found.scores().mean_iou == 1
    assert found.scores().classes_present == 3
    assert found.scores("V1").mean_iou < 1  # what it says of void pixels


def test_the_network_may_work_at_another_size(pairs):
    assert evaluate(by_colour, pairs, size=(HEIGHT // 2, WIDTH // 2)).scores().pixel_accuracy > 0.9


def test_another_class_order_is_brought_into_the_data_sets(pairs):
    names = list(reversed(CAMVID.classes))

    def reversed_outputs(image: Tensor) -> Tensor:
        return by_colour(image).flip(1)

    assert evaluate(reversed_outputs, pairs).scores().mean_iou < 0.1
    assert evaluate(reversed_outputs, pairs, order=CAMVID.reordered(names)).scores().mean_iou == 1


def test_sides_are_padded_to_what_the_network_takes():
    seen = []

    def network(image: Tensor) -> Tensor:
        seen.append(tuple(image.shape[-2:]))
        return by_colour(image)

    image = 255 * torch.rand(1, 3, 50, 70)
    torch.testing.assert_close(class_scores(network, image, multiple=32), by_colour(image))
    assert seen == [(64, 96)]


def test_a_wrong_number_of_classes_is_refused(pairs):
    with pytest.raises(WithinError, match="7 outputs"):
        evaluate(lambda image: by_colour(image)[:, :7], pairs)


def test_nan_is_refused(pairs):
    with pytest.raises(WithinError, match="NaN"):
        predict(lambda image: by_colour(image) * float("nan"), torch.zeros(1, 3, 8, 8))


def test_predictions_are_kept_in_the_colours_of_the_data_set(pairs, tmp_path):
    evaluate(by_colour, pairs.take([1]), save=tmp_path / "out")
    (path,) = (tmp_path / "out").iterdir()
    label = pairs.read_label(1)
    shown = np.asarray(Image.open(path))
    inside = (label != 255).numpy()
    np.testing.assert_array_equal(shown[inside], CAMVID.colour(label.numpy())[inside])


def test_an_all_void_image_counts_nothing_and_an_all_void_set_is_refused(tmp_path):
    folder = small_data(tmp_path / "data", val=2)
    labels = sorted((folder / "val" / "labels").iterdir())
    void = Image.fromarray(np.full((HEIGHT, WIDTH), 11, np.uint8))
    void.save(labels[0])
    assert evaluate(by_colour, find_dataset(folder, "val")).scores().mean_iou == 1
    void.save(labels[1])
    with pytest.raises(WithinError, match="No labelled pixel"):
        evaluate(by_colour, find_dataset(folder, "val")).scores()


def test_the_published_checkpoint_through_the_configuration(data):
    folder = data("segmentation")
    given = {
        "network": "espnet_camvid",
        "weights": folder / "weights" / "espnet_p2_q8_camvid.safetensors",
        "data": folder / "camvid",
        "limit": 2,
    }
    assert evaluate_config(given).scores().pixel_accuracy > 0.9
    with pytest.raises(WithinError, match="There is no setting 'sise'"):
        evaluate_config({**given, "sise": (1, 1)})
