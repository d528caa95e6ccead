"""Pictures from above: points, boxes, importance, and what was dropped. Forward is up, left is left."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from within.core.report import ImageStrip, Picture
from within.perception3d.ada3d.thinning import Choice
from within.perception3d.data.scene import Scene
from within.perception3d.detections import Detections
from within.perception3d.heatmap import MapGrid

BACKGROUND, POINT = (16, 18, 24), (150, 156, 168)
LABEL, FOUND = (80, 220, 120), (255, 170, 40)
KEPT, DROPPED, DROPPED_IN_BOX = (90, 150, 255), (120, 50, 60), (255, 40, 40)
SIDE = 640  # pixels of a picture along its longer side


def view(
    scene: Scene, grid: MapGrid, detections: Detections | None = None, *, labels: bool = True
) -> UInt8[np.ndarray, "height width 3"]:
    """Returns the points of a scene with its boxes: labelled ones green, detections orange.

    Arguments:
        scene: a cloud with its objects.
        grid: the region that is shown.
        detections: to draw.
        labels: draw the labelled boxes.
    """
    canvas = _Canvas(grid)
    canvas.points(scene.points)
    if labels:
        canvas.boxes(scene.boxes, LABEL)
    if detections is not None:
        canvas.boxes(detections.boxes, FOUND)
    return canvas.pixels()


def importance_view(choice: Choice, scene: Scene, grid: MapGrid) -> UInt8[np.ndarray, "height width 3"]:
    """Returns the importance of every pixel, averaged over classes, with the labelled boxes."""
    values = choice.importance[0].detach().float().mean(0).cpu().numpy()
    scaled = (values - values.min()) / max(float(np.ptp(values)), 1e-9)
    canvas = _Canvas(grid, (255 * colormaps["magma"](scaled)[..., :3]).astype(np.uint8))
    canvas.boxes(scene.boxes, LABEL)
    return canvas.pixels()


def dropped_view(choice: Choice, scene: Scene, grid: MapGrid, inside: NDArray[np.bool_]) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the occupied pixels: kept ones blue, dropped ones dark red, those dropped in boxes bright red."""
    before, after = (each[0].cpu().numpy() for each in (choice.before, choice.after))
    colours = np.full((*before.shape, 3), BACKGROUND, np.uint8)
    colours[before] = DROPPED
    colours[before & ~after & inside] = DROPPED_IN_BOX
    colours[after] = KEPT
    canvas = _Canvas(grid, colours)
    canvas.boxes(scene.boxes, LABEL)
    return canvas.pixels()


def strip(
    scene: Scene, found: Detections, dense: Detections | None, choices: Sequence[Choice], grid: MapGrid,
    inside: NDArray[np.bool_],
) -> ImageStrip:  # fmt: skip
    """Returns the pictures of one scene: detections before and after, importance, and what each place dropped."""
    pictures = []
    if dense is not None:
        pictures.append(Picture(f"dense: {len(dense)} boxes (orange), labels green", view(scene, grid, dense)))
    pictures.append(Picture(f"thinned out: {len(found)} boxes", view(scene, grid, found)))
    if choices:
        last = choices[-1]
        name = "after stage" if last.kind == "3d" else "before convolution"
        pictures.append(Picture(f"importance {name} {last.at}", importance_view(last, scene, grid)))
    for choice in choices:
        if choice.rows is None:
            continue
        name = "after stage" if choice.kind == "3d" else "before convolution"
        pictures.append(
            Picture(
                f"{name} {choice.at}: kept blue, dropped red, in boxes bright",
                dropped_view(choice, scene, grid, inside),
            )
        )
    return ImageStrip(scene.name, tuple(pictures))


class _Canvas:
    """A picture of a region, on a background of pixels of the map."""

    def __init__(self, grid: MapGrid, colours: NDArray[np.uint8] | None = None) -> None:
        self.grid = grid
        along, across = grid.shape[1] * grid.pixel[0], grid.shape[0] * grid.pixel[1]
        self.scale = SIDE / max(along, across)
        self.size = round(across * self.scale), round(along * self.scale)  # width and height
        if colours is None:
            self.image = Image.new("RGB", self.size, BACKGROUND)
        else:
            turned = np.ascontiguousarray(colours.transpose(1, 0, 2)[::-1, ::-1])
            self.image = Image.fromarray(turned).resize(self.size, Image.Resampling.NEAREST)
        self.draw = ImageDraw.Draw(self.image)

    def places(self, ground: NDArray[np.floating]) -> NDArray[np.float64]:
        """Returns columns and rows of points on the ground."""
        x, y = ground[:, 0] - self.grid.low[0], ground[:, 1] - self.grid.low[1]
        return np.stack([self.size[0] - y * self.scale, self.size[1] - x * self.scale], axis=1)

    def points(self, points: NDArray[np.floating]) -> None:
        """Draws points."""
        pixels = np.asarray(self.image).copy()
        places = self.places(points[:, :2]).astype(int)
        inside = ((places >= 0) & (places < self.size)).all(1)
        pixels[places[inside, 1], places[inside, 0]] = POINT
        self.image = Image.fromarray(pixels)
        self.draw = ImageDraw.Draw(self.image)

    def boxes(self, boxes: NDArray[np.floating], colour: tuple[int, int, int]) -> None:
        """Draws outlines, with a line from the middle to the front."""
        for box in boxes:
            cos, sin = np.cos(box[6]), np.sin(box[6])
            signs = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1], [1, 0], [0, 0]]) / 2
            offset = signs * box[3:5]
            ground = np.stack([offset[:, 0] * cos - offset[:, 1] * sin, offset[:, 0] * sin + offset[:, 1] * cos], 1)
            corners = [tuple(each) for each in self.places(ground + box[:2])]
            self.draw.polygon(corners[:4], outline=colour)
            self.draw.line(corners[4:], fill=colour)

    def pixels(self) -> UInt8[np.ndarray, "height width 3"]:
        """Returns the picture."""
        found: NDArray[np.uint8] = np.asarray(self.image)
        return found
