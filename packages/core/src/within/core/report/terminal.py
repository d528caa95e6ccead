"""The report as tables on a terminal, for the end of a run and for `within report`."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from within.core.report.content import ReportContent, ReportTable
from within.core.report.quantity import difference, error, quantity, relative


def print_report(content: ReportContent, console: Console | None = None) -> None:
    """Prints quality, costs, budgets, certificate and notices; silently leaves out what is empty."""
    console = console or Console()
    console.print(f"[bold]{escape(content.title)}[/bold]")
    if content.summary:
        console.print(escape(content.summary))
    for table in (_quality(content), _costs(content), _budgets(content)):
        if table.row_count:
            console.print(table)
    for extra in content.tables:
        print_table(extra, console)
    if content.certificate is not None:
        certificate = content.certificate
        facts = [certificate.status]
        if certificate.gap is not None:
            facts.append(f"gap {100 * certificate.gap:.3g} %")
        if certificate.masked_error is not None:
            facts.append(f"masked against slim {certificate.masked_error:.1e}")
        console.print("Certificate: " + escape(", ".join(facts)))
        for statement in certificate.statements:
            console.print(f"  {escape(statement)}")
    for notice in content.notices:
        console.print(f"[yellow]{escape(notice.subject)}[/yellow] {escape(notice.reason)}")


def print_table(content: ReportTable, console: Console | None = None) -> None:
    """Prints a table with its title and note; columns of numbers are flush right."""
    console = console or Console()
    table = Table(title=escape(content.title), title_justify="left")
    for place, heading in enumerate(content.columns):
        numbers = all(
            value is None or isinstance(value, (int, float)) for value in (row[place] for row in content.rows)
        )
        table.add_column(escape(heading), justify="right" if numbers else "left")
    for row in content.rows:
        table.add_row(*[_cell(value) for value in row])
    console.print(table)
    if content.note:
        console.print(escape(content.note), style="dim")


def _quality(content: ReportContent) -> Table:
    table = _columns("quality", "before", "after", "change")
    for row in content.quality:
        table.add_row(
            escape(row.name),
            quantity(row.before, row.unit, row.places),
            quantity(row.after, row.unit, row.places),
            difference(row.before, row.after, row.unit, row.places),
        )
    return table


def _costs(content: ReportContent) -> Table:
    table = _columns("cost", "before", "predicted", "measured", "change", "error")
    for row in content.costs:
        name = f"{row.name} ({row.instrument})" if row.instrument else row.name
        table.add_row(
            escape(name),
            quantity(row.before, row.unit),
            quantity(row.after_predicted, row.unit),
            quantity(row.after_measured, row.unit),
            relative(row.ratio),
            error(row.prediction_error),
        )
    return table


def _budgets(content: ReportContent) -> Table:
    table = _columns("budget", "limit", "achieved", "")
    for row in content.budgets:
        verdict = "[green]held[/green]" if row.held else "[red]broken[/red]"
        table.add_row(escape(row.name), quantity(row.limit, row.unit), quantity(row.achieved, row.unit), verdict)
    return table


def _columns(first: str, *others: str) -> Table:
    table = Table(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _cell(value: str | int | float | bool | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return escape(value) if isinstance(value, str) else quantity(value, "")
