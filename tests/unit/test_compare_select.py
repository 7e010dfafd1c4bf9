"""Which facts a comparison asks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes import FACT_COUNT, card_for, fact_set

from sftbench.common.errors import SftbenchError
from sftbench.compare.select import select

pytestmark = pytest.mark.unit


def test_a_limit_is_balanced_and_grows_by_adding() -> None:
    facts = fact_set()
    card = card_for(facts, "0" * 32)
    small, large = (select(facts, card, limit=limit).rows for limit in (10, 15))
    cells = small.group_by("level", "domain").len()
    assert cells.height == 10
    assert cells["len"].to_list() == [1] * 10
    assert set(small["fact_id"]) < set(large["fact_id"])
    assert select(facts, card, limit=1000).rows.height == FACT_COUNT
    assert set(select(facts, card, domain="in").rows["domain"]) == {"in"}


def test_facts_without_a_level_are_left_out_and_counted() -> None:
    facts = fact_set()
    card = card_for(facts, "0" * 32)
    part = replace(card, frame=card.frame.head(30))
    assert select(facts, part).unlevelled == 10
    with pytest.raises(SftbenchError, match=r"levels none of the 20 facts .* domain out"):
        select(facts, replace(card, frame=card.frame.head(0)), domain="out")
