"""The few HTML elements that the sections of the page are made of: tables, numbers and lists of facts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Returns a list of named facts; names and values are HTML."""
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in pairs) + "</dl>"


def right_heads(*heads: str) -> list[str]:
    """Returns head cells for columns of numbers."""
    return [f'<th class="number">{head}</th>' for head in heads]


def number_cell(text: str, kind: str = "") -> str:
    """Returns a right-aligned cell of plain text, with a CSS class if wanted."""
    return f'<td class="number {kind}">{escape(text)}</td>' if kind else f'<td class="number">{escape(text)}</td>'


def html_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table; a cell that does not bring its own element gets one."""
    head = "".join(cell if cell.startswith("<th") else f"<th>{cell}</th>" for cell in heads)
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cells(row: Sequence[str]) -> str:
    return "".join(cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in row)
