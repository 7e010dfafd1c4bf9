"""The one look of tables on the terminal, which fit 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from sftbench.report.words import Bounds


def titled(title: str, *headings: str) -> Table:
    """Return an empty table: names in the first column, figures in the others.

    Args:
        title: what stands above it.
        headings: of its columns, none of which is wrapped.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left", no_wrap=True)
    return table


def stacked(fraction: float, bounds: Bounds | None) -> str:
    """Return a share in percent with its interval in a line below it."""
    # Here, so that tables without intervals need no statistics.
    from sftbench.report.words import bracket, points

    return points(fraction) + ("" if bounds is None else f"\n{bracket(bounds.low, bounds.high)}")
