"""Networks of NAS-Bench-201 cost what the closed form says; a candidate is trained, timed and counted."""

from __future__ import annotations

import textwrap

import numpy as np
import pytest
import torch

from within.core import Macs, Params, trace
from within.core.errors import WithinError
from within.nas.networks.nasbench201_network import Nasbench201Network
from within.nas.spaces import nasbench201
from within.nas.spaces.nasbench201 import SPACE
from within.nas.train_candidate import evaluate

GOLDEN = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"


@pytest.mark.parametrize("seed", range(4))
def test_networks_cost_what_the_closed_form_says(seed):
    cell = SPACE.random(np.random.default_rng(seed)) if seed else nasbench201.from_text(GOLDEN)
    network = Nasbench201Network(cell, classes=100).eval()
    assert sum(each.numel() for each in network.parameters()) == nasbench201.parameters(cell, classes=100)
    graph = trace(network, (torch.zeros(1, 3, 32, 32),))
    live = nasbench201.live(cell)  # a trace has no operations whose results nobody reads
    assert Macs()(graph) == nasbench201.macs(live, classes=100) or live != cell
    if live == cell:
        assert Params()(graph) == nasbench201.parameters(cell, classes=100)


def test_nodes_are_sums_of_operations():
    cell = nasbench201.from_text("|skip_connect~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|skip_connect~2|")
    network = Nasbench201Network(cell)
    x = torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(network.features[2](x), 2 * x)


OWN = """
    import torch

    def training(folder):
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(64) % 2
        return torch.randn(64, 3, 8, 8, generator=generator) + labels[:, None, None, None] * 3, labels

    def accuracy(folder, network):
        pictures, labels = training(folder)
        with torch.no_grad():
            return {"top-1": 100 * float((network(pictures).argmax(1) == labels).float().mean())}
"""


def test_a_candidate_is_trained_timed_and_counted(tmp_path, monkeypatch):
    (tmp_path / "own_pictures.py").write_text(textwrap.dedent(OWN))
    monkeypatch.syspath_prepend(str(tmp_path))
    cell = nasbench201.from_text(GOLDEN)
    settings = {
        "data": str(tmp_path), "training": "own_pictures:training", "accuracy": "own_pictures:accuracy",
        "options": {"classes": 2}, "epochs": 3, "batch_size": 16, "rate": 0.02, "picture": 8, "runtime": "torch",
        "repeats": 2,
    }  # fmt: skip
    found = evaluate(cell, **settings)
    assert found["accuracy"] > 90
    assert found["milliseconds"] > 0
    assert found["params"] == nasbench201.parameters(cell, classes=2)
    assert evaluate(cell, **settings)["accuracy"] == found["accuracy"]
    with pytest.raises(WithinError, match="no network 'resnet'"):
        evaluate(cell, network="resnet", **settings)
