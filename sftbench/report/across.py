"""Terminal tables of what is no single comparison: a pair, several runs, mastery measured again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sftbench.analysis.evidence import (
    EstimateRecord,
    MasteryChangeRecord,
    PairDomain,
    PairResult,
    RateRecord,
    RunsRecord,
    TestedRecord,
)
from sftbench.analysis.intervals import wilson
from sftbench.analysis.summary import DOMAIN_NAMES
from sftbench.report import words
from sftbench.report.evidence import bounds_of, moved
from sftbench.report.tables import stacked, titled

if TYPE_CHECKING:
    from rich.table import Table


def pair_tables(pair: PairResult) -> Iterator[Table]:
    """Yield a table per domain: the second variant minus the first, in percentage points."""
    for one in pair.domains:
        table = titled(
            f"{DOMAIN_NAMES[one.domain].capitalize()}: accuracy in %, second minus first in "
            "percentage points",
            "", "n", "1st, %", "2nd, %", "lost", "gained", "difference", "p\nHolm", "seen",
        )  # fmt: skip
        for tested in (one.facts, *one.levels):
            table.add_row(*_tested(tested))
        _means(table, one)
        yield table


def _tested(one: TestedRecord) -> list[str]:
    return [
        "all facts" if one.level is None else f"level {one.level}",
        f"{one.n:,}",
        *(
            stacked(right / one.n, wilson(right, one.n))
            for right in (one.kept + one.lost, one.kept + one.gained)
        ),
        f"{one.lost:,}",
        f"{one.gained:,}",
        _difference(one.difference),
        words.p_value(one.p) + ("" if one.level is None else f"\n{words.p_value(one.p_holm)}"),
        words.points(one.smallest),
    ]


def _means(table: Table, one: PairDomain) -> None:
    figures = [("mean", one.macro, one.macro_smallest)]
    if one.retention is not None:
        figures.append(("retention", one.retention, None))
    for name, found, smallest in figures:
        seen = words.points(smallest) if smallest is not None else ""
        table.add_row(name, f"{found.n:,}", "", "", "", "", _difference(found), "", seen)


def _difference(found: EstimateRecord) -> str:
    return f"{words.signed(found.value)}\n{words.signed_bracket(found, 0)}"


PAIR_LEGEND = (
    "Brackets: 95 % intervals; those of differences with facts of one answer hanging together, "
    "those of shares Wilson's, as if facts were independent. p: exact, answers of whole "
    "clusters exchanged; Holm: over the levels. Seen: the smallest true difference that so many "
    "facts show with 80 % probability. Mean: over levels, each alike; retention: of the facts of "
    "level 1 to 4 that the base answers right."
)


def runs_table(title: str, rows: list[tuple[str, RunsRecord, bool]]) -> Table:
    """Return a table of figures over several runs.

    Args:
        title: what runs they are.
        rows: a name, the figure, and whether it is a difference (percentage points).
    """
    table = titled(title, "%", "mean", "each run", "between", "within", "these facts", "n")
    for name, found, is_difference in rows:
        shown = words.signed if is_difference else words.points
        brackets = _signed_bracket if is_difference else _bracket
        table.add_row(
            name,
            f"{shown(found.value)} {brackets(found)}",
            " ".join(shown(run) for run in found.runs),
            words.points(found.between),
            words.points(found.within),
            words.MISSING if found.these_facts is None else brackets(found.these_facts),
            f"{found.n:,}",
        )
    return table


RUNS_LEGEND = (
    "Brackets: 95 % intervals. Mean: for further seeds and further facts; these facts: for further "
    "seeds on these very facts. Between: standard deviation between runs; within: standard error "
    "of one run that comes of the choice of facts."
)


def _bracket(bounds: words.Bounds) -> str:
    return words.bracket(bounds.low, bounds.high)


def _signed_bracket(bounds: words.Bounds) -> str:
    return words.signed_bracket(bounds, 0)


def mastery_table(found: MasteryChangeRecord) -> Table:
    """Return mastery by level: levelled, measured again, and after the fine-tune if there is one.

    All in percent and percentage points.
    """
    with_tuned = found.moved is not None
    more = ("after", "change", "naive") if with_tuned else ()
    table = titled(
        "Mean mastery rate by level of the base, %",
        "", "n", "levelled", "again", "by chance", *more,
    )  # fmt: skip
    for one in found.levels:
        cells = [
            "all facts" if one.level is None else f"level {one.level}",
            f"{one.n:,.1f}".removesuffix(".0"),
            words.points(one.levelled),
            words.points(one.before),
            words.MISSING if one.chance is None else _rate(one.chance),
        ]
        if one.change is not None and one.naive is not None:
            cells += [words.points(one.after), _rate(one.change), words.signed(one.naive)]
        table.add_row(*cells)
    return table


def _rate(rate: RateRecord) -> str:
    bounds = bounds_of(rate)
    shown = words.signed(rate.value)
    return shown if bounds is None else f"{shown} {words.signed_bracket(bounds)}"


def mastery_sentence(found: MasteryChangeRecord) -> str:
    """Return how many facts change their level by chance, and after the fine-tune."""
    first, second = found.draws
    halves = f"{first:,}" if first == second else f"{first:,} and {second:,}"
    text = (
        f"Levelled by half of the base's completions ({halves} of each fact) and measured in the "
        f"other half, both ways. By chance alone {moved(found.moved_by_chance, found.facts)} "
        "change their level"
    )
    if found.moved is not None:
        text += f"; from base to tuned model {moved(found.moved, found.facts)} do"
    return f"{text}."
