"""How the weights moved as a table for the terminal, which fits 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sftbench.analysis.movement import Moved, MovementResult
from sftbench.report.tables import titled
from sftbench.report.words import MISSING, cut

if TYPE_CHECKING:
    from rich.table import Table

ROOM = 18
"""Characters of a module's name in a line."""


def movement_table(result: MovementResult) -> Table:
    """Return a line for each module over its layers, then one for all."""
    headings = ["module", "scalars", "norm", "of base, %", "enriched", "rank, %", "same, %"]
    if result.against is not None:
        headings.append("cosine")
    table = titled("How the weights moved, by module over all layers", *headings)
    for one in result.modules:
        table.add_row(*_line(one, cut(one.module or "", ROOM), result))
    table.add_section()
    table.add_row(*_line(result.total, "all", result))
    return table


def _line(one: Moved, name: str, result: MovementResult) -> list[str]:
    cells = [
        name,
        millions(one.size),
        f"{one.norm:.3g}",
        figure(one.relative, 100),
        figure(one.enrichment, 1),
        figure(one.rank_share, 100),
        f"{100 * one.unchanged:.1f}",
    ]
    return [*cells, figure(one.cosine, 1)] if result.against is not None else cells


def millions(size: int) -> str:
    """Return a number of scalars in few characters, such as "28.3 M"."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return str(size)


def figure(value: float | None, times: float) -> str:
    """Return a figure with three digits."""
    return MISSING if value is None else f"{times * value:.3g}"
