"""Spaces: drawing, mutating and crossing over, all evenly and within the space."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from within.core.errors import WithinError
from within.nas.spaces import Gene, Space

SPACE = Space(
    "test", (Gene("a", (1, 2)), Gene("b", ("x",)), Gene("c", (5, 6, 7, 8))), is_network=lambda each: each != (1, 0, 3)
)


def test_all_are_drawn_equally_often():
    generator = np.random.default_rng(0)
    found = Counter(SPACE.random(generator) for _ in range(7000))
    assert set(found) == set(SPACE.all())
    assert len(found) == SPACE.combinations - 1 == 7
    assert max(found.values()) - min(found.values()) < 250


def test_mutations_are_the_neighbours_and_equally_likely():
    generator = np.random.default_rng(0)
    found = Counter(SPACE.mutated((0, 0, 2), generator) for _ in range(6000))
    assert set(found) == set(SPACE.neighbours((0, 0, 2)))
    assert found[1, 0, 2] == pytest.approx(3000, abs=250)
    assert found[0, 0, 3] == pytest.approx(1000, abs=150)
    for _ in range(100):
        both = SPACE.mutated((0, 0, 2), generator, genes=2)
        assert both[0] == 1
        assert both[2] not in (2, 3)


def test_children_have_genes_of_their_parents():
    generator = np.random.default_rng(0)
    found = {SPACE.crossed((0, 0, 3), (1, 0, 1), generator) for _ in range(100)}
    assert found == {(0, 0, 3), (1, 0, 1), (0, 0, 1)}  # (1, 0, 3) is no network


def test_one_column_a_value():
    found = SPACE.one_hot([(0, 0, 3), (1, 0, 0)])
    assert found.tolist() == [[1, 0, 1, 0, 0, 0, 1], [0, 1, 1, 1, 0, 0, 0]]


def test_a_space_without_networks_says_so():
    with pytest.raises(WithinError, match="No network of empty was found"):
        Space("empty", SPACE.genes, is_network=lambda _: False).random(np.random.default_rng(0))
    with pytest.raises(WithinError, match="no network of test"):
        SPACE.check((1, 0, 3))
