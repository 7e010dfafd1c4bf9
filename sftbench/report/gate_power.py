"""What a gate can see, as a table: the chance of each verdict for true losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sftbench.analysis.power import Chances, Planned
from sftbench.report.gate_words import margin_words
from sftbench.report.words import percents

if TYPE_CHECKING:
    from rich.table import Table


def planned_sentence(planned: Planned, assumed: str) -> str:
    """Return what the figures rest on."""
    parts = [
        f"{planned.n:,.0f} facts",
        f"{percents(planned.discordance)} of each level answered otherwise by another run "
        f"({assumed})",
    ]
    if planned.deff > 1:
        parts.append(f"design effect {planned.deff:.1f}")
    parts.append(f"runs: {planned.baseline_runs} baseline, {planned.candidate_runs} candidate")
    if planned.between:
        parts.append(f"spread between runs {100 * planned.between:.1f} points beyond that")
    return "; ".join(parts) + "."


def seen_sentences(
    planned: Planned, seen: float | None, needed: int | None, margin: float
) -> list[str]:
    """Return the smallest loss that is seen, and how many facts the margin takes."""
    found = [
        "No true loss is called inferior with 80 % probability."
        if seen is None
        else f"A true loss of {margin_words(round(seen, 3))} or more is called inferior with 80 % "
        "probability."
    ]
    if needed is None:
        found.append(
            f"No reasonable number of facts makes an unchanged recipe pass {margin_words(margin)} "
            "with 80 % probability: runs vary too much. Name more runs, or a larger margin."
        )
    elif needed > planned.n:
        found.append(
            "For an unchanged recipe to pass with 80 % probability it takes about "
            f"{needed:,} facts ({needed / planned.n:.1f} times as many), or a larger margin."
        )
    return found


def losses_table(name: str, losses: Sequence[tuple[float, Chances]], margin: float) -> Table:
    """Return the chance of each verdict for each true loss."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=f"{name}, margin {margin_words(margin)}",
        box=SIMPLE_HEAD,
        pad_edge=False,
        title_justify="left",
        title_style="bold",
    )
    table.add_column("true loss, points", justify="right")
    for column in ("passes", "inconclusive", "inferior"):
        table.add_column(column, justify="right")
    for loss, found in losses:
        table.add_row(f"{100 * loss:g}", *(f"{one:.0%}" for one in found))
    return table
