"""What a report says: plain frozen values, which any domain fills and the writer turns into JSON and HTML.

Every number carries its unit, and every cost keeps what was predicted apart from what was measured. A unit is one of
"B" (bytes), "MAC", "parameters", "s", "ms", "J", or any other short word, which is then printed as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class QualityRow:
    """A task metric before and after compression.

    Attributes:
        name: the metric and the data it was computed on, as in "PSNR on Kodak24, sigma 25".
        unit: as in "dB" or "%"; empty for a plain number.
        before, after: the dense and the compressed model; None when it was not measured.
        higher_is_better: decides which way a change is called a loss.
        places: decimal places to print.
    """

    name: str
    unit: str
    before: float | None
    after: float | None
    higher_is_better: bool = True
    places: int = 2


@dataclass(frozen=True)
class CostRow:
    """A cost before and after compression, predicted from the graph and measured where it can be.

    Attributes:
        name: the cost, as in "Peak memory".
        unit: the unit of all four numbers.
        before_predicted, after_predicted: from the cost model; None when it makes no prediction.
        before_measured, after_measured: from `instrument`; None when it was not measured.
        instrument: what measured it, as in "storage counter" or "onnxruntime, one thread, median of 30".
    """

    name: str
    unit: str
    before_predicted: float | None = None
    after_predicted: float | None = None
    before_measured: float | None = None
    after_measured: float | None = None
    instrument: str = ""

    @property
    def before(self) -> float | None:
        """The measured number where there is one, else the predicted one."""
        return self.before_predicted if self.before_measured is None else self.before_measured

    @property
    def after(self) -> float | None:
        """The measured number where there is one, else the predicted one."""
        return self.after_predicted if self.after_measured is None else self.after_measured

    @property
    def ratio(self) -> float | None:
        """After over before, both measured or both predicted; None when neither pair is whole."""
        if self.before_measured and self.after_measured is not None:
            return self.after_measured / self.before_measured
        if self.before_predicted and self.after_predicted is not None:
            return self.after_predicted / self.before_predicted
        return None

    @property
    def prediction_error(self) -> float | None:
        """(predicted - measured) / measured, of the compressed model; None unless both are known."""
        if self.after_predicted is None or not self.after_measured:
            return None
        return (self.after_predicted - self.after_measured) / self.after_measured


@dataclass(frozen=True)
class BudgetRow:
    """A hard limit, and what the compressed model achieves under it.

    Attributes:
        name: the cost that is limited.
        limit, achieved, before: in `unit`; `before` is the dense model's.
    """

    name: str
    unit: str
    limit: float
    achieved: float
    before: float | None = None

    @property
    def held(self) -> bool:
        """Whether the achieved cost is within the limit."""
        return self.achieved <= self.limit


@dataclass(frozen=True)
class Certificate:
    """The proof that comes with a compressed model.

    Attributes:
        status: how the decision was found, as in "optimal" or "feasible".
        gap: relative optimality gap of the solver, (bound - objective) / objective; None when the method has no bound.
        masked_error: largest |masked dense - slim| over the largest |output|; None when it was not computed.
        statements: further checked statements, one sentence each.
    """

    status: str
    gap: float | None = None
    masked_error: float | None = None
    statements: tuple[str, ...] = ()


@dataclass(frozen=True)
class AliveTensor:
    """A tensor that is alive while memory peaks.

    Attributes:
        name: the value in the graph.
        shape: its shape.
        bytes: the size of its storage.
        born, last_used: indices of the operators that produce it and use it last.
    """

    name: str
    shape: tuple[int, ...]
    bytes: int
    born: int
    last_used: int


@dataclass(frozen=True)
class MemoryTimeline:
    """Live bytes while each operator runs.

    Attributes:
        label: which model this is, as in "dense".
        operators: the operators' names, in execution order.
        live_bytes: bytes alive while each runs; as many as there are operators.
        alive_at_peak: the tensors alive while the first operator with the most live bytes runs.
        instrument: "predicted" or what measured it.
    """

    label: str
    operators: tuple[str, ...]
    live_bytes: tuple[int, ...]
    alive_at_peak: tuple[AliveTensor, ...] = ()
    instrument: str = "predicted"

    def __post_init__(self) -> None:
        if len(self.operators) != len(self.live_bytes) or not self.operators:
            raise ValueError(f"{len(self.operators)} operators, {len(self.live_bytes)} live byte counts")

    @property
    def peak(self) -> int:
        """The largest number of live bytes."""
        return max(self.live_bytes)

    @property
    def peak_index(self) -> int:
        """The first operator at which the peak is reached."""
        return self.live_bytes.index(self.peak)


@dataclass(frozen=True)
class GroupWidth:
    """The width of a channel group before and after.

    Attributes:
        name: the group, named by its first member.
        before, after: channels.
        frozen: why it could not be cut; empty when it could.
    """

    name: str
    before: int
    after: int
    frozen: str = ""


@dataclass(frozen=True)
class Picture:
    """A sample image.

    Attributes:
        caption: as in "input" or "compressed".
        pixels: uint8, (height, width) or (height, width, 3).
        psnr: against the reference, in dB; None where it means nothing.
    """

    caption: str
    pixels: np.ndarray
    psnr: float | None = None


@dataclass(frozen=True)
class ImageStrip:
    """Pictures of one sample side by side."""

    title: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class ReportTable:
    """A table of a domain's own, for instance of baselines."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | bool | None, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Notice:
    """Something the reader should know: an operator without a rule, a group that was frozen.

    Attributes:
        subject: the operator, layer or group.
        reason: what about it, as one sentence.
    """

    subject: str
    reason: str


@dataclass(frozen=True)
class Provenance:
    """Where the numbers come from; see `within.core.report.provenance.collect_provenance`."""

    command: str
    date: str
    seed: int | None
    machine: str
    commit: str
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportContent:
    """All that a report can say. Empty parts are left out of the page."""

    title: str
    summary: str = ""
    quality: tuple[QualityRow, ...] = ()
    costs: tuple[CostRow, ...] = ()
    budgets: tuple[BudgetRow, ...] = ()
    certificate: Certificate | None = None
    memory: tuple[MemoryTimeline, ...] = ()
    widths: tuple[GroupWidth, ...] = ()
    strips: tuple[ImageStrip, ...] = ()
    tables: tuple[ReportTable, ...] = ()
    notices: tuple[Notice, ...] = ()
    provenance: Provenance | None = None


def quality_rows(
    evaluate: Callable[[Any], Mapping[str, Any]] | None, before: Any, after: Any
) -> tuple[QualityRow, ...]:
    """Returns a row for each metric of two models.

    Arguments:
        evaluate: maps a model to `{metric: value}` or `{metric: (value, unit)}`; None measures nothing.
        before, after: the dense and the compressed model.
    """
    if evaluate is None:
        return ()
    first, second = ({name: _with_unit(value) for name, value in evaluate(each).items()} for each in (before, after))
    return tuple(QualityRow(name, unit, value, second[name][0]) for name, (value, unit) in first.items())


def _with_unit(value: Any) -> tuple[float, str]:
    return (float(value[0]), str(value[1])) if isinstance(value, tuple) else (float(value), "")
