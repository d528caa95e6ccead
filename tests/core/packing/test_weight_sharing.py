"""Weight sharing: k-means that improves, keeps zeros, changes nothing that is shared already, and sums gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.core.packing.weight_sharing import INITIALS, SharedWeight, share_weights


def pruned(seed: int, count: int = 4000, density: float = 0.3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, generator=generator) * (torch.rand(count, generator=generator) < density)


@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from(INITIALS))
def test_result_is_a_fixed_point_of_k_means(seed, clusters, initial):
    """Catches a weight that is not at its nearest centroid, a centroid that is not its members' mean, a lost zero."""
    weight = pruned(seed, 300)
    shared = share_weights(weight, clusters, initial=initial, iterations=10_000, seed=seed)
    value = shared.weight()
    assert ((value == 0) == (weight == 0)).all()
    assert len(shared.centroids) <= clusters
    kept = weight[weight != 0]
    distance = (kept[:, None].double() - shared.centroids.double()).abs()
    assert torch.allclose((kept.double() - value[weight != 0].double()).abs(), distance.min(1).values, atol=1e-6)
    gathered = shared.gathered(weight).centroids
    assert torch.allclose(gathered, shared.centroids, atol=1e-5)


@pytest.mark.parametrize("initial", INITIALS)
def test_more_clusters_and_more_iterations_leave_less_error(initial):
    """Catches clusters that are not used: 32 of them leave the error of a good scalar quantiser."""
    weight = pruned(1)
    errors = [
        float(((share_weights(weight, k, initial=initial).weight() - weight) ** 2).sum() / (weight**2).sum())
        for k in (2, 8, 32)
    ]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]
    assert errors[2] < 0.01
    first = share_weights(weight, 8, initial=initial, iterations=0).weight()
    last = share_weights(weight, 8, initial=initial).weight()
    assert ((last - weight) ** 2).sum() < ((first - weight) ** 2).sum()


def test_linear_start_keeps_the_extremes():
    """Catches another start: the linear one has its outer centroids at minimum and maximum."""
    weight = pruned(2)
    shared = share_weights(weight, 16, iterations=0)
    assert float(shared.centroids[0]) == float(weight.min())
    assert float(shared.centroids[-1]) == float(weight.max())


@given(st.integers(0, 10**6), st.integers(1, 20))
def test_sharing_twice_changes_nothing(seed, clusters):
    """Catches centroids that move when a network that is shared already is packed."""
    once = share_weights(pruned(seed, 200), clusters)
    again = share_weights(once.weight(), clusters)
    assert torch.equal(again.weight(), once.weight())


def test_gradient_of_a_centroid_is_the_sum_over_its_members():
    """Catches a mean instead of the sum, and gradients of zeros that leak in; autograd is the reference."""
    shared = share_weights(pruned(3, 500).reshape(20, 25), 7)
    centroids = shared.centroids.clone().requires_grad_()
    coefficients = torch.randn(20, 25, generator=torch.Generator().manual_seed(0))
    (SharedWeight(shared.codes, centroids).weight() * coefficients).sum().backward()
    assert torch.allclose(shared.centroid_gradient(coefficients), centroids.grad, atol=1e-6)


@pytest.mark.parametrize("weight", [torch.zeros(5), torch.zeros(0, 3), torch.full((4,), 2.5), torch.tensor([0.0, 3.0])])
def test_edge_cases_are_unchanged(weight):
    """Catches an empty tensor, all zeros or one value that k-means cannot start from."""
    shared = share_weights(weight, 4)
    assert torch.equal(shared.weight(), weight)


def test_bad_input_is_refused():
    """Catches NaN that turns into a centroid."""
    with pytest.raises(WithinError, match="NaN"):
        share_weights(torch.tensor([1.0, float("nan")]), 4)
    with pytest.raises(WithinError, match="clusters"):
        share_weights(torch.ones(3), 0)
    with pytest.raises(WithinError, match="start"):
        share_weights(torch.ones(3), 2, initial="best")
