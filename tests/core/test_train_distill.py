"""Distillation: each term against its equation, and students that approach their teachers without labels."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from within.core.distill import Distillation, FeatureDistillation, KnowledgeDistillation, OutputDistillation
from within.core.errors import WithinError
from within.core.train import fit
from within.core.train.objective import Objective


def network(width: int, seed: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 1, 3, padding=1))


@given(st.integers(0, 10**6), st.floats(0.5, 10), st.floats(0, 1))
def test_knowledge_distillation_is_the_published_equation(seed, temperature, weight):
    """Catches the divergence taken the wrong way round, a missing T^2, and a mean over classes."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
    method = KnowledgeDistillation(temperature, weight)
    p = torch.softmax(teacher / temperature, 1)
    q = torch.softmax(student / temperature, 1)
    expected = temperature**2 * (p * (p / q).log()).sum(1).mean()
    assert torch.allclose(method(student, teacher), expected)
    assert method.task_weight == pytest.approx(1 - weight)


def test_gradient_keeps_its_size_when_the_temperature_changes():
    """Catches a missing T^2: at high T the gradient tends to (s - t) / classes, whatever T is."""
    student = torch.randn(4, 6, requires_grad=True)
    teacher = torch.randn(4, 6)
    gradients = []
    for temperature in (50.0, 100.0):
        (gradient,) = torch.autograd.grad(KnowledgeDistillation(temperature)(student, teacher), student)
        gradients.append(gradient)
    assert torch.allclose(gradients[0], gradients[1], rtol=0.2, atol=2e-3)


@pytest.mark.parametrize("method", [OutputDistillation("l1"), OutputDistillation("mse"), KnowledgeDistillation()])
def test_equal_outputs_cost_nothing(method):
    """Catches a term that pulls a perfect student away."""
    output = torch.randn(2, 4, 3, 3)
    assert isinstance(method, Distillation)
    assert method(output, output.clone()).item() == pytest.approx(0, abs=1e-6)


def test_several_outputs_are_summed():
    """Catches networks with several outputs of which only the first is imitated."""
    method = OutputDistillation("l1")
    ones, zeros = torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    assert method((ones, ones), (zeros, ones)).item() == 1
    with pytest.raises(WithinError, match="different numbers"):
        method((ones, ones), (zeros,))
    with pytest.raises(WithinError, match="The student returns"):
        method(ones, torch.zeros(2, 1, 4, 4))


def test_weights_enter_the_sum_once():
    """Catches a task loss that keeps its full weight beside knowledge distillation."""
    student, teacher = network(2, 0), network(2, 1)
    inputs, target = torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4)
    terms = [KnowledgeDistillation(2.0, 0.75), OutputDistillation("mse", weight=3.0)]
    losses = Objective(F.mse_loss, teacher, terms)(student, (inputs,), target)
    output, wanted = student(inputs), teacher(inputs)
    assert torch.allclose(losses["loss_task"], 0.25 * F.mse_loss(output, target))
    assert torch.allclose(losses["loss_distillation_0"], 0.75 * terms[0](output, wanted))
    assert torch.allclose(losses["loss_distillation_1"], 3 * F.mse_loss(output, wanted))


@pytest.mark.parametrize(
    "method", [OutputDistillation("l1"), OutputDistillation("mse"), FeatureDistillation({"2": "2"})]
)
def test_a_narrower_student_approaches_its_teacher_without_labels(method):
    """Catches a teacher that is trained along, and a student that gets no gradient."""
    teacher, student = network(8, 0), network(4, 1)
    before = copy.deepcopy(teacher.state_dict())
    inputs = torch.rand(16, 1, 8, 8)

    def distance() -> float:
        with torch.no_grad():
            return F.mse_loss(student(inputs), teacher(inputs)).item()

    start = distance()
    fit(
        student,
        inputs,
        iterations=60,
        batch_size=8,
        teacher=teacher,
        distillation=method,
        optimizer={"type": "Adam", "lr": 1e-2},
    )
    assert distance() < start / 4
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def test_features_of_fewer_channels_go_through_an_adapter():
    """Catches features compared channel by channel where the pruned layer has fewer channels."""
    teacher, student = network(8, 0), network(4, 1)
    method = FeatureDistillation(["0", "2"])
    method.prepare(student, teacher, (torch.rand(1, 1, 4, 4),))
    shapes = [tuple(parameter.shape) for parameter in method.parameters()]
    assert shapes == [(8, 4, 1, 1), (8,)]
    result = fit(
        student, torch.rand(8, 1, 4, 4), iterations=30, batch_size=4, teacher=teacher, distillation=method, log_every=5
    )
    assert result.losses[-1][1] < result.losses[0][1]
    assert not any(module._forward_hooks for net in (student, teacher) for module in net.modules())


@pytest.mark.parametrize(
    ("layers", "message"),
    [({"5": "0"}, "student has no layer '5'"), ({"0": "5"}, "teacher has no layer '5'")],
)
def test_missing_layers_are_named(layers, message):
    """Catches an AttributeError in the middle of the training."""
    with pytest.raises(WithinError, match=message):
        FeatureDistillation(layers).prepare(network(2, 0), network(2, 0), (torch.rand(1, 1, 4, 4),))


def test_layers_of_different_resolution_are_refused():
    """Catches features that are compared after broadcasting."""
    small = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2))
    with pytest.raises(WithinError, match="nothing but their channels"):
        FeatureDistillation(["0"]).prepare(small, network(2, 0), (torch.rand(1, 1, 8, 8),))
