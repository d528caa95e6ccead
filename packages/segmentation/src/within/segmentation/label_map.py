"""Which number in a label file means which class: CamVid, Cityscapes and ADE20K.

A network knows the classes 0..K-1 and 255 for void (not labelled). Label files use numbers of their own:

    CamVid, split of SegNet (Badrinarayanan et al., TPAMI 2017): 0..10, 11 is void
    Cityscapes (Cordts et al., CVPR 2016): labelIds 0..33, of which 19 are trained on, or labelTrainIds 0..18, 255 void
    ADE20K, SceneParse150 (Zhou et al., CVPR 2017): 1..150, 0 is void; names and colours of CSAILVision/sceneparsing
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Integer, UInt8
from torch import Tensor

from within.core.errors import WithinError

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class LabelMap:
    """The classes of a data set and the numbers that its label files use for them.

    Attributes:
        name: of the data set, for errors and reports.
        classes: names; the position is the class number.
        colours: red, green and blue of each class, 0..255, for pictures; they need not differ.
        ids: number in the file to class number; every other number is void.
        ignore: the class number of void.
        known_ids: the numbers that a file may hold, those of void included; None allows all.
        synonyms: other names of the classes, which `reordered` and `counterparts` understand.

    Raises:
        WithinError: when the parts contradict each other.
    """

    name: str
    classes: tuple[str, ...]
    colours: tuple[Colour, ...]
    ids: Mapping[int, int] = field(hash=False)
    ignore: int = 255
    known_ids: frozenset[int] | None = None
    synonyms: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        count = len(self.classes)
        if len(set(self.classes)) != count or len(self.colours) != count:
            raise WithinError(
                f"A label map needs different names and one colour each, not {len(set(self.classes))} different ones "
                f"of {count} names and {len(self.colours)} colours",
                where=self.name,
            )
        if not count <= self.ignore <= 255:
            raise WithinError(f"Void cannot be {self.ignore} beside {count} classes", where=self.name)
        wrong = [id for id, number in self.ids.items() if id < 0 or not 0 <= number < count]
        wrong += [id for id in self.known_ids or () if id < 0]
        if wrong:
            raise WithinError(f"The ids {wrong} are negative or stand for no class of {count}", where=self.name)
        strangers = set(self.synonyms.values()) - set(self.classes)
        if strangers:
            raise WithinError(f"Synonyms of classes that there are not: {sorted(strangers)}", where=self.name)

    @property
    def num_classes(self) -> int:
        """Number of classes, void not counted."""
        return len(self.classes)

    def to_classes(
        self, labels: Integer[np.ndarray, "height width"], *, where: str | None = None
    ) -> UInt8[np.ndarray, "height width"]:
        """Returns class numbers for the numbers of a label file.

        Arguments:
            labels: as decoded, of any integer type.
            where: the file, for errors.

        Returns:
            0..K-1, and `ignore` for void.

        Raises:
            WithinError: for numbers that the data set does not know, with how often they occur.
        """
        last = max(255, *self.ids, *(self.known_ids or ()))
        table = np.full(last + 2, self.ignore, np.uint8)  # the last entry is for all numbers outside
        table[list(self.ids)] = list(self.ids.values())
        inside = labels if labels.dtype == np.uint8 else np.where((labels < 0) | (labels > last), last + 1, labels)
        if self.known_ids is not None:
            unknown = np.ones(last + 2, bool)
            unknown[list(self.known_ids)] = False
            if (np.bincount(inside.ravel(), minlength=last + 2) * unknown).any():
                self._refuse(labels, where)
        return table[inside]

    def _refuse(self, labels: np.ndarray, where: str | None) -> None:
        known = self.known_ids or frozenset()
        values, counts = np.unique(labels, return_counts=True)
        unknown = [(int(value), int(count)) for value, count in zip(values, counts) if int(value) not in known]
        shown = ", ".join(f"{value} in {count} pixels" for value, count in unknown[:5])
        raise WithinError(
            f"The label holds numbers that {self.name} does not know: {shown}{', ...' if len(unknown) > 5 else ''}",
            where=where,
            todo=f"{self.name} uses {_ranges(known)}; check that this is a file of class ids, made for this data set",
        )

    def _places(self) -> dict[str, int]:
        """Returns the class of each name and synonym."""
        places = {name.casefold(): place for place, name in enumerate(self.classes)}
        return places | {name.casefold(): places[own.casefold()] for name, own in self.synonyms.items()}

    def colour(self, labels: Integer[np.ndarray | Tensor, "height width"]) -> UInt8[np.ndarray, "height width 3"]:
        """Returns a picture of class numbers; void and every number that is no class are black."""
        palette = np.zeros((self.num_classes + 1, 3), np.uint8)
        palette[:-1] = self.colours
        numbers = np.asarray(labels)
        return palette[np.where((numbers < 0) | (numbers >= self.num_classes), self.num_classes, numbers)]

    def counterparts(self, names: Sequence[str]) -> tuple[int | None, ...]:
        """Returns for each class its position among the names of another data set, or None where it has none there."""
        places = self._places()
        found = {places[name.casefold()]: at for at, name in enumerate(names) if name.casefold() in places}
        return tuple(found.get(place) for place in range(self.num_classes))

    def reordered(self, names: Sequence[str]) -> tuple[int, ...]:
        """Returns where the classes of another order stand in this one.

        Arguments:
            names: the same classes in another order, for example that of a published network.

        Returns:
            p with `classes[p[k]]` = `names[k]`: class k of the other order is class p[k] here. Logits of the other
            order (batch, K, height, width) are brought into this one by `ours[:, p] = logits`.

        Raises:
            WithinError: when a name is unknown, or a class is missing or comes twice.
        """
        places = self._places()
        unknown = [name for name in names if name.casefold() not in places]
        if unknown:
            raise WithinError(
                f"{self.name} has no class named {', '.join(map(repr, unknown))}",
                where="class names",
                todo=f"use the names {', '.join(self.classes)}",
            )
        order = tuple(places[name.casefold()] for name in names)
        missing = [name for place, name in enumerate(self.classes) if place not in order]
        twice = [self.classes[place] for place in sorted(set(order)) if order.count(place) > 1]
        if missing or twice:
            found = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"twice: {', '.join(twice)}"] * bool(twice)
            raise WithinError(
                f"The names are not the {self.num_classes} classes of {self.name} in another order",
                where="; ".join(found),
                todo="name each class once",
            )
        return order


def _ranges(numbers: frozenset[int]) -> str:
    """Returns `0 to 18 and 255` for 0, ..., 18, 255."""
    ordered = sorted(numbers)
    starts = [number for number in ordered if number - 1 not in numbers]
    ends = [number for number in ordered if number + 1 not in numbers]
    return " and ".join(f"{a} to {b}" if a != b else str(a) for a, b in zip(starts, ends))


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


def _colours(text: str) -> tuple[Colour, ...]:
    return tuple((value >> 16, value >> 8 & 255, value & 255) for value in (int(word, 16) for word in text.split()))


CAMVID = LabelMap(
    "CamVid",
    _names("sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist"),
    _colours("808080 800000 c0c080 804080 3c28de 808000 c08080 404080 400080 404000 0080c0"),
    {number: number for number in range(11)},
    known_ids=frozenset(range(12)),
    synonyms={
        "column pole": "pole",
        "column_pole": "pole",
        "sidewalk": "pavement",
        "signsymbol": "sign",
        "traffic sign": "sign",
        "vegetation": "tree",
        "person": "pedestrian",
        "rider": "bicyclist",
    },
)

CITYSCAPES = LabelMap(
    "Cityscapes",
    _names(
        "road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, terrain, sky, person, "
        "rider, car, truck, bus, train, motorcycle, bicycle"
    ),
    _colours(
        "804080 f423e8 464646 66669c be9999 999999 faaa1e dcdc00 6b8e23 98fb98 4682b4 dc143c ff0000 00008e 000046 "
        "003c64 005064 0000e6 770b20"
    ),
    dict(zip((7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33), range(19))),
    known_ids=frozenset(range(34)),
)

CITYSCAPES_TRAIN_IDS = replace(
    CITYSCAPES, ids={number: number for number in range(19)}, known_ids=frozenset([*range(19), 255])
)

ADE20K = LabelMap(
    "ADE20K",
    _names(
        "wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, earth, "
        "door, table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug, "
        "field, armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion, base, box, column, "
        "signboard, chest of drawers, counter, sand, sink, skyscraper, fireplace, refrigerator, grandstand, path, "
        "stairs, runway, case, pool table, pillow, screen door, stairway, river, bridge, bookcase, blind, coffee "
        "table, toilet, flower, book, hill, bench, countertop, stove, palm, kitchen island, computer, swivel chair, "
        "boat, bar, arcade machine, hovel, bus, towel, light, truck, tower, chandelier, awning, streetlight, booth, "
        "television receiver, airplane, dirt track, apparel, pole, land, bannister, escalator, ottoman, bottle, "
        "buffet, poster, stage, van, ship, fountain, conveyer belt, canopy, washer, plaything, swimming pool, "
        "stool, barrel, basket, waterfall, tent, bag, minibike, cradle, oven, ball, food, step, tank, trade name, "
        "microwave, pot, animal, bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic "
        "light, tray, ashcan, fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, "
        "clock, flag"
    ),
    _colours(
        "787878 b47878 06e6e6 503232 04c803 787850 8c8c8c cc05ff e6e6e6 04fa07 e005ff ebff07 96053d 787846 08ff33 "
        "ff0652 8fff8c ccff04 ff3307 cc4603 0066c8 3de6fa ff0633 0b66ff ff0747 ff09e0 0907e6 dcdcdc ff095c 7009ff "
        "08ffd6 07ffe0 ffb806 0aff47 ff290a 07ffff e0ff08 6608ff ff3d06 ffc207 ff7a08 00ff14 ff0829 ff0599 0633ff "
        "eb0cff a09614 00a3ff 8c8c8c fa0a0f 14ff00 1fff00 ff1f00 ffe000 99ff00 0000ff ff4700 00ebff 00adff 1f00ff "
        "0bc8c8 ff5200 00fff5 003dff 00ff70 00ff85 ff0000 ffa300 ff6600 c2ff00 008fff 33ff00 0052ff 00ff29 00ffad "
        "0a00ff adff00 00ff99 ff5c00 ff00ff ff00f5 ff0066 ffad00 ff0014 ffb8b8 001fff 00ff3d 0047ff ff00cc 00ffc2 "
        "00ff52 000aff 0070ff 3300ff 00c2ff 007aff 00ffa3 ff9900 00ff0a ff7000 8fff00 5200ff a3ff00 ffeb00 08b8aa "
        "8500ff 00ff5c b800ff ff001f 00b8ff 00d6ff ff0070 5cff00 00e0ff 70e0ff 46b8a0 a300ff 9900ff 47ff00 ff00a3 "
        "ffcc00 ff008f 00ffeb 85ff00 ff00eb f500ff ff007a fff500 0abed4 d6ff00 00ccff 1400ff ffff00 0099ff 0029ff "
        "00ffcc 2900ff 29ff00 ad00ff 00f5ff 4700ff 7a00ff 00ffb8 005cff b8ff00 0085ff ffd600 19c2c2 66ff00 5c00ff"
    ),
    {number + 1: number for number in range(150)},
    known_ids=frozenset(range(151)),
    synonyms={"television": "television receiver"},
)
