"""Mastery before and after from two cards, or one card against its own draws."""

from __future__ import annotations

import polars as pl

from sftbench.analysis.agreement import Agreement, agreement
from sftbench.analysis.evidence import MasteryChangeRecord
from sftbench.analysis.mastery_change import mastery_change
from sftbench.common.errors import SftbenchError
from sftbench.facts.table import FactSet
from sftbench.mastery.adaptive import AdaptiveEstimator
from sftbench.mastery.card import MasteryCard

ALIKE = {"facts_digest": "fact set", "templates_digest": "templates", "settings": "settings"}
"""What two cards must share to be compared, by what a person calls it."""


def mastery_of_cards(
    facts: FactSet, base: MasteryCard, tuned: MasteryCard | None = None
) -> MasteryChangeRecord:
    """Return mastery by level, and what chance alone does to it.

    Args:
        facts: the facts of both cards.
        base: the base's card.
        tuned: the tuned model's; None for the base against itself.

    Raises:
        SftbenchError: a card is for other facts, the two were measured in other ways or share no
            fact, or there is only one draw of a fact.
    """
    base.require(facts=facts)
    for card in (base, tuned):
        if card is not None:
            require_draws(card)
    if tuned is not None:
        require_alike(base, tuned)
    rows = facts.frame.select("fact_id", "relation", answer=pl.col("answers").list.first())
    try:
        found = mastery_change(rows, base.frame, None if tuned is None else tuned.frame)
    except ValueError:
        raise SftbenchError(
            "cannot be measured again: "
            + (
                "it has fewer than two draws of a fact"
                if tuned is None
                else "the cards share no fact, or have fewer than two draws of one"
            ),
            where=base.name,
            remedy="Make cards with --samples 2 or more, of the same facts.",
        ) from None
    return MasteryChangeRecord.model_validate(found)


def agreement_of_cards(first: MasteryCard, second: MasteryCard) -> Agreement:
    """Return how far two cards of the same base and facts agree, on the facts in both.

    Raises:
        SftbenchError: they are of other models, facts or templates, or share no fact.
    """
    same = {"model_digest": "model", **{key: ALIKE[key] for key in ALIKE if key != "settings"}}
    other = [name for key, name in same.items() if first.record.get(key) != second.record.get(key)]
    if other:
        raise SftbenchError(
            f"cannot be held against each other, since they differ in {', '.join(other)}",
            where=f"{first.name} and {second.name}",
            remedy="`card diff` is for two measurements of one model; for a base and its "
            "fine-tune there is `card change`.",
        )
    columns = ("fact_id", "level", "rate")
    both = first.frame.select(columns).join(second.frame.select(columns), on="fact_id", suffix="_b")
    if both.is_empty():
        raise SftbenchError("share no fact", where=f"{first.name} and {second.name}")
    sides = (both.select("level", "rate").rows(), both.select("level_b", "rate_b").rows())
    return agreement(*sides)


def require_draws(card: MasteryCard) -> None:
    """Raise unless a card holds single draws, which can be shared out into halves.

    Draws that ended because of what they showed cannot: the halves would know of each other.

    Raises:
        SftbenchError: it holds estimated chances, or draws that ended so.
    """
    if card.frame["hits"].null_count() or card.estimator == AdaptiveEstimator.name:
        raise SftbenchError(
            "holds no single draws that can be shared out into halves: it was made by the "
            f"estimator {card.estimator}",
            where=card.name,
            remedy="What chance does to levels is seen from draws: make the card with --estimator "
            "sampled.",
        )


def require_alike(base: MasteryCard, tuned: MasteryCard) -> None:
    """Raise unless two cards are of different models and measured in the same way.

    Raises:
        SftbenchError: it names everything that differs.
    """
    other = [name for key, name in ALIKE.items() if base.record.get(key) != tuned.record.get(key)]
    if other:
        raise SftbenchError(
            f"cannot be compared, since they differ in {', '.join(other)}",
            where=f"{base.name} and {tuned.name}",
            remedy="Make both with the same `sftbench mastery` options, but for --model.",
        )
    if base.record.get("model_digest") == tuned.record.get("model_digest"):
        raise SftbenchError(
            "are cards of the same model",
            where=f"{base.name} and {tuned.name}",
            remedy="To see what chance does to one model's levels, use `sftbench card noise`.",
        )
