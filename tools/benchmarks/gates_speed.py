"""Training of GATES on NAS-Bench-201: against the published loop, which encodes both architectures of every pair.

An epoch of 6,280 architectures in batches of 512, both ways in turns, on one thread's CPU time; the loss of the same
pairs by both; and a whole training on all of them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from tools.benchmarks.networks.reencoding_gates import ReencodingGates, epoch, matrices, pair_loss
from tools.benchmarks.training.nasbench201_predictors import LABEL, halves, new_predictor, tau, train
from torch import Tensor, nn

from within.core.bench import BenchResult
from within.nas.losses import hinge_of_pairs, pairs
from within.nas.predictor import train_predictor
from within.nas.spaces import Architecture

BATCH, ROUNDS, LEAST_SPEED = 512, 3, 10.0
MOST_DIFFERENCE, MOST_MINUTES = 1e-6, 15


def run(full: bool = False) -> BenchResult:
    """Measures three epochs each, nine with `full`, and one training."""
    torch.set_num_threads(1)
    known, _ = halves()
    values = known.labels(LABEL)
    labels = torch.tensor((values - values.min()) / (values.max() - values.min()), dtype=torch.float32)
    cells = matrices(known.architectures)
    loss, gradient = _differences(known.architectures, cells, labels)
    ours, theirs = [], []
    network = ReencodingGates(new_predictor("GATES", "hinge", 0))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    predictor = new_predictor("GATES", "hinge", 0)
    train_predictor(predictor, known.architectures, values, epochs=1)
    for _ in range(3 * ROUNDS if full else ROUNDS):
        started = time.thread_time()
        epoch(network, optimizer, cells, labels, BATCH)
        theirs.append(time.thread_time() - started)
        started = time.thread_time()
        train_predictor(predictor, known.architectures, values, epochs=1, batch_size=BATCH)
        ours.append(time.thread_time() - started)
    speed = min(theirs) / min(ours)
    spread = [one / other for one, other in zip(theirs, ours, strict=True)]
    trained, seconds = train("GATES", "hinge", 1.0, 0)
    checks = {
        "speed": speed >= LEAST_SPEED,
        "equal losses": max(loss, gradient) <= MOST_DIFFERENCE,
        "100 % in 15 minutes": seconds <= 60 * MOST_MINUTES,
    }
    missed = [name for name, good in checks.items() if not good]
    figures = {
        "speed": round(speed, 2),
        "speed_of_rounds": [round(min(spread), 2), round(max(spread), 2)],
        "epoch_cpu_seconds": {"ours": round(min(ours), 3), "published loop": round(min(theirs), 3)},
        "loss_difference": loss,
        "gradient_difference": gradient,
        "training_cpu_minutes": round(seconds / 60, 2),
        "tau": round(tau(trained), 4),
        "missed": missed,
    }
    rows = [
        ("published loop", f"{min(theirs):.3f}", "1.0"),
        ("ours", f"{min(ours):.3f}", f"{speed:.1f}"),
    ]
    return BenchResult("gates-speed", not missed, figures, ("loop", "CPU seconds an epoch", "speed"), rows)


def _differences(architectures: Sequence[Architecture], cells: Tensor, labels: Tensor) -> tuple[float, float]:
    """Returns the largest differences of the loss of the same pairs and of its gradients, relative, in float64."""
    predictor = new_predictor("GATES", "hinge", 0).double().eval()
    network, genes = ReencodingGates(predictor).eval(), torch.tensor(architectures)
    labels = labels.double()
    losses, gradients = [], []
    for rows in torch.randperm(len(cells), generator=torch.Generator().manual_seed(0)).split(BATCH)[:3]:
        chosen = pairs(labels[rows])
        one = _gradient(hinge_of_pairs(predictor(genes[rows]), labels[rows], chosen), predictor)
        two = _gradient(pair_loss(network, cells[rows], labels[rows], chosen), predictor)
        losses.append(abs(one[0] - two[0]))
        gradients.append(float((one[1] - two[1]).abs().max() / two[1].abs().max()))
    return max(losses), max(gradients)


def _gradient(loss: Tensor, predictor: nn.Module) -> tuple[float, Tensor]:
    found = torch.autograd.grad(loss, list(predictor.parameters()))
    return float(loss.detach()), torch.cat([each.flatten() for each in found])
