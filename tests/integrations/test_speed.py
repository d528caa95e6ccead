"""The int8 paths that the bench `speed` compares, on a small network; its verdict; and the networks it loads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tools.benchmarks import speed
from tools.benchmarks.networks import speed_networks
from tools.benchmarks.peers.peer import Peer, Subject
from torch import nn

from within.core.device import Session, export_onnx, runtime

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def subject(tmp_path_factory) -> Subject:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    ).eval()  # fmt: skip
    images = [torch.randn(1, 3, 24, 24) for _ in range(16)]
    path = tmp_path_factory.mktemp("float") / "float.onnx"
    return Subject(network, export_onnx(network, (images[0],), path, dynamic=False).path, images)


@pytest.mark.parametrize("peer", speed.PEERS, ids=lambda peer: peer.name)
def test_each_int8_path_computes_the_network(peer: Peer, subject: Subject, tmp_path) -> None:
    """Would catch a peer fed with wrong images or that quantised nothing: int8 is close to float but never equal."""
    made = peer.make(subject, tmp_path)
    for name in peer.runtimes:
        session = made if isinstance(made, Session) else runtime(name).load(made)
        with torch.no_grad():
            errors = [session.run([image])[0] - subject.network(image) for image in subject.calibration]
            size = torch.stack([subject.network(image) for image in subject.calibration]).norm()
        assert 1e-4 < torch.stack(errors).norm() / size < 0.1


def test_a_peer_that_fails_is_a_row_with_its_reason(subject: Subject, tmp_path) -> None:
    """Would catch a bench that crashes where one partner is not installed."""

    def absent(*_):
        raise ImportError("No module named 'partner'")

    sessions, missing = {}, {}
    speed._load(sessions, missing, "dense", Peer("partner", absent, ("openvino",)), subject, tmp_path)
    assert not sessions
    assert missing == {speed.Key("dense", "partner", "openvino"): "ImportError: No module named 'partner'"}


@pytest.mark.parametrize(
    ("seconds", "right", "passed"), [(0.19, 159, True), (0.21, 160, False), (0.19, 158, False), (None, None, False)]
)
def test_the_verdict_needs_speed_and_accuracy_in_both_runtimes(seconds, right, passed) -> None:
    """Would catch a bench that passes on speed alone, or without one of the runtimes."""
    labels = torch.ones(200, dtype=torch.long)

    def classes(correct: int) -> torch.Tensor:
        return (torch.arange(200) < correct).long()

    times = {speed.Key("dense", "fp32", "onnxruntime"): np.ones(9)}
    answers = dict.fromkeys(times, classes(170)) | {speed.Key("half widths", "fp32", "onnxruntime"): classes(160)}
    for engine, took, correct in (("onnxruntime", 0.1, 160), ("openvino", seconds, right)):
        if took is not None:
            key = speed.Key("half widths", speed.OURS, engine)
            times[key], answers[key] = np.full(9, took), classes(correct)
    result = speed._result(times, answers, labels, {}, {}, "bf16", False)
    assert result.passed is passed
    assert bool(result.figures["missed"]) is not passed


def test_the_stored_networks_are_whole_and_one_has_half_the_widths() -> None:
    """Would catch a network stored with other weights than its plan, or a file too large for the repository."""
    dense, pruned = speed_networks.dense_network(), speed_networks.pruned_network()
    for network, widths in ((dense, [64, 128, 256, 512]), (pruned, [32, 64, 128, 256])):
        assert [list(stage[1].conv2.weight.shape) for stage in network.stages] == [[w, w, 3, 3] for w in widths]
    files = list(speed_networks.FOLDER.iterdir())
    assert max(file.stat().st_size for file in files) < 4e6
