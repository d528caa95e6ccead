"""Optimal brain surgeon: the textbook step exactly, and less output error than magnitude at equal density."""

from __future__ import annotations

import pytest
import torch

from within.core.errors import WithinError
from within.core.sparse import brain_surgeon, density_mask


def layer(seed: int, outputs: int = 12, inputs: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight, and moments of inputs that are correlated and of different sizes."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(inputs, inputs, generator=generator, dtype=torch.float64)
    data = torch.randn(500, inputs, generator=generator, dtype=torch.float64) @ mixing
    data *= torch.linspace(0.1, 2, inputs, dtype=torch.float64)
    return torch.randn(outputs, inputs, generator=generator, dtype=torch.float64), data.T @ data / len(data)


def output_error(change: torch.Tensor, moment: torch.Tensor) -> float:
    return float((change @ moment * change).sum())


def test_one_removal_is_the_published_step():
    """Catches another saliency or update: dw = -w_q / [H^-1]_qq H^-1 e_q for the q of least w_q^2 / [H^-1]_qq."""
    weight, moment = layer(0, outputs=1)
    inverse = torch.linalg.inv(moment)
    saliency = weight[0] ** 2 / inverse.diagonal()
    q = int(saliency.argmin())
    expected = weight[0] - weight[0, q] / inverse[q, q] * inverse[:, q]
    found, mask = brain_surgeon(weight, moment, 19 / 20, rounds=1, damping=0.0)
    assert mask[0].nonzero().flatten().tolist() == [k for k in range(20) if k != q]
    assert torch.allclose(found[0][mask[0]], expected[mask[0]], rtol=1e-6)
    assert output_error(found - weight, moment) == pytest.approx(float(saliency[q]), rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_less_output_error_than_magnitude(seed):
    """Catches a ranking or repair that ignores the inputs: at half density the outputs are far closer."""
    weight, moment = layer(seed)
    repaired, mask = brain_surgeon(weight, moment, 0.5, rounds=6)
    assert int(mask.sum()) == weight.numel() // 2
    assert ((repaired != 0) <= mask).all()
    by_magnitude = weight * density_mask(weight.abs(), 0.5)
    assert output_error(repaired - weight, moment) < 0.4 * output_error(by_magnitude - weight, moment)


def test_repair_cannot_be_bettered_on_its_mask():
    """Catches rows that are not the least-squares optimum: the gradient on the kept weights is zero."""
    weight, moment = layer(7)
    repaired, mask = brain_surgeon(weight, moment, 0.4, damping=0.0)
    gradient = (repaired - weight) @ moment
    assert gradient[mask].abs().max() < 1e-9 * moment.abs().max()


def test_inputs_that_never_vary_and_extreme_densities():
    """Catches a singular Hessian; pixels at the border are always zero."""
    weight, moment = layer(3)
    moment[:4] = 0
    moment[:, :4] = 0
    repaired, mask = brain_surgeon(weight, moment, 0.5)
    assert torch.isfinite(repaired).all()
    assert not mask[:, :4].any()  # they cost nothing to remove
    assert not brain_surgeon(weight, moment, 0.0)[1].any()
    whole, mask = brain_surgeon(weight, moment, 1.0)
    assert mask.all()
    assert torch.allclose(whole, weight, atol=1e-6)


def test_bad_moments_are_refused():
    """Catches moments of another layer or of data with NaN."""
    weight, moment = layer(0)
    with pytest.raises(WithinError, match="Moments"):
        brain_surgeon(weight, moment[:5, :5], 0.5)
    with pytest.raises(WithinError, match="NaN"):
        brain_surgeon(weight, moment * float("nan"), 0.5)
