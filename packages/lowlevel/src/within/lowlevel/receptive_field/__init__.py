"""How far a network looks: what a tile of an image needs around it, read off the traced operators.

Operators that need the whole image (global pooling, instance normalisation, attention) are named, and so are those of
which nothing is known: no margin makes a tile exact for them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from within.core.graph import Graph
from within.core.graph.operator import shape_of
from within.lowlevel.receptive_field import axes, pointwise, products, windows  # noqa: F401  (they fill the table)
from within.lowlevel.receptive_field.reach import Along, NonLocal, Walk
from within.lowlevel.receptive_field.table import rule_for

__all__ = ["NonLocal", "ReceptiveField", "receptive_field"]


@dataclass(frozen=True)
class ReceptiveField:
    """What a tile needs around it.

    Attributes:
        radius: input pixels beyond its border that its output depends on, the largest over sides and axes.
        stride: least number of input pixels by which the image may be shifted with the output shifting along.
        scale: output pixels to an input pixel.
        non_local: operators that need more than any radius, in order; `radius` leaves them out.
    """

    radius: int
    stride: int
    scale: int
    non_local: tuple[NonLocal, ...] = ()


def receptive_field(graph: Graph) -> ReceptiveField:
    """Returns the receptive field of a network from images to images; its first input is the image.

    `scale` is 0 when the output is no image whose sides are whole multiples of the input's.
    """
    walk = Walk(graph)
    for op in graph.operators:
        if op.shapes:
            rule_for(op.kind)(walk, op)
    radius, scale, stride = Fraction(0), 0, 1
    for layout in walk.layouts.values():
        for tag in layout:
            if isinstance(tag, Along):
                stride = math.lcm(stride, *(reach.jump.numerator for reach in tag.reaches))
    output, shape = graph.output_nodes[0], shape_of(graph.output_nodes[0])
    height, width = graph.shapes[graph.input_names[0]][-2:]
    tags = walk.of(output)[-2:]
    if len(shape) == 4 and shape[2] % height == 0 and shape[2] * width == shape[3] * height:
        scale = shape[2] // height
    for tag, axis in zip(tags, ("height", "width"), strict=True):
        if not isinstance(tag, Along) or tag.axis != axis or tag.reaches[0].jump * scale != 1:
            scale = 0
            continue
        reach = tag.reaches[0]
        radius = max(radius, reach.before, reach.after + 1 - reach.jump)
    return ReceptiveField(math.ceil(radius), stride, scale, tuple(walk.faults))
