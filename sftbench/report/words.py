"""The sentences and number formats that every way of showing a comparison shares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from sftbench.analysis.summary import DOMAIN_NAMES, Summary, VariantResult

NARROW = "\N{NARROW NO-BREAK SPACE}"
FIXED = "\N{NO-BREAK SPACE}"
MISSING = "\N{EN DASH}"
FEW_KNOWN = 30
"""Below this many facts that the base answers right, a retention score says little."""


def percent(fraction: float | None, decimals: int = 0) -> str:
    """Return a fraction as "71 %" (narrow space), or a dash for None."""
    return MISSING if fraction is None else f"{100 * fraction:.{decimals}f}{NARROW}%"


def points(fraction: float | None) -> str:
    """Return a fraction as a bare percentage with one decimal, or a dash for None."""
    return MISSING if fraction is None else f"{100 * fraction:.1f}"


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
    """Return the result in one or two sentences."""
    if all(one.retention.score is None for one in summary.tuned.domains):
        return (
            "The base answers none of these facts of level 1 to 4 right with this prompt, "
            "so there is no knowledge to retain."
        )
    scored = [one for one in summary.tuned.domains if one.retention.score is not None]
    kept = [
        f"{percent(one.retention.score)}{'' if place else ' of what the base knew'} "
        f"{DOMAIN_NAMES[one.domain]} (n{FIXED}={FIXED}{one.retention.known:,})"
        for place, one in enumerate(scored)
    ]
    unscored = [
        "None of the facts of level 1 to 4 is answered right by the base "
        f"{DOMAIN_NAMES[one.domain]}."
        for one in summary.tuned.domains
        if one.retention.score is None
    ]
    sentences = [f"The fine-tune kept {listed(kept)}.", *unscored, _restore_sentence(summary)]
    return " ".join(sentence for sentence in sentences if sentence)


def _restore_sentence(summary: Summary) -> str:
    """Return the retention at every percentage: to name the best would be to pick it on the test.

    The domains are those that have a score: the base decides that, so all variants share them.
    """
    if not summary.restored:
        return ""
    scores = [
        f"{percents([_score(variant, one.domain) for variant in summary.restored])} "
        f"{DOMAIN_NAMES[one.domain]}"
        for one in summary.tuned.domains
        if one.retention.score is not None
    ]
    return f"Restoring the {_amounts(summary)} most changed parameters: {', '.join(scores)}."


def _score(variant: VariantResult, domain: str) -> float | None:
    result = variant.domain(domain)
    return None if result is None else result.retention.score


def _amounts(summary: Summary) -> str:
    return f"{series([f'{one.percent or 0:g}' for one in summary.restored])}{NARROW}%"


def subline(summary: Summary) -> str:
    """Return the accuracies before and after, and what every restore healed and preserved."""
    changes = [
        f"{percent(before.macro)} to {percent(after.macro)} {DOMAIN_NAMES[before.domain]}"
        for before, after in zip(summary.base.domains, summary.tuned.domains, strict=True)
    ]
    text = f"Accuracy, as the mean over mastery levels, went from {listed(changes)}."
    if not summary.restored:
        return text
    repairs = [
        [one.repair for one in variant.domains if one.repair] for variant in summary.restored
    ]
    healed = series([f"{sum(one.healed for one in those):,}" for those in repairs])
    preserved = series([f"{sum(one.preserved for one in those):,}" for those in repairs])
    outcomes = [one.outcomes for one in summary.tuned.domains]
    lost, gained = sum(one.lost for one in outcomes), sum(one.gained for one in outcomes)
    return (
        f"{text} Restoring {_amounts(summary)} heals {healed} of {count(lost, 'lost fact')} "
        f"and preserves {preserved} of {gained:,} gained."
    )


def glossary() -> tuple[tuple[str, str], ...]:
    """Return the terms that the page uses, each with what it means."""
    return (
        (
            "Mastery level",
            "How reliably the base completes a fact when it is sampled many times: level 0 never, "
            "level 1 up to a quarter of the time, level 4 more than three quarters. The rate "
            "itself is the mastery rate.",
        ),
        (
            "Accuracy",
            "Share of the facts answered right, greedily, with the prompt named below. Macro is "
            "the unweighted mean over the levels that have facts, so that rare levels count as "
            "much as common ones.",
        ),
        (
            "Retention",
            "For each level 1 to 4: of the facts that the base answers right, the share that the "
            "variant also answers right; then the mean over those levels. A copy of the base "
            "scores 100 %. Facts that the fine-tune added cannot raise it.",
        ),
        ("Lost, gained", "Lost: the base is right, the variant wrong. Gained: the reverse."),
        (
            "Healed, preserved",
            "What a restore does to the tuned model's answers: healed are lost facts that are "
            "right again, preserved are gained facts that are still right. Restoring everything "
            "would heal all and preserve nothing.",
        ),
        (
            "Restoring",
            "Setting the parameters with the largest relative change back to their value in the "
            "base, ranked over the whole model (Ye et al., EMNLP 2025).",
        ),
        (
            "In-domain, out-of-domain",
            "Facts of relations that a fine-tune on this fact set may train on, and facts of "
            "relations that it never sees.",
        ),
        (
            "log p",
            "Mean log-probability of the right answer, in nats. It tells a fact that is no longer "
            "said from one that is no longer known.",
        ),
    )


def caveats(summary: Summary) -> tuple[str, ...]:
    """Return what to keep in mind, those that this run calls for first."""
    found = [*_few_known(summary), *_missing_levels(summary)]
    if summary.run.facts.unlevelled:
        found.append(
            f"{count(summary.run.facts.unlevelled, 'fact')} of the test split "
            "without a level in this mastery card were left out."
        )
    if not summary.run.prompt.shots:
        found.append(
            "With a zero-shot prompt the base also fails on format: part of what looks gained is "
            "the form of the answer, and retention rests on the few facts that it answers."
        )
    if summary.restored:
        found += [
            "A restore percentage that is picked on these facts is picked on the test set: "
            "confirm it on facts that had no part in the choice.",
            "Ranking by relative change mostly ranks by small weights. Without controls (random "
            "parameters, interpolation) a gain does not show that this ranking caused it.",
        ]
    found.append(
        "Brackets and lines are 95 % Wilson intervals of single accuracies. They do not cover the "
        "choice of relations, the seed of the fine-tune, or the pairing of the answers; retention "
        "has no interval yet."
    )
    return tuple(found)


def _few_known(summary: Summary) -> list[str]:
    return [
        f"The base answers {count(one.retention.known, 'fact')} of level 1 to 4 right "
        f"{DOMAIN_NAMES[one.domain]}: that retention score rests on very little."
        for one in summary.tuned.domains
        if one.retention.known < FEW_KNOWN
    ]


def _missing_levels(summary: Summary) -> list[str]:
    missing = []
    for one in summary.base.domains:
        empty = [level for level in range(5) if level not in one.macro_levels]
        if empty:
            missing.append(
                f"No facts {DOMAIN_NAMES[one.domain]} in level {listed([str(i) for i in empty])}: "
                f"the macro is over level {listed([str(i) for i in one.macro_levels])}."
            )
    return missing
