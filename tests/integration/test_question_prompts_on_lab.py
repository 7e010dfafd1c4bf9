"""Mastery without cloze templates, on a model that knows some facts: it ranks as the card does."""

from __future__ import annotations

import pytest

from sftbench.checkpoints.folder import open_checkpoint
from sftbench.checkpoints.reference import resolve
from sftbench.engines.transformers import TransformersEngine
from sftbench.facts.reference import resolve_facts
from sftbench.facts.table import FactSet
from sftbench.mastery.bundled import find_card
from sftbench.mastery.choose import estimator_for

pytestmark = pytest.mark.integration


def test_mastered_facts_are_answered_and_unknown_ones_are_not() -> None:
    facts = resolve_facts("lab")
    base = open_checkpoint(resolve("lab"))
    card = find_card(base_digest=base.digest, facts_digest=facts.digest)
    assert card is not None
    level_of = dict(card.frame.select("fact_id", "level").iter_rows())
    rows = facts.scored().to_dicts()
    chosen = [
        row
        for level in (0, 4)
        for row in [one for one in rows if level_of[one["fact_id"]] == level][:8]
    ]
    estimator, _ = estimator_for(FactSet(facts.frame, {}, facts.source), samples=2)
    engine = TransformersEngine(base.path)
    rates: dict[int, list[float]] = {0: [], 4: []}
    for found in estimator.estimate(engine, chosen, {}):
        assert found.hits is not None
        assert [len(draws) for draws in found.hits] == [2] * 21
        rates[level_of[found.fact_id]].append(sum(map(sum, found.hits)) / 42)
    assert max(rates[0]) <= 0.2
    assert min(rates[4]) >= 0.25
    assert sum(rates[4]) / len(rates[4]) > 0.35
