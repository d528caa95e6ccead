"""Before and after, side by side: `metrics.json` for programs, `report.html` for people, tables for the terminal."""

from within.core.report.content import (
    AliveTensor,
    BudgetRow,
    Certificate,
    CostRow,
    GroupWidth,
    ImageStrip,
    MemoryTimeline,
    Notice,
    Picture,
    Provenance,
    QualityRow,
    ReportContent,
    ReportTable,
    quality_rows,
)
from within.core.report.images import difference_picture
from within.core.report.provenance import collect_provenance
from within.core.report.terminal import print_report, print_table
from within.core.report.write import read_report, write_report

__all__ = [
    "AliveTensor",
    "BudgetRow",
    "Certificate",
    "CostRow",
    "GroupWidth",
    "ImageStrip",
    "MemoryTimeline",
    "Notice",
    "Picture",
    "Provenance",
    "QualityRow",
    "ReportContent",
    "ReportTable",
    "collect_provenance",
    "difference_picture",
    "print_report",
    "print_table",
    "quality_rows",
    "read_report",
    "write_report",
]
