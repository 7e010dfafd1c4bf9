"""The facts and levels of a check: named, shipped, or levelled within the time there is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.checkpoints.names import name_of
from sftbench.common.errors import SftbenchError
from sftbench.compare.bench import Bench
from sftbench.compare.budget import duration_text, levelling_size
from sftbench.facts.reference import how_to_make, resolve_facts, shipped_facts
from sftbench.facts.table import FactSet
from sftbench.harness.choose import named_card
from sftbench.mastery.bundled import CANONICAL, find_card, none_ships
from sftbench.mastery.card import MasteryCard
from sftbench.mastery.choose import EstimatorName, can_forecast, estimator_for
from sftbench.mastery.estimate import Estimator, make_card
from sftbench.mastery.select import select

DEFAULT_FACTS = "geography"
PROBES = {"likelihood": 8}
"""Facts that are levelled to measure how long it takes; 2 where an estimator is not named."""
SAID_OF_LEVELS = {
    "question-prompts": "The levels come from question prompts, since these facts have no cloze "
    "templates: they are not comparable with levels from cloze templates.",
    "likelihood": "The levels were estimated by likelihood, not by sampled completions: they agree "
    "with sampled levels about as well as those agree with their own re-run.",
    "adaptive": "The levels come from sampling that stopped for a fact once its level was settled.",
}
"""What is said wherever levels by an estimator other than the paper's show."""
LEVELLED, ESTIMATOR = "levelled", "estimator"
"""The decisions that a check notes: how many facts are levelled, and how."""


class Decisions(Protocol):
    """What was decided in an earlier run and stays decided, by name."""

    def __contains__(self, name: str) -> bool: ...

    def __getitem__(self, name: str) -> Any: ...

    def __setitem__(self, name: str, value: object) -> None: ...


def find_facts(
    facts: str | None, mastery: str | None, base_digest: str
) -> tuple[FactSet, MasteryCard | None]:
    """Return the facts to ask and the levels of the base on them, None if none are known.

    Args:
        facts: fact table as the user named it; None: those of the card, else the geography facts.
        mastery: mastery card as the user named it; None: the one that ships for this base;
            "canonical": the canonical one that ships.
        base_digest: digest of the base.

    Raises:
        SftbenchError: one of them cannot be read, or they do not belong together.
    """
    table = None if facts is None else resolve_facts(facts)
    card: MasteryCard | None
    if mastery is not None and mastery != CANONICAL:
        card = MasteryCard.read(named_card(mastery))
    else:
        digest = None if table is None else table.digest
        canonical = mastery == CANONICAL
        card = find_card(base_digest=base_digest, facts_digest=digest, canonical=canonical)
        if card is None and canonical:
            raise none_ships(base_digest, table, canonical=True)
    if table is None:
        table = resolve_facts(DEFAULT_FACTS) if card is None else facts_of(card)
    if card is not None:
        card.require(facts=table, base_digest=base_digest)
    return table, card


def facts_of(card: MasteryCard) -> FactSet:
    """Return the fact set of a card, if it ships or was made on this machine.

    Raises:
        SftbenchError: it does not, and must be named.
    """
    found = shipped_facts(str(card.record["facts_digest"]))
    if found is None:
        raise SftbenchError(
            f"levels facts that do not ship with sftbench ({card.record.get('facts_name')})",
            where=card.path,
            remedy=how_to_make(card.record.get("facts_name")) + "Name the fact table with --facts.",
        )
    return found


def cautions_of_levels(card: MasteryCard) -> list[str]:
    """Return what a reader of a comparison must know of how its levels were measured."""
    return [SAID_OF_LEVELS[card.estimator]] if card.estimator in SAID_OF_LEVELS else []


def level_within(
    left: float,
    bench: Bench,
    facts: FactSet,
    base: Path,
    output: Path,
    decisions: Decisions,
    say: Callable[[str], None],
) -> MasteryCard:
    """Level as many test facts as the time allows, as `sftbench mastery` does; can be resumed.

    Args:
        left: seconds that it may take.
        bench: the engine of the base.
        facts: the fact set.
        base: folder of the base.
        output: the card's file.
        decisions: keeps how many facts are levelled.
        say: told each decision.

    Raises:
        SftbenchError: as `make_card`.
    """
    if output.is_file():
        card = MasteryCard.read(output)
        card.require(facts=facts, base_digest=checkpoint_digest(base))
        say(f"As before, the levels are those of {output}.")
        return card
    # Train facts take no part in a comparison: no time is spent on them.
    tested = replace(facts, frame=facts.frame.filter(pl.col("split") == "test"))
    # Of the whole set: facts without templates are levelled with examples from the train split.
    engine = bench.engine()
    if ESTIMATOR not in decisions:
        # A check of an earlier version that was stopped had begun to sample.
        begun = LEVELLED in decisions
        decisions[ESTIMATOR] = "likelihood" if can_forecast(engine) and not begun else "sampled"
    name: EstimatorName = decisions[ESTIMATOR]
    estimator, how = estimator_for(facts, name)
    say(how)
    if LEVELLED not in decisions:
        decisions[LEVELLED] = _affordable(left, bench, tested, estimator, say)
    part = output.with_suffix(".part.parquet")
    if not part.is_file():
        make_card(
            engine,
            tested,
            estimator,
            model_name=name_of(base),
            model_digest=checkpoint_digest(base),
            output=part,
            limit=int(decisions[LEVELLED]),
        )
    made = MasteryCard.read(part)
    record = {**made.record, "facts_digest": facts.digest, "facts_name": facts.name}
    card = MasteryCard(made.frame, record, output)
    card.write(output)
    part.unlink()
    return card


def _affordable(
    left: float, bench: Bench, tested: FactSet, estimator: Estimator, say: Callable[[str], None]
) -> int:
    """Measure how long levelling takes, and return how many facts fit into the time."""
    there = select(tested, None).height
    probes = select(tested, PROBES.get(estimator.name, 2)).to_dicts()
    engine = bench.engine()
    began = time.monotonic()
    list(estimator.estimate(engine, probes, tested.templates))
    taken = time.monotonic() - began
    size = min(there, levelling_size(taken, len(probes), left - taken))
    seconds = taken / len(probes)
    text = (
        f"No mastery card ships for this base on {tested.name}: {size:,} of {there:,} test facts "
        f"are levelled first, at {seconds:.1f} s each, in about {duration_text(seconds * size)}."
    )
    if seconds * size > left - taken:
        text += (
            " That is more than levelling's share of the time given, but fewer than "
            f"{size} would say nothing."
        )
    say(text)
    return size
