"""What the charts of the page draw: plain rows, in percent, that its script hands to the library.

The same rows fill the tables beside the charts, so that the page says all without its script.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from sftbench.analysis.intervals import wilson
from sftbench.analysis.summary import (
    DomainResult,
    LevelRetention,
    RelationBaseline,
    RelationResult,
    Summary,
    VariantResult,
)
from sftbench.report.evidence import forgotten
from sftbench.report.restores import bounds_of, criteria_curve, restore_curve, score_of
from sftbench.report.rule_names import papers_alone, series_of
from sftbench.report.words import at_a_glance, label

SCORED_LEVELS = (1, 2, 3, 4)
TASKS_CHARTED = 6
"""Figures of tasks that are drawn; the table holds all."""


class LevelKept(NamedTuple):
    """Of the facts of a level that the base answers right, those that a variant still does.

    `share` and its 95 % Wilson interval are in percent, None where the base answers none right.
    """

    level: int
    known: int
    kept: int
    share: float | None
    low: float | None
    high: float | None


class LevelOutcomes(NamedTuple):
    """What became of the facts of a level: counts. Lost and kept make up what the base knew."""

    level: int
    lost: int
    kept: int
    gained: int
    wrong: int

    @property
    def n(self) -> int:
        """All facts of the level."""
        return self.lost + self.kept + self.gained + self.wrong


class ForgottenBar(NamedTuple):
    """What a variant, or noise of the fine-tune's size, forgot: percent.

    Attributes:
        kind: "tuned", "restored" or "noise".
        draws: of noise, what each draw forgot.
    """

    name: str
    kind: str
    value: float
    low: float | None
    high: float | None
    draws: tuple[float, ...]


class RelationPoint(NamedTuple):
    """Accuracy of base and tuned model in one relation, and what needs no knowledge: percent."""

    relation: str
    n: int
    base: float
    tuned: float
    majority: float | None
    echo: float | None


class TaskPoint(NamedTuple):
    """A variant's figure in a task against its retention (percent) in each domain.

    `restored` is the percentage of the paper's way, None for others; `series` what restores that
    differ in their size alone have in common, "" for base and tuned.
    """

    name: str
    restored: float | None
    value: float
    stderr: float | None
    retention: dict[str, float]
    series: str = ""


def level_kept(result: DomainResult) -> list[LevelKept]:
    """Return retention by level, of the levels that the score is made of."""
    return [_kept(one) for one in result.retention.levels if one.level in SCORED_LEVELS]


def _kept(one: LevelRetention) -> LevelKept:
    if not one.known:
        return LevelKept(one.level, 0, 0, None, None, None)
    # Files of earlier versions hold no bounds.
    found = wilson(one.kept, one.known)
    low = found.low if one.low is None else one.low
    high = found.high if one.high is None else one.high
    return LevelKept(
        one.level, one.known, one.kept, 100 * one.kept / one.known, 100 * low, 100 * high
    )


def level_outcomes(result: DomainResult) -> list[LevelOutcomes]:
    """Return what became of the facts of each level that has any, the best known first."""
    every = [
        LevelOutcomes(
            one.level, one.known - one.kept, one.kept, one.gained, one.unknown - one.gained
        )
        for one in result.retention.levels
    ]
    return sorted((one for one in every if one.n), key=lambda one: -one.level)


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def forgotten_bars(summary: Summary, domain: str) -> list[ForgottenBar]:
    """Return what each variant of `at_a_glance` and noise forgot in a domain; [] without noise."""
    left_out = {label(one) for one in summary.variants} - {
        label(one) for one in at_a_glance(summary)
    }
    rows = [row for row in forgotten(summary, domain) if row.name not in left_out]
    draws = tuple(100 * row.value for row in rows if row.kind == "draw")
    return [
        ForgottenBar(
            row.name,
            row.kind,
            100 * row.value,
            *bounds_of(row.bounds),
            draws if row.kind == "noise" else (),
        )
        for row in rows
        if row.kind != "draw"
    ]


def relation_points(summary: Summary, domain: str) -> list[RelationPoint]:
    """Return the relations of a domain, the largest fall first."""
    baselines = {one.relation: one for one in summary.baselines}
    points = [
        _relation_point(one, baselines.get(one.relation))
        for one in summary.relations
        if one.domain == domain
    ]
    return sorted(points, key=lambda one: (one.tuned - one.base, one.relation))


def _relation_point(one: RelationResult, baseline: RelationBaseline | None) -> RelationPoint:
    base, tuned = one.variants[0], one.variants[1]
    return RelationPoint(
        one.relation,
        one.n,
        100 * base.right / one.n,
        100 * tuned.right / one.n,
        _percent(baseline.majority if baseline else None),
        _percent(baseline.echo if baseline else None),
    )


def task_names(summary: Summary) -> list[tuple[str, str]]:
    """Return the tasks and metrics that were run, in the order of the tuned model's."""
    return [(one.task, one.metric) for one in summary.tuned.tasks]


def task_points(summary: Summary, task: str, metric: str) -> list[TaskPoint]:
    """Return every variant that has a figure of this task, with its retention per domain."""
    return [
        TaskPoint(
            label(variant),
            variant.percent,
            one.value,
            one.stderr,
            _retentions(variant),
            series_of(variant),
        )
        for variant in summary.variants
        for one in variant.tasks
        if (one.task, one.metric) == (task, metric)
    ]


def _retentions(variant: VariantResult) -> dict[str, float]:
    return {
        one.domain: 100 * one.retention.score
        for one in variant.domains
        if one.retention.score is not None
    }


def chart_data(summary: Summary) -> dict[str, Any]:
    """Return what the page's script draws, ready for JSON; keys are those of data-chart."""
    results = {one.domain: one for one in summary.tuned.domains}
    papers = papers_alone(summary)
    return {
        "levels": {name: _plain(level_kept(one)) for name, one in results.items()},
        "outcomes": {name: _plain(level_outcomes(one)) for name, one in results.items()},
        "restore": {name: _plain(restore_curve(summary, name)) for name in results if papers},
        "criteria": {name: _plain(criteria_curve(summary, name)) for name in results if not papers},
        "relations": {name: _plain(relation_points(summary, name)) for name in results},
        "forgetting": {name: _plain(forgotten_bars(summary, name)) for name in results},
        "scores": {
            name: score._asdict() if (score := score_of(one)) else None
            for name, one in results.items()
        },
        "tasks": {
            f"{task} {metric}": _plain(task_points(summary, task, metric))
            for task, metric in task_names(summary)[:TASKS_CHARTED]
        },
    }


def _plain(rows: Sequence[_Row]) -> list[dict[str, Any]]:
    return [row._asdict() for row in rows]


class _Row(Protocol):
    """Any of the named tuples above."""

    def _asdict(self) -> dict[str, Any]: ...
