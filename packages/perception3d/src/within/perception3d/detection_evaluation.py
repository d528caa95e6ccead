"""What is reported of a detector on KITTI, nuScenes and ONCE: a table, a mean, plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from within.core.report import ReportTable
from within.perception3d.metrics.kitti_ap import DIFFICULTIES, Precisions
from within.perception3d.metrics.nuscenes_detection import DISTANCES, NuscenesScore
from within.perception3d.metrics.once_ap import BANDS, OVERLAPS, OnceScore


@dataclass(frozen=True)
class KittiEvaluation:
    """Average precisions on KITTI's frames.

    Attributes:
        precisions: by class, kind and difficulty.
        classes: that were evaluated.
        frames: number of frames.
    """

    precisions: Precisions
    classes: tuple[str, ...]
    frames: int

    @property
    def mean(self) -> float:
        """mAP in per cent: mean over classes of 3-D, moderate, 40 recalls."""
        return float(np.mean([self.precisions[name, "3d", "moderate"].r40 for name in self.classes]))

    def summary(self) -> dict[str, float]:
        """Returns mAP and each class's 3-D precision, moderate, 40 recalls; and at 11 recalls."""
        moderate = {name: self.precisions[name, "3d", "moderate"] for name in self.classes}
        first = {"mAP": self.mean} | {name: found.r40 for name, found in moderate.items()}
        return first | {f"{name} R11": found.r11 for name, found in moderate.items()}

    def table(self) -> ReportTable:
        """Returns class x kind rows and difficulty columns, at 40 recalls and at 11."""
        rows = [
            (name, kind, *(round(self.precisions[name, kind, each].r40, 2) for each in DIFFICULTIES),
             *(round(self.precisions[name, kind, each].r11, 2) for each in DIFFICULTIES))
            for name in self.classes
            for kind in ("image", "bev", "3d", "aos")
        ]  # fmt: skip
        columns = (
            "class",
            "kind",
            *(f"{each} R40" for each in DIFFICULTIES),
            *(f"{each} R11" for each in DIFFICULTIES),
        )
        return ReportTable(f"Average precision on {self.frames} frames, mAP {self.mean:.2f}", columns, tuple(rows))

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return {
            "frames": self.frames,
            "mAP": self.mean,
            "average_precision": {
                name: {
                    kind: {each: {"R11": found.r11, "R40": found.r40} for each in DIFFICULTIES
                           if (found := self.precisions[name, kind, each])}
                    for kind in ("image", "bev", "3d", "aos")
                }
                for name in self.classes
            },
        }  # fmt: skip


@dataclass(frozen=True)
class NuscenesEvaluation:
    """mAP and NDS on nuScenes' frames.

    Attributes:
        found: as shares of 1.
        frames: number of frames.
    """

    found: NuscenesScore
    frames: int

    @property
    def mean(self) -> float:
        """mAP in per cent."""
        return 100 * self.found.mean_precision

    def summary(self) -> dict[str, float]:
        """Returns mAP, NDS and each class's mean over distances, in per cent."""
        return {"mAP": self.mean, "NDS": 100 * self.found.score} | {name: self._of(name) for name in self._names()}

    def table(self) -> ReportTable:
        """Returns a row a class, a column a distance and error."""
        kinds = sorted({kind for _, kind in self.found.class_errors})
        rows = []
        for name in self._names():
            precisions = (round(100 * self.found.precisions[name, each], 2) for each in DISTANCES)
            errors = (self.found.class_errors.get((name, kind)) for kind in kinds)
            rows.append(
                (name, round(self._of(name), 2), *precisions, *(None if e is None else round(e, 3) for e in errors))
            )
        columns = ("class", "AP", *(f"{each:g} m" for each in DISTANCES), *kinds)
        title = f"nuScenes on {self.frames} frames: mAP {self.mean:.2f}, NDS {100 * self.found.score:.2f}"
        return ReportTable(title, columns, tuple(rows))

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return {"frames": self.frames, **self.summary(), "errors": dict(self.found.errors)}

    def _names(self) -> list[str]:
        return list(dict.fromkeys(name for name, _ in self.found.precisions))

    def _of(self, name: str) -> float:
        return float(100 * np.mean([self.found.precisions[name, each] for each in DISTANCES]))


@dataclass(frozen=True)
class OnceEvaluation:
    """Average precision on ONCE's frames.

    Attributes:
        found: in per cent.
        frames: number of frames.
    """

    found: OnceScore
    frames: int

    @property
    def mean(self) -> float:
        """mAP in per cent."""
        return self.found.means["overall"]

    def summary(self) -> dict[str, float]:
        """Returns mAP and each class's precision over all distances."""
        return {"mAP": self.mean} | {name: self.found.precisions[name, "overall"] for name in OVERLAPS}

    def table(self) -> ReportTable:
        """Returns a row a class and a column a band of distance."""
        rows = [(name, *(round(self.found.precisions[name, band], 2) for band in BANDS)) for name in OVERLAPS]
        rows.append(("mean", *(round(self.found.means[band], 2) for band in BANDS)))
        return ReportTable(f"ONCE on {self.frames} frames: mAP {self.mean:.2f}", ("class", *BANDS), tuple(rows))

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return {"frames": self.frames, **self.summary(), "means": dict(self.found.means)}


Evaluation = KittiEvaluation | NuscenesEvaluation | OnceEvaluation
