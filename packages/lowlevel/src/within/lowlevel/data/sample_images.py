"""Real photographs that are part of the scikit-image and scikit-learn packages; nothing is downloaded.

`TEST_NAMES` are held out: no network of this project is trained on them. They share no scene with `TRAIN_NAMES`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import skimage
import sklearn

from within.core.errors import WithinError
from within.lowlevel.data.images import Color, ImageArray, convert_color, read_image
from within.lowlevel.data.sources import ArrayImages

_SCIKIT_IMAGE = {
    "astronaut": "astronaut.png",  # 512x512 RGB, Eileen Collins (NASA)
    "brick": "brick.png",  # 512x512 gray, texture
    "camera": "camera.png",  # 512x512 gray, a man with a camera
    "chelsea": "chelsea.png",  # 300x451 RGB, a cat
    "clock": "clock_motion.png",  # 300x400 gray, a clock in motion
    "coffee": "coffee.png",  # 400x600 RGB, a cup of coffee
    "coins": "coins.png",  # 303x384 gray, Greek coins
    "grass": "grass.png",  # 512x512 gray, texture
    "gravel": "gravel.png",  # 512x512 gray, texture
    "hubble": "hubble_deep_field.jpg",  # 872x1000 RGB, galaxies
    "ihc": "ihc.png",  # 512x512 RGB, stained tissue under a microscope
    "moon": "moon.png",  # 512x512 gray, surface of the Moon
    "motorcycle_left": "motorcycle_left.png",  # 500x741 RGB, a garage, left camera
    "motorcycle_right": "motorcycle_right.png",  # 500x741 RGB, the same garage, right camera
    "page": "page.png",  # 191x384 gray, a photographed page
    "retina": "retina.jpg",  # 1411x1411 RGB, the back of an eye
    "rocket": "rocket.jpg",  # 427x640 RGB, a rocket on its pad
    "text": "text.png",  # 172x448 gray, photographed handwriting
}
_SCIKIT_LEARN = {
    "china": "china.jpg",  # 427x640 RGB, a temple
    "flower": "flower.jpg",  # 427x640 RGB, a dahlia
}
NAMES = tuple(sorted([*_SCIKIT_IMAGE, *_SCIKIT_LEARN]))
TEST_NAMES = ("astronaut", "camera", "coffee", "flower")
TRAIN_NAMES = tuple(name for name in NAMES if name not in TEST_NAMES)


def sample_image(name: str) -> ImageArray:
    """Returns one photograph, (height, width, 1 or 3), `uint8`.

    Raises:
        WithinError: when there is none of that name, or the installed package does not hold it.
    """
    if name in _SCIKIT_IMAGE:
        return read_image(Path(skimage.__file__).parent / "data" / _SCIKIT_IMAGE[name])
    if name in _SCIKIT_LEARN:
        return read_image(Path(sklearn.__file__).parent / "datasets" / "images" / _SCIKIT_LEARN[name])
    raise WithinError(f"There is no sample image named {name!r}", todo=f"choose one of {', '.join(NAMES)}")


def sample_images(names: Iterable[str] = TRAIN_NAMES, *, color: Color | None = None) -> ArrayImages:
    """Returns photographs as a source for `folders.DegradedImages`.

    Arguments:
        names: which ones; those for training by default.
        color: "rgb" or "gray" converts; None keeps them as they are.
    """
    arrays = {name: sample_image(name) for name in names}
    if color is not None:
        arrays = {name: convert_color(array, color) for name, array in arrays.items()}
    return ArrayImages(arrays, "sample images")
