"""Street scenes made of boxes: cars, pedestrians and cyclists on sloping ground, among walls, poles and vegetation.

Positions are in the lidar's frame, in metres: x forward, y left, z up, the ground about `SENSOR_HEIGHT` below. Nothing
overlaps anything else on the ground. What is no object is there to be mistaken for one: bollards as high as people,
bins as large as cars, bushes of all sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from within.perception3d.rotated_overlap import intersection

SENSOR_HEIGHT = 1.73
SIZES = {"Car": (3.9, 1.6, 1.56), "Pedestrian": (0.8, 0.6, 1.73), "Cyclist": (1.76, 0.6, 1.73)}  # length, width, height
SHARES = {"Car": 0.56, "Pedestrian": 0.24, "Cyclist": 0.20}
JITTER = 0.1  # standard deviation of a size, relative
OBJECTS = (6, 15)
TIGHT = 0.96  # an object fills this much of its box along and across, so that noisy points stay in it
GAP = 0.3  # least space between two things on the ground
TRIES = 30

# Parts of an object: where it begins and ends along, across and up (shares of its box), reflectance, density.
Parts = tuple[tuple[float, float, float, float, float, float, float, float], ...]
PARTS: dict[str, Parts] = {
    "Car": (
        (-0.50, 0.50, -0.50, 0.50, 0.13, 0.56, 0.55, 1.0),  # body
        (-0.44, 0.24, -0.44, 0.44, 0.56, 0.95, 0.20, 0.7),  # windows
        (-0.36, 0.14, -0.43, 0.43, 0.95, 0.98, 0.55, 1.0),  # roof
        (-0.42, -0.26, -0.50, 0.50, 0.00, 0.13, 0.10, 1.0),  # wheels
        (0.26, 0.42, -0.50, 0.50, 0.00, 0.13, 0.10, 1.0),
    ),
    "Pedestrian": (
        (-0.50, 0.50, -0.25, 0.25, 0.00, 0.46, 0.25, 0.8),  # legs, in a stride
        (-0.28, 0.28, -0.50, 0.50, 0.46, 0.84, 0.35, 1.0),  # trunk and arms
        (-0.12, 0.20, -0.18, 0.18, 0.84, 0.98, 0.40, 1.0),  # head
    ),
    "Cyclist": (
        (-0.50, 0.50, -0.10, 0.10, 0.00, 0.40, 0.30, 0.5),  # wheels and frame
        (0.18, 0.26, -0.50, 0.50, 0.52, 0.60, 0.30, 0.8),  # handlebars
        (-0.14, 0.10, -0.30, 0.30, 0.15, 0.55, 0.25, 1.0),  # legs
        (-0.18, 0.12, -0.42, 0.42, 0.55, 0.87, 0.35, 1.0),  # trunk
        (-0.02, 0.14, -0.18, 0.18, 0.87, 0.98, 0.40, 1.0),  # head
    ),
}


@dataclass(frozen=True, eq=False)
class Street:
    """A scene.

    Attributes:
        names, boxes: of the objects; x, y, z, length, width, height and yaw, the ground under each box's middle.
        solids: the boxes that light falls on.
        owners: the object that each solid belongs to, in rising order; -1 for clutter, which comes last.
        reflectances: of each solid, of 1.
        densities: the chance that a solid stops a ray; below 1, somewhere inside.
        slope: how much the ground rises a metre along x and along y.
    """

    names: tuple[str, ...]
    boxes: Float64[np.ndarray, "objects 7"]
    solids: Float64[np.ndarray, "solids 7"]
    owners: Int64[np.ndarray, " solids"]
    reflectances: Float64[np.ndarray, " solids"]
    densities: Float64[np.ndarray, " solids"]
    slope: Float64[np.ndarray, " axes"]


def make_street(generator: np.random.Generator) -> Street:
    """Returns a scene of 6 to 15 objects; fewer when no free place is found.

    Arguments:
        generator: decides everything.
    """
    slope = generator.normal(0, 0.006, 2)
    ground = [np.array([0.0, 0.0, 9.0, 4.0, 0.0])]  # the vehicle's own place
    clutter: list[Part] = []
    built_up = generator.uniform(0, 0.8)
    for side in (-1, 1, 0):
        if generator.random() < built_up:
            clutter += _facade(generator, side, ground, slope)
    names, boxes, solids = [], [], []
    for _ in range(int(generator.integers(OBJECTS[0], OBJECTS[1] + 1))):
        name = str(generator.choice(list(SIZES), p=list(SHARES.values())))
        size = np.array(SIZES[name]) * np.clip(generator.normal(1, JITTER, 3), 0.75, 1.3)
        for _ in range(TRIES):
            x = generator.uniform(5 + size[0] / 2, 65)
            place = np.array([x, generator.uniform(-1, 1) * min(0.85 * x, 16)])
            along = generator.random() < 0.65
            yaw = (
                generator.choice((0, np.pi)) + generator.normal(0, 0.12) if along else generator.uniform(-np.pi, np.pi)
            )
            if _is_free(ground, place, size[0], size[1], yaw):
                box = np.array([*place, place @ slope - SENSOR_HEIGHT + size[2] / 2, *size, yaw])
                body = box * np.array([1, 1, 1, TIGHT, TIGHT, 1, 1])
                solids += [(len(names), *part) for part in _parts(body, PARTS[name], generator.uniform(0.6, 1.4))]
                names.append(name)
                boxes.append(box)
                break
    for kind in generator.choice(list(CLUTTER), int(generator.integers(24, 46)), p=list(CLUTTER.values())):
        clutter += _clutter(generator, str(kind), ground, slope)
    solids += [(-1, *part) for part in clutter]
    owners = np.array([each[0] for each in solids], np.int64)
    return Street(
        tuple(names),
        np.array(boxes).reshape(-1, 7),
        np.array([each[1] for each in solids]).reshape(-1, 7),
        owners,
        np.array([each[2] for each in solids], np.float64),
        np.array([each[3] for each in solids], np.float64),
        slope,
    )


def _is_free(
    ground: list[NDArray[np.float64]], place: NDArray[np.float64], length: float, width: float, yaw: float
) -> bool:
    """Returns whether a rectangle on the ground meets none that is taken, and takes it."""
    wide = np.array([*place, length + GAP, width + GAP, yaw])
    if any(intersection(wide, other) > 0 for other in ground):
        return False
    ground.append(np.array([*place, length, width, yaw]))
    return True


Part = tuple[NDArray[np.float64], float, float]


def _parts(box: NDArray[np.float64], parts: Parts, brightness: float) -> list[Part]:
    """Returns boxes, reflectances and densities of the parts of a thing."""
    cos, sin = np.cos(box[6]), np.sin(box[6])
    found = []
    for back, front, right, left, low, high, reflectance, density in parts:
        along, across = (back + front) / 2 * box[3], (right + left) / 2 * box[4]
        middle = (
            box[0] + along * cos - across * sin,
            box[1] + along * sin + across * cos,
            box[2] + ((low + high) / 2 - 0.5) * box[5],
        )
        size = (front - back) * box[3], (left - right) * box[4], (high - low) * box[5]
        found.append((np.array([*middle, *size, box[6]]), min(reflectance * brightness, 0.95), density))
    return found


CLUTTER = {"wall": 0.12, "pole": 0.16, "bollard": 0.14, "bush": 0.30, "tree": 0.20, "bin": 0.08}
WHOLE = (-0.5, 0.5, -0.5, 0.5, 0.0, 1.0)


def _facade(
    generator: np.random.Generator, side: int, ground: list[NDArray[np.float64]], slope: NDArray[np.float64]
) -> list[Part]:
    """Returns a row of houses on the left (1), on the right (-1) or across the street's end (0), or none."""
    between = generator.uniform
    size = between(15, 60) if side else between(20, 40), between(0.5, 2), between(3, 12)
    x, y = (between(15, 45), side * between(9, 24)) if side else (between(35, 66), between(-10, 10))
    place = np.array([x, y])
    yaw = generator.normal(0, 0.08) + (0 if side else np.pi / 2)
    if not _is_free(ground, place, size[0], size[1], yaw):
        return []
    box = np.array([*place, place @ slope - SENSOR_HEIGHT + size[2] / 2, *size, yaw])
    return _parts(box, ((*WHOLE, 0.35, 1.0),), between(0.6, 1.4))


def _clutter(
    generator: np.random.Generator, kind: str, ground: list[NDArray[np.float64]], slope: NDArray[np.float64]
) -> list[Part]:
    """Returns the parts of one thing that is no object; none when no free place is found."""
    between = generator.uniform
    bright = between(0.6, 1.4)
    sizes: dict[str, tuple[float, float, float]] = {
        "wall": (between(5, 25), between(0.3, 1.0), between(1.5, 7)),
        "pole": (width := between(0.1, 0.3), width, between(2.2, 7)),
        "bollard": (between(0.3, 0.8), between(0.3, 0.6), between(1.0, 1.95)),
        "bush": (between(0.6, 5), between(0.6, 2.5), between(0.5, 2.4)),
        "tree": (crown := between(2, 6), crown, between(4, 9)),
        "bin": (between(1.2, 4), between(0.8, 2), between(0.9, 2)),
    }
    size = sizes[kind]
    parts: dict[str, Parts] = {
        "wall": ((*WHOLE, 0.35, 1.0),),
        "pole": ((*WHOLE, 0.4, 1.0),),
        "bollard": ((*WHOLE, 0.35, 1.0),),
        "bush": ((*WHOLE, 0.3, between(0.25, 0.6)),),
        "tree": ((-0.06, 0.06, -0.06, 0.06, 0.0, 0.5, 0.25, 1.0), (-0.5, 0.5, -0.5, 0.5, 0.35, 1.0, 0.3, 0.35)),
        "bin": ((*WHOLE, 0.45, 1.0),),
    }
    for _ in range(TRIES):
        x = between(6, 68)
        aside = between(7, 32) * generator.choice((-1, 1)) if kind in ("wall", "tree") else between(-1, 1) * min(x, 34)
        yaw = generator.normal(0, 0.1) + np.pi / 2 * (generator.random() < 0.25)
        if kind not in ("wall", "pole"):
            yaw = between(-np.pi, np.pi)
        place = np.array([x, aside])
        if _is_free(ground, place, size[0], size[1], yaw):
            box = np.array([*place, place @ slope - SENSOR_HEIGHT + size[2] / 2, *size, yaw])
            return _parts(box, parts[kind], bright)
    return []
