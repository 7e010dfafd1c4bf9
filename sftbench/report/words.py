"""The sentences and number formats that every way of showing a comparison shares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import NamedTuple

from sftbench.analysis.summary import DOMAIN_NAMES, DomainResult, Summary, VariantResult

NARROW = "\N{NARROW NO-BREAK SPACE}"
FIXED = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
MISSING = "\N{EN DASH}"
SHOWN_CHARACTERS = 120
"""A longer text is cut on the page."""
TITLE_CHARACTERS = 2000
"""What the tooltip of a cut text holds at most."""


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


def percent(fraction: float | None, decimals: int = 0) -> str:
    """Return a fraction as "71 %" (narrow space), or a dash for None."""
    return MISSING if fraction is None else f"{100 * fraction:.{decimals}f}{NARROW}%"


def points(fraction: float | None) -> str:
    """Return a fraction as a bare percentage with one decimal, or a dash for None."""
    return MISSING if fraction is None else f"{100 * fraction:.1f}"


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
    """Return a variant's name in a picture or table: "base", "tuned", "restored 5 %"."""
    return variant.name if variant.percent is None else f"restored {amount(variant.percent)}"


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
    kept, known, score = result.retention.kept, result.retention.known, result.retention.score
    facts = f"of the {count(known, 'fact')} that the base knew" if first else f"of {known:,}"
    mean = f"{'mean over levels ' if first else ''}{percent(score)}"
    return f"{kept:,} {facts} {DOMAIN_NAMES[result.domain]} ({percent(kept / known)}; {mean})"


def restore_sentence(summary: Summary) -> str:
    """Return the retention score at every percentage, "" where there is none.

    To name the best would be to pick it on the test. The domains are those that have a score:
    the base decides that, so all variants share them.
    """
    scored = any(one.retention.score is not None for one in summary.tuned.domains)
    if not summary.restored or not scored:
        return ""
    scores = [
        f"{percents([_score(variant, one.domain) for variant in summary.restored])} "
        f"{DOMAIN_NAMES[one.domain]}"
        for one in summary.tuned.domains
        if one.retention.score is not None
    ]
    return (
        f"Restoring the {_amounts(summary)} most changed parameters: "
        f"retention (mean over levels) {', '.join(scores)}."
    )


def _score(variant: VariantResult, domain: str) -> float | None:
    result = variant.domain(domain)
    return None if result is None else result.retention.score


def _amounts(summary: Summary) -> str:
    return f"{series([f'{one.percent or 0:g}' for one in summary.restored])}{NARROW}%"


def accuracy_sentence(summary: Summary) -> str:
    """Return the accuracies before and after, and the facts lost and gained on the way.

    The lost facts of level 0 are named: what the base knew, in the verdict, is level 1 to 4.
    """
    changes = [
        f"{percent(before.macro)} to {percent(after.macro)} {DOMAIN_NAMES[before.domain]}"
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
