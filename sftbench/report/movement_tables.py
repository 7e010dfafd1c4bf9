"""How the weights moved as a table for the terminal, which fits 80 columns."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sftbench.analysis.movement import LayerGroup, Moved, MovementResult, layer_groups
from sftbench.report.tables import titled
from sftbench.report.words import MINUS, MISSING, cut

if TYPE_CHECKING:
    from rich.table import Table

ROOM = 14
"""Characters of a module's name in a line."""
GROUPS = 4
"""Parts that the layers of a model are put into, each a line."""
DECIMALS = 3, 6
"""The fewest and the most of a cosine."""


def movement_table(result: MovementResult) -> Table:
    """Return a line for each module over its layers, for each part of the layers, and for all."""
    headings = ["module", "scalars", "norm", "of base\n%", "enriched", "rank\n%", "same\n%"]
    if result.against is not None:
        headings.append("cosine")
    table = titled("How the weights moved, by module and by layer", *headings)
    for one in result.modules:
        table.add_row(*_line(one, cut(one.module or "", ROOM), result))
    table.add_section()
    for group in layer_groups(result, GROUPS):
        table.add_row(*_line(group.moved, layers_said(group), result))
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
    return [*cells, cosine(one)] if result.against is not None else cells


def layers_said(group: LayerGroup) -> str:
    """Return what layers a group is of: "layer 3" or "layers 0 to 7"."""
    if group.first == group.last:
        return f"layer {group.first}"
    return f"layers {group.first} to {group.last}"


def millions(size: int) -> str:
    """Return a number of scalars in few characters, such as "28.3 M"."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return str(size)


def figure(value: float | None, times: float) -> str:
    """Return a figure with three digits."""
    return MISSING if value is None else f"{times * value:.3g}".replace("e-0", "e-")


def cosine(one: Moved) -> str:
    """Return a cosine to the place that chance decides: 0.003 of few scalars, 0.00012 of many."""
    if one.cosine is None:
        return MISSING
    shown = f"{one.cosine:.{_places(one)}f}"
    return shown.replace("-", MINUS if float(shown) else "")


def cosine_by_chance(one: Moved) -> str:
    """Return what random directions have, to the same place."""
    return f"{one.cosine_chance:.{_places(one)}f}"


def _places(one: Moved) -> int:
    least, most = DECIMALS
    return min(most, max(least, math.ceil(-math.log10(one.cosine_chance))))
