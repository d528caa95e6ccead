"""The table of NAS-Bench-101: the official file of trainings, brought to one row for each architecture.

Rows of the official file, nasbench_only108.tfrecord or nasbench_full.tfrecord, are JSON: [hash, epochs, adjacency as
digits, operations, metrics as a protobuf message in base64]. Each architecture was trained three times.
"""

from __future__ import annotations

import array
import base64
import binascii
import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from within.core.errors import WithinError
from within.core.progress import track
from within.nas.spaces import Architecture, nasbench101
from within.nas.tables.columns import write_columns
from within.nas.tables.nasbench101_metrics import Evaluation, read_metrics
from within.nas.tables.table import Table, read_parquet
from within.nas.tables.tfrecord import read_records

GENE_COLUMNS = (
    *(f"edge_{before}to{after}" for before, after in nasbench101.PAIRS),
    *(f"op_{vertex}" for vertex in range(1, nasbench101.VERTICES - 1)),
)


@dataclass(frozen=True)
class Row:
    """One training: a row of the official file."""

    module: str
    epochs: int
    architecture: Architecture
    parameters: int
    half: Evaluation
    final: Evaluation


def read(path: str | Path) -> Table:
    """Returns the architectures in the order of the official file, padded to 7 vertices, and all columns of numbers.

    Accuracies are means over the runs, in percent: cifar10_valid_acc_108ep, cifar10_test_acc_108ep, and so on.

    Raises:
        WithinError: when the file is missing, no table that `prepare_nasbench101` wrote, or an architecture is unknown
            or occurs twice.
    """
    if Path(path).suffix == ".tfrecord":
        raise WithinError(
            "This is the official file of trainings", where=str(path), todo="bring it to a table: prepare_nasbench101"
        )
    return read_parquet(path, nasbench101.SPACE, GENE_COLUMNS)


def prepare_nasbench101(source: str | Path, target: str | Path) -> int:
    """Writes the table of the official file; whatever was there stays until the new one is whole.

    Columns: the genes; module_hash; params; for each number of epochs E in the file, means over the runs of
    cifar10_valid_acc_Eep, cifar10_test_acc_Eep, cifar10_train_acc_Eep (percent) and train_seconds_Eep, the validation
    accuracy half-way, cifar10_valid_acc_Eep_half, and the number of runs, runs_Eep.

    Arguments:
        source: nasbench_only108.tfrecord or nasbench_full.tfrecord.
        target: the parquet file.

    Returns:
        the number of architectures.

    Raises:
        WithinError: when the official file is damaged, or the target cannot be written.
    """
    architectures: dict[str, tuple[int, Architecture, int]] = {}
    which: dict[int, array.array[int]] = {}
    numbers: dict[int, array.array[float]] = {}
    for count, record in enumerate(track(read_records(source), "NAS-Bench-101")):
        row = _row(record, f"{source}, record {count}")
        entry = (len(architectures), row.architecture, row.parameters)
        known = architectures.setdefault(row.module, entry)
        if known[1:] != entry[1:]:
            raise WithinError(f"The module {row.module} is two architectures", where=f"{source}, record {count}")
        which.setdefault(row.epochs, array.array("q")).append(known[0])
        final = row.final
        numbers.setdefault(row.epochs, array.array("d")).extend(
            (100 * final.validation, 100 * final.test, 100 * final.training, final.seconds, 100 * row.half.validation)
        )
    found = [each for _, each, _ in architectures.values()]
    columns: dict[str, object] = {
        name: np.array([each[gene] for each in found], np.int8) for gene, name in enumerate(GENE_COLUMNS)
    }
    columns["module_hash"] = list(architectures)
    columns["params"] = np.array([parameters for _, _, parameters in architectures.values()])
    for epochs in sorted(which):
        columns |= _means(epochs, np.array(which[epochs]), np.array(numbers[epochs]).reshape(-1, 5), len(found))
    write_columns(target, columns)
    return len(found)


def _means(epochs: int, rows: np.ndarray, numbers: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """Returns a column of means for each kind of number, NaN for an architecture without such a run."""
    runs = np.bincount(rows, minlength=count)
    names = [f"cifar10_{part}_acc_{epochs}ep" for part in ("valid", "test", "train")]
    names += [f"train_seconds_{epochs}ep", f"cifar10_valid_acc_{epochs}ep_half"]
    with np.errstate(invalid="ignore"):
        found = {name: np.bincount(rows, numbers[:, at], count) / runs for at, name in enumerate(names)}
    return {**found, f"runs_{epochs}ep": runs}


def _row(record: bytes, where: str) -> Row:
    try:
        module, epochs, adjacency, operations, message = json.loads(record)
        architecture = _architecture(adjacency, operations)
        parameters, evaluations = read_metrics(base64.b64decode(message, validate=True))
        _, half, final = evaluations
        return Row(str(module), int(epochs), architecture, parameters, half, final)
    except (ValueError, TypeError, AttributeError, binascii.Error) as error:
        raise WithinError(f"The record is no training of NAS-Bench-101: {error}", where=where) from error
    except WithinError as error:
        raise WithinError(error.what, where=where, todo=error.todo) from error


@functools.lru_cache(maxsize=4096)  # runs of one architecture are near each other
def _architecture(adjacency: str, operations: str) -> Architecture:
    vertices, names = math.isqrt(len(adjacency)), operations.split(",")
    matrix = np.array([int(digit) for digit in adjacency]).reshape(vertices, vertices)
    if (names[0], names[-1]) != ("input", "output"):
        raise ValueError("the operations are not from input to output")
    return nasbench101.from_matrix(matrix, names)
