"""What kind of loss it is as tables for the terminal, which fit 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sftbench.analysis.loss import KINDS
from sftbench.analysis.summary import DOMAIN_NAMES, Summary
from sftbench.report import loss
from sftbench.report.tables import titled
from sftbench.report.words import (
    FIXED,
    MISSING,
    Bounds,
    bracket,
    cut,
    points,
    signed,
    signed_bracket,
)

if TYPE_CHECKING:
    from rich.table import Table

ROOM = 18
"""Characters of a name in a line."""
BROKEN = {loss.ITSELF: "base against\nitself", loss.KEPT: "facts that\nboth answer"}
"""Names that need two lines."""


def loss_tables(summary: Summary) -> Iterator[Table]:
    """Yield the tables of every domain: kinds, what restoring heals, levels, calibration.

    Of many restores they hold the chosen one, as the other short tables do; a domain without
    figures has no table.

    Args:
        summary: with kinds of loss.

    Raises:
        ValueError: the summary does not tell kinds of loss apart.
    """
    for make in (_kinds, _healing, _levels, _calibration):
        for domain in summary.domains:
            table = make(summary, domain)
            if table.row_count:
                yield table


def _named(name: str) -> str:
    """Return a name in lines: the variant, then its options."""
    first, *options = name.split(" (", 1)
    return "\n".join([cut(first, ROOM), *(cut(f"({one}", ROOM) for one in options)])


def _kinds(summary: Summary, domain: str) -> Table:
    table = titled(
        f"Facts lost {DOMAIN_NAMES[domain]}, by kind (% of the lost)", "variant", "lost", *KINDS
    )
    for row in loss.short_kind_rows(summary, domain):
        parts = (row.format, row.access, row.knowledge, row.undecided)
        cells = [_part(part, row.lost) for part in parts]
        name = BROKEN.get(row.name) or _named(row.name)
        if row.series == "itself":  # losses of format are not measured
            cells[0] = MISSING
        table.add_row(
            name,
            loss.number(row.lost),
            *cells,
            style="dim" if row.series in ("noise", "itself") else None,
        )
    return table


def _part(part: float, whole: float) -> str:
    share = loss.part_of(part, whole)
    return loss.number(part) + ("" if share is None else f"{FIXED}({100 * share:.0f})")


def _healing(summary: Summary, domain: str) -> Table:
    table = titled(
        f"Facts {DOMAIN_NAMES[domain]} that restoring heals, of those lost; %",
        "variant",
        *KINDS,
    )
    left_out = loss.left_out_names(summary)
    for row in loss.healing_rows(summary, domain):
        if row.name not in left_out:
            table.add_row(_named(row.name), *(_healed(cell) for cell in row.cells))
    return table


def _healed(cell: loss.HealedCell | None) -> str:
    if cell is None:
        return MISSING
    bounds = bracket(cell.bounds.low, cell.bounds.high)
    return f"{loss.healed(cell)}\n{100 * cell.healed / cell.lost:.0f}{FIXED}{bounds}"


def _levels(summary: Summary, domain: str) -> Table:
    table = titled(
        f"Mean mastery rate {DOMAIN_NAMES[domain]}, %; differences in points",
        "facts",
        "n",
        "card",
        "base\nagain",
        "tuned",
        "base again\nminus card",
        "tuned minus\nbase again",
    )
    for row in loss.level_rows(summary, domain):
        table.add_row(
            row.name,
            f"{row.n:,}",
            *(points(one) for one in (row.levelled, row.before, row.after)),
            _limited(row.chance, row.chance_bounds),
            _limited(row.change, row.change_bounds),
        )
    return table


def _limited(value: float, bounds: Bounds | None) -> str:
    return signed(value) + ("" if bounds is None else f"{FIXED}{signed_bracket(bounds, 0)}")


def _calibration(summary: Summary, domain: str) -> Table:
    table = titled(
        f"Calibration {DOMAIN_NAMES[domain]}",
        "variant",
        "n",
        "log p",
        "conf.\n%",
        "right\n%",
        "ECE\npoints",
        "by\nchance",
        "up to\n95 %",
        "Brier",
        "AUROC\n%",
    )
    left_out = loss.left_out_names(summary)
    for name, one in loss.calibrations(summary, domain):
        if name not in left_out:
            table.add_row(
                _named(name),
                f"{one.n:,}" + (f" of {one.n + one.empty:,}" if one.empty else ""),
                loss.log_p(one.answer_logprob),
                *(points(part) for part in (one.confidence, one.accuracy, one.ece)),
                *(points(part) for part in (one.ece_chance, one.ece_limit)),
                f"{one.brier:.3f}",
                points(one.auroc),
            )
    return table
