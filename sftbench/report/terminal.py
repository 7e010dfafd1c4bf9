"""The result of a comparison as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sftbench.analysis.summary import DOMAIN_NAMES, Summary
from sftbench.report.words import headline, label, points

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LEVELS = range(5)


def show(summary: Summary, console: Console, *, relations: bool = False) -> None:
    """Print the headline, one line per variant, and the accuracy per level of each domain.

    With `relations` also one line per relation.
    """
    console.print()
    console.print(headline(summary), style="bold", highlight=False)
    console.print()
    console.print(_overview(summary))
    for domain in summary.domains:
        console.print()
        console.print(_levels(summary, domain))
    if relations:
        console.print()
        console.print(_relations(summary))
    console.print()
    console.print(_rests_on(summary), style="dim", highlight=False)


def _table(title: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),  # fits 80 columns
    )


def _overview(summary: Summary) -> Table:
    table = _table("Accuracy and retention (means over levels), %; lost and gained facts")
    table.add_column("variant", no_wrap=True)
    for measure in ("accuracy", "retention", "lost", "gained"):
        for place, domain in enumerate(summary.domains):
            heading = f"{'' if place else measure}\n{domain}"
            table.add_column(heading, justify="right", no_wrap=True)
    for variant in summary.variants:
        results = variant.domains
        table.add_row(
            label(variant),
            *(points(one.macro) for one in results),
            *(points(one.retention.score) for one in results),
            *(f"{one.outcomes.lost:,}" for one in results),
            *(f"{one.outcomes.gained:,}" for one in results),
        )
    return table


def _levels(summary: Summary, domain: str) -> Table:
    table = _table(f"Accuracy by mastery level {DOMAIN_NAMES[domain]}, %")
    table.add_column("variant", no_wrap=True)
    base = summary.base.domain(domain)
    counts = {one.level: one.n for one in base.levels} if base else {}
    for level in LEVELS:
        table.add_column(f"{level}\nn={counts.get(level, 0):,}", justify="right", no_wrap=True)
    for variant in summary.variants:
        result = variant.domain(domain)
        found = {one.level: one.accuracy for one in result.levels} if result else {}
        table.add_row(label(variant), *(points(found.get(level)) for level in LEVELS))
    return table


def _relations(summary: Summary) -> Table:
    table = _table("Accuracy by relation, %; what became of its facts; the majority answer, %")
    majority = {one.relation: one.majority for one in summary.baselines}
    table.add_column("relation")
    table.add_column("domain")
    for heading in ("n", "base", "tuned", "kept", "lost", "gained", "majority"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in summary.relations:
        base, tuned = one.variants[:2]
        table.add_row(
            one.relation,
            one.domain,
            f"{one.n:,}",
            points(base.right / one.n),
            points(tuned.right / one.n),
            *(f"{number:,}" for number in (tuned.kept, tuned.lost, tuned.gained)),
            points(majority.get(one.relation)),
        )
    return table


def _rests_on(summary: Summary) -> str:
    known = ", ".join(
        f"{one.retention.known:,} {DOMAIN_NAMES[one.domain]}" for one in summary.base.domains
    )
    return f"Retention rests on the facts of level 1 to 4 that the base answers right: {known}."
