"""What restores did: curves, what each took back, and how one was chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sftbench.analysis.evidence import EstimateRecord, PairDomain
from sftbench.analysis.intervals import Interval
from sftbench.analysis.summary import (
    DOMAIN_NAMES,
    DomainResult,
    RepairCandidate,
    RepairChoice,
    Summary,
    TaskResult,
    VariantResult,
)
from sftbench.report import words
from sftbench.report.rule_names import (
    NORM_IMPLIED,
    chosen_of,
    parse,
    restores_tried,
    rule_of,
    series_of,
)


class Score(NamedTuple):
    """A retention score with its 95 % interval, percent; bounds are None where it has none."""

    value: float
    low: float | None
    high: float | None


class RestorePoint(NamedTuple):
    """A variant on the restore curve.

    Attributes:
        percent: restored share of the ranked scalars; 0 is the tuned model. 100 is not the base:
            embeddings, output head and norms are not ranked.
        name: as in the tables.
        retention: percent; None where there is no score.
        preserved: of the facts that the tuned model gained, the share still right, percent;
            None where it gained none.
        low: lower bound of retention's 95 % interval; None where there is no interval.
        high: upper bound, likewise.
    """

    percent: float
    name: str
    retention: float | None
    preserved: float | None
    low: float | None = None
    high: float | None = None


class CriterionPoint(NamedTuple):
    """A variant where criteria are compared; what is not here is as in `RestorePoint`.

    Attributes:
        series: what restores that differ in their size alone have in common; "" for the tuned
            model, from which every series starts.
        removed: L2 norm of what is taken back over that of the update, percent.
    """

    series: str
    name: str
    removed: float
    retention: float | None
    preserved: float | None
    low: float | None
    high: float | None


class Taken(NamedTuple):
    """What a restore takes of the update, as fractions; None where that is not recorded.

    Attributes:
        removed: L2 norm of what is taken back over that of the update.
        share: of the scalars that take part, the share that is restored.
        change: share of the summed relative change, without scalars that are zero in the base;
            None too for criteria that move all scalars.
        null: the same in the null model, where update and weights are independent.
    """

    removed: float | None = None
    share: float | None = None
    change: float | None = None
    null: float | None = None


class Tried(NamedTuple):
    """A restore that was tried on the validation facts; rule "" is the tuned model as it is."""

    name: str
    rule: str
    right: int
    removed: float
    tasks: tuple[TaskResult, ...]
    worse_in_task: bool
    verdict: str


def restore_curve(summary: Summary, domain: str) -> list[RestorePoint]:
    """Return the points of the restore curve in a domain: tuned and what the paper's way did."""
    return [
        RestorePoint(variant.percent or 0.0, *_figures(variant, result, summary))
        for variant, result in _results(summary, domain)
        if variant == summary.tuned or variant.percent is not None
    ]


def criteria_curve(summary: Summary, domain: str) -> list[CriterionPoint]:
    """Return the tuned model and every restore whose removed norm is recorded."""
    return [
        CriterionPoint(series_of(variant), name, 100 * removed, *figures)
        for variant, result in _results(summary, domain)
        if (removed := 0.0 if variant == summary.tuned else taken(variant).removed) is not None
        for name, *figures in [_figures(variant, result, summary)]
    ]


def _results(summary: Summary, domain: str) -> Iterator[tuple[VariantResult, DomainResult]]:
    """Yield the tuned model and what was restored from it, with the results in a domain."""
    for variant in summary.variants[1:]:
        result = variant.domain(domain)
        if result is not None and (variant == summary.tuned or result.repair is not None):
            yield variant, result


def _figures(
    variant: VariantResult, result: DomainResult, summary: Summary
) -> tuple[str, float | None, float | None, float | None, float | None]:
    """Return name, retention, what is preserved of the gained, and retention's bounds."""
    score = score_of(result)
    found = (None, None, None) if score is None else score
    return (words.label(variant), found[0], _preserved(variant, result, summary), *found[1:])


def _preserved(variant: VariantResult, result: DomainResult, summary: Summary) -> float | None:
    if variant == summary.tuned:
        return 100.0 if result.outcomes.gained else None
    fixed = result.repair
    return 100 * fixed.preserved / fixed.gained if fixed and fixed.gained else None


def score_of(result: DomainResult) -> Score | None:
    """Return the retention score of a result in percent, None where there is none."""
    if result.retention.score is None:
        return None
    return Score(100 * result.retention.score, *bounds_of(result.score_interval))


def bounds_of(found: EstimateRecord | Interval | None) -> tuple[float | None, float | None]:
    """Return an interval's bounds in percent, None where there is no interval."""
    return (None, None) if found is None else (100 * found.low, 100 * found.high)


def taken(variant: VariantResult) -> Taken:
    """Return what a restored variant takes of the update."""
    record, rule = variant.restore or {}, rule_of(variant)
    moves_all = rule is not None and rule.criterion in NORM_IMPLIED
    return Taken(
        record.get("l2_removed"),
        record.get("share"),
        None if moves_all else record.get("change_share_without_zero_base"),
        (record.get("null") or {}).get("change"),
    )


def has_taken(summary: Summary) -> bool:
    """Say whether removed norms are recorded: files of earlier versions hold none."""
    return any(taken(one).removed is not None for one in summary.restored)


def regions_differ(summary: Summary) -> bool:
    """Say whether a restore is for part of the blocks, or for more than them."""
    return any(rule.region for one in summary.restored if (rule := rule_of(one)))


def tried(repair: RepairChoice) -> list[Tried]:
    """Return what was tried on the validation facts, the tuned model first."""
    return [_tried(repair, one) for one in repair.candidates]


def _tried(repair: RepairChoice, one: RepairCandidate) -> Tried:
    rule = parse(one.rule)
    is_chosen = one.rule == (repair.chosen or "")
    verdict = "chosen" if is_chosen else "most right" if one.rule == repair.best else ""
    name = "tuned" if rule is None else words.rule_label(rule)
    return Tried(name, one.rule, one.right, one.removed, one.tasks, one.worse_in_task, verdict)


def repair_sentence(summary: Summary) -> str:
    """Return what the chosen repair does on the scored facts, or that none is recommended.

    "" where none was looked for.
    """
    repair, chosen = summary.repair, chosen_of(summary)
    if repair is None:
        return ""
    if chosen is None:
        return words.no_repair_sentence(summary)
    lost, gained, healed, preserved = _repaired(chosen)
    healing = (
        f"brings back {healed:,} of {words.count(lost, 'lost fact')}"
        if lost
        else "has no lost fact to bring back"
    )
    keeping = f" and keeps {preserved:,} of {gained:,} gained" if gained else ""
    pair = summary.pair(summary.tuned.name, chosen.name)
    against = [
        f"{_retained(one, pair.domain(one.domain) if pair else None)}"
        for one in chosen.domains
        if one.retention.score is not None
    ]
    retention = f"; retention is {words.listed(against)}" if against else ""
    return (
        f"The repair chosen from {words.count(restores_tried(repair), 'restore')} on "
        f"{words.count(repair.facts, 'fact')} that are not scored, {words.label(chosen)}, "
        f"{healing}{keeping}{retention}."
    )


def _repaired(chosen: VariantResult) -> tuple[int, int, int, int]:
    found = [one.repair for one in chosen.domains if one.repair]
    return (
        sum(one.lost for one in found),
        sum(one.gained for one in found),
        sum(one.healed for one in found),
        sum(one.preserved for one in found),
    )


def _retained(result: DomainResult, pair: PairDomain | None) -> str:
    """Return "75 % [65, 85] in-domain (+4 points [−16, +24] against tuned, not told from 0)"."""
    shown = words.share(result.retention.score, result.score_interval)
    said = f"{shown} {DOMAIN_NAMES[result.domain]}"
    change = pair.retention if pair else None
    if change is None:
        return said
    unclear = ", not told from 0" if change.low <= 0 <= change.high else ""
    return f"{said} ({words.difference(change.value, change)} against tuned{unclear})"
