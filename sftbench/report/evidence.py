"""What chance could have done, from the summary's records to the rows and sentences shown."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import NamedTuple

from sftbench.analysis.evidence import (
    EstimateRecord,
    ForgettingRecord,
    PairDomain,
    RateRecord,
    TestedRecord,
)
from sftbench.analysis.intervals import Interval, wilson
from sftbench.analysis.summary import DOMAIN_NAMES, DomainResult, Summary
from sftbench.report import words

MEAN = "mean over levels"
PLAIN = "the paper's plain way"
"""The difference of two macro accuracies without an interval, as Ye et al. (2025) give it."""


class Forgotten(NamedTuple):
    """A row of what was forgotten: 1 minus the retention score, as fractions.

    Attributes:
        kind: "tuned", "restored", "noise" (mean over the draws) or "draw".
        bounds: its 95 % interval; None in files that have none.
        lost: known facts that are answered wrong; None for the mean over draws.
        clusters: different answers among the known facts; None where that is not recorded.
    """

    name: str
    kind: str
    value: float
    bounds: Interval | None
    lost: int | None
    known: int
    clusters: int | None


def forgotten(summary: Summary, domain: str) -> list[Forgotten]:
    """Return what each variant forgot in a domain, and what noise forgets; [] without noise."""
    record = summary.noise.domain(domain) if summary.noise else None
    if record is None:
        return []
    mean = record.noise
    draws = len(mean.runs)
    name = f"noise of its size (mean of {draws})" if draws > 1 else "noise of its size (1 draw)"
    noise = Forgotten(
        name, "noise", mean.value, Interval(mean.low, mean.high), None, mean.n, mean.clusters
    )
    return [*_variants(summary, domain), noise, *_draws(summary, domain, record)]


def _variants(summary: Summary, domain: str) -> Iterator[Forgotten]:
    for variant in summary.variants[1:]:
        result = variant.domain(domain)
        if result is None or result.retention.score is None:
            continue
        found, interval = result.retention, result.score_interval
        yield Forgotten(
            words.label(variant),
            "tuned" if variant == summary.tuned else "restored",
            1 - result.retention.score,
            _turned(interval),
            found.known - found.kept,
            found.known,
            interval.clusters if interval else None,
        )


def _draws(summary: Summary, domain: str, record: ForgettingRecord) -> Iterator[Forgotten]:
    results = [one.domain(domain) for one in summary.perturbed]
    bounds = [_turned(one.score_interval) if one else None for one in results]
    runs = zip_longest(record.noise.runs, record.lost_by_noise, bounds)
    for number, (run, lost, interval) in enumerate(runs, start=1):
        if run is not None:
            known, clusters = record.known, record.noise.clusters
            yield Forgotten(f"draw {number}", "draw", run, interval, lost, known, clusters)


def _turned(retained: EstimateRecord | None) -> Interval | None:
    """Return the interval of what is forgotten from that of what is retained."""
    return None if retained is None else Interval(1 - retained.high, 1 - retained.low)


def mean_sentence(summary: Summary) -> str:
    """Return the same against noise as the mean over levels, "" without noise.

    It is 1 minus the retention score, and at the mercy of levels with few known facts.
    """
    said = [
        f"{words.share(one.tuned.value, one.tuned)} {DOMAIN_NAMES[one.domain]} against "
        f"{words.share(one.noise.value, one.noise)} by noise"
        + ("" if words.few_draws(one) else f" ({words.difference(one.excess.value, one.excess)})")
        for one in (summary.noise.forgetting if summary.noise else ())
    ]
    return f"As the mean over levels it forgot {words.listed(said)}." if said else ""


def size_sentence(summary: Summary) -> str:
    """Return how large the random changes are against the update, "" where it is not recorded."""
    changes = summary.noise.changes if summary.noise else ()
    if not changes or not changes[0].update:
        return ""
    ratios = [round(100 * one.ratio, 1) for one in changes]
    low, high = (f"{edge:.1f}" for edge in (min(ratios), max(ratios)))
    shown = low if low == high else f"{low} to {high}"
    return (
        f"As {changes[0].dtype} holds them, their norm over all tensors is {shown}{words.NARROW}% "
        "of the update's."
    )


class Difference(NamedTuple):
    """A row of a paired difference; what a row does not have is None.

    Attributes:
        before, after: shares answered right, fractions.
        bounds: 95 % interval of the difference; None where it is given the paper's plain way.
        p: exact, whole clusters exchanged; p_holm: adjusted over the levels; p_mcnemar: exact, as
            if facts were independent.
        smallest: smallest true difference that would be seen; None if none would.
        plain: the row is the paper's plain way.
    """

    name: str
    n: int
    clusters: int
    before: float
    after: float
    value: float
    bounds: EstimateRecord | None
    lost: int | None = None
    gained: int | None = None
    p: float | None = None
    p_holm: float | None = None
    p_mcnemar: float | None = None
    smallest: float | None = None
    plain: bool = False


def differences(summary: Summary, domain: str) -> list[Difference]:
    """Return base against tuned model: all facts, each level, the mean, the paper's plain way."""
    pair = summary.pair(summary.base.name, summary.tuned.name)
    found = pair.domain(domain) if pair else None
    before, after = summary.base.domain(domain), summary.tuned.domain(domain)
    if found is None or before is None or after is None:
        return []
    tested = [_tested(one) for one in (found.facts, *found.levels)]
    return [*tested, *_means(found, before, after)]


def _tested(one: TestedRecord) -> Difference:
    return Difference(
        name="all facts" if one.level is None else f"level {one.level}",
        n=one.n,
        clusters=one.difference.clusters,
        before=(one.kept + one.lost) / one.n,
        after=(one.kept + one.gained) / one.n,
        value=one.difference.value,
        bounds=one.difference,
        lost=one.lost,
        gained=one.gained,
        p=one.p,
        p_holm=None if one.level is None else one.p_holm,
        p_mcnemar=one.p_mcnemar,
        smallest=one.smallest,
    )


def _means(found: PairDomain, before: DomainResult, after: DomainResult) -> list[Difference]:
    macro = found.macro
    mean = Difference(
        name=MEAN,
        n=macro.n,
        clusters=macro.clusters,
        before=before.macro,
        after=after.macro,
        value=macro.value,
        bounds=macro,
        smallest=found.macro_smallest,
    )
    plain = mean._replace(
        name=PLAIN, value=after.macro - before.macro, bounds=None, smallest=None, plain=True
    )
    return [mean, plain]


class Restoring(NamedTuple):
    """What a restore changed against the tuned model in a domain; retention None without one."""

    name: str
    domain: str
    retention: EstimateRecord | None
    macro: EstimateRecord


def restoring(summary: Summary) -> list[Restoring]:
    """Return the tuned model against each restored variant, domain by domain."""
    return [
        Restoring(words.label(variant), one.domain, one.retention, one.macro)
        for variant in summary.restored
        if (pair := summary.pair(summary.tuned.name, variant.name))
        for one in pair.domains
    ]


def flips_sentence(summary: Summary) -> str:
    """Return how many answers flipped when the base was asked again, "" where it was not."""
    found = summary.noise.flips if summary.noise else None
    if found is None:
        return ""
    bounds = found.interval
    share = (
        words.share(found.share, bounds, 1)
        if found.changed
        else f"at most {words.percent(bounds.high, 1)}"
    )
    worded = "none" if not found.worded else f"{found.worded:,}"
    return (
        f"{found.changed:,} of {words.count(found.n, 'answer')} flipped between right and wrong "
        f"when the base was asked again in batches of {found.batch:,} ({share}); "
        f"{worded} differed in wording."
    )


class Chance(NamedTuple):
    """A mastery level measured again: rates are fractions; `n` is a mean of two halvings."""

    name: str
    n: str
    levelled: float
    before: float
    value: float
    bounds: Interval | None


def bounds_of(rate: RateRecord) -> Interval | None:
    """Return the interval of a rate, or None where it has none."""
    if rate.low is None or rate.high is None:
        return None
    return Interval(rate.low, rate.high)


def chance(summary: Summary) -> list[Chance]:
    """Return the base's mastery levels against its other draws.

    There is none over all facts, where the halves change places.
    """
    found = summary.noise.mastery if summary.noise else None
    return [
        Chance(
            f"level {one.level}",
            f"{one.n:,.1f}".removesuffix(".0"),
            one.levelled,
            one.before,
            one.chance.value,
            bounds_of(one.chance),
        )
        for one in (found.levels if found else ())
        if one.chance is not None
    ]


def moved(share: float, facts: int) -> str:
    """Return how many facts stand in another level, as "12 of 100 facts (12 % [7, 20])".

    Args:
        share: of the facts, a fraction.
        facts: how many there are.
    """
    number = round(share * facts)
    shown = words.share(share, wilson(number, facts))
    return f"{number:,} of {words.count(facts, 'fact')} ({shown})"


def chance_sentence(summary: Summary) -> str:
    """Return how many facts stand in another level by chance, "" where that is not known."""
    found = summary.noise.mastery if summary.noise else None
    if found is None:
        return ""
    first, second = found.draws
    drawn = f"{first:,}" if first == second else f"{first:,} and {second:,}"
    return (
        f"{moved(found.moved_by_chance, found.facts)} stand in another level when "
        f"the base is measured again: the two halves of its draws, {drawn} completions each, "
        "are levelled apart."
    )
