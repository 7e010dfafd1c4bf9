"""The result of a comparison as tables for the terminal."""

from __future__ import annotations

import textwrap
from functools import partial
from typing import TYPE_CHECKING

from sftbench.analysis.intervals import wilson
from sftbench.analysis.summary import DOMAIN_NAMES, DomainResult, Summary, VariantResult
from sftbench.report import evidence
from sftbench.report.drift_tables import drift_tables
from sftbench.report.drift_words import drift_sentence, name_of, paper_sentence
from sftbench.report.loss_tables import loss_tables
from sftbench.report.loss_words import loss_sentence
from sftbench.report.movement_tables import movement_table
from sftbench.report.tables import stacked, titled
from sftbench.report.words import (
    BRACKETS,
    FIXED,
    MISSING,
    Bounds,
    at_a_glance,
    bracket,
    cut,
    has_intervals,
    headline,
    label,
    noise_sentence,
    p_value,
    points,
    signed,
    signed_bracket,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LEVELS = range(5)
SHORT = {evidence.MEAN: "mean", evidence.PLAIN: "the paper"}
"""What rows are called where there is little room."""
PLAIN = (
    "Mean: over levels, each alike; the paper (Ye et al. 2025) gives it without an interval. p is "
    "exact, with facts of one answer exchanged together; Holm: over the levels; McNemar: as if "
    "facts were independent. Seen: the smallest true difference that so many facts show with 80 % "
    "probability."
)


def show(summary: Summary, console: Console, *, relations: bool = False) -> None:
    """Print the headline, the tables of what was kept and what changed, and the noise.

    With `relations` also one line per relation.
    """
    console.print()
    _say(console, headline(summary), "bold")
    changes = summary.domains if summary.pairs else ()
    for table in (_overview(summary), *(_changes(summary, domain) for domain in changes)):
        console.print()
        console.print(table)
    noise = f"{noise_sentence(summary)} {evidence.mean_sentence(summary)}".strip()
    for sentence in filter(None, (noise, evidence.flips_sentence(summary))):
        console.print()
        _say(console, sentence)
    if summary.loss is not None:
        console.print()
        _say(console, loss_sentence(summary.loss))
        for table in loss_tables(summary):
            console.print()
            console.print(table)
    if summary.drift is not None:
        _moved(summary, console)
    levels = [_levels(summary, domain) for domain in summary.domains]
    for table in [*levels, *([_relations(summary)] if relations else [])]:
        console.print()
        console.print(table)
    console.print()
    _say(console, _rests_on(summary), "dim")


def _moved(summary: Summary, console: Console) -> None:
    """Print how predictions and weights moved."""
    assert summary.drift is not None
    for sentence in (drift_sentence(summary.drift), paper_sentence(summary.drift)):
        console.print()
        _say(console, sentence)
    tables = [*drift_tables(summary.drift, partial(name_of, summary))]
    if summary.movement is not None:
        tables.append(movement_table(summary.movement))
    for table in tables:
        console.print()
        console.print(table)


def _say(console: Console, text: str, style: str | None = None) -> None:
    """Print a sentence, wrapped here: rich breaks lines at no-break spaces."""
    console.print(
        textwrap.fill(text, console.width, break_on_hyphens=False), style=style, highlight=False
    )


def _overview(summary: Summary) -> Table:
    headings = [
        f"{'' if place else measure}\n{domain}"
        for measure in ("retention", "lost", "gained")
        for place, domain in enumerate(summary.domains)
    ]
    table = titled("Retention (mean over levels), %; facts lost and gained", "variant", *headings)
    for variant in summary.variants:
        results = variant.domains
        table.add_row(
            _named(variant),
            *(_limited(one.retention.score, _uncertain(summary, variant, one)) for one in results),
            *(f"{one.outcomes.lost:,}" for one in results),
            *(f"{one.outcomes.gained:,}" for one in results),
        )
    return table


def _named(variant: VariantResult, room: int = 18) -> str:
    """Return a variant's name in lines of so many characters: name, size, options."""
    name, *options = label(variant).split(" (", 1)
    lines = [name] if len(name) <= room else name.split(" ", 1)
    return "\n".join([*lines, *(cut(f"({one}", room) for one in options)])


def _uncertain(summary: Summary, variant: VariantResult, one: DomainResult) -> Bounds | None:
    """Return the interval of a score; the base's is 100 % by definition."""
    return None if variant == summary.base else one.score_interval


def _limited(fraction: float | None, bounds: Bounds | None) -> str:
    brackets = "" if bounds is None else f"{FIXED}{bracket(bounds.low, bounds.high)}"
    return f"{points(fraction)}{brackets}"


def _changes(summary: Summary, domain: str) -> Table:
    table = titled(
        f"Accuracy {DOMAIN_NAMES[domain]}, tuned minus base, percentage points",
        "facts", "n", "difference", "lost", "gained", "p", "p\nHolm", "p\nMcNemar", "seen",
    )  # fmt: skip
    for row in evidence.differences(summary, domain):
        value = signed(row.value)
        lost, gained = (MISSING if one is None else f"{one:,}" for one in (row.lost, row.gained))
        ps = [MISSING if p is None else p_value(p) for p in (row.p, row.p_holm, row.p_mcnemar)]
        table.add_row(
            SHORT.get(row.name, row.name),
            f"{row.n:,}",
            value if row.bounds is None else f"{value}{FIXED}{signed_bracket(row.bounds, 0)}",
            *(lost, gained, *ps),
            MISSING if row.smallest is None else points(row.smallest),
            style="dim" if row.plain else None,
        )
    return table


def _levels(summary: Summary, domain: str) -> Table:
    base = summary.base.domain(domain)
    counts = {one.level: one.n for one in base.levels} if base else {}
    headings = [f"{level}\nn={counts.get(level, 0):,}" for level in LEVELS]
    title = f"Accuracy by mastery level {DOMAIN_NAMES[domain]}, %"
    table = titled(title, "variant", *headings, "mean")
    for variant in at_a_glance(summary):
        result = variant.domain(domain)
        found = {one.level: one for one in result.levels} if result else {}
        cells = [stacked(one.accuracy, one) if (one := found.get(level)) else MISSING
                 for level in LEVELS]  # fmt: skip
        mean = stacked(result.macro, result.macro_interval) if result else MISSING
        table.add_row(_named(variant, 15), *cells, mean)
    return table


def _relations(summary: Summary) -> Table:
    table = titled("Accuracy by relation, %; what became of its facts; the majority answer, %")
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
            *(stacked(two.right / one.n, wilson(two.right, one.n)) for two in (base, tuned)),
            *(f"{number:,}" for number in (tuned.kept, tuned.lost, tuned.gained)),
            points(majority.get(one.relation)),
        )
    return table


def _rests_on(summary: Summary) -> str:
    known = ", ".join(
        f"{one.retention.known:,} {DOMAIN_NAMES[one.domain]}" for one in summary.base.domains
    )
    said = [
        f"Retention rests on the facts of level 1 to 4 that the base answers right: {known}.",
        *([BRACKETS] if has_intervals(summary) else []),
        *([PLAIN] if summary.pairs else []),
    ]
    return " ".join(said)
