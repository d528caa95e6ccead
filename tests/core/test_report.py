"""The report: whole, self-contained, true to its content, and readable back."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

from within.core.cost import Budget, Macs, PeakMemory
from within.core.cost.budget import achieved
from within.core.errors import WithinError
from within.core.graph import trace
from within.core.report import (
    AliveTensor,
    BudgetRow,
    Certificate,
    CostRow,
    GroupWidth,
    ImageStrip,
    MemoryTimeline,
    Notice,
    Picture,
    QualityRow,
    ReportContent,
    ReportTable,
    collect_provenance,
    difference_picture,
    print_report,
    read_report,
    write_report,
)
from within.core.report.from_graph import budget_rows, group_widths, memory_timeline, notices, predicted_costs
from within.core.report.images import png
from within.core.report.memory_plot import HEIGHT, WIDTH, memory_plot, tick_step
from within.core.report.page import page
from within.core.report.quantity import MINUS, NO_VALUE, error, quantity, relative
from within.core.report.write import metrics

VOID = {"meta", "img", "br", "line", "circle"}
text = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=12)
amount = st.floats(0, 1e12, allow_nan=False)
maybe = st.none() | amount


class Elements(HTMLParser):
    """Collects attributes and checks that elements close in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parse(document: str) -> Elements:
    elements = Elements()
    elements.feed(document)
    elements.close()
    return elements


@st.composite
def timelines(draw) -> MemoryTimeline:
    """Returns a timeline whose live bytes are those of its tensors plus a remainder, as in a real one."""
    count = draw(st.integers(1, 12))
    spans = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1), st.integers(1, 10**9))
    tensors = [
        AliveTensor(f"t{index}", (1, index), size, min(ends), max(ends))
        for index, (*ends, size) in enumerate(draw(st.lists(spans, min_size=1, max_size=12)))
    ]
    live = [sum(t.bytes for t in tensors if t.born <= index <= t.last_used) for index in range(count)]
    peak = live.index(max(live))
    return MemoryTimeline(
        draw(text),
        tuple(f"op{index}" for index in range(count)),
        tuple(live),
        tuple(t for t in tensors if t.born <= peak <= t.last_used),
    )


contents = st.builds(
    ReportContent,
    title=text,
    summary=text,
    quality=st.tuples(st.builds(QualityRow, text, text, maybe | st.just(math.inf), maybe, st.booleans())),
    costs=st.tuples(
        st.builds(CostRow, text, st.sampled_from(["B", "MAC", "ms", "J"]), maybe, maybe, maybe, maybe, text)
    ),
    budgets=st.tuples(st.builds(BudgetRow, text, st.just("B"), amount, amount, maybe)),
    certificate=st.none() | st.builds(Certificate, text, maybe, maybe, st.tuples(text)),
    memory=st.tuples(timelines()),
    widths=st.tuples(st.builds(GroupWidth, text, st.integers(1, 512), st.integers(0, 512), text)),
    tables=st.tuples(st.builds(ReportTable, text, st.just(("a", "b")), st.tuples(st.tuples(text, amount)), text)),
    notices=st.tuples(st.builds(Notice, text, text)),
    provenance=st.none() | st.just(collect_provenance(seed=3, command="within compress x.py")),
)


@settings(max_examples=60, deadline=None)
@given(contents)
def test_page_is_self_contained_and_well_formed(content):
    """Would catch an external resource, a script, an unescaped name, or an element that is left open."""
    elements = parse(page(content))
    assert not elements.open
    assert not elements.tags & {"script", "link", "iframe", "object"}
    for _, name, value in elements.attributes:
        if name in ("src", "href", "srcset"):
            assert value.startswith("data:")
    assert "url(" not in page(content)
    assert content.notices[0].reason in "".join(elements.text)


@settings(max_examples=60, deadline=None)
@given(content=contents)
def test_metrics_round_trip(content, tmp_path_factory):
    """Would catch a field that metrics.json loses or that does not come back as it was, infinity included."""
    folder = tmp_path_factory.mktemp("run")
    write_report(folder, content)
    assert read_report(folder) == content
    json.loads((folder / "metrics.json").read_text(), parse_constant=pytest.fail)


def test_markup_in_names_stays_text():
    """Would catch a layer or file name that becomes markup."""
    hostile = "<script>alert(1)</script><b>"
    elements = parse(page(ReportContent(hostile, notices=(Notice(hostile, hostile),))))
    assert "script" not in elements.tags
    assert "".join(elements.text).count(hostile) >= 3


def test_derived_figures_are_written():
    """Would catch a ratio or error that mixes predicted with measured numbers."""
    cost = CostRow("Latency", "ms", before_predicted=90, after_predicted=33, before_measured=100, after_measured=30)
    assert cost.ratio == 0.3
    assert cost.prediction_error == pytest.approx(0.1)
    assert CostRow("MACs", "MAC", before_predicted=8, after_measured=2).ratio is None
    budget = BudgetRow("Latency", "ms", limit=29.0, achieved=30.0)
    record = metrics(ReportContent("r", costs=(cost,), budgets=(budget,)))
    assert record["costs"][0]["ratio"] == 0.3
    assert record["budgets"][0]["held"] is False
    assert "broken" in page(ReportContent("r", budgets=(budget,)))


@settings(max_examples=80, deadline=None)
@given(timelines(), st.floats(1, 4))
def test_memory_plot_stays_inside_and_reaches_the_peak(timeline, room):
    """Would catch a band above the live total, a curve outside the drawing, or a peak drawn at another height."""
    svg = memory_plot(timeline, largest=timeline.peak * room, limit=timeline.peak / 2)
    assert not parse(svg).open
    heights: dict[str, float] = {}
    for kind, path in re.findall(r'<path class="([\w-]+)" d="([^"]+)"', svg):
        points = [tuple(map(float, pair.split(","))) for pair in re.findall(r"[-\d.]+,[-\d.]+", path)]
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
        heights[kind] = min(y for _, y in points)
    assert all(height >= heights["outline"] - 0.11 for height in heights.values())
    assert heights["rest"] == heights["outline"]
    assert f'cy="{heights["outline"]:.1f}"' in svg


@given(st.floats(1e-6, 1e9))
def test_ticks_are_few_and_round(largest):
    """Would catch an axis with no ticks or with hundreds of them."""
    step = tick_step(largest)
    assert 2 <= largest / step <= 5.01
    assert f"{step:e}"[0] in "125"


@given(st.floats(-1e13, 1e13, allow_nan=False), st.sampled_from(["B", "MAC", "parameters", "ms", "s"]))
def test_quantity_says_the_value(value, unit):
    """Would catch a wrong prefix: 1.8 G shown as 1.8 M."""
    shown = quantity(value, unit)
    number, _, scale = shown.replace(MINUS, "-").replace(",", "").partition(" ")
    factor = {"K": 2**10, "M": 2**20, "G": 2**30} if unit == "B" else {"k": 1e3, "M": 1e6, "G": 1e9}
    if unit in ("ms", "s"):
        read = float(number) * (1000 if scale == "s" else 1) / (1000 if unit == "s" else 1)
        assert read == pytest.approx(value, rel=6e-3)
    else:
        multiple = factor.get(scale[:1], 1) if scale not in ("MAC", "B") else 1
        assert float(number) * multiple == pytest.approx(value, rel=6e-3, abs=0.51)


def test_missing_and_infinite_numbers_are_shown_as_such():
    """Would catch "nan %" or a crash where nothing was measured."""
    assert quantity(None, "B") == relative(None) == error(None) == NO_VALUE
    assert quantity(math.inf, "dB") == "inf dB"
    assert error(0.0) == "exact"
    assert relative(0.5) == f"{MINUS}50.0 %"


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([(), (3,)]), st.integers(0, 2**32 - 1))
def test_pictures_keep_every_pixel(height, width, channels, seed):
    """Would catch a PNG that is scaled, colour-mapped or has its channels swapped."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, *channels), dtype=np.uint8)
    back = np.rint(imread(io.BytesIO(png(pixels)), format="png")[..., :3] * 255).astype(np.uint8)
    assert (back == pixels.reshape(height, width, -1)).all()


def test_difference_is_zero_only_where_images_agree():
    """Would catch the wrap-around of unsigned subtraction."""
    first, second = np.full((4, 4), 10, np.uint8), np.full((4, 4), 13, np.uint8)
    assert (difference_picture(first, second, gain=2).pixels == 6).all()
    assert (difference_picture(second, first, gain=2).pixels == 6).all()
    assert (difference_picture(first, second, gain=200).pixels == 255).all()
    with pytest.raises(ValueError, match="differ in shape"):
        difference_picture(first, second[:2])


def test_pictures_are_embedded_with_their_psnr(tmp_path):
    """Would catch a strip that is lost, or whose captions lose the PSNR."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    strip = ImageStrip("Sample", (Picture("input", pixels, 20.437), Picture("dense", pixels, math.inf)))
    content = ReportContent("r", strips=(strip,))
    document = write_report(tmp_path, content).read_text()
    assert document.count("data:image/png;base64,") == 2
    assert "20.44 dB" in document
    record = json.loads((tmp_path / "metrics.json").read_text())["strips"][0]["pictures"]
    assert [picture["psnr"] for picture in record] == [20.437, "inf"]
    assert read_report(tmp_path) == dataclasses.replace(content, strips=())


def test_report_that_cannot_be_written_or_read_says_so(tmp_path):
    """Would catch a traceback on a bad run directory, and a half-written page over a good one."""
    (tmp_path / "taken" / "metrics.json").mkdir(parents=True)
    with pytest.raises(WithinError, match="Could not write"):
        write_report(tmp_path / "taken", ReportContent("r"))
    with pytest.raises(WithinError, match="no report here"):
        read_report(tmp_path)
    write_report(tmp_path, ReportContent("r"))
    whole = (tmp_path / "metrics.json").read_text()
    (tmp_path / "metrics.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(WithinError, match="not valid JSON"):
        read_report(tmp_path)
    (tmp_path / "metrics.json").write_text("[]")
    with pytest.raises(WithinError, match="not a report"):
        read_report(tmp_path)


def test_print_report_shows_every_part(capsys):
    """Would catch a section missing from the terminal, and names read as markup."""
    content = ReportContent(
        "title [bold]",
        quality=(QualityRow("PSNR [x]", "dB", 30.0, 29.5),),
        costs=(CostRow("MACs", "MAC", 4e9, 2e9),),
        budgets=(BudgetRow("MACs", "MAC", 2e9, 2e9),),
        certificate=Certificate("optimal", 0.0, 1e-7),
        tables=(ReportTable("baselines", ("method", "PSNR"), (("uniform", 29.0),)),),
        notices=(Notice("aten.fft", "has no rule"),),
    )
    print_report(content)
    shown = capsys.readouterr().out
    for part in ("title [bold]", "PSNR [x]", "2.000 GMAC", "held", "optimal", "baselines", "has no rule"):
        assert part in shown


def test_timeline_needs_as_many_bytes_as_operators():
    """Would catch a timeline shifted by one against its operators."""
    with pytest.raises(ValueError, match="live byte counts"):
        MemoryTimeline("dense", ("a", "b"), (1,))


class TwoBranches(torch.nn.Module):
    """A small network with a long skip, and an operator that has no rule when asked for."""

    def __init__(self, strange: bool = False) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.second = torch.nn.Conv2d(8, 6, 3, padding=1)
        self.last = torch.nn.Conv2d(14, 3, 3, padding=1)
        self.strange = strange

    def forward(self, x):
        skip = self.first(x).relu()
        inner = torch.fft.fft2(skip).real if self.strange else skip
        return self.last(torch.cat([skip, self.second(inner)], dim=1))


def test_parts_read_off_a_graph_agree_with_its_costs():
    """Would catch a plot, a width or a cost row that tells another story than the costs that were solved for."""
    graph = trace(TwoBranches(), (torch.zeros(1, 3, 16, 16),))
    decision = {group.name: group.size // 2 for group in graph.channel_groups()}
    dense, slim = memory_timeline("dense", graph), memory_timeline("slim", graph, decision)
    assert (dense.peak, slim.peak) == (PeakMemory()(graph), PeakMemory()(graph, decision))
    for timeline in (dense, slim):
        assert sum(tensor.bytes for tensor in timeline.alive_at_peak) == timeline.peak
        assert all(4 * math.prod(tensor.shape) == tensor.bytes for tensor in timeline.alive_at_peak)
        assert all(tensor.born <= timeline.peak_index <= tensor.last_used for tensor in timeline.alive_at_peak)
    assert [(group.before, group.after) for group in group_widths(graph, decision)] == [(8, 4), (6, 3)]
    macs = next(row for row in predicted_costs(graph, decision) if row.name == Macs().name)
    assert (macs.before, macs.after) == (Macs()(graph), Macs()(graph, decision))
    (row,) = budget_rows(achieved([Budget(PeakMemory(), fraction=0.9)], graph, decision))
    assert row.held
    assert (row.before, row.achieved) == (dense.peak, slim.peak)
    assert parse(page(ReportContent("r", costs=(macs,), budgets=(row,), memory=(dense, slim)))).open == []


def test_what_was_left_alone_is_named():
    """Would catch an operator without a rule, or a frozen parameter, that the report is silent about."""
    graph = trace(TwoBranches(strange=True), (torch.zeros(1, 3, 16, 16),))
    said = " ".join(f"{notice.subject} {notice.reason}" for notice in notices(graph))
    assert "fft2" in said
    assert "has no rule" in said
    assert "first.weight" in said
