"""The official file of NAS-Bench-101, as small ones that are written here: records, messages, means over runs."""

from __future__ import annotations

import base64
import json

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.nas.spaces import nasbench101
from within.nas.tables import nasbench101_table, tfrecord
from within.nas.tables.nasbench101_metrics import Evaluation, read_metrics, write_metrics
from within.nas.tables.nasbench101_table import prepare_nasbench101, read

SHARES = st.floats(0, 1, width=32)
CELLS = {  # adjacency row by row, operations
    "b": ("0100001000010000", "input,conv3x3-bn-relu,maxpool3x3,output"),
    "a": (
        "011001000010000010000000000001000000",
        "input,conv1x1-bn-relu,conv3x3-bn-relu,maxpool3x3,conv3x3-bn-relu,output",
    ),
    "c": ("0100", "input,output"),
}


def training(module, epochs, validation, test=0.5, parameters=123_456_789):
    adjacency, operations = CELLS[module]
    stages = (Evaluation(), Evaluation(epochs / 2, 10.0, 0.5, validation / 2, test / 2),
              Evaluation(epochs, 20.0, 0.9, validation, test))  # fmt: skip
    message = base64.b64encode(write_metrics(parameters, stages)).decode()
    return [module, epochs, adjacency, operations, message]


def written(path, rows):
    tfrecord.write_records(path, [json.dumps(row).encode() for row in rows])
    return path


@pytest.fixture
def official(tmp_path):
    """Three architectures, three runs each, in an order in which they alternate; one lacks runs of 4 epochs."""
    rows = [training(module, 108, 0.9 + 0.01 * run) for run in range(3) for module in CELLS]
    rows += [training(module, 4, 0.3, test=0.2) for module in "cb"]
    return written(tmp_path / "nasbench.tfrecord", rows)


def test_known_checksums():
    """The check value of CRC-32C, and a vector of RFC 3720."""
    assert tfrecord.crc32c([b"123456789", b"", bytes(32)]).tolist() == [0xE3069283, 0, 0x8A9136AA]


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=12))
def test_checksums_of_many_are_those_of_each(records):
    together = tfrecord.masked_checksums(records).tolist()
    assert together == [int(tfrecord.masked_checksums([each])[0]) for each in records]


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=30))
def test_records_go_both_ways(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("records") / "a"
    tfrecord.write_records(path, records)
    assert path.stat().st_size == sum(16 + len(each) for each in records)
    assert list(tfrecord.read_records(path)) == records


def test_any_damage_is_found(tmp_path, monkeypatch):
    """Each byte of the file changed, and the file cut at each byte but those between records; batches of two."""
    monkeypatch.setattr(tfrecord, "BATCH", 2)
    path = tmp_path / "a"
    tfrecord.write_records(path, [b"one", b"two two", b"three"])
    whole = path.read_bytes()
    ends = {0, 19, 42, len(whole)}
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(WithinError, match="checksum"):
            list(tfrecord.read_records(path))
        path.write_bytes(whole[:at])
        if at not in ends:
            with pytest.raises(WithinError, match="ends within record"):
                list(tfrecord.read_records(path))
    path.write_bytes(b"")
    with pytest.raises(WithinError, match="empty"):
        list(tfrecord.read_records(path))
    with pytest.raises(WithinError, match="not there"):
        list(tfrecord.read_records(tmp_path / "b"))


@given(st.integers(0, 2**31 - 1), st.lists(st.builds(Evaluation, *[SHARES] * 5), max_size=4))
def test_messages_go_both_ways(parameters, evaluations):
    message = write_metrics(parameters, tuple(evaluations))
    assert read_metrics(message) == (parameters, tuple(evaluations))
    further = bytes([6 << 3 | 2, 3]) + b"abc" + bytes([9 << 3, 200, 1, 8 << 3 | 5, 1, 2, 3, 4])  # fields of others
    assert read_metrics(further + message) == (parameters, tuple(evaluations))
    for end in range(1, len(message)):
        try:
            read_metrics(message[:end])
        except ValueError as error:
            assert "ends within" in str(error)  # noqa: PT017


def test_a_message_of_the_official_library():
    """Written down by hand: an evaluation of epoch 108 with a checkpoint path, 2,694,282 weights, time 1.5."""
    evaluation = b"\x09" + np.float64(108).tobytes() + b"\x21" + np.float64(0.9375).tobytes() + b"\x32\x04path"
    message = b"\x0a" + bytes([len(evaluation)]) + evaluation + b"\x10\x8a\xb9\xa4\x01\x19" + np.float64(1.5).tobytes()
    assert read_metrics(message) == (2_694_282, (Evaluation(epoch=108, validation=0.9375),))


def test_means_over_runs(official, tmp_path):
    target = tmp_path / "nasbench101.parquet"
    assert prepare_nasbench101(official, target) == 3
    table = read(target)
    for graph, found in zip(CELLS.values(), table.architectures, strict=True):  # in the order of the file
        size = len(graph[1].split(","))
        matrix = np.array(list(map(int, graph[0]))).reshape(size, size)
        assert found == nasbench101.from_matrix(matrix, graph[1].split(","))
    assert table.column("cifar10_valid_acc_108ep") == pytest.approx([91, 91, 91])
    assert table.column("cifar10_valid_acc_108ep_half") == pytest.approx([45.5, 45.5, 45.5])
    assert table.column("cifar10_test_acc_108ep") == pytest.approx([50, 50, 50])
    assert table.column("cifar10_valid_acc_4ep") == pytest.approx([30, np.nan, 30], nan_ok=True)
    assert table.column("runs_108ep").tolist() == [3, 3, 3]
    assert table.column("runs_4ep").tolist() == [1, 0, 1]
    assert table.column("params").tolist() == [123_456_789] * 3
    assert table.column("train_seconds_108ep").tolist() == [20, 20, 20]
    with pytest.raises(WithinError, match="All labels"):
        table.labels("cifar10_valid_acc_108ep")
    with pytest.raises(WithinError, match=r"NaN.*row 1"):
        table.labels("cifar10_valid_acc_4ep")
    assert pyarrow.parquet.read_table(target).column("module_hash").to_pylist() == list(CELLS)


def test_what_was_there_stays_when_the_official_file_is_damaged(official, tmp_path):
    target = tmp_path / "nasbench101.parquet"
    prepare_nasbench101(official, target)
    before = target.read_bytes()
    official.write_bytes(official.read_bytes()[:-5])
    with pytest.raises(WithinError, match="ends within record 10"):
        prepare_nasbench101(official, target)
    assert target.read_bytes() == before
    assert {each.name for each in tmp_path.iterdir()} == {official.name, target.name}


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        (2, "0110", "leads back"),
        (2, "011", "no training"),
        (2, "", "2 to 7 vertices"),
        (2, 7, "no training"),
        (3, "output,input", "from input to output"),
        (3, None, "no training"),
        (3, "input,conv9x9,output", r"\(2, 2\) for 3 operations"),
        (4, "#", "no training"),
        (4, base64.b64encode(write_metrics(1, (Evaluation(),))).decode(), "no training"),
        (4, base64.b64encode(b"\x0a\x7f").decode(), "ends within a field"),
        (1, None, "no training"),
    ],
)
def test_rows_that_cannot_be(tmp_path, part, value, message):
    good, bad = training("b", 108, 0.9), training("c", 108, 0.9)
    bad[part] = value
    path = written(tmp_path / "a.tfrecord", [good, bad])
    with pytest.raises(WithinError, match=message) as raised:
        prepare_nasbench101(path, tmp_path / "b")
    assert raised.value.where == f"{path}, record 1"
    assert not (tmp_path / "b").exists()
    with pytest.raises(WithinError, match="no training of NAS-Bench-101"):
        prepare_nasbench101(written(path, [[1, 2], good]), tmp_path / "b")
    with pytest.raises(WithinError, match="two architectures"):
        prepare_nasbench101(written(path, [good, ["b", *training("c", 108, 0.9)[1:]]]), tmp_path / "b")
    with pytest.raises(WithinError, match="prepare_nasbench101"):
        read(path)


def test_columns_of_genes_are_those_of_the_space():
    assert len(nasbench101_table.GENE_COLUMNS) == len(nasbench101.SPACE.genes)
