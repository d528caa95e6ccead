"""Objects and detections matched one by one, compiled: by overlap for KITTI and ONCE, by distance for nuScenes.

All frames stand after one another. `truth_starts`, `found_starts` and `overlap_starts` say where the objects, the
detections and the overlaps of a frame begin; its overlaps are (detections, objects), row by row. A state is 0 for what
counts, 1 for what counts neither way, -1 for what is not there. Objects choose in their order.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def taken_scores(truth_starts, found_starts, overlap_starts, overlaps, truth, found, scores, least):  # type: ignore[no-untyped-def]
    """Returns the scores of the detections that objects take when no threshold holds any back."""
    taken = np.empty(len(truth))
    count = 0
    for frame in range(len(truth_starts) - 1):
        low, high = found_starts[frame], found_starts[frame + 1]
        used = np.zeros(high - low, np.bool_)
        objects = truth_starts[frame + 1] - truth_starts[frame]
        for i in range(objects):
            state = truth[truth_starts[frame] + i]
            if state == -1:
                continue
            best = -1
            for j in range(high - low):
                overlap = overlaps[overlap_starts[frame] + j * objects + i]
                if found[low + j] == -1 or used[j] or overlap <= least:
                    continue
                if best == -1 or scores[low + j] > scores[low + best]:
                    best = j
            if best >= 0:
                used[best] = True
                if state == 0 and found[low + best] == 0:
                    taken[count] = scores[low + best]
                    count += 1
    return taken[:count]


@njit(cache=True)
def counts_at(  # type: ignore[no-untyped-def]
    truth_starts, found_starts, overlap_starts, overlaps, truth, found, scores, dont_care, truth_alpha, alpha, least,
    thresholds,
):  # fmt: skip
    """Returns true positives, false positives and orientation similarity at each threshold."""
    counts = np.zeros((len(thresholds), 3))
    for level in range(len(thresholds)):
        for frame in range(len(truth_starts) - 1):
            low, high = found_starts[frame], found_starts[frame + 1]
            used = np.zeros(high - low, np.bool_)
            objects = truth_starts[frame + 1] - truth_starts[frame]
            for i in range(objects):
                state = truth[truth_starts[frame] + i]
                if state == -1:
                    continue
                best, most, small = -1, 0.0, False
                for j in range(high - low):
                    overlap = overlaps[overlap_starts[frame] + j * objects + i]
                    if found[low + j] == -1 or used[j] or scores[low + j] < thresholds[level] or overlap <= least:
                        continue
                    if found[low + j] == 0 and (overlap > most or small):
                        best, most, small = j, overlap, False
                    elif found[low + j] == 1 and best == -1:
                        best, small = j, True
                if best >= 0:
                    used[best] = True
                    if state == 0 and found[low + best] == 0:
                        counts[level, 0] += 1
                        turn = truth_alpha[truth_starts[frame] + i] - alpha[low + best]
                        counts[level, 2] += (1 + np.cos(turn)) / 2
            for j in range(high - low):
                if used[j] or found[low + j] != 0 or scores[low + j] < thresholds[level]:
                    continue
                if dont_care[low + j] <= least:
                    counts[level, 1] += 1
    return counts


@njit(cache=True)
def nearest_matches(truth, truth_starts, found, frames, distance):  # type: ignore[no-untyped-def]
    """Returns the nearest free object of each detection, or -1 when it is `distance` away or farther.

    Arguments:
        truth, found: boxes that begin with x and y; detections by falling score.
        truth_starts: where the objects of each frame begin.
        frames: of each detection.
        distance: within which a match counts.
    """
    matches = np.full(len(found), -1, np.int64)
    taken = np.zeros(len(truth), np.bool_)
    for i in range(len(found)):
        least, best = np.inf, -1
        for j in range(truth_starts[frames[i]], truth_starts[frames[i] + 1]):
            if taken[j]:
                continue
            away = np.sqrt((found[i, 0] - truth[j, 0]) ** 2 + (found[i, 1] - truth[j, 1]) ** 2)
            if away < least:
                least, best = away, j
        if least < distance:
            matches[i] = best
            taken[best] = True
    return matches
