"""`fit` must train what it is given, exactly as the plain loop would, and leave nothing of itself behind."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from within.core.errors import WithinError
from within.core.train import TensorBatches, fit
from within.core.train.randomness import preserved_randomness, seed_everything
from within.core.train.steps import StepLoader
from within.core.train.surroundings import channels_last_is_safe

ITEMS = 12


def data() -> tuple[Tensor, Tensor]:
    inputs = torch.rand(ITEMS, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    return inputs, 0.5 * inputs + 0.1


def network(dropout: float = 0.0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers = [nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(dropout), nn.Conv2d(3, 1, 1)]
        return nn.Sequential(*layers)


def train(model: nn.Module, source=None, **options):
    settings = {"iterations": 8, "batch_size": 4, "loss": F.mse_loss, "device": "cpu"}
    return fit(model, source if source is not None else data(), **{**settings, **options})


def weights(model: nn.Module) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values()]


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_equals_the_plain_loop_bit_for_bit():
    """Catches an adapter that scales, reorders or skips anything: Adam, clipping and a schedule, written out."""
    ours, plain = network(), network()
    train(
        ours,
        clip_gradients=0.1,
        optimizer={"type": "Adam", "lr": 1e-2},
        schedule={"type": "MultiStepLR", "milestones": [3], "gamma": 0.1},
    )
    inputs, target = data()
    loader = StepLoader(TensorBatches(inputs, target), batch_size=4, steps=8, seed=0)
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-2)
    for step in range(8):
        optimizer.param_groups[0]["lr"] = 1e-2 if step < 3 else 1e-2 * 0.1
        chosen = loader.indices(step)
        F.mse_loss(plain(inputs[chosen]), target[chosen]).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad()
    assert equal(weights(ours), weights(plain))


def test_average_of_weights_is_the_exponential_one():
    """Catches an EMA whose decay is inverted, or a model that ends with the raw weights."""
    averaged, history = network(), []

    class Keep(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            history.append([value.detach().clone() for value in averaged.parameters()])

    train(averaged, ema=0.8, hooks=[Keep()])
    expected = history[0]
    for step in history[1:]:
        expected = [0.8 * mean + 0.2 * value for mean, value in zip(expected, step, strict=True)]
    for mean, value in zip(expected, averaged.parameters(), strict=True):
        assert torch.allclose(mean, value, atol=1e-6)
        assert not torch.equal(value, history[-1][0]) or value.ndim != 4


def test_leaves_nothing_behind(tmp_path, capsys):
    """Catches leftovers: hooks on modules, changed modes, gradients, threads, random states, loggers, output."""
    model = network(0.5)
    model[1].eval()
    teacher = network().train()
    modes = [module.training for module in model.modules()]
    np.random.seed(1), torch.manual_seed(1)
    expected = np.random.rand(), torch.rand(()).item()
    np.random.seed(1), torch.manual_seed(1)
    threads = torch.get_num_threads()
    keys = list(model.state_dict())

    from within.core.distill import FeatureDistillation, OutputDistillation

    result = train(
        model,
        teacher=teacher,
        distillation=[OutputDistillation(), FeatureDistillation(["0"])],
        threads=2,
        channels_last=True,
        run_directory=tmp_path,
    )
    assert result.model is model
    assert (np.random.rand(), torch.rand(()).item()) == expected
    assert [module.training for module in model.modules()] == modes
    assert teacher.training
    assert torch.get_num_threads() == threads
    assert list(model.state_dict()) == keys
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.is_contiguous() for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not any(
        name.startswith("fit-") for manager in (MMLogger, MessageHub, Visualizer) for name in manager._instance_dict
    )
    assert capsys.readouterr() == ("", "")


def test_random_states_are_given_back():
    """Catches a training that changes what the rest of the program draws. (`random` is tested apart, because run-time
    checks of annotations draw from it.)"""
    before = random.getstate(), torch.get_rng_state()
    with preserved_randomness():
        seed_everything(5)
        assert random.getstate() != before[0]
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_own_initialisation_of_the_network_is_not_run():
    """Catches mmengine's Runner calling `init_weights`, which wipes out the trained weights of many networks."""

    class Initialising(nn.Conv2d):
        def init_weights(self):
            nn.init.zeros_(self.weight)

    model = Initialising(1, 1, 1)
    before = model.weight.clone()
    train(model, optimizer={"type": "SGD", "lr": 1e-6})
    assert torch.allclose(model.weight, before, atol=1e-4)


def test_trains_a_graph_module():
    """Catches an adapter that only takes hand-written modules: compressed networks are `fx.GraphModule`s."""
    model = torch.fx.symbolic_trace(network())
    result = train(model, iterations=40, log_every=10, optimizer={"type": "Adam", "lr": 1e-2})
    assert result.losses[-1][1] < result.losses[0][1] / 2


def test_same_seed_same_weights_whatever_the_workers():
    """Catches random transforms whose draws depend on the process that makes them, and a seed without effect."""

    class Noisy(Dataset):
        def __len__(self):
            return ITEMS

        def __getitem__(self, index):
            clean = data()[0][index]
            return clean + 0.1 * torch.randn(clean.shape) + random.random() + np.random.rand(), clean

    runs = []
    for workers, seed in ((0, 0), (2, 0), (0, 1)):
        model = network(0.3)
        train(model, DataLoader(Noisy(), batch_size=4, num_workers=workers), batch_size=None, seed=seed)
        runs.append(weights(model))
    assert equal(runs[0], runs[1])
    assert not equal(runs[0], runs[2])


def test_frozen_batch_norm_keeps_its_statistics():
    """Catches a freeze that `model.train()` undoes at the next step or after a validation."""
    model, copies = network(), []
    train(
        model,
        freeze_batch_norm_at=3,
        validate=lambda net: copies.append(model[1].running_mean.clone()) or {},
        validate_every=1,
    )
    assert not torch.equal(copies[1], copies[2])
    assert all(torch.equal(copies[2], later) for later in copies[3:])


def test_validation_sees_evaluation_mode_and_is_recorded():
    """Catches a validation in training mode or without its iteration."""
    modes = []
    result = train(network(), validate=lambda net: modes.append(net.training) or {"a": 1}, validate_every=3)
    assert modes == [False] * 3
    assert result.metrics == ((3, {"a": 1.0}), (6, {"a": 1.0}), (8, {"a": 1.0}))


def test_bfloat16_on_cpu_trains_single_precision_weights():
    """Catches weights cast to half, or a loss computed on rounded outputs."""
    model, dtypes = network(), set()

    def loss(output, target):
        dtypes.add(output.dtype)
        return F.mse_loss(output, target)

    adam = {"type": "Adam", "lr": 1e-2}
    result = train(model, loss=loss, precision="bfloat16", iterations=40, log_every=10, optimizer=adam)
    assert {parameter.dtype for parameter in model.parameters()} == dtypes == {torch.float32}
    assert result.losses[-1][1] < result.losses[0][1] / 2


def test_objective_of_several_passes_and_several_inputs():
    """Catches an adapter that assumes one input or one forward pass."""

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, first, second):
            return self.scale * (first + second)

    class Source:
        def __len__(self):
            return ITEMS

        def batch(self, indices, generator):
            inputs, target = data()
            return (inputs[indices], inputs[indices]), target[indices]

    def objective(network, inputs, target):
        return {"loss_one": F.mse_loss(network(*inputs), target), "loss_two": network(*inputs).square().mean()}

    model = Pair()
    train(model, Source(), loss=None, objective=objective, iterations=30, optimizer={"type": "SGD", "lr": 0.1})
    assert abs(model.scale.item()) < 0.5


@pytest.mark.parametrize("iterations", [1, 15, 60])
def test_warm_cosine_rises_and_falls_to_nothing(iterations):
    """Catches a cosine that starts anew, or at zero, after the rise, and schedules counted in epochs."""
    rates = []

    class Keep(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            rates.append(runner.optim_wrapper.get_lr()["lr"][0])

    train(
        network(),
        iterations=iterations,
        schedule="warm_cosine",
        hooks=[Keep()],
        optimizer={"type": "Adam", "lr": 1.0, "eps": 1e9},
    )
    peak = iterations // 10 if iterations >= 20 else 0
    assert rates[peak] == pytest.approx(max(rates), rel=0.15)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    if iterations > 10:
        assert rates[-1] < 0.02


BAD_ARGUMENTS = {
    "iterations is 0": {"iterations": 0},
    "batch size is missing": {"batch_size": None},
    "no optimizer 'Adamm'": {"optimizer": {"type": "Adamm", "lr": 1.0}},
    "no schedule 'Step'": {"schedule": {"type": "Step"}},
    "Unknown schedule": {"schedule": "warm"},
    "Unknown precision": {"precision": "half"},
    "needs a CUDA device": {"precision": "float16"},
    "There is nothing to minimise": {"loss": None},
    "needs a distillation method": {"teacher": nn.Identity()},
    "validate is not": {"validate_every": 3},
    "ema is 1": {"ema": 1.0},
    "nothing to resume": {"resume": True},
}


@pytest.mark.parametrize("message", BAD_ARGUMENTS)
def test_bad_arguments_are_refused_in_words(message):
    """Catches a KeyError from inside the Runner where a sentence is due."""
    with pytest.raises(WithinError, match=message):
        train(network(), **BAD_ARGUMENTS[message])


def test_a_spoilt_item_is_named():
    """Catches a NaN in the data that surfaces as an unexplained NaN loss, or spoils the weights."""
    inputs, target = data()
    inputs[7, 0, 2, 2] = float("nan")

    class Named(TensorBatches):
        def item_name(self, index):
            return f"photo_{index}.png"

    model = network()
    with pytest.raises(WithinError, match=r"iteration \d+ because the input holds NaN") as found:
        train(model, Named(inputs, target))
    assert found.value.where == "photo_7.png"
    assert all(torch.isfinite(value).all() for value in model.parameters())


def test_divergence_is_explained():
    """Catches a run that goes on with NaN weights."""
    with pytest.raises(WithinError, match="at iteration") as found:
        train(network(), iterations=200, optimizer={"type": "SGD", "lr": 1e12})
    assert "1e+12" in found.value.todo


def test_spoilt_weights_are_refused_before_training():
    """Catches a long run from a damaged file of weights."""
    model = network()
    model[4].weight.data[0] = float("inf")
    with pytest.raises(WithinError, match="hold NaN or infinity") as found:
        train(model)
    assert found.value.where == "4.weight"


def test_missing_targets_are_explained():
    """Catches a loss called with None."""
    with pytest.raises(WithinError, match="no target for the loss"):
        train(network(), data()[0])


def test_a_loss_that_is_no_scalar_is_explained():
    """Catches a loss without reduction."""
    with pytest.raises(WithinError, match="return a scalar"):
        train(network(), loss=lambda output, target: (output - target).square())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", [None, "bfloat16", "float16"])
def test_trains_on_cuda(precision):
    """Catches data, teacher or checkpointed state that stay on the CPU."""
    from within.core.distill import OutputDistillation

    model, teacher = network(), network()
    result = train(
        model,
        device="cuda",
        precision=precision,
        channels_last=True,
        teacher=teacher,
        distillation=OutputDistillation(),
        iterations=40,
        log_every=10,
        optimizer={"type": "Adam", "lr": 1e-2},
    )
    assert next(model.parameters()).is_cuda
    assert result.losses[-1][1] < result.losses[0][1]


def test_channels_last_is_left_where_it_would_crash_the_process():
    """PyTorch 2.13 on a CPU: the gradient of a narrow strided 1 x 1 convolution writes out of bounds in that layout."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 1, 2), nn.Conv2d(16, 1, 1))
    inputs, target = torch.rand(4, 3, 60, 80), torch.rand(4, 1, 30, 40)
    result = train(model, (inputs, target), channels_last=True, iterations=4)
    assert result.iterations == 4
    assert not channels_last_is_safe(model, torch.device("cpu"))
    assert channels_last_is_safe(nn.Conv2d(16, 32, 1, 2), torch.device("cpu"))
