"""Label maps: every number of a file becomes its class or void, unknown numbers are refused, orders convert by name."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from within.core.errors import WithinError
from within.segmentation.label_map import ADE20K, CAMVID, CITYSCAPES, CITYSCAPES_TRAIN_IDS, LabelMap

MAPS = [CAMVID, CITYSCAPES, CITYSCAPES_TRAIN_IDS, ADE20K]
# The order of classes in the CamVid of github.com/orsic/swiftnet.
OTHER_ORDER = "building, tree, sky, car, sign, road, pedestrian, fence, column pole, sidewalk, bicyclist".split(", ")


@pytest.mark.parametrize("label_map", MAPS, ids=lambda label_map: label_map.name)
@settings(max_examples=25, deadline=None)
@given(draw=st.data())
def test_every_number_becomes_its_class_in_every_integer_type(label_map, draw):
    """Catches off-by-one ids, void that becomes a class, and types of which only uint8 is right."""
    known = sorted(label_map.known_ids)
    kind = draw.draw(st.sampled_from([np.uint8, np.uint16, np.int32, np.int64]))
    shape = draw.draw(array_shapes(min_dims=2, max_dims=2, max_side=9))
    labels = draw.draw(arrays(kind, shape, elements=st.sampled_from(known)))
    classes = label_map.to_classes(labels)
    assert classes.dtype == np.uint8
    expected = [[label_map.ids.get(int(number), 255) for number in row] for row in labels]
    assert np.array_equal(classes, expected)


def test_published_numbers():
    """Catches a table that was typed wrong, against facts of the data sets' own documentation."""
    assert [CAMVID.num_classes, CITYSCAPES.num_classes, ADE20K.num_classes] == [11, 19, 150]
    assert CAMVID.to_classes(np.array([[0, 10, 11]], np.uint8)).tolist() == [[0, 10, 255]]
    assert CITYSCAPES.to_classes(np.array([[7, 33, 0, 18, 29]], np.uint8)).tolist() == [[0, 18, 255, 255, 255]]
    assert CITYSCAPES_TRAIN_IDS.to_classes(np.array([[0, 18, 255]], np.uint8)).tolist() == [[0, 18, 255]]
    assert ADE20K.to_classes(np.array([[0, 1, 150]], np.uint8)).tolist() == [[255, 0, 149]]
    places = {"wall": 0, "bed": 7, "car": 20, "skyscraper": 48, "runway": 54, "bus": 80, "tent": 114, "flag": 149}
    assert {name: ADE20K.classes.index(name) for name in places} == places
    assert ADE20K.colours[149] == (92, 0, 255)
    assert CITYSCAPES.colours[CITYSCAPES.classes.index("bicycle")] == (119, 11, 32)
    assert CITYSCAPES.classes[CITYSCAPES.ids[24]] == "person"


@pytest.mark.parametrize(
    ("label_map", "bad"), [(CAMVID, 12), (CITYSCAPES, 34), (CITYSCAPES_TRAIN_IDS, 19), (ADE20K, 151), (CAMVID, -1)]
)
def test_unknown_numbers_are_refused_with_file_number_and_count(label_map, bad):
    """Catches labels of another data set that silently become void, numbers beyond 8 bits and below 0 included."""
    for number in (bad, 70_000):
        labels = np.zeros((4, 5), np.int32)
        labels[1, 1:4] = number
        with pytest.raises(WithinError, match=rf"{number} in 3 pixels.*street\.png"):
            label_map.to_classes(labels, where="street.png")


def test_without_known_ids_everything_else_is_void():
    """Catches a lookup that runs past its table."""
    free = LabelMap("two", ("a", "b"), ((1, 2, 3), (4, 5, 6)), {3: 1, 300: 0})
    assert free.to_classes(np.array([[3, 300, 0, -7, 100_000]])).tolist() == [[1, 0, 255, 255, 255]]


@pytest.mark.parametrize("label_map", [CAMVID, CITYSCAPES], ids=lambda label_map: label_map.name)
def test_colours_tell_the_classes_apart(label_map):
    """Catches BGR, and void in the colour of a class: a picture can be turned back into its labels."""
    labels = np.array([[*range(label_map.num_classes), 255, label_map.num_classes]], np.uint8)
    picture = label_map.colour(labels)
    assert picture.dtype == np.uint8
    assert picture.shape == (1, label_map.num_classes + 2, 3)
    back = [label_map.colours.index(tuple(colour)) for colour in picture[0, :-2].tolist()]
    assert back == list(range(label_map.num_classes))
    assert (picture[0, -2:] == 0).all()


@settings(deadline=None)
@given(order=st.permutations(range(11)))
def test_orders_convert_by_name(order):
    """Catches the inverse permutation: class k of the other order is the class of the same name here."""
    assert CAMVID.reordered([CAMVID.classes[number] for number in order]) == tuple(order)


def test_the_order_of_swiftnets_camvid():
    """Catches names that differ only in convention: column pole and sidewalk are pole and pavement."""
    places = CAMVID.reordered(OTHER_ORDER)
    assert [CAMVID.classes[place] for place in places[:3]] == ["building", "tree", "sky"]
    assert CAMVID.classes[places[8]] == "pole"
    assert CAMVID.classes[places[9]] == "pavement"
    assert sorted(places) == list(range(11))


@pytest.mark.parametrize(
    ("names", "word"),
    [
        ([*OTHER_ORDER[:-1], "animal"], "animal"),
        (OTHER_ORDER[:-1], "missing: bicyclist"),
        ([*OTHER_ORDER[:-1], "pole"], "twice: pole"),
    ],
)
def test_names_that_do_not_match_are_named(names, word):
    """Catches a conversion that drops or doubles a class."""
    with pytest.raises(WithinError, match=word):
        CAMVID.reordered(names)


@pytest.mark.parametrize(
    "arguments",
    [
        {"classes": ("a", "a")},
        {"colours": ((0, 0, 0),)},
        {"ids": {0: 2}},
        {"ids": {-1: 0}},
        {"ignore": 1},
        {"known_ids": frozenset([-3])},
        {"synonyms": {"x": "c"}},
    ],
)
def test_contradictions_are_refused(arguments):
    """Catches a map that would write a class it does not have."""
    whole = {"name": "two", "classes": ("a", "b"), "colours": ((0, 0, 0), (1, 1, 1)), "ids": {0: 0, 1: 1}}
    LabelMap(**whole)
    with pytest.raises(WithinError, match="two"):
        LabelMap(**(whole | arguments))


@pytest.mark.parametrize("label_map", MAPS, ids=lambda label_map: label_map.name)
def test_maps_travel_between_processes(label_map):
    """Catches parts that cannot be pickled: evaluation runs in worker processes."""
    assert pickle.loads(pickle.dumps(label_map)) == label_map
