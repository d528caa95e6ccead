"""A network by name: what is not there is refused with the nearest that is, and nothing is passed on unseen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from within.core.errors import WithinError
from within.core.registry import Registry, by_name


@dataclass(frozen=True)
class Layer:
    width: int
    depth: int = 1


@dataclass(frozen=True)
class Row:
    name: str
    network: Any = Layer
    arguments: dict[str, int] = field(default_factory=dict)


ROWS = by_name(Row("narrow_x2", arguments={"width": 4}), Row("wide_x4", arguments={"width": 16, "depth": 3}))
REGISTRY = Registry(ROWS, {"wide": "wide_x4"})


def test_names_are_those_of_the_table_in_its_order():
    assert REGISTRY.names() == ("narrow_x2", "wide_x4")
    assert REGISTRY.variant("wide") is REGISTRY.variant("wide_x4") is ROWS["wide_x4"]
    with pytest.raises(TypeError):
        ROWS["new"] = Row("new")  # type: ignore[index]


def test_a_users_arguments_replace_those_of_the_variant_and_leave_it_as_it_is():
    assert REGISTRY.build("wide", depth=5) == Layer(16, 5)
    assert REGISTRY.build("wide_x4") == Layer(16, 3)
    assert REGISTRY.build("narrow_x2") == Layer(4)


@pytest.mark.parametrize(("name", "offered"), [("wide_x2", "wide_x4"), ("narow_x2", "narrow_x2"), ("wde", "wide")])
def test_an_unknown_name_is_answered_with_the_closest(name, offered):
    with pytest.raises(WithinError, match=f"no network named '{name}'.*did you mean.*{offered}"):
        REGISTRY.build(name)


def test_a_name_like_no_other_is_answered_with_all():
    with pytest.raises(WithinError, match="choose one of narrow_x2, wide_x4"):
        REGISTRY.variant("qqqq")


def test_an_argument_that_the_network_lacks_is_named():
    with pytest.raises(WithinError, match=r"Layer has no argument height, size.*wide.*among width, depth"):
        REGISTRY.build("wide", size=1, depth=2, height=3)
