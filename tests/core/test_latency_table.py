"""The table of kernel times: kept, shared by processes, never mixed with other machines, and clear when damaged."""

from __future__ import annotations

import multiprocessing
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from within.core.cost.latency_table import Environment, LatencyTable, default_path, environment
from within.core.device.kernels import Kernel
from within.core.device.kernels.timing import KernelTime
from within.core.errors import WithinError

HERE = Environment("onnxruntime", "1.0", "a processor", 1)


def kernel(inputs: int, outputs: int = 16) -> Kernel:
    settings = (("dilation", (1, 1)), ("groups", 1), ("padding", (1, 1, 1, 1)), ("stride", (1, 1)))
    shapes = ((1, inputs, 8, 8),), ((outputs, inputs, 3, 3),), ((1, outputs, 8, 8),)
    return Kernel("conv", "blocked", *shapes, settings)


@given(
    kind=st.sampled_from(["conv", "linear", "add", "aten"]),
    shapes=st.lists(st.tuples(*[st.integers(1, 64)] * 4), min_size=1, max_size=3),
    settings=st.dictionaries(
        st.text(max_size=6), st.integers() | st.floats(allow_nan=False) | st.text(max_size=9) | st.tuples(st.integers())
    ),
)
def test_a_kernel_is_what_its_key_says(kind: str, shapes: list, settings: dict):
    """A key that loses something would give one kernel the time of another."""
    one = Kernel(kind, "plain", tuple(shapes), (), tuple(shapes[:1]), tuple(sorted(settings.items())))
    assert Kernel.from_key(one.key) == one


def test_times_are_kept(tmp_path: Path):
    """A reopened table has what was measured, and a new measurement replaces an old one."""
    table = LatencyTable(HERE, tmp_path / "folder" / "table.sqlite")
    table.put({kernel(16): KernelTime(1.5, 0.1, 9), kernel(32): KernelTime(3.0, 0.2, 9)})
    table.put({kernel(16): KernelTime(1.25, 0.1, 11)})
    again = LatencyTable(HERE, table.path)
    assert dict(again) == {kernel(16): KernelTime(1.25, 0.1, 11), kernel(32): KernelTime(3.0, 0.2, 9)}
    assert len(again) == 2
    assert again.get(kernel(48)) is None


@pytest.mark.parametrize(
    "other",
    [
        replace(HERE, runtime="torch"),
        replace(HERE, version="1.1"),
        replace(HERE, processor="b"),
        replace(HERE, threads=2),
    ],
)
def test_times_of_another_environment_are_not_used_and_not_lost(tmp_path: Path, other: Environment):
    """A time of another processor is a wrong time here."""
    LatencyTable(HERE, tmp_path / "t").put({kernel(16): KernelTime(1.0, 0.1, 9)})
    foreign = LatencyTable(other, tmp_path / "t")
    assert foreign.get(kernel(16)) is None
    foreign.put({kernel(16): KernelTime(7.0, 0.1, 9)})
    assert LatencyTable(HERE, tmp_path / "t").get(kernel(16)) == KernelTime(1.0, 0.1, 9)


def test_a_table_sees_what_another_has_written_after_a_refresh(tmp_path: Path):
    """Two searches on one machine share their measurements."""
    one, other = (LatencyTable(HERE, tmp_path / "t") for _ in range(2))
    one.put({kernel(16): KernelTime(1.0, 0.1, 9)})
    assert other.get(kernel(16)) is None
    other.refresh()
    assert other.get(kernel(16)) == KernelTime(1.0, 0.1, 9)


def _fill(path: Path, first: int) -> None:
    table = LatencyTable(HERE, path)
    for inputs in range(first, first + 20):
        table.put({kernel(inputs): KernelTime(float(inputs), 0.1, 9)})


def test_many_processes_write_one_file(tmp_path: Path):
    """Nothing is lost, and no process fails because the file is busy, even when all of them create it."""
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_fill, args=(tmp_path / "t", 1 + 20 * number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert {time.milliseconds for _, time in LatencyTable(HERE, tmp_path / "t")} == set(map(float, range(1, 81)))


def test_interpolated_inside_a_plateau_of_one_family(tmp_path: Path):
    """Only kernels that differ in channels alone are neighbours."""
    table = LatencyTable(HERE, tmp_path / "t")
    table.put({kernel(16): KernelTime(1.0, 0.1, 9), kernel(32): KernelTime(1.01, 0.1, 9)})
    assert table.interpolated(kernel(24)) == pytest.approx(1.005)
    assert table.interpolated(kernel(40)) is None
    assert table.interpolated(kernel(24, outputs=32)) is None
    larger = replace(kernel(24), inputs=((1, 24, 16, 16),), outputs=((1, 16, 16, 16),))
    assert table.interpolated(larger) is None


def test_a_damaged_file_is_a_clear_error(tmp_path: Path):
    """Not a traceback of SQLite, and the file is left as it is."""
    path = tmp_path / "t"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(WithinError, match="damaged") as caught:
        LatencyTable(HERE, path)
    assert str(path) in str(caught.value)
    assert path.read_bytes().startswith(b"this is no database")


def test_a_truncated_file_is_a_clear_error(tmp_path: Path):
    """As after a disk that ran full."""
    table = LatencyTable(HERE, tmp_path / "t")
    table.put({kernel(inputs): KernelTime(1.0, 0.1, 9) for inputs in range(1, 200)})
    table.path.write_bytes(table.path.read_bytes()[:6000])
    with pytest.raises(WithinError, match="damaged"):
        LatencyTable(HERE, table.path)


def test_the_database_of_another_program_is_not_touched(tmp_path: Path):
    """A mistyped path must not add a table to somebody's data."""
    with sqlite3.connect(tmp_path / "t") as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(WithinError, match="another program"):
        LatencyTable(HERE, tmp_path / "t")


def test_a_table_of_a_later_version_is_refused(tmp_path: Path):
    """Its columns may mean something else."""
    LatencyTable(HERE, tmp_path / "t")
    with sqlite3.connect(tmp_path / "t") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(WithinError, match="version 99"):
        LatencyTable(HERE, tmp_path / "t")


def test_a_path_that_cannot_be_a_file_is_a_clear_error(tmp_path: Path):
    """A folder, and a folder below a file."""
    with pytest.raises(WithinError, match="cannot be used"):
        LatencyTable(HERE, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(WithinError, match="Cannot open"):
        LatencyTable(HERE, tmp_path / "file" / "t")


def test_the_default_lies_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where a clean-up of caches finds it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "within" / "latency.sqlite"


def test_this_machine_names_its_processor_and_the_runtimes_version():
    """Without the version a new release would be predicted from times of the old one."""
    import onnxruntime

    here = environment("onnxruntime", 2)
    assert (here.version, here.threads) == (onnxruntime.__version__, 2)
    assert here.processor
    with pytest.raises(WithinError, match="cannot be used here"):
        environment("no such runtime", 1)
