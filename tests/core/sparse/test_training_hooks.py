"""Retraining of pruned and shared weights: zeros stay, members stay equal, the module stays plain, runs resume."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from within.core.errors import WithinError
from within.core.packing import pack, share_weights
from within.core.sparse import magnitude_masks
from within.core.train import fit
from within.core.train.deep_compression import DeepCompressionSettings, deep_compression
from within.core.train.sparse_hook import SparseHook
from within.core.train.weight_sharing_hook import WeightSharingHook

OPTIMIZERS = [
    {"type": "SGD", "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3},
    {"type": "Adam", "lr": 1e-2},
    {"type": "AdamW", "lr": 1e-2, "weight_decay": 0.1},
]


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(10, 33), nn.Tanh(), nn.Linear(33, 3))


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(256, 10, generator=generator)
    return inputs, (inputs[:, :3] * 2 + inputs[:, 3:6]).argmax(1)


def train(model: nn.Module, hook, iterations: int = 30, **options):
    return fit(model, data(), iterations=iterations, batch_size=32, loss=F.cross_entropy, hooks=[hook], **options)


def masks_of(model: nn.Module, density: float = 0.3) -> dict[str, torch.Tensor]:
    weights = {name: tensor for name, tensor in model.named_parameters() if tensor.ndim > 1}
    return magnitude_masks(weights, density=dict.fromkeys(weights, density))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_pruned_weights_stay_zero_and_the_others_move(optimizer):
    """Catches momentum or weight decay that brings pruned weights back, and masks that freeze what stays."""
    model = network()
    before, masks = copy.deepcopy(model.state_dict()), masks_of(model)
    train(model, SparseHook(masks), optimizer=optimizer)
    for name, mask in masks.items():
        value = model.state_dict()[name]
        assert not value[~mask].any()
        assert not value[~mask].signbit().any()
        assert (value[mask] != before[name][mask]).float().mean() > 0.5  # some lost their way to the output
    assert type(model[0]) is nn.Linear
    assert list(model.state_dict()) == list(before)
    assert not model[0].weight._backward_hooks


def test_a_mask_acts_as_if_the_weights_were_not_there():
    """Catches gradients of pruned weights that reach the optimiser: the same steps as with a masked forward pass."""

    class Masked(nn.Linear):
        def forward(self, x):
            return F.linear(x, self.weight * self.mask, self.bias)

    model, masks = network(), masks_of(network())
    reference = copy.deepcopy(model)
    for name, module in (("0.weight", reference[0]), ("2.weight", reference[2])):
        module.__class__, module.mask = Masked, masks[name]
    options = {"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9}}
    train(model, SparseHook(masks), **options)
    train(reference, SparseHook({}), **options)
    for name, mask in masks.items():
        assert torch.allclose(model.state_dict()[name], reference.state_dict()[name] * mask, atol=1e-6)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_members_of_a_cluster_stay_equal(optimizer):
    """Catches members that drift apart, centroids that do not move, and zeros that come back."""
    model = network()
    weights = {name: p.detach() * masks_of(model)[name] for name, p in model.named_parameters() if p.ndim > 1}
    shared = {name: share_weights(weight, 8) for name, weight in weights.items()}
    result = train(model, WeightSharingHook(shared), iterations=60, optimizer=optimizer)
    for name, each in shared.items():
        value = model.state_dict()[name]
        assert len(value[each.codes > 0].unique()) <= 8
        for code in range(1, len(each.centroids) + 1):
            assert len(value[each.codes == code].unique()) == 1
        assert not value[each.codes == 0].any()
        assert not torch.equal(value, each.weight())
    assert result.losses[-1][1] > 0


def test_centroids_take_the_step_of_their_summed_gradient():
    """Catches a mean in place of the sum: one step of SGD against autograd on the centroids themselves."""
    model = network()
    shared = {"0.weight": share_weights(model[0].weight.detach(), 5)}
    inputs, target = data()
    with torch.no_grad():
        model[0].weight.copy_(shared["0.weight"].weight())
    loss = F.cross_entropy(model(inputs), target)
    (gradient,) = torch.autograd.grad(loss, model[0].weight)
    expected = shared["0.weight"].centroids - 0.1 * shared["0.weight"].centroid_gradient(gradient)
    options = {"iterations": 1, "batch_size": 256, "loss": F.cross_entropy, "optimizer": {"type": "SGD", "lr": 0.1}}
    fit(model, data(), **options, hooks=[WeightSharingHook(shared)])
    found = shared["0.weight"].gathered(model[0].weight).centroids
    assert torch.allclose(found, expected, atol=1e-6)


def test_training_of_shared_weights_resumes_to_the_bit(tmp_path):
    """Catches a resumed run that starts again from the first centroids."""
    shared = {"0.weight": share_weights(network()[0].weight.detach(), 5)}
    whole, parts = network(), network()
    train(whole, WeightSharingHook(shared), iterations=20)
    options = {"run_directory": tmp_path / "run", "checkpoint_every": 10}
    train(parts, WeightSharingHook(shared), iterations=20, **options)
    (tmp_path / "run" / "checkpoints").joinpath("iter_20.pth").unlink(missing_ok=True)
    resumed = network()
    train(resumed, WeightSharingHook(shared), iterations=20, resume=True, **options)
    assert torch.equal(whole[0].weight, resumed[0].weight)


def test_masks_and_sharings_of_another_network_are_refused():
    """Catches a mask that is passed over in silence, and averaging that takes members apart."""
    with pytest.raises(WithinError, match="no parameter"):
        train(network(), SparseHook({"9.weight": torch.ones(3, 3, dtype=torch.bool)}))
    with pytest.raises(WithinError, match="shape"):
        train(network(), SparseHook({"0.weight": torch.ones(3, 3, dtype=torch.bool)}))
    shared = {"0.weight": share_weights(network()[0].weight.detach(), 5)}
    with pytest.raises(WithinError, match="averaged"):
        train(network(), WeightSharingHook(shared), ema=0.99)


@pytest.mark.parametrize("surgeon", [False, True])
def test_deep_compression_from_end_to_end(tmp_path, surgeon):
    """Catches stages that undo each other: after all of them densities, values and the packed file are as asked."""
    model = network()
    training = {"data": data(), "batch_size": 32, "loss": F.cross_entropy}
    fit(model, **training, iterations=150)
    inputs, target = data()
    dense = float((model(inputs).argmax(1) == target).float().mean())
    settings = DeepCompressionSettings(
        density={"0.*": 0.3, "2.*": 0.5}, bits={"0.*": 3, "2.*": 4}, rounds=2, retraining=100, sharing=30
    )

    def moments(_: nn.Module) -> dict[str, torch.Tensor]:
        return {"0.weight": inputs.T @ inputs / len(inputs)}

    found = deep_compression(model, training, settings, moments=moments if surgeon else None)
    assert found == {"0.weight": pytest.approx(0.3, abs=0.002), "2.weight": pytest.approx(0.5, abs=0.01)}
    for name, density, values in (("0.weight", 0.3, 8), ("2.weight", 0.5, 16)):
        weight = model.state_dict()[name]
        assert float((weight != 0).float().mean()) <= density + 0.01
        assert len(weight[weight != 0].unique()) <= values
    assert float((model(inputs).argmax(1) == target).float().mean()) > dense - 0.1
    packed = pack(model, tmp_path / "packed")
    assert [tensor.encoding for tensor in packed.account.tensors] == ["shared", "dense", "shared", "dense"]
    with pytest.raises(WithinError, match="hooks"):
        deep_compression(model, {**training, "hooks": []}, settings)
    with pytest.raises(WithinError, match="not both"):
        deep_compression(model, training, DeepCompressionSettings(density=0.1, quality=1.0))
