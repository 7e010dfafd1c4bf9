"""The items of a record, held against facts, card, the texts themselves, and the record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import polars as pl

from sftbench.common.digests import digest_of, digest_of_lines
from sftbench.common.errors import SftbenchError
from sftbench.compare.select import select
from sftbench.facts.matching import How
from sftbench.facts.table import DOMAINS, FactSet
from sftbench.mastery.canonical import is_canonical
from sftbench.mastery.card import MasteryCard
from sftbench.scoring.answers import rescore
from sftbench_leaderboard.headline import difference, figures_of
from sftbench_leaderboard.known import Known
from sftbench_leaderboard.problems import Problem
from sftbench_leaderboard.record import LeaderboardRecord

FROM_FACTS = ("relation", "domain", "answer")


def item_problems(
    record: LeaderboardRecord, items: pl.DataFrame, known: Known
) -> Iterator[Problem]:
    """Yield what is wrong with items that are whole in themselves.

    Args:
        record: the record that they stand beside.
        items: as `sftbench_leaderboard.items.read_items` returns them.
        known: fact sets and cards.
    """
    if items.height != record.items.rows:
        yield Problem("impossible-counts", f"there are {items.height:,} items", "items.rows")
    if digest_of_lines(items["fact_id"]) != record.facts.asked_digest:
        yield Problem("wrong-digest", "is not that of the items' facts", "facts.asked_digest")
    facts = known.fact_set(record.facts.digest)
    if facts is None:
        what = f"the fact set {record.facts.digest} neither ships nor was named (--facts)"
        yield Problem("foreign-facts", what, "facts.digest")
    else:
        if record.facts.name != facts.name:
            what = f"the fact set is called {ascii(facts.name)[:100]}"
            yield Problem("foreign-facts", what, "facts.name")
        yield from _fact_problems(record, items, known)
    card = known.card(record.card.digest)
    if card is not None:
        yield from _card_problems(record, items, card, facts)
    elif record.card.canonical:
        what = f"the card {record.card.digest} neither ships nor was named (--card)"
        yield Problem("unknown-card", what, "card.canonical")
    yield from _figure_problems(record, items)


def _fact_problems(
    record: LeaderboardRecord, items: pl.DataFrame, known: Known
) -> Iterator[Problem]:
    """Yield items that are no test facts of the set, and answers that are marked wrongly."""
    tests = known.test_facts(record.facts.digest)
    facts = tests.select(
        "fact_id", "answers", *(pl.col(one).alias(f"{one}_") for one in ("relation", "domain")),
        answer_=pl.col("answers").list.first(),
    )  # fmt: skip
    joined = items.join(facts, on="fact_id", how="left", maintain_order="left")
    foreign = joined["answers"].null_count()
    if foreign:
        what = f"{foreign:,} items are no test facts of the set"
        yield Problem("foreign-items", what, "fact_id")
        return
    for name in FROM_FACTS:
        other = int((joined[name] != joined[f"{name}_"]).sum())
        if other:
            what = f"{other:,} items have another {name} than the fact set"
            yield Problem("foreign-items", what, name)
    for text, correct in (("base_text", "base_correct"), ("text", "correct")):
        wrong = int((_right(joined, text, record.suite.matching) != joined[correct]).sum())
        if wrong:
            what = f"{wrong:,} answers are marked otherwise than their text says"
            yield Problem("wrong-correct", what, correct)


def _right(joined: pl.DataFrame, text: str, how: How) -> pl.Series:
    answers = joined.select("fact_id", prompt=pl.lit(""), text=pl.col(text))
    return rescore(answers, joined, how)["correct"]


def _card_problems(
    record: LeaderboardRecord, items: pl.DataFrame, card: MasteryCard, facts: FactSet | None
) -> Iterator[Problem]:
    """Yield where a known card says otherwise: whose it is, its kind, levels, and facts to ask."""
    made = card.record
    for name, stated, true in (
        ("base.digest", record.base.digest, made.get("model_digest")),
        ("facts.digest", record.facts.digest, made.get("facts_digest")),
        ("card.estimator", record.card.estimator, card.estimator),
        ("card.settings_digest", record.card.settings_digest, digest_of(made.get("settings"))),
    ):
        if stated != true:
            yield Problem("wrong-digest", f"the card named is for {true}", name)
    if record.card.canonical != is_canonical(card):
        what = "the card is not the canonical one" if record.card.canonical else "the card is"
        yield Problem("unknown-card", what, "card.canonical")
    levels = card.frame.select("fact_id", level_="level", rate_="rate")
    joined = items.join(levels, on="fact_id", how="left", maintain_order="left")
    same = (joined["level"] == joined["level_"]) & (
        ((joined["rate"] - joined["rate_"]).abs() < 1e-9) | joined["rate"].is_null()
    )
    other = items.height - int(same.fill_null(value=False).sum())
    if other:
        yield Problem("wrong-levels", f"{other:,} items have another level or rate", "level")
    if facts is not None and made.get("facts_digest") == facts.digest:
        yield from _selection_problems(record, items, card, facts)


def _selection_problems(
    record: LeaderboardRecord, items: pl.DataFrame, card: MasteryCard, facts: FactSet
) -> Iterator[Problem]:
    """Yield a choice of facts that no comparison makes: it could leave out what was lost."""
    asked = sorted(set(items["domain"]), key=DOMAINS.index)
    for domain in (None, *(asked if len(asked) == 1 else [])):
        limit, part = record.facts.limit, record.facts.part
        with suppress(SftbenchError):  # too few facts for such a part
            rows = select(facts, card, domain=domain, limit=limit, part=part).rows
            if rows["fact_id"].equals(items["fact_id"]):
                return
    what = "are not the facts that a comparison with this card, limit and part asks"
    yield Problem("selection", what, "fact_id")


def _figure_problems(record: LeaderboardRecord, items: pl.DataFrame) -> Iterator[Problem]:
    """Yield the first figure of each part that does not follow from the items."""
    found = figures_of(items)
    for name, stated, true in (
        ("domains", record.domains, found.domains),
        ("base.domains", record.base.domains, found.base),
        ("noise", record.noise, found.noise),
    ):
        other = difference(
            [one.model_dump(mode="json") for one in stated],
            [one.model_dump(mode="json") for one in true],
        )
        if other is not None:
            place, says, gives = other
            what = f"says {ascii(says)[:100]}, and the items give {ascii(gives)[:100]}"
            yield Problem("headline", what, f"{name}.{place}".rstrip("."))
