"""What the page explains: the terms it uses, and what to keep in mind with this run."""

from __future__ import annotations

from collections.abc import Sequence

from sftbench.analysis.seeds import FEW_RUNS
from sftbench.analysis.summary import DOMAIN_NAMES, Summary
from sftbench.report import loss_words, words
from sftbench.report.restores import has_taken
from sftbench.report.rule_names import CONTROLS, chosen_of, papers_alone, rule_of

FEW_KNOWN = 30
"""Below this many facts that the base answers right, a retention score says little."""
FEW_KNOWN_IN_LEVEL = 10
"""Below this many in a level, its share says little, and yet counts as much as any other."""

Term = tuple[str, str]

PAPERS_RESTORING: Term = (
    "Restoring",
    "Setting the parameters with the largest relative change back to their value in the base, "
    "ranked over all blocks together (Ye et al., EMNLP 2025). Embeddings, output head and norms "
    "are neither ranked nor set back.",
)
ANY_RESTORING: Term = (
    "Restoring",
    "Taking part of the update back. Relative (Ye et al., EMNLP 2025) sets the parameters with the "
    "largest relative change back to their value in the base, absolute those with the largest "
    "change, random any; interpolation moves all of them part of the way. Embeddings, output head "
    "and norms take part only where a rule says so.",
)
OF_THE_UPDATE: tuple[Term, ...] = (
    (
        "Removed norm",
        "How far a restored model is from the tuned one: the L2 norm of that difference over the "
        "norm of the whole update, both in the tensors that take part.",
    ),
    (
        "Null model",
        "What a ranking would hold of the summed relative change if update and weights had nothing "
        "to do with each other. A figure near it says that the ranking found small weights, and "
        "not what the fine-tune is about.",
    ),
)
VALIDATION: Term = (
    "Validation facts",
    "Facts that were kept for choosing a restore and are not scored. Chosen is, of "
    "the restores that get more of them right than the tuned model by more than chance gives the "
    "best of so many, the one that takes the least back within one standard error of the best.",
)


def glossary(summary: Summary) -> tuple[Term, ...]:
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
            "95 % interval",
            "In square brackets: where the true figure is likely to lie, were other facts of "
            "these relations asked. A method that gives such intervals is right 95 times in 100. "
            "A difference whose interval holds 0 is not shown to be one.",
        ),
        (
            "Cluster",
            "The facts of a relation that have the same answer. They tend to be right or wrong "
            "together, so that many of them tell less than as many facts with answers of their "
            "own; intervals and the clustered p value allow for it.",
        ),
        (
            "p, Holm, McNemar",
            "p: how often chance alone, exchanging the two models' answers in whole clusters, "
            "shows a difference as large. Holm: raised so that five levels tested at once seldom "
            "give a false alarm. McNemar: the same test as if facts were independent. All exact.",
        ),
        (
            "Smallest difference seen",
            "The smallest true difference that so many facts show with a probability of 80 %. A "
            "smaller one may well be there and not be seen.",
        ),
        (
            "Noise of its size",
            "Random changes of the base that have, in every tensor, the norm of the fine-tune "
            "as near as rounding lets them. What they forget is what any change of that size "
            "might: facts on the border of being known.",
        ),
        (
            "Healed, preserved",
            "What a restore does to the tuned model's answers: healed are lost facts that are "
            "right again, preserved are gained facts that are still right. A copy of the "
            "base would heal all and preserve nothing.",
        ),
        *_restoring(summary),
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
        *(loss_words.TERMS if summary.loss else ()),
    )


def _restoring(summary: Summary) -> list[Term]:
    """Return what restoring means, and the terms of its figures where there are any."""
    others = not papers_alone(summary) or summary.repair is not None
    return [
        ANY_RESTORING if others else PAPERS_RESTORING,
        *(OF_THE_UPDATE if others or has_taken(summary) else ()),
        *([VALIDATION] if summary.repair else []),
    ]


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
    return (*found, *_of_restores(summary), *_few_draws(summary), _intervals(summary))


def _of_restores(summary: Summary) -> list[str]:
    """Return what picking a restore here is worth, and what is missing to explain its gain."""
    if not summary.restored:
        return []
    found = []
    if len(summary.restored) > 1 or chosen_of(summary) is None:
        what = "restore percentage" if papers_alone(summary) else "restore"
        found.append(
            f"A {what} that is picked on these facts is picked on the test set: "
            "confirm it on facts that had no part in the choice."
        )
    criteria = {rule.criterion for one in summary.restored if (rule := rule_of(one))}
    if not criteria & set(CONTROLS):
        ranked = not criteria or "relative" in criteria
        small = "Ranking by relative change mostly ranks by small weights. " if ranked else ""
        cause = "ranking" if ranked else "way of restoring"
        found.append(
            f"{small}Without controls (random parameters, interpolation) a gain does not show that "
            f"this {cause} caused it."
        )
    return found


def _few_draws(summary: Summary) -> list[str]:
    forgetting = summary.noise.forgetting if summary.noise else ()
    draws = len(forgetting[0].noise.runs) if forgetting else FEW_RUNS
    if draws >= FEW_RUNS:
        return []
    changes = words.count(draws, "random change")
    return [
        f"With {changes} of the fine-tune's size, how much such changes differ is hardly known; "
        f"--noise {FEW_RUNS} asks more."
    ]


def _intervals(summary: Summary) -> str:
    """Return what the intervals cover, and what they do not."""
    if not words.has_intervals(summary):
        return (
            "Brackets and lines are 95 % Wilson intervals of single shares. This file is of a "
            "version that gave means and differences none; sftbench rescore adds them."
        )
    return (
        "Brackets and lines are 95 % intervals. Those of means and differences cover other facts "
        "of these relations, with facts of one answer hanging together; those of single levels "
        "and relations are Wilson's, as if facts were independent. None covers other relations "
        "or the seed of the fine-tune: this is one run, and sftbench seeds compares several."
    )


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
