"""Fine-tuning brings a compressed network back towards its teacher, on real photographs, with or without clean ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from within.core.errors import WithinError
from within.lowlevel.data.degradations import BicubicDownscale, GaussianNoise
from within.lowlevel.data.folders import DegradedImages
from within.lowlevel.data.patches import Patches
from within.lowlevel.data.sample_images import sample_image, sample_images
from within.lowlevel.models import build
from within.lowlevel.train import fine_tune, prepare_fine_tuning
from within.lowlevel.training_data import prepare


def network(width: int, seed: int):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build("dncnn_merged", width=width, depth=4)


def test_the_student_approaches_its_teacher_on_noisy_photographs():
    """Catches targets that are the photographs themselves, and a teacher that is trained along."""
    teacher, student = network(8, 0), network(6, 1)
    noisy = [sample_image(name)[:96, :96] for name in ("camera", "moon", "coins")]
    inputs, outputs = prepare_fine_tuning(teacher, noisy, patch_size=32, items=24)

    def distance():
        with torch.no_grad():
            return F.l1_loss(student(inputs), outputs).item()

    before, kept = distance(), [value.clone() for value in teacher.parameters()]
    fine_tune(student, teacher, noisy, patch_size=32, items=24, iterations=60, batch_size=4)
    assert distance() < before / 2
    assert all(torch.equal(old, new) for old, new in zip(kept, teacher.parameters(), strict=True))


def test_prepared_patches_serve_several_networks():
    """Catches a result that depends on whether the patches were prepared before."""
    teacher = network(8, 0)
    options = {"degradation": GaussianNoise(25), "patch_size": 32, "items": 8, "seed": 4}
    prepared = prepare_fine_tuning(teacher, sample_images(["camera"]), **options)
    one, other = network(6, 1), network(6, 1)
    fine_tune(one, teacher, sample_images(["camera"]), iterations=3, batch_size=4, **options)
    fine_tune(other, None, prepared, iterations=3, batch_size=4, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_the_task_weight_blends_teacher_and_clean_image():
    """Catches a weight that goes to the wrong one of the two."""
    teacher, images = network(8, 0), sample_images(["camera"])
    options = {"degradation": GaussianNoise(25), "patch_size": 32, "items": 4}
    inputs, taught = prepare_fine_tuning(teacher, images, **options)
    _, clean = prepare_fine_tuning(teacher, images, task_weight=1.0, **options)
    _, blended = prepare_fine_tuning(teacher, images, task_weight=0.25, **options)
    source = DegradedImages(images, GaussianNoise(25), patches=Patches(32))
    assert torch.equal(clean, prepare(source, 4)[1])
    assert torch.allclose(taught, teacher(inputs), atol=1e-6)
    assert torch.allclose(blended, 0.75 * taught + 0.25 * clean, atol=1e-6)


def test_super_resolution_learns_from_clean_images():
    """Catches inputs and targets of the same size."""
    student = build("edsr_baseline_x2", width=4, depth=1)
    result = fine_tune(
        student,
        None,
        sample_images(["camera", "chelsea"]),
        color="rgb",
        degradation=BicubicDownscale(2),
        patch_size=16,
        iterations=2,
    )
    assert result.iterations == 2


@pytest.mark.parametrize(
    ("teacher", "options", "message"),
    [
        (None, {}, "nothing to learn from"),
        (network(4, 0), {"task_weight": 0.5}, "no clean image"),
        (network(4, 0), {"task_weight": 2.0}, "weight from 0 to 1"),
        (None, {"degradation": GaussianNoise(25), "loss": "l2"}, "no loss named"),
        (None, {"degradation": GaussianNoise(25), "patch_size": 1024}, "smaller than the patch size"),
    ],
)
def test_impossible_requests_are_refused_in_words(teacher, options, message):
    """Catches a fine-tuning that learns the noise, or nothing."""
    with pytest.raises(WithinError, match=message):
        fine_tune(network(4, 1), teacher, sample_images(["camera"]), iterations=1, **options)
