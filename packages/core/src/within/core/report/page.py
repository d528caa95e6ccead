"""`report.html`: one self-contained page. It loads nothing, so it can be mailed, archived and opened offline."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from within.core.report.content import (
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
)
from within.core.report.images import data_uri
from within.core.report.markup import facts, html_table, number_cell, right_heads
from within.core.report.memory_plot import coloured, memory_plot
from within.core.report.quantity import NO_VALUE, difference, error, quantity, relative
from within.core.report.style import STYLE

ARROW = "\N{RIGHTWARDS ARROW}"
TIMES = "\N{MULTIPLICATION SIGN}"
BYTES = ("B", "bytes")
TILES = 4
LISTED_TENSORS = 16


def page(content: ReportContent) -> str:
    """Returns the whole page as HTML text. Empty parts of `content` leave no trace."""
    sections = [
        _tiles(content),
        _quality(content.quality),
        _costs(content.costs),
        _budgets(content.budgets, content.certificate),
        _memory(content.memory, content.budgets),
        _widths(content.widths),
        *[_strip(strip) for strip in content.strips],
        *[_table(table) for table in content.tables],
        _notices(content.notices),
        _provenance(content.provenance),
    ]
    summary = f'<p class="muted">{escape(content.summary)}</p>' if content.summary else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(content.title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main><h1>{escape(content.title)}</h1>{summary}\n"
        + "\n".join(filter(None, sections))
        + "\n</main></body>"
        "</html>\n"
    )


def _tiles(content: ReportContent) -> str:
    tiles = []
    for quality in content.quality[:1]:
        change = difference(quality.before, quality.after, quality.unit, quality.places)
        after = quantity(quality.after, quality.unit, quality.places)
        before = quantity(quality.before, quality.unit, quality.places)
        tiles.append(_tile(quality.name, after, f"from {before}, {change}", _verdict(quality)))
    seen: set[str] = set()
    for cost in content.costs:
        if cost.name in seen or cost.ratio is None or len(tiles) == TILES:
            continue
        seen.add(cost.name)
        after, before = quantity(cost.after, cost.unit), quantity(cost.before, cost.unit)
        tiles.append(_tile(_sentence(cost.name), after, f"from {before}, {relative(cost.ratio)}", ""))
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _sentence(name: str) -> str:
    """Returns a name with a capital, as the beginning of a line wants it."""
    return name[:1].upper() + name[1:]


def _tile(label: str, value: str, origin: str, kind: str) -> str:
    return (
        f'<div class="tile"><div class="label">{escape(label)}</div><div class="value {kind}">{escape(value)}</div>'
        f'<div class="from">{escape(origin)}</div></div>'
    )


def _quality(rows: Sequence[QualityRow]) -> str:
    if not rows:
        return ""
    cells = [
        [
            escape(row.name),
            number_cell(quantity(row.before, row.unit, row.places)),
            number_cell(quantity(row.after, row.unit, row.places)),
            number_cell(difference(row.before, row.after, row.unit, row.places), _verdict(row)),
        ]
        for row in rows
    ]
    return "<h2>Quality</h2>" + html_table(["", *right_heads("before", "after", "change")], cells)


def _verdict(row: QualityRow) -> str:
    """Returns the CSS class of a change: a loss is marked, a gain or no change is not a fault."""
    if row.before is None or row.after is None:
        return ""
    lost = row.after < row.before if row.higher_is_better else row.after > row.before
    return "" if lost else "good"


def _costs(rows: Sequence[CostRow]) -> str:
    if not rows:
        return ""
    cells = []
    for row in rows:
        instrument = f'<span class="sub">{escape(row.instrument)}</span>' if row.instrument else ""
        cells.append(
            [
                escape(_sentence(row.name)) + instrument,
                number_cell(quantity(row.before_predicted, row.unit)),
                number_cell(quantity(row.before_measured, row.unit)),
                number_cell(quantity(row.after_predicted, row.unit)),
                number_cell(quantity(row.after_measured, row.unit)),
                number_cell(relative(row.ratio)),
                number_cell(error(row.prediction_error)),
            ]
        )
    heads = right_heads(
        "before<br>predicted",
        "before<br>measured",
        "after<br>predicted",
        "after<br>measured",
        "change",
        "error of<br>prediction",
    )
    return "<h2>Costs</h2>" + html_table(["", *heads], cells)


def _budgets(rows: Sequence[BudgetRow], certificate: Certificate | None) -> str:
    parts = []
    if rows:
        cells = [
            [
                escape(_sentence(row.name)),
                number_cell(quantity(row.before, row.unit)),
                number_cell(quantity(row.limit, row.unit)),
                number_cell(quantity(row.achieved, row.unit)),
                _usage(row),
                '<span class="good">held</span>' if row.held else '<span class="bad">broken</span>',
            ]
            for row in rows
        ]
        heads = ["", *right_heads("before", "limit", "achieved"), "<th>used</th>", "<th></th>"]
        parts.append(html_table(heads, cells))
    if certificate is not None:
        proofs = [("Decision", escape(certificate.status))]
        if certificate.gap is not None:
            proofs.append(("Optimality gap", f"{100 * certificate.gap:.3g} %"))
        if certificate.masked_error is not None:
            proofs.append(("Masked dense against slim", f"largest relative difference {certificate.masked_error:.1e}"))
        proofs.extend(("Checked", escape(statement)) for statement in certificate.statements)
        parts.append(facts(proofs))
    return "<h2>Budget and certificate</h2>" + "".join(parts) if parts else ""


def _usage(row: BudgetRow) -> str:
    share = row.achieved / row.limit if row.limit > 0 else 1.0
    kind = "bar" if row.held else "bar over"
    return (
        f'<div class="{kind}" title="{100 * share:.1f} % of the limit">'
        f'<i style="width:{min(100, 100 * share):.1f}%"></i></div>'
    )


def _memory(timelines: Sequence[MemoryTimeline], budgets: Sequence[BudgetRow]) -> str:
    if not timelines:
        return ""
    largest = max(timeline.peak for timeline in timelines)
    limit = next((row.limit for row in budgets if row.unit in BYTES and "memory" in row.name.lower()), None)
    parts = [
        "<h2>Memory over time</h2>"
        '<p class="muted small">Live activation bytes while each operator runs. The coloured bands are the largest '
        "tensors that are alive at the peak, over their whole life; all else is grey. Weights are not counted.</p>"
    ]
    for timeline in timelines:
        parts.append(
            f"<figure><h3>{escape(timeline.label)}: {quantity(timeline.peak, 'B')}</h3>"
            f'<div class="scroll">{memory_plot(timeline, largest, limit)}</div></figure>'
        )
        parts.append(_alive(timeline))
    return "".join(parts)


def _alive(timeline: MemoryTimeline) -> str:
    colours = {tensor: f"band-{index}" for index, tensor in enumerate(coloured(timeline.alive_at_peak))}
    tensors = sorted(timeline.alive_at_peak, key=lambda tensor: (-tensor.bytes, tensor.born, tensor.name))
    if not tensors:
        return ""
    cells = [
        [
            f'<span class="key {colours.get(tensor, "rest")}"></span><code>{escape(tensor.name)}</code>',
            f'<span class="line">{f" {TIMES} ".join(str(size) for size in tensor.shape)}</span>',
            number_cell(quantity(tensor.bytes, "B")),
            _operator(timeline, tensor.born),
            _operator(timeline, tensor.last_used),
            number_cell(str(tensor.last_used - tensor.born)),
        ]
        for tensor in tensors[:LISTED_TENSORS]
    ]
    heads = [
        "alive at the peak",
        "shape",
        *right_heads("size"),
        "born at",
        "last used at",
        *right_heads("operators held"),
    ]
    rest = tensors[LISTED_TENSORS:]
    note = ""
    if rest:
        total = quantity(sum(tensor.bytes for tensor in rest), "B")
        note = f'<p class="muted small">and {len(rest)} smaller tensors of {total} together</p>'
    return html_table(heads, cells) + note


def _operator(timeline: MemoryTimeline, index: int) -> str:
    name = timeline.operators[index] if 0 <= index < len(timeline.operators) else "end"
    return f'<span class="line"><span class="muted">{index}</span> <code>{escape(name)}</code></span>'


def _widths(groups: Sequence[GroupWidth]) -> str:
    if not groups:
        return ""
    widest = max(max(group.before, group.after) for group in groups)
    rows = []
    for group in groups:
        title = f"{group.name}: {group.before} {ARROW} {group.after}" + (f" ({group.frozen})" if group.frozen else "")
        rows.append(
            f'<div class="group{" frozen" if group.frozen else ""}" title="{escape(title)}">'
            f'<span class="name"><bdi>{escape(group.name)}</bdi></span>'
            f'<span class="track"><b style="width:{100 * group.before / widest:.1f}%"></b>'
            f'<i style="width:{100 * group.after / widest:.1f}%"></i></span>'
            f'<span class="count">{group.before} {ARROW} {group.after}</span></div>'
        )
    kept, total = sum(group.after for group in groups), sum(group.before for group in groups)
    return (
        f"<h2>Channels per group</h2>"
        f'<p class="muted small">{len(groups)} groups of channels that can only be cut together, {kept:,} of {total:,} '
        "channels kept. Grey behind: before. Dark grey: the group could not be cut.</p>"
        f'<div class="widths">{"".join(rows)}</div>'
    )


def _strip(strip: ImageStrip) -> str:
    figures = "".join(_picture(picture) for picture in strip.pictures)
    return f'<h2>{escape(strip.title)}</h2><div class="strip">{figures}</div>'


def _picture(picture: Picture) -> str:
    psnr = "" if picture.psnr is None else f"<b>{quantity(picture.psnr, 'dB', 2)}</b>"
    caption = escape(picture.caption)
    height, width = picture.pixels.shape[:2]
    return (
        f'<figure><img src="{data_uri(picture.pixels)}" width="{width}" height="{height}" style="height:auto" '
        f'alt="{caption}"><figcaption><span>{caption}</span>{psnr}</figcaption></figure>'
    )


def _table(table: ReportTable) -> str:
    cells = [[_cell(value) for value in row] for row in table.rows]
    note = f'<p class="muted small">{escape(table.note)}</p>' if table.note else ""
    numeric = [any(isinstance(row[index], (int, float)) for row in table.rows) for index in range(len(table.columns))]
    heads = [
        right_heads(escape(column))[0] if right else escape(column)
        for column, right in zip(table.columns, numeric, strict=True)
    ]
    return f"<h2>{escape(table.title)}</h2>" + html_table(heads, cells) + note


def _cell(value: str | int | float | bool | None) -> str:
    if value is None:
        return number_cell(NO_VALUE)
    if isinstance(value, bool):
        return number_cell("yes" if value else "no")
    if isinstance(value, str):
        return escape(value)
    return number_cell(f"{value:,}" if isinstance(value, int) else quantity(value, ""))


def _notices(notices: Sequence[Notice]) -> str:
    if not notices:
        return ""
    items = "".join(f"<li><code>{escape(notice.subject)}</code> {escape(notice.reason)}</li>" for notice in notices)
    return f"<h2>To know</h2><ul>{items}</ul>"


def _provenance(origin: Provenance | None) -> str:
    if origin is None:
        return ""
    origins = [
        ("Command", f"<code>{escape(origin.command)}</code>"),
        ("Date", escape(origin.date)),
        ("Seed", NO_VALUE if origin.seed is None else str(origin.seed)),
        ("Commit", escape(origin.commit) or NO_VALUE),
        ("Machine", escape(origin.machine)),
        ("Versions", escape(", ".join(f"{name} {version}" for name, version in origin.versions.items()))),
    ]
    return "<h2>Provenance</h2>" + facts(origins)
