"""The confusion matrix against a count by hand; the three conventions for void against their definitions."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.segmentation.metrics import ConfusionMatrix

K = 3
LABELS = st.lists(st.tuples(st.sampled_from([0, 1, 2, 255]), st.integers(0, 5)), min_size=1, max_size=60)
CONVENTIONS = ["V0", "V1", "V2"]


def matrix(pixels, kind=torch.int64):
    """Counts a list of (label, prediction)."""
    result = ConfusionMatrix(K)
    label, prediction = torch.tensor(pixels, dtype=torch.int64).reshape(-1, 2).unbind(1)
    result.update(prediction.to(kind), label.to(kind))
    return result


def has_labels(pixels, void):
    return any(label != 255 and (void != "V2" or prediction < K) for label, prediction in pixels)


@settings(deadline=None)
@given(pixels=LABELS, kind=st.sampled_from([torch.uint8, torch.int32, torch.int64]))
def test_counts_are_those_of_a_loop(pixels, kind):
    """Catches rows and columns swapped, void beyond the matrix, and arithmetic that overflows 8 bits."""
    expected = torch.zeros(K + 1, K + 1, dtype=torch.int64)
    for label, prediction in pixels:
        expected[min(label, K), min(prediction, K)] += 1
    assert torch.equal(matrix(pixels, kind).counts, expected)


@settings(deadline=None)
@given(pixels=LABELS, cut=st.integers(0, 60))
def test_counts_add_up(pixels, cut):
    """Catches a mean of parts: updates and sums of matrices are the matrix of all pixels."""
    first, second = (matrix(part) for part in (pixels[:cut], pixels[cut:]))
    before = first.counts.clone()
    total = first + second
    assert torch.equal(total.counts, matrix(pixels).counts)
    assert torch.equal(first.counts, before)
    rest = torch.tensor(pixels[cut:], dtype=torch.int64).reshape(-1, 2)
    first.update(rest[:, 1], rest[:, 0])
    assert torch.equal(first.counts, total.counts)


@pytest.mark.parametrize("void", CONVENTIONS)
@settings(deadline=None)
@given(pixels=LABELS)
def test_scores_are_the_definition(void, pixels):
    """Catches a convention under another's name, and absent classes that count as zero or as NaN."""
    if not has_labels(pixels, void):
        return
    if void == "V2":
        pixels = [pair for pair in pixels if pair[0] != 255 and pair[1] < K]
    if void == "V0":
        pixels = [pair for pair in pixels if pair[0] != 255]
    labelled = [pair for pair in pixels if pair[0] != 255]
    ious, recalls = [], []
    for number in range(K):
        both = sum(pair == (number, number) for pair in pixels)
        either = sum(number in pair for pair in pixels)
        truth = sum(pair[0] == number for pair in pixels)
        ious.append(both / either if either else math.nan)
        recalls.append(both / truth if truth else math.nan)
    scores = matrix(pixels).scores(void)
    present = [value for value in ious if not math.isnan(value)]
    assert scores.class_iou == pytest.approx(ious, nan_ok=True)
    assert scores.mean_iou == pytest.approx(sum(present) / len(present))
    assert scores.classes_present == len(present)
    assert scores.class_accuracy == pytest.approx(recalls, nan_ok=True)
    known = [value for value in recalls if not math.isnan(value)]
    assert scores.mean_class_accuracy == pytest.approx(sum(known) / len(known))
    assert scores.pixel_accuracy == pytest.approx(sum(a == b for a, b in labelled) / len(labelled))
    assert scores.pixels == len(labelled)


@settings(deadline=None)
@given(pixels=LABELS)
def test_conventions_agree_without_void_and_are_ordered_with_it(pixels):
    """Catches a convention that changes scores where there is nothing void; dropping void can only raise an IoU."""
    plain = [(label, prediction) for label, prediction in pixels if label != 255 and prediction < K]
    if plain:
        v0, v1, v2 = (matrix(plain).scores(void) for void in CONVENTIONS)
        for other in (v1, v2):
            assert other.class_iou == pytest.approx(v0.class_iou, nan_ok=True)
            assert other.pixel_accuracy == v0.pixel_accuracy
    if has_labels(pixels, "V2"):
        v0, v1, v2 = (matrix(pixels).scores(void) for void in CONVENTIONS)
        for lower, middle, upper in zip(v1.class_iou, v0.class_iou, v2.class_iou, strict=True):
            assert not lower > middle  # NaN compares as neither
            assert not middle > upper


def test_the_three_conventions_by_hand():
    """Catches all three being one: 4 pixels of class 0, one predicted void; 2 void pixels predicted 0."""
    pixels = [(0, 0)] * 3 + [(0, 5)] + [(255, 0)] * 2
    scores = {void: matrix(pixels).scores(void) for void in CONVENTIONS}
    assert [scores[void].class_iou[0] for void in CONVENTIONS] == pytest.approx([3 / 4, 3 / 6, 3 / 3])
    assert [scores[void].pixel_accuracy for void in CONVENTIONS] == pytest.approx([3 / 4, 3 / 4, 1])
    assert scores["V0"].classes_present == 1
    with pytest.raises(WithinError, match="V3"):
        matrix(pixels).scores("V3")


def test_pixels_are_pooled_over_the_set():
    """Catches a mean over images: a class that fills one image and is 1 pixel of another is not two equal scores."""
    images = [([0] * 100, [0] * 100), ([0] + [1] * 99, [1] * 100)]
    total = ConfusionMatrix(2)
    for label, prediction in images:
        total.update(torch.tensor(prediction), torch.tensor(label))
    assert total.scores().class_iou == pytest.approx((100 / 101, 99 / 100))


def test_nothing_labelled_is_an_error():
    """Catches 0/0 that becomes NaN or 0 in a table; an image of void alone counts nothing."""
    for void in CONVENTIONS:
        with pytest.raises(WithinError, match="No labelled pixel"):
            ConfusionMatrix(K).scores(void)
        with pytest.raises(WithinError, match="2 pixels are void"):
            matrix([(255, 1), (255, 2)]).scores(void)
    total = matrix([(0, 0), (1, 2)])
    before = total.scores().to_json()
    total.update(torch.zeros(4, 4, dtype=torch.uint8), torch.full((4, 4), 255, dtype=torch.uint8))
    assert total.scores().to_json() == before


def test_what_is_no_class_is_refused():
    """Catches broadcasting, logits in place of classes, and labels that were not converted (CamVid's void is 11)."""
    total, zeros = ConfusionMatrix(K), torch.zeros(2, 4, dtype=torch.int64)
    for prediction, label, word in (
        (zeros[:, :1], zeros, r"\(2, 1\) and \(2, 4\)"),
        (zeros, zeros + K, "number 3"),
        (zeros, zeros - 1, "number -1"),
        (zeros - 1, zeros, "negative"),
        (torch.zeros(2, 4), zeros, "argmax"),
    ):
        with pytest.raises(WithinError, match=word):
            total.update(prediction, label)
    assert not total.counts.any()
    with pytest.raises(WithinError, match="3 and 4 classes"):
        total + ConfusionMatrix(4)
    for arguments in ({"num_classes": 0}, {"num_classes": 3, "ignore": 2}):
        with pytest.raises(WithinError, match="classes"):
            ConfusionMatrix(**arguments)


@pytest.mark.parametrize("ignore", [255, 19, 3, -1])
def test_any_number_may_stand_for_void(ignore):
    """Catches 255 in the code."""
    total = ConfusionMatrix(K, ignore=ignore)
    total.update(torch.tensor([0, 1]), torch.tensor([0, ignore]))
    assert total.counts[K, 1] == 1
    assert total.scores().pixel_accuracy == 1


def test_json_has_no_nan():
    """Catches files that are not JSON: an absent class is null."""
    total = matrix([(0, 0), (0, 2)])
    written = json.loads(json.dumps(total.scores().to_json(["a", "b", "c"]), allow_nan=False))
    assert written["class_iou"] == {"a": 0.5, "b": None, "c": 0.0}
    assert written["void"] == "V0"
    assert total.scores().to_json()["class_accuracy"] == {"0": 0.5, "1": None, "2": None}
    assert torch.equal(torch.tensor(json.loads(json.dumps(total.to_json()))["counts"]), total.counts)
