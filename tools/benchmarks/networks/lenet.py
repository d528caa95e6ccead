"""LeNet-300-100 and LeNet-5 as Caffe defines it (LeCun et al., Proceedings of the IEEE, 1998)."""

from __future__ import annotations

from torch import nn


def lenet_300_100() -> nn.Sequential:
    """784 pixels, two hidden layers, ten classes."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 300), nn.Tanh(), nn.Linear(300, 100), nn.Tanh(), nn.Linear(100, 10)
    )


def lenet_5() -> nn.Sequential:
    """20 and 50 maps of 5x5 convolutions, each pooled by two, then 500 hidden units."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 500),
        nn.ReLU(),
        nn.Linear(500, 10),
    )
