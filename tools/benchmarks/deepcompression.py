"""Deep Compression of LeNet-300-100 on real digits: rate under full accounting, error on digits never trained on.

Of MNIST only 5,000 test digits are here, so they are cross-fitted: the even ones retrain and the odd ones measure, then
the other way round; each digit is measured once, by the network that did not see it. Retraining sees the labels of its
half and the dense network's answers, on deformed digits. The dense network never saw these labels; what they are worth
shows in the arms of `full` that retrain without any, and in the dense network trained in the same way.

Every file is unpacked again and compared in every bit, altered in every byte and cut at every length.
"""

from __future__ import annotations

import copy
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tools.benchmarks.networks.real import core_data, trained_lenet
from tools.data.deformed_digits import DeformedDigits, plain_digits
from tools.data.mnist import Mnist, mnist
from torch import Tensor, nn

from within.core.bench import BenchResult
from within.core.distill import KnowledgeDistillation
from within.core.errors import WithinError
from within.core.graph import trace
from within.core.packing import Account, pack, unpack
from within.core.progress import track
from within.core.pruning.statistics import input_moments
from within.core.train.deep_compression import DeepCompressionSettings, deep_compression

RATE, PUBLISHED_RATE = 35.0, 40.0
POINTS = 0.2
DENSE_BYTES = 4 * 266_610
COPIES = 40  # deformed copies of each digit, made before training: making them costs more than a step
BATCH = 256
SETTINGS = DeepCompressionSettings(
    density={"1.weight": 0.08, "3.weight": 0.09, "5.weight": 0.26},  # the paper's, table 2
    bits={"1.weight": 4, "3.weight": 4, "5.weight": 5},
    rounds=3,
    retraining=2000,
    early_share=0.4,
    sharing=700,
    retraining_rate=2e-3,
    sharing_rate=3e-4,
)
ONE_SHOT = replace(SETTINGS, rounds=1, retraining=0, sharing=0)
NOT_COMPRESSED = replace(SETTINGS, density=1.0, bits=None)
TEMPERATURE, LABELS = 2.0, 0.5  # of distillation; share of the labels where they are used
MAIN = "Deep Compression"


@dataclass(frozen=True)
class Arm:
    """One way of compressing.

    Attributes:
        settings: densities, bits and training.
        surgeon: prunes by the second moments of what each layer reads instead of by magnitude.
        labels: retraining sees the labels of its half as well.
    """

    settings: DeepCompressionSettings
    surgeon: bool = False
    labels: bool = True


ARMS = {
    "magnitude, shared, not retrained": Arm(ONE_SHOT),
    "brain surgeon, shared, not retrained": Arm(ONE_SHOT, surgeon=True),
    MAIN: Arm(SETTINGS),
}
FURTHER_ARMS = {
    f"{MAIN}, seed 1": Arm(replace(SETTINGS, seed=100)),
    f"{MAIN}, seed 2": Arm(replace(SETTINGS, seed=200)),
    "retrained without labels": Arm(SETTINGS, labels=False),
    "brain surgeon in each round": Arm(SETTINGS, surgeon=True),
    "dense, retrained alike": Arm(NOT_COMPRESSED),
}


@dataclass(frozen=True)
class Outcome:
    """What came of an arm, on both halves.

    Attributes:
        wrong: digits answered wrongly, by half.
        accounts: of the two files; empty where nothing was packed.
        bit_exact: what was unpacked equals what was packed in every bit, and packs to the same file again.
    """

    wrong: tuple[int, ...]
    accounts: tuple[Account, ...] = ()
    bit_exact: bool = True

    @property
    def rate(self) -> float | None:
        """The smaller of the two rates."""
        return min(account.rate for account in self.accounts) if self.accounts else None


def run(full: bool = False) -> BenchResult:
    """Runs the bench; `full` adds two more seeds and the controls."""
    started = time.perf_counter()
    digits = mnist(core_data())
    halves = (digits, _swapped(digits))
    measured = len(digits.test_labels) + len(digits.train_labels)
    tests = [(plain_digits(half.test_images, half.mean), half.test_labels) for half in halves]
    dense = Outcome(tuple(_wrong(trained_lenet(), *test) for test in tests))
    outcomes = {"dense": dense}
    with tempfile.TemporaryDirectory(prefix="within-deepcompression-") as folder:
        for name, arm in (ARMS | FURTHER_ARMS if full else ARMS).items():
            outcomes[name] = _compress(halves, arm, Path(folder))
            if name == MAIN:
                verified = [_verify(Path(folder) / str(number)) for number in range(2)]
    ours = outcomes[MAIN]
    repeated = [outcome for name, outcome in outcomes.items() if name.startswith(MAIN)]
    points = [100 * (sum(each.wrong) - sum(dense.wrong)) / measured for each in repeated]
    figures: dict[str, Any] = {
        "rate": round(ours.rate or 0.0, 2),
        "published_rate": PUBLISHED_RATE,
        "file_bytes": [account.file_bytes for account in ours.accounts],
        "parts": [{part: round(size, 1) for part, size in account.parts.items()} for account in ours.accounts],
        "digits_measured": measured,
        "dense_error_percent": 100 * sum(dense.wrong) / measured,
        "error_percent": 100 * sum(ours.wrong) / measured,
        "points_more_error": points[0],
        "points_more_error_by_seed": points,
        "wrong_by_half": {name: list(outcome.wrong) for name, outcome in outcomes.items()},
        "bit_exact": all(outcome.bit_exact for outcome in outcomes.values()),
        "altered_bytes": sum(each["altered"] for each in verified),
        "altered_bytes_detected": sum(each["altered_detected"] for each in verified),
        "cuts": sum(each["cuts"] for each in verified),
        "cuts_detected": sum(each["cuts_detected"] for each in verified),
        "seconds": round(time.perf_counter() - started, 1),
        "thresholds": {"rate": RATE, "points_more_error": POINTS},
    }
    passed = (
        figures["rate"] >= RATE
        and max(points) <= POINTS
        and figures["bit_exact"]
        and figures["altered_bytes"] == figures["altered_bytes_detected"]
        and figures["cuts"] == figures["cuts_detected"]
    )
    return BenchResult("deepcompression", passed, figures, *_table(outcomes, measured))


def _compress(halves: tuple[Mnist, Mnist], arm: Arm, folder: Path) -> Outcome:
    """Compresses once with each half and measures on the other; what is measured is read back from the file."""
    wrong, accounts, exact = [], [], []
    for number, half in enumerate(halves):
        model = trained_lenet()
        training = _training(half, model, arm) if arm.settings.retraining else {}
        moments = partial(_moments, plain_digits(half.train_images, half.mean)) if arm.surgeon else None
        deep_compression(model, training, arm.settings, moments=moments)
        result = pack(model, folder / str(number))
        state = unpack(result.path)
        restored = trained_lenet()
        restored.load_state_dict(state)
        exact.append(all(_bits(state[name]).equal(_bits(tensor)) for name, tensor in model.state_dict().items()))
        exact.append(pack(restored, folder / "again").path.read_bytes() == result.path.read_bytes())
        wrong.append(_wrong(restored, plain_digits(half.test_images, half.mean), half.test_labels))
        accounts.append(result.account)
    return Outcome(tuple(wrong), tuple(accounts), all(exact))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(torch.int32)


def _moments(images: Tensor, model: nn.Module) -> dict[str, Tensor]:
    found = input_moments(trace(model, (images[:500],)), images.split(500))
    return {name: each.second_moment for name, each in found.items()}


def _training(half: Mnist, model: nn.Module, arm: Arm) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(arm.settings.seed)
    source = DeformedDigits(half.train_images, half.train_labels, half.mean)
    everything = torch.arange(len(source))
    copies = [source.batch(everything, generator)[0] for _ in track(range(COPIES - 1), "Deforming digits")]
    inputs = torch.cat([plain_digits(half.train_images, half.mean), *copies])
    imitation = {"batch_size": BATCH, "teacher": copy.deepcopy(model)}
    if not arm.labels:
        return imitation | {"data": inputs, "distillation": KnowledgeDistillation(TEMPERATURE, 1.0)}
    labelled = {"data": (inputs, half.train_labels.repeat(COPIES)), "loss": F.cross_entropy}
    return imitation | labelled | {"distillation": KnowledgeDistillation(TEMPERATURE, 1 - LABELS)}


def _verify(path: Path) -> dict[str, int]:
    """Alters every byte of a file and cuts it at every length; counts what was refused."""
    data = path.read_bytes()
    broken = path.with_name("broken")
    altered = cuts = 0
    for position in track(range(len(data)), "Altering every byte, cutting everywhere"):
        changed = bytearray(data)
        changed[position] ^= 1 + position % 255
        altered += _refused(broken, bytes(changed))
        cuts += _refused(broken, data[:position])
    return {"altered": len(data), "altered_detected": altered, "cuts": len(data), "cuts_detected": cuts}


def _refused(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    try:
        unpack(path)
    except WithinError:
        return True
    return False


def _swapped(digits: Mnist) -> Mnist:
    return Mnist(digits.test_images, digits.test_labels, digits.train_images, digits.train_labels, digits.mean)


def _wrong(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    model.eval()
    with torch.no_grad():
        return int((model(images).argmax(1) != labels).sum())


def _table(outcomes: dict[str, Outcome], measured: int) -> tuple[tuple[str, ...], list[tuple]]:
    columns = ("network", "bytes", "rate", "bits a weight", "bits a gap", "wrong by half", "error %", "points more")
    before = sum(outcomes["dense"].wrong)
    rows = []
    for name, outcome in outcomes.items():
        tensors = [tensor for account in outcome.accounts for tensor in account.tensors if tensor.clusters]
        nonzeros = sum(tensor.nonzeros for tensor in tensors)
        wrong = sum(outcome.wrong)
        rows.append(
            (
                name,
                max(account.file_bytes for account in outcome.accounts) if tensors else DENSE_BYTES,
                outcome.rate or 1.0,
                sum(tensor.weights for tensor in tensors) / nonzeros if tensors else 32.0,
                sum(tensor.indices for tensor in tensors) / nonzeros if tensors else "",
                " + ".join(map(str, outcome.wrong)),
                100 * wrong / measured,
                100 * (wrong - before) / measured,
            )
        )
    return columns, rows
