"""Settings from files and mappings: overrides, dataclasses within dataclasses, and errors that name the key."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from within.core.cli.configuration import read_config, read_dataclass
from within.core.cli.run_directory import open_run_directory, run_folder
from within.core.errors import WithinError


@dataclass(frozen=True)
class Inner:
    size: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    other: Inner | None = None
    free: Mapping[str, Any] = field(default_factory=dict)


def test_parts_become_dataclasses_and_private_names_stay_out() -> None:
    found = read_dataclass(Outer, {"name": "x", "inner": {"size": [2, 3]}, "_base": 1}, "here")
    assert found == Outer("x", Inner((2, 3)))
    free = {"inner": {"size": 1}}
    given = {"name": "x", "other": {"size": [4]}, "free": free}
    assert read_dataclass(Outer, given, "here") == Outer("x", other=Inner((4,)), free=free)
    assert read_dataclass(Outer, {"name": "x", "inner": Inner((5,)), "other": None}, "here") == Outer("x", Inner((5,)))
    assert given["other"] == {"size": [4]}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"nam": "x"}, "no setting 'nam'.*here.*did you mean 'name'"),
        ({}, "'name' is missing.*here.*give name"),
        ({"name": "x", "other": {"sizes": 1}}, "no setting 'sizes'.*here: other.*did you mean 'size'"),
        ({"name": "x", "inner": {"sizes": 1}}, "no setting 'sizes'.*here: inner.*did you mean 'size'"),
    ],
)
def test_a_wrong_key_is_named_with_its_place(given: dict[str, object], words: str) -> None:
    with pytest.raises(WithinError, match=words):
        read_dataclass(Outer, given, "here")


def test_overrides_replace_nested_settings_and_leave_the_given_alone(tmp_path: Path) -> None:
    """Would catch overrides that leak into the caller's mapping, where a second run would find them."""
    given = {"name": "x", "inner": {"size": 1}}
    assert read_config(given, {"inner.size": 2})[0].inner.size == 2
    assert given == {"name": "x", "inner": {"size": 1}}
    path = tmp_path / "c.py"
    path.write_text("name = 'x'\n")
    read, where = read_config(path, {"name": "y"})
    assert (read.name, where) == ("y", str(path))
    assert read_config(read, {"name": "z"})[0].name == "z"
    assert read.name == "y"


def test_a_failed_run_leaves_no_directory_and_another_process_writes_none(tmp_path: Path) -> None:
    read, _ = read_config({"name": "x"})
    with pytest.raises(ZeroDivisionError), open_run_directory(tmp_path / "a", read):
        raise ZeroDivisionError
    assert not (tmp_path / "a").exists()
    with open_run_directory(tmp_path / "b", read, write=False):
        pass
    assert not (tmp_path / "b").exists()
    with suppress(ZeroDivisionError), open_run_directory(tmp_path / "c", read) as folder:
        (folder / "checkpoint").write_text("work")
        raise ZeroDivisionError
    assert {each.name for each in (tmp_path / "c").iterdir()} == {"config.py", "checkpoint"}


def test_the_first_folder_that_is_given_receives_the_run() -> None:
    assert run_folder("x") == run_folder("x", None, None) == Path("runs/x")
    assert run_folder("x", None, "b") == run_folder("x", Path("b"), "c") == Path("b")
