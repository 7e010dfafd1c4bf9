"""The sentences and number formats that every way of showing a comparison shares."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import PurePath
from typing import NamedTuple, Protocol

from sftbench.analysis.evidence import AgainstRecord, ForgettingRecord, PairDomain
from sftbench.analysis.seeds import FEW_RUNS
from sftbench.analysis.summary import DOMAIN_NAMES, DomainResult, Summary, VariantResult
from sftbench.report.rule_names import (
    Rule,
    bracketed,
    chosen_of,
    papers_alone,
    restores_tried,
    rule_of,
)

NARROW = "\N{NARROW NO-BREAK SPACE}"
FIXED = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
MISSING = "\N{EN DASH}"
SHOWN_CHARACTERS = 120
"""A longer text is cut on the page."""
TITLE_CHARACTERS = 2000
"""What the tooltip of a cut text holds at most."""
BRACKETS = f"Brackets hold 95{NARROW}% intervals."


class Bounds(Protocol):
    """Whatever has a lower and an upper bound: fractions."""

    @property
    def low(self) -> float:
        """Lower bound."""
        ...

    @property
    def high(self) -> float:
        """Upper bound."""
        ...


class Clipped(NamedTuple):
    """A text as shown, and the whole of it (as far as a tooltip goes) where it was cut."""

    shown: str
    whole: str | None


def clip(text: str) -> Clipped:
    """Return a text that fits a table: trimmed, line breaks as spaces, cut with an ellipsis."""
    line = " ".join(text.split())
    if len(line) <= SHOWN_CHARACTERS:
        return Clipped(line, None)
    whole = line if len(line) <= TITLE_CHARACTERS else line[:TITLE_CHARACTERS].rstrip() + "…"
    return Clipped(line[:SHOWN_CHARACTERS].rstrip() + "…", whole)


def cut(text: str, most: int) -> str:
    """Return a text of so many characters at most, the last an ellipsis where it was longer."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def percent(fraction: float | None, decimals: int = 0) -> str:
    """Return a fraction as "71 %" (narrow space), or a dash for None."""
    return MISSING if fraction is None else f"{100 * fraction:.{decimals}f}{NARROW}%"


def points(fraction: float | None) -> str:
    """Return a fraction as a bare percentage with one decimal, or a dash for None."""
    return MISSING if fraction is None else f"{100 * fraction:.1f}"


def bracket(low: float, high: float, decimals: int = 0) -> str:
    """Return an interval of fractions as percentages: "[67, 92]", which no line breaks."""
    return _bracket(f"{100 * low:.{decimals}f}", f"{100 * high:.{decimals}f}")


def _bracket(low: str, high: str) -> str:
    return f"[{low},{FIXED}{high}]"


def share(fraction: float | None, bounds: Bounds | None, decimals: int = 0) -> str:
    """Return a fraction as "83 % [67, 92]", without brackets where there is no interval."""
    brackets = None if bounds is None else bracket(bounds.low, bounds.high, decimals)
    return _with(percent(fraction, decimals), brackets)


def _with(text: str, brackets: str | None) -> str:
    return f"{text}{FIXED}{brackets}" if brackets else text


def signed(fraction: float, decimals: int = 1) -> str:
    """Return a difference of fractions in percentage points: "+1.2", with a real minus sign.

    What would round to 0 and is not 0 gets a decimal more, so that its sign is seen.
    """
    for places in (decimals, decimals + 1):
        shown = f"{100 * fraction:+.{places}f}"
        if float(shown):
            return shown.replace("-", MINUS)
    return f"{0:.{decimals}f}"


def signed_bracket(bounds: Bounds, decimals: int = 1) -> str:
    """Return the interval of a difference in percentage points: "[−6.3, +8.1]"."""
    return _bracket(signed(bounds.low, decimals), signed(bounds.high, decimals))


def difference(fraction: float, bounds: Bounds) -> str:
    """Return a difference of fractions as "+1 point [−6, +8]"."""
    shown = signed(fraction, 0)
    unit = "point" if shown in ("+1", f"{MINUS}1") else "points"
    return _with(f"{shown}{FIXED}{unit}", signed_bracket(bounds, 0))


def p_value(p: float) -> str:
    """Return a p value with three decimals where it is small, else two."""
    if p < 0.001:
        return f"<{NARROW}0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def figure(value: float) -> str:
    """Return a task's figure: three decimals below 10, one above, with a minus sign."""
    return f"{value:.{3 if abs(value) < 10 else 1}f}".replace("-", MINUS)


def nats(logprob: float) -> str:
    """Return a log-probability with one decimal and a minus sign, never "-0.0"."""
    return f"{logprob:.1f}".replace("-0.0", "0.0").replace("-", MINUS)


def count(number: int, noun: str) -> str:
    """Return "1 fact" or "1,234 facts"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def ratio(part: int, whole: int) -> str:
    """Return "45 of 98" or a dash where the whole is empty."""
    return f"{part:,} of {whole:,}" if whole else MISSING


def amount(restored_percent: float) -> str:
    """Return a restored percentage as "5 %" (narrow space)."""
    return f"{restored_percent:g}{NARROW}%"


def label(variant: VariantResult) -> str:
    """Return a variant's name in a picture or table.

    It is "base", "tuned", "restored 5 %" for the paper's way, or the rule of another restore:
    "absolute 20 % norm", "interpolation 40 % (mlp)".
    """
    rule = rule_of(variant)
    if rule is not None:
        return rule_label(rule)
    return variant.name if variant.percent is None else f"restored {amount(variant.percent)}"


def rule_label(rule: Rule, sizes: Sequence[str] = ()) -> str:
    """Return a rule as a name; with `sizes`, one name for rules that differ in them alone."""
    shown = sizes or ([] if rule.size is None else [rule.size])
    size = f" {series(shown)}{NARROW}%" if shown else ""
    name = "restored" if rule.is_papers else rule.criterion
    return f"{name}{size}{f' {rule.of}' if rule.of else ''}{bracketed(rule.options)}"


def short_name(name: str) -> str:
    """Return the last part of a model reference, which may be a path."""
    return PurePath(name).name or name


def listed(parts: Sequence[str], *, last: str = "and") -> str:
    """Return "a", "a and b" or "a, b and c"."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} {last} {parts[-1]}"


def series(values: Sequence[str]) -> str:
    """Return figures that belong together as "1 / 5 / 20"; lines may break after a slash."""
    return f"{FIXED}/ ".join(values)


def percents(fractions: Sequence[float | None]) -> str:
    """Return "87 / 89 / 95 %" (narrow space), with a dash for None."""
    bare = [MISSING if one is None else f"{100 * one:.0f}" for one in fractions]
    return f"{series(bare)}{NARROW}%"


def has_intervals(summary: Summary) -> bool:
    """Say whether means and differences have intervals: files of earlier versions hold none."""
    return any(one.macro_interval is not None for one in summary.tuned.domains)


MOST_NAMED = 9
"""Restores that a sentence names one by one; of more it says the range."""


def at_a_glance(summary: Summary) -> list[VariantResult]:
    """Return the variants of the short tables: of many restores the chosen one alone."""
    if len(summary.restored) <= MOST_NAMED:
        return list(summary.variants)
    kept = [summary.base.name, summary.tuned.name]
    chosen = chosen_of(summary)
    if chosen is not None:
        kept.append(chosen.name)
    return [one for one in summary.variants if one.name in kept or one not in summary.restored]


def headline(summary: Summary) -> str:
    """Return the result in one or two sentences: the verdict, and what restoring made of it."""
    return " ".join(one for one in (verdict(summary), restore_sentence(summary)) if one)


def verdict(summary: Summary) -> str:
    """Return what the fine-tune kept, in words."""
    if all(one.retention.score is None for one in summary.tuned.domains):
        return (
            "The base answers none of these facts of level 1 to 4 right with this prompt, "
            "so there is no knowledge to retain."
        )
    scored = [one for one in summary.tuned.domains if one.retention.score is not None]
    kept = [_kept(one, first=not place) for place, one in enumerate(scored)]
    unscored = [
        "None of the facts of level 1 to 4 is answered right by the base "
        f"{DOMAIN_NAMES[one.domain]}."
        for one in summary.tuned.domains
        if one.retention.score is None
    ]
    return " ".join([f"The fine-tune kept {listed(kept)}.", *unscored])


def _kept(result: DomainResult, *, first: bool) -> str:
    """Return the facts kept, their share, and the score; the first of a sentence names them."""
    kept, known = result.retention.kept, result.retention.known
    facts = f"of the {count(known, 'fact')} that the base knew" if first else f"of {known:,}"
    plain = share(kept / known, result.kept_interval)
    mean = share(result.retention.score, result.score_interval)
    named = f"{'mean over levels ' if first else ''}{mean}"
    return f"{kept:,} {facts} {DOMAIN_NAMES[result.domain]} ({plain}; {named})"


def restore_sentence(summary: Summary) -> str:
    """Return the retention score of every restored variant, "" where there is none.

    To name the best would be to pick it on the test. The domains are those that have a score:
    the base decides that, so all variants share them.
    """
    scored = [one.domain for one in summary.tuned.domains if one.retention.score is not None]
    if not summary.restored or not scored:
        return no_repair_sentence(summary)
    if papers_alone(summary) and not summary.repair:
        return (
            f"Restoring the {_amounts(summary)} most changed parameters: "
            f"retention (mean over levels) {_scores_of(summary.restored, scored)}."
        )
    chosen = chosen_of(summary)
    others = [one for one in summary.restored if chosen is None or one.name != chosen.name]
    if len(others) > MOST_NAMED:
        return _many_restores(summary, others, scored)
    parts = [
        f"{group_label(those)}{' (chosen on facts that are not scored)' if is_chosen else ''}: "
        f"{_scores_of(those, scored)}"
        for is_chosen, those in _groups(summary.restored, chosen)
    ]
    said = f"Retention (mean over levels), {'; '.join(parts)}."
    return said if chosen else f"{said} {no_repair_sentence(summary)}".strip()


def _many_restores(summary: Summary, others: Sequence[VariantResult], scored: Sequence[str]) -> str:
    """Return the range of the scores, and the chosen one's; each stands in tables and charts."""
    chosen = chosen_of(summary)
    of_chosen = (
        f" The one chosen on facts that are not scored, {group_label([chosen])}: "
        f"{_scores_of([chosen], scored)}."
        if chosen
        else ""
    )
    ranges = []
    for domain in scored:
        found = [result.retention.score for one in others if (result := one.domain(domain))]
        scores = [score for score in found if score is not None]
        ranges.append(f"{percent(min(scores))} to {percent(max(scores))} {DOMAIN_NAMES[domain]}")
    said = f"{len(others)} restores: retention (mean over levels) {', '.join(ranges)}.{of_chosen}"
    return said if chosen else f"{said} {no_repair_sentence(summary)}".strip()


def no_repair_sentence(summary: Summary) -> str:
    """Return that no repair is recommended, "" where none was looked for or one was found."""
    repair = summary.repair
    if repair is None or repair.chosen is not None:
        return ""
    return (
        f"No repair is recommended: on {count(repair.facts, 'validation fact')}, which are not "
        f"scored, none of {count(restores_tried(repair), 'restore')} is told from leaving the "
        "model as it is."
    )


def _groups(
    restored: Sequence[VariantResult], chosen: VariantResult | None
) -> list[tuple[bool, list[VariantResult]]]:
    """Return neighbours that differ in their size alone, and whether each is the chosen one."""

    def key(one: VariantResult) -> tuple[bool, str, str]:
        rule = rule_of(one)
        kind = ("", one.name) if rule is None else (rule.series, rule.of)
        return (chosen is not None and one.name == chosen.name, *kind)

    return [(found[0], list(those)) for found, those in groupby(restored, key)]


def group_label(those: Sequence[VariantResult]) -> str:
    """Return one name for variants that differ in their size alone: "absolute 20 / 40 % norm"."""
    rules = [rule for one in those if (rule := rule_of(one))]
    if not rules:
        return listed([label(one) for one in those])
    return rule_label(rules[0], [rule.size for rule in rules if rule.size is not None])


def _scores_of(variants: Sequence[VariantResult], domains: Sequence[str]) -> str:
    return ", ".join(f"{_scores(variants, one)} {DOMAIN_NAMES[one]}" for one in domains)


def _scores(variants: Sequence[VariantResult], domain: str) -> str:
    """Return the scores of restored variants: "75 / 80 %", or each with its interval."""
    results = [variant.domain(domain) for variant in variants]
    scores = [(one.retention.score, one.score_interval) if one else (None, None) for one in results]
    if any(bounds for _, bounds in scores):
        return series([share(*one) for one in scores])
    return percents([score for score, _ in scores])


def _amounts(summary: Summary) -> str:
    return f"{series([f'{one.percent or 0:g}' for one in summary.restored])}{NARROW}%"


def accuracy_sentence(summary: Summary) -> str:
    """Return the accuracies before and after, and the facts lost and gained on the way.

    The lost facts of level 0 are named: what the base knew, in the verdict, is level 1 to 4.
    """
    pair = summary.pair(summary.base.name, summary.tuned.name)
    changes = [
        f"{percent(before.macro)} to {percent(after.macro)} {DOMAIN_NAMES[before.domain]}"
        f"{_change(pair.domain(before.domain) if pair else None)}"
        for before, after in zip(summary.base.domains, summary.tuned.domains, strict=True)
    ]
    outcomes = [one.outcomes for one in summary.tuned.domains]
    lost, gained = sum(one.lost for one in outcomes), sum(one.gained for one in outcomes)
    unscored = sum(
        level.known - level.kept
        for one in summary.tuned.domains
        for level in one.retention.levels
        if level.level == 0
    )
    return (
        f"Accuracy, as the mean over mastery levels, went from {listed(changes)}: "
        f"{count(lost, 'fact')} lost{f' ({unscored:,} of level 0)' if unscored else ''}, "
        f"{gained:,} gained."
    )


def _change(pair: PairDomain | None) -> str:
    return "" if pair is None else f" ({difference(pair.macro.value, pair.macro)})"


def noise_sentence(summary: Summary) -> str:
    """Return what the fine-tune forgot against random changes of its size, "" without any."""
    if summary.noise is None or not summary.noise.forgetting:
        return ""
    said = "; ".join(
        _forgot(one, first=not place) for place, one in enumerate(summary.noise.forgetting)
    )
    return f"{said[:1].upper()}{said[1:]}."


def _forgot(one: ForgettingRecord, *, first: bool) -> str:
    """Return the facts forgotten, each known fact alike."""
    found = one.alike
    forgotten = f"{one.lost:,} of {one.known:,}"
    if first:
        forgotten = (
            f"the fine-tune forgot {one.lost:,} of the {count(one.known, 'fact')} that the base "
            "knew"
        )
    same = "random changes of the same size forget" if first else "such changes forget"
    shown = share(found.tuned.value, found.tuned)
    return f"{DOMAIN_NAMES[one.domain]} {forgotten} ({shown}), {_against_noise(found, same)}"


def _against_noise(one: AgainstRecord, same: str) -> str:
    noise = share(one.noise.value, one.noise)
    if few_draws(one):
        number = len(one.noise.runs)
        changes = f"{number} random changes" if number > 1 else "one random change"
        verb = "forget" if number > 1 else "forgets"
        return f"where {noise} is what {changes} of that size {verb}: too few to judge by"
    draws = count(len(one.noise.runs), "draw").replace(" ", FIXED)
    if one.excess.low <= 0 <= one.excess.high:
        return (
            f"which noise of its size may do as well: {same} {noise} "
            f"({draws}; difference {difference(one.excess.value, one.excess)})"
        )
    low, times, high = one.times.low, one.times.value, one.times.high
    if times is not None and high is not None:
        return f"{times:.1f} times {times_bracket(low, high)} what {same} ({noise}, {draws})"
    if low > 1:
        return f"at least {low:.1f} times what {same} ({noise}, {draws})"
    return f"{'more' if one.excess.low > 0 else 'less'} than {same} ({noise}, {draws})"


def few_draws(one: AgainstRecord | ForgettingRecord) -> bool:
    """Say whether there are too few random changes to know how such changes vary."""
    return len(one.noise.runs) < FEW_RUNS


def times_bracket(low: float, high: float | None) -> str:
    """Return the interval of a ratio as "[1.4, 9.0]", with ∞ for no upper bound."""
    return _bracket(f"{low:.1f}", "∞" if high is None else f"{high:.1f}")
