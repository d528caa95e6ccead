"""Losses: void teaches nothing whatever its number, targets stay as they are; distances against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from within.core.errors import WithinError
from within.segmentation.boundary_distance import boundary_bins, boundary_distance
from within.segmentation.data import find_dataset
from within.segmentation.losses import BoundaryAwareFocal, class_weights, cross_entropy

K = 4
LOSSES = [cross_entropy, lambda *pair, ignore: BoundaryAwareFocal(ignore=ignore, bins=(2, 3), alphas=(5, 3, 1))(*pair)]
LOSSES_WITHOUT_GAMMA = [cross_entropy, BoundaryAwareFocal(gamma=0, bins=(2,), alphas=(4, 1))]
IGNORES = [255, 0, 2, 19, -1]


def random(seed):
    return torch.Generator().manual_seed(seed)


def batch(seed, ignore=255, size=(5, 7), void=0.3):
    """Returns logits with gradient and a target of which about `void` is void."""
    draws = random(seed)
    logits = torch.randn(2, K, *size, generator=draws, dtype=torch.float64).requires_grad_()
    target = torch.randint(K, (2, *size), generator=draws)
    return logits, target.masked_fill(torch.rand(2, *size, generator=draws) < void, ignore)


def brute_force(label):
    """Returns the distance to the nearest pixel of another class, from its definition."""
    height, width = label.shape
    rows, columns = np.mgrid[:height, :width]
    result = np.full(label.shape, np.inf)
    for y in range(height):
        for x in range(width):
            other = label != label[y, x]
            if other.any():
                result[y, x] = math.sqrt(((rows - y) ** 2 + (columns - x) ** 2)[other].min())
    return result


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 20)),
    classes=st.integers(1, 5),
    rarity=st.sampled_from([0.05, 0.2, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_distances_are_those_of_brute_force(size, classes, rarity, seed):
    """Catches distances through another class, from the image's edge, or rounded, and bins that differ from them."""
    draws = random(seed)
    label = torch.randint(classes, size, generator=draws) * (torch.rand(size, generator=draws) < rarity)
    expected = brute_force(label.numpy())
    assert np.array_equal(boundary_distance(label).numpy(), expected.astype(np.float32))
    for edges in ((2, 4, 8), (1.5, 3.3), (math.sqrt(2), 5, 6, 7)):
        assert np.array_equal(boundary_bins(label, edges).numpy(), np.digitize(expected, edges))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), kind=st.sampled_from([torch.uint8, torch.int64]))
def test_large_regions_are_exact_and_images_apart(seed, kind):
    """Catches passes that stop too early, and a batch whose images are neighbours."""
    draws = random(seed)
    centres = torch.randint(0, 100, (2, 4, 2), generator=draws)
    grid = torch.stack(torch.meshgrid(torch.arange(70), torch.arange(100), indexing="ij"), -1)
    label = torch.cdist(grid.reshape(1, -1, 2).double(), centres.double()).argmin(-1).reshape(2, 70, 100).to(kind)
    found, bins = boundary_distance(label), boundary_bins(label, (16, 40))
    for number in range(2):
        expected = np.zeros((70, 100))
        for value in label[number].unique().tolist():
            own = (label[number] == value).numpy()
            distance = np.full((70, 100), np.inf) if own.all() else distance_transform_edt(own)
            expected[own] = distance[own]
        assert np.array_equal(found[number].numpy(), expected.astype(np.float32))
        assert np.array_equal(bins[number].numpy(), np.digitize(expected, (16, 40)))


def test_distances_are_opencvs_on_real_labels(data):
    """Catches a slip that random labels do not show: OpenCV's precise transform within each class, on CamVid."""
    cv2 = pytest.importorskip("cv2")
    label = find_dataset(data("segmentation") / "camvid", "val").read_label(0)
    expected = np.zeros(label.shape, np.float32)
    for number in label.unique().tolist():
        own = (label == number).numpy()
        expected[own] = cv2.distanceTransform(own.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[own]
    assert np.array_equal(boundary_distance(label).numpy(), expected)


@pytest.mark.parametrize("loss", LOSSES, ids=["cross_entropy", "boundary"])
@pytest.mark.parametrize("ignore", IGNORES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_void_has_no_gradient_and_the_target_is_left_alone(loss, ignore, seed):
    """Catches the published code's traps: void weighs most or teaches class 0, and targets are rewritten in place."""
    logits, target = batch(seed, ignore)
    before = target.clone()
    loss(logits, target, ignore=ignore).backward()
    assert torch.equal(target, before)
    void = (target == ignore)[:, None].expand_as(logits)
    assert (logits.grad[void] == 0).all()
    assert (logits.grad[~void] != 0).all()


@pytest.mark.parametrize("loss", LOSSES, ids=["cross_entropy", "boundary"])
@pytest.mark.parametrize("ignore", IGNORES)
def test_without_a_labelled_pixel_the_loss_is_zero_with_a_gradient(loss, ignore):
    """Catches 0/0, and a zero that cannot be differentiated, which stops training at a batch of void."""
    logits = torch.randn(2, K, 6, 5, requires_grad=True)
    value = loss(logits, torch.full((2, 6, 5), ignore), ignore=ignore)
    value.backward()
    assert value == 0
    assert (logits.grad == 0).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), weighted=st.booleans())
def test_cross_entropy_is_torchs(seed, weighted):
    """Catches a mean over all pixels instead of the labelled ones."""
    logits, target = batch(seed)
    weights = class_weights([0.1, 0.2, 0.3, 0.4]).double() if weighted else None
    expected = F.cross_entropy(logits, target, weight=weights, ignore_index=255)
    assert cross_entropy(logits, target, weights=weights).item() == pytest.approx(expected.item())
    assert cross_entropy(logits, target.byte(), weights=weights).item() == pytest.approx(expected.item())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), ignore=st.sampled_from(IGNORES), gamma=st.sampled_from([0.0, 0.5, 2.0]))
def test_the_boundary_loss_is_its_formula(seed, ignore, gamma):
    """Catches another N, a gradient through the exponential, and bins that are off by one."""
    logits, target = batch(seed, ignore, size=(9, 11), void=0.1)
    blocks = target[:, ::4, ::4].repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :9, :11].contiguous()
    loss = BoundaryAwareFocal(gamma=gamma, bins=(2, 3), alphas=(5, 3, 1), ignore=ignore)
    found = loss(logits, blocks)
    terms, count = [], 0
    for image, label in zip(logits, blocks, strict=True):
        distances = brute_force(label.numpy())
        for (y, x), distance in np.ndenumerate(distances):
            if label[y, x] == ignore:
                continue
            alpha = 5 if distance < 2 else 3 if distance < 3 else 1
            log_p = image[:, y, x].log_softmax(0)[label[y, x]]
            terms.append(-alpha * torch.exp(gamma * (1 - log_p.exp().detach())) * log_p)
            count += 1
    expected = torch.stack(terms).sum() / count if count else logits.sum() * 0
    assert found.item() == pytest.approx(expected.item())
    gradients = [torch.autograd.grad(value, logits)[0] for value in (found, expected)]
    assert torch.allclose(*gradients, atol=1e-6)


def test_a_weight_of_zero_leaves_the_mean():
    """Catches N that counts pixels which weigh nothing: with alpha 0 inside regions, only boundaries are averaged."""
    target = torch.zeros(1, 8, 8, dtype=torch.int64)
    target[..., 4:] = 1
    logits = torch.zeros(1, 2, 8, 8)
    for alphas, expected in (((1, 1), 1), ((1, 0), 1), ((3, 0), 3), ((3, 1), 1.5)):
        found = BoundaryAwareFocal(gamma=0, bins=(2,), alphas=alphas)(logits, target)
        assert found.item() == pytest.approx(expected * math.log(2))
    assert BoundaryAwareFocal(weights=torch.tensor([2.0, 0.0]))(logits, target).item() == pytest.approx(
        BoundaryAwareFocal()(logits, target).item()
    )


@pytest.mark.parametrize("loss", LOSSES, ids=["cross_entropy", "boundary"])
def test_logits_are_upsampled_to_the_labels(loss):
    """Catches labels shrunk to the logits, and corners aligned."""
    logits, target = torch.randn(2, K, 4, 6, generator=random(0)), batch(1, size=(16, 24))[1]
    large = F.interpolate(logits, size=(16, 24), mode="bilinear", align_corners=False)
    assert loss(logits, target, ignore=255).item() == pytest.approx(loss(large, target, ignore=255).item())


@pytest.mark.parametrize("loss", LOSSES_WITHOUT_GAMMA, ids=["cross_entropy", "boundary"])
def test_losses_are_their_own_derivative(loss):
    """Catches a value that is not what is differentiated; without gamma nothing in the loss is held constant."""
    logits, target = batch(0, size=(3, 4))
    assert torch.autograd.gradcheck(lambda values: loss(values, target), (logits,))


def test_what_does_not_go_together_is_refused():
    """Catches torch's own errors, which name neither the class nor what to do."""
    logits, target = torch.zeros(2, K, 4, 4), torch.zeros(2, 4, 4, dtype=torch.int64)
    for loss in LOSSES:
        for wrong in (target + K, target - 1):
            with pytest.raises(WithinError, match=f"class {int(wrong[0, 0, 0])} in 32 pixels"):
                loss(logits, wrong, ignore=255)
        with pytest.raises(WithinError, match=r"2 images.*1 images"):
            loss(logits, target[:1], ignore=255)
    with pytest.raises(WithinError, match="3 class weights"):
        cross_entropy(logits, target, weights=torch.ones(3))
    for arguments in ({"alphas": (1, 2)}, {"bins": (4, 2, 8)}, {"bins": (2, 2, 8)}, {"alphas": (1, 2, 3, -1)}):
        with pytest.raises(WithinError, match="do not go together"):
            BoundaryAwareFocal(**arguments)


def test_class_weights_are_enets():
    """Catches logarithms of the share alone: an absent class has a large weight, not an infinite one."""
    weights = class_weights([0.0, 0.25, 0.75])
    assert weights.tolist() == pytest.approx([1 / math.log(1.1), 1 / math.log(1.35), 1 / math.log(1.85)])
    assert class_weights(np.array([1.0]), offset=1.02).item() == pytest.approx(1 / math.log(2.02))
    for shares, offset in (([3.0, 5.0], 1.1), ([-0.1], 1.1), ([math.nan], 1.1), ([0.5], 1.0)):
        with pytest.raises(WithinError, match="shares between 0 and 1"):
            class_weights(shares, offset=offset)
