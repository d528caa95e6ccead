"""Models, shapes and arguments as they are written on a command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from within.core.cli.factory import build_model, find_factory, parse_arguments, parse_shape
from within.core.errors import WithinError


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6))
def test_shapes_are_read_back(sizes):
    """Would catch a dimension that is dropped or swapped."""
    assert parse_shape("x".join(map(str, sizes))) == (tuple(sizes), "float32")
    assert parse_shape("X".join(map(str, sizes)) + ":int64") == (tuple(sizes), "int64")


@pytest.mark.parametrize("text", ["", "x", "3x", "0x3", "-1x3", "3,4", "axb", "1x3.5"])
def test_bad_shapes_are_user_errors(text):
    """Would catch a traceback, or a shape with an empty axis that fails much later."""
    with pytest.raises(WithinError, match="not a shape"):
        parse_shape(text)


def test_arguments_are_literals_or_strings():
    """Would catch a number passed on as text, or text that is evaluated."""
    texts = ["width=32", "act='relu'", "name=plain", "sizes=(1, 2)", "flag=True", "call=print(1)", "empty="]
    assert parse_arguments(texts) == {
        "width": 32,
        "act": "relu",
        "name": "plain",
        "sizes": (1, 2),
        "flag": True,
        "call": "print(1)",
        "empty": "",
    }
    with pytest.raises(WithinError, match="not name=value"):
        parse_arguments(["width"])


def test_factories_are_found_or_the_error_helps(tmp_path, monkeypatch):
    """Would catch an unhelpful error for each way in which a model can be misnamed."""
    (tmp_path / "own.py").write_text(
        "import torch\ndef network(width=4):\n    return torch.nn.Conv2d(3, width, 3)\ndef number():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    assert build_model("own:network", {"width": 7}).out_channels == 7
    assert build_model("own.py:network").out_channels == 4
    assert find_factory("torch.nn:Linear").__name__ == "Linear"
    for name, message in (
        ("own", "does not name a model"),
        ("own:netwrk", "did you mean network"),
        ("nowhere.at.all:f", "could not be imported"),
        ("gone.py:f", "no such file"),
        ("own:torch", "not something that builds"),
        ("own:number", "returned a int"),
    ):
        with pytest.raises(WithinError, match=message):
            build_model(name)
    with pytest.raises(WithinError, match="The factory raised TypeError"):
        build_model("own:network", {"depth": 3})
