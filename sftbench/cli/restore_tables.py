"""How a plan of restores is shown on the terminal: what each takes back, and where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sftbench.checkpoints.rules import BY_NORM, parse_rule
from sftbench.report.tables import titled

if TYPE_CHECKING:
    from rich.table import Table

    from sftbench.checkpoints.restore_report import RestoreReport, Share

COLUMNS = 3
"""Rules whose spread fits beside each other."""


def plan_table(reports: Sequence[RestoreReport]) -> Table:
    """Return a line for each rule: what it restores and what of the update that removes."""
    first = reports[0]
    title = (
        f"{first.region:,} scalars, {first.unchanged_share:.1%} unchanged, "
        f"{first.zero_base:,} zero in the base; in %"
    )
    table = titled(
        title,
        "rule", "scalars", "changed", "L2", "L1", "L1\nnull", "Σr", "no 0", "Σr\nnull",
    )  # fmt: skip
    for one in reports:
        moves = parse_rule(one.rule).criterion in BY_NORM
        table.add_row(
            one.rule,
            *(_percent(None if moves else value) for value in (one.share, one.changed_share)),
            *(_percent(value) for value in (one.l2_removed, one.l1_removed)),
            _percent(one.null["l1"] if one.null else None),
            _percent(one.change_share),
            _percent(one.change_share_without_zero_base),
            _percent(one.null["change"] if one.null else None),
        )
    table.caption = LEGEND
    table.caption_justify = "left"
    return table


LEGEND = (
    "scalars: share that is restored; changed: of those that the fine-tune changed; – where all "
    "are moved. L2, L1: norm of what is removed, of the update's in these tensors. Σr: share of "
    "the summed relative change, then without scalars that are zero in the base. null: the same "
    "if update and weights had nothing to do with each other."
)


def spread_table(reports: Sequence[RestoreReport]) -> Table | None:
    """Return how the restored scalars of the first rules spread; None where nothing is ranked."""
    shown = [one for one in reports if len(one.modules) > 1 and 0 < one.share < 1][:COLUMNS]
    if not shown:
        return None
    alike = [one for one in shown if _names(one) == _names(shown[0])]
    table = titled(
        "Where the restored scalars are, % (by the null model)",
        "part", "scalars", *(one.rule for one in alike),
    )  # fmt: skip
    for rows in zip(*(one.modules for one in alike), strict=True):
        _add(table, rows)
    if len(alike[0].layers) > 1:
        table.add_section()
        for rows in zip(*(_ends(one.layers) for one in alike), strict=True):
            _add(table, rows)
    return table


def _names(report: RestoreReport) -> list[str]:
    return [part.name for part in (*report.modules, *report.layers)]


def _ends(layers: Sequence[Share]) -> Sequence[Share]:
    """Return few layers: all of a small model, else the first, the middle and the last."""
    if len(layers) <= 4:
        return layers
    return [layers[0], layers[len(layers) // 2], layers[-1]]


def _add(table: Table, parts: Sequence[Share]) -> None:
    cells = (
        _percent(part.restored) + ("" if part.null is None else f" ({_percent(part.null)})")
        for part in parts
    )
    table.add_row(parts[0].name, _percent(parts[0].scalars), *cells)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"
