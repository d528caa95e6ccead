"""Running a model leaves it as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from within.core.device.inference import device_of, evaluating, placed


class Recorder(nn.Linear):
    """Remembers where it was sent, for machines with one device only."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.sent: list[object] = []

    def to(self, *places: object, **_: object) -> Recorder:
        self.sent += places
        return self


def test_a_model_comes_back_from_another_device_even_after_an_error() -> None:
    model = Recorder()
    with pytest.raises(ZeroDivisionError), placed(model, "cuda:1"):
        raise ZeroDivisionError
    assert model.sent == ["cuda:1", torch.device("cpu")]
    with placed(model, None), placed(print, "cuda:1"):
        pass
    assert len(model.sent) == 2


def test_the_device_of_buffers_and_of_what_is_no_module() -> None:
    assert device_of(nn.Linear(1, 1, device="meta")).type == "meta"
    assert device_of(nn.BatchNorm2d(1, affine=False, device="meta")).type == "meta"
    assert device_of(nn.ReLU()) == device_of(print) == torch.device("cpu")


def test_modes_of_single_modules_are_restored() -> None:
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)).train()
    model[1].eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
    assert [module.training for module in model] == [True, False]
