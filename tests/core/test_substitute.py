"""Running a model with other tensors leaves it as it was, however its tensors are shared."""

from __future__ import annotations

import torch
from torch import nn

from within.core.graph.graph import named_tensors
from within.core.graph.substitute import call_with, substitutes


class Shared(nn.Module):
    """A module under two names, and a tensor shared by two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again = self.first
        self.norm = nn.BatchNorm1d(4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.first.weight

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.tied(self.norm(self.again(torch.relu(self.first(features)))))


def test_shared_modules_and_tensors_are_replaced_everywhere_and_restored() -> None:
    """Would catch substitutes that stay behind in a module with two names, and one of two names that is forgotten."""
    torch.manual_seed(0)
    model, other = Shared().eval(), Shared().eval()
    before = {name: (tensor, tensor.clone()) for name, tensor in named_tensors(model).items()}
    features = torch.rand(3, 4)
    with torch.no_grad():
        result = call_with(model, substitutes(other, torch.clone), (features,))
        torch.testing.assert_close(result, other(features), rtol=0, atol=0)
    for name, tensor in named_tensors(model).items():
        assert tensor is before[name][0], name
        assert torch.equal(tensor, before[name][1]), name
