"""Channel labels: union-find, and reshapes carried out on components instead of whole tensors."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from within.core.graph.labels import (
    Component,
    LabelSets,
    component_at,
    reshape_blocks,
    reshape_components,
    without_axes,
)


def full(components: tuple[Component, ...], shape: tuple[int, ...]) -> list[np.ndarray]:
    """Each component's labels at every position of the tensor."""
    arrays = []
    for component in components:
        index = tuple(slice(None) if axis in component.axes else None for axis in range(len(shape)))
        arrays.append(np.broadcast_to(component.ids[index], shape))
    return arrays


@settings(deadline=None, max_examples=50)
@given(
    count=st.integers(1, 30),
    pairs=st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40),
    cuts=st.sets(st.integers(0, 40)),
)
def test_classes_are_those_of_a_naive_union(count: int, pairs: list[tuple[int, int]], cuts: set[int]):
    """Merges lost between two look-ups, labels added after the first look-up, numbering with holes."""
    sets, naive = LabelSets(), list(range(count))
    first = sets.fresh((count + 1) // 2)
    sets.classes()
    labels = np.concatenate([first, sets.fresh(count - len(first))])
    for step, (one, other) in enumerate(pairs):
        one, other = one % count, other % count
        sets.union(labels[one : one + 1], labels[other : other + 1])
        old, new = naive[one], naive[other]
        naive = [new if item == old else item for item in naive]
        if step in cuts:
            sets.classes()
    classes = sets.find(labels)
    for one in range(count):
        for other in range(count):
            assert (classes[one] == classes[other]) == (naive[one] == naive[other])
    assert sorted(set(classes.tolist())) == list(range(len(set(naive))))


def test_frozen_classes_take_in_what_is_united_later():
    """A label frozen before a union must freeze what it is united with afterwards."""
    sets = LabelSets()
    labels = sets.fresh(4)
    sets.freeze(labels[:1], "first reason")
    sets.union(labels[:1], labels[2:3])
    sets.freeze(labels[2:3], "second reason")
    assert sets.frozen_classes() == {int(sets.find(labels)[0]): "first reason"}
    assert len(sets) == 4


shapes = st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4).map(tuple)


@st.composite
def reshapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape and another of as many elements."""
    old = draw(shapes)
    rest, new = math.prod(old), []
    while rest > 1 and len(new) < 4:
        new.append(draw(st.sampled_from([size for size in range(1, rest + 1) if rest % size == 0])))
        rest //= new[-1]
    return old, (*new, rest)


@settings(deadline=None, max_examples=200)
@given(case=reshapes(), data=st.data())
def test_reshape_of_a_component_is_the_reshape_of_its_labels(case, data):
    """Any block split, any axis: the labels at every position are those of the reshaped label tensor."""
    old, new = case
    axes = [axis for axis, size in enumerate(old) if size > 1]
    if not axes:
        return
    chosen = tuple(sorted(data.draw(st.sets(st.sampled_from(axes), min_size=1))))
    sets = LabelSets()
    count = math.prod(old[axis] for axis in chosen)
    component = Component(chosen, sets.fresh(count).reshape([old[axis] for axis in chosen]))
    moved = reshape_components((component,), old, new, sets)
    (expected,) = full((component,), old)
    (found,) = full(moved, new)
    np.testing.assert_array_equal(found, expected.reshape(new))


@settings(deadline=None, max_examples=200)
@given(case=reshapes())
def test_blocks_cover_all_axes_in_order_with_equal_products(case):
    old, new = case
    blocks = reshape_blocks(old, new)
    assert [axis for left, _ in blocks for axis in left] == list(range(len(old)))
    assert [axis for _, right in blocks for axis in right] == list(range(len(new)))
    for left, right in blocks:
        assert math.prod(old[axis] for axis in left) == math.prod(new[axis] for axis in right)


def test_two_channel_axes_merged_by_a_reshape_fix_the_smaller():
    """(4 channels, 3 positions with labels) -> 12: only one of the two can index the result."""
    sets = LabelSets()
    large, small = Component((0,), sets.fresh(4)), Component((1,), sets.fresh(3))
    (kept,) = reshape_components((large, small), (4, 3), (12,), sets)
    np.testing.assert_array_equal(kept.ids, np.repeat(large.ids, 3))
    assert set(sets.frozen_classes()) == set(sets.find(small.ids).tolist())


def test_resolve_unites_along_the_other_axes():
    """Heads x dimension resolved to the dimension: dimension j of every head is one channel."""
    sets = LabelSets()
    joint = Component((1, 2), sets.fresh(6).reshape(2, 3))
    resolved = sets.resolve(joint, 2)
    assert resolved is not None
    assert resolved.axes == (2,)
    classes = sets.find(joint.ids)
    assert (classes[0] == classes[1]).all()
    assert len(set(classes[0].tolist())) == 3


def test_resolve_to_an_axis_it_does_not_have_freezes():
    sets = LabelSets()
    labels = sets.fresh(3)
    assert sets.resolve(Component((1,), labels), 2) is None
    assert len(sets.frozen_classes()) == 3


def test_simplify_drops_axes_that_no_longer_vary():
    sets = LabelSets()
    joint = Component((0, 1), sets.fresh(6).reshape(2, 3))
    assert sets.simplify(joint) is joint
    sets.union(joint.ids, joint.ids[:1])
    simplified = sets.simplify(joint)
    assert simplified is not None
    assert simplified.axes == (1,)
    sets.union(joint.ids, joint.ids[:, :1])
    assert sets.simplify(joint) is None  # removing the one channel left would remove the tensor
    assert sets.frozen_classes()


def test_moved_keeps_axes_ascending():
    component = Component((0, 2), np.arange(6).reshape(2, 3))
    moved = component.moved([3, 1])
    assert moved.axes == (1, 3)
    np.testing.assert_array_equal(moved.ids, np.arange(6).reshape(2, 3).T)
    assert component.shifted(2).axes == (2, 4)


def test_selection_of_components_by_axis():
    first, second = Component((0,), np.arange(2)), Component((1, 2), np.arange(4).reshape(2, 2))
    assert component_at((first, second), 2) is second
    assert component_at((first, second), 3) is None
    assert without_axes((first, second), [1]) == (first,)
