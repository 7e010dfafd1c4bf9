"""What the page explains: the terms it uses, and what to keep in mind with this run."""

from __future__ import annotations

from collections.abc import Sequence

from sftbench.analysis.summary import DOMAIN_NAMES, Summary
from sftbench.report import words

FEW_KNOWN = 30
"""Below this many facts that the base answers right, a retention score says little."""
FEW_KNOWN_IN_LEVEL = 10
"""Below this many in a level, its share says little, and yet counts as much as any other."""


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
        (
            "Kept, lost, gained",
            "Kept: base and variant are right. Lost: the base is right, the variant wrong. "
            "Gained: the reverse.",
        ),
        (
            "Healed, preserved",
            "What a restore does to the tuned model's answers: healed are lost facts that are "
            "right again, preserved are gained facts that are still right. A copy of the "
            "base would heal all and preserve nothing.",
        ),
        (
            "Restoring",
            "Setting the parameters with the largest relative change back to their value in the "
            "base, ranked over all blocks together (Ye et al., EMNLP 2025). Embeddings, output "
            "head and norms are neither ranked nor set back.",
        ),
        (
            "In-domain, out-of-domain",
            "Facts of relations that a fine-tune on this fact set may train on, and facts of "
            "relations that it never sees.",
        ),
        (
            "Majority answer, echo",
            "What scores without knowledge: giving the relation's most frequent answer every "
            "time, or repeating the question. Facts whose question holds the answer are left out "
            "of scoring, so the echo figure is of all test facts of the relation.",
        ),
        (
            "log p",
            "Log-probability of the right answer after the prompt, in nats; a mean over facts in "
            "the tables. It tells a fact that is no longer said from one that is no longer known.",
        ),
    )


def caveats(summary: Summary) -> tuple[str, ...]:
    """Return what to keep in mind, those that this run calls for first."""
    found = [*_few_known(summary), *_few_in_levels(summary), *_missing_levels(summary)]
    if summary.run.facts.unlevelled:
        found.append(
            f"{words.count(summary.run.facts.unlevelled, 'fact')} of the test split "
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
        "Brackets and lines are 95 % Wilson intervals of single shares. They do not cover the "
        "choice of relations, the seed of the fine-tune, the pairing of the answers, or answers "
        "that several facts share; the retention score has no interval yet."
    )
    return tuple(found)


def _few_known(summary: Summary) -> list[str]:
    return [
        f"The base answers {words.count(one.retention.known, 'fact')} of level 1 to 4 right "
        f"{DOMAIN_NAMES[one.domain]}: that retention score rests on very little."
        for one in summary.tuned.domains
        if one.retention.known < FEW_KNOWN
    ]


def _few_in_levels(summary: Summary) -> list[str]:
    """Return a caveat that names the levels whose share rests on few facts, if there are any."""
    few = [
        f"level {level.level} {DOMAIN_NAMES[one.domain]} rests on "
        f"{words.count(level.known, 'fact')}"
        for one in summary.tuned.domains
        for level in one.retention.levels
        if level.level in one.retention.scored_levels and level.known < FEW_KNOWN_IN_LEVEL
    ]
    if not few:
        return []
    return [f"Each level counts alike in the retention score: {words.listed(few)}."]


def _missing_levels(summary: Summary) -> list[str]:
    return [
        f"No facts {DOMAIN_NAMES[one.domain]} in level {_levels(empty)}: "
        f"the macro is over level {_levels(one.macro_levels)}."
        for one in summary.base.domains
        if (empty := [level for level in range(5) if level not in one.macro_levels])
    ]


def _levels(levels: Sequence[int]) -> str:
    return words.listed([str(level) for level in levels])
