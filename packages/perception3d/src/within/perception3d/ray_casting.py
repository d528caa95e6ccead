"""Rays of a lidar at the origin against boxes that stand upright and a plane, compiled.

Kay and Kajiya: Ray tracing complex scenes, SIGGRAPH 1986: in a box's own frame a ray is inside between the last of the
three slabs that it enters and the first that it leaves.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def cast_rays(directions, azimuths, boxes, spans, owners, densities, objects, slope, height, chances):  # type: ignore[no-untyped-def]
    """Returns range, solid (-1: the ground) and cosine of incidence of each ray; rays that meet and end on each object.

    Arguments:
        directions: of the rays, (columns, beams, 3), of length 1.
        azimuths: of the columns.
        boxes, spans, owners, densities: of the solids: seven numbers, least and largest azimuth, object or -1, and the
            chance to stop a ray. Solids of one object stand together.
        objects: how many there are.
        slope, height: of the ground along x and y, and how far it lies below the lidar.
        chances: a number within [0, 1) for each ray.
    """
    columns, beams = directions.shape[:2]
    ranges = np.full((columns, beams), np.inf)
    hits = np.full((columns, beams), -1)
    cosines = np.ones((columns, beams))
    rays, seen = np.zeros(objects), np.zeros(objects)
    near = np.empty(len(boxes), np.int64)
    direction, origin = np.empty(3), np.empty(3)
    for column in range(columns):
        count = 0
        for number in range(len(boxes)):
            if spans[number, 0] <= azimuths[column] <= spans[number, 1]:
                near[count] = number
                count += 1
        for beam in range(beams):
            x, y, z = directions[column, beam]
            fall = z - slope[0] * x - slope[1] * y
            if fall < -1e-6:
                ranges[column, beam] = -height / fall
                cosines[column, beam] = -fall
            met = -1
            for at in range(count):
                number = near[at]
                chance = (chances[column, beam] + 0.618034 * number) % 1.0
                if chance >= densities[number]:
                    continue
                box = boxes[number]
                cos, sin = np.cos(box[6]), np.sin(box[6])
                direction[0], direction[1], direction[2] = x * cos + y * sin, y * cos - x * sin, z
                origin[0], origin[1], origin[2] = -box[0] * cos - box[1] * sin, box[0] * sin - box[1] * cos, -box[2]
                enter, leave, side = -np.inf, np.inf, 0
                for axis in range(3):
                    step = direction[axis] if abs(direction[axis]) > 1e-12 else 1e-12
                    first, second = (
                        (-box[3 + axis] / 2 - origin[axis]) / step,
                        (box[3 + axis] / 2 - origin[axis]) / step,
                    )
                    if first > second:
                        first, second = second, first
                    if first > enter:
                        enter, side = first, axis
                    leave = min(leave, second)
                if enter > leave or enter <= 0:
                    continue
                if densities[number] < 1:
                    enter += (leave - enter) * (chance / densities[number]) ** 3  # most of it near the front
                owner = owners[number]
                if owner >= 0 and owner != met:
                    met = owner
                    rays[owner] += 1
                if enter < ranges[column, beam]:
                    ranges[column, beam], hits[column, beam] = enter, number
                    cosines[column, beam] = abs(direction[side])
            if hits[column, beam] >= 0 and owners[hits[column, beam]] >= 0:
                seen[owners[hits[column, beam]]] += 1
    return ranges, hits, cosines, rays, seen
