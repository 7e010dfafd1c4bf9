"""Runs as tables: one on the terminal, the saved ones in docs/performance.md, between two marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.saved_runs import ROOT, RUNS, Measured, Run, read_saved
from sftbench.common.errors import SftbenchError

if TYPE_CHECKING:
    from rich.table import Table

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
HEAD = (
    "| benchmark | what is timed | reference | times as long | spread | moved | seconds |",
    "|---|---|---|---:|---:|---:|---:|",
)


def saved_runs(folder: Path = RUNS) -> list[Run]:
    """Return the saved runs of all machines, sorted by their keys."""
    return [read_saved(path) for path in sorted(folder.glob("*.json"))]


def run_table(run: Run) -> Table:
    """Return a run as a table for the terminal."""
    from rich.table import Table

    table = Table("benchmark", "reference", title=f"{run.machine.words}; one core is used")
    for column in ("times as long", "spread", "seconds"):
        table.add_column(column, justify="right")
    for one in run.benchmarks:
        ratio, seconds = figures(one)
        table.add_row(one.name, one.reference, ratio, percent(one.spread), seconds)
    return table


def markdown(runs: Sequence[Run]) -> str:
    """Return a table for each run, under a line that says of which machine and software."""
    return "\n\n".join(map(_section, runs))


def _section(run: Run) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    medians = f"medians of {run.runs} runs" if run.runs > 1 else "one run"
    title = f"{run.machine.words}; {run.made[:10]}, {medians}; {versions}:"
    return "\n".join([title, "", *HEAD, *map(_row, run.benchmarks)])


def _row(one: Measured) -> str:
    ratio, seconds = figures(one)
    cells = (
        one.name, one.what, one.reference, ratio, percent(one.spread), percent(one.moved), seconds,
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def figures(one: Measured) -> tuple[str, str]:
    """Return ratio and seconds as they are shown."""
    return f"{one.ratio:#.3g}", f"{one.seconds:#.2g}"


def percent(part: float) -> str:
    """Return a part as it is shown."""
    return f"{100 * part:.0f} %"


def page_with(page: str, table: str) -> str:
    """Return a page with a table between its two marks, in place of what was there.

    Raises:
        SftbenchError: the page does not have each mark once, in their order.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in rest or END in after:
        raise SftbenchError(
            f"the page needs the lines {BEGIN} and {END} once each, in this order", where=PAGE
        )
    return f"{before}{BEGIN}\n{table}\n{END}{after}"
