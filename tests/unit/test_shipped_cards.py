"""The canonical cards that ship, against the yardstick: draws of the same facts, kept beside."""

from pathlib import Path

import polars as pl
import pytest

from sftbench.facts.reference import SHIPPED, resolve_facts
from sftbench.mastery.bundled import CARDS, bundled_cards
from sftbench.mastery.canonical import is_canonical
from sftbench.mastery.card import MasteryCard
from sftbench.mastery.levels import level_of
from sftbench.mastery.select import select

YARDSTICK = Path(__file__).parents[2] / "benchmarks" / "data" / "mastery_yardstick.parquet"
CANONICAL = {
    record["facts_name"]: path
    for path, record in bundled_cards()
    if path.parent == CARDS / "canonical"
}
LEVEL_COUNTS = {
    "lab": (128, 202, 105, 122, 196),
    "geography": (3167, 2969, 588, 199, 1),
    "entityquestions": (15952, 3360, 280, 27, 0),
}
"""As docs/mastery.md says; EntityQuestions: all 19,619 test facts that are scored."""
OF_SMOLLM2 = sorted(CANONICAL.keys() - {"lab"})


@pytest.mark.parametrize("facts", sorted(CANONICAL))
def test_each_is_canonical_and_says_what_it_is(facts):
    card = MasteryCard.read(CANONICAL[facts])
    assert is_canonical(card)
    assert card.path is not None
    assert facts in card.path.name
    assert card.frame["fact_id"].n_unique() == card.frame.height
    assert tuple(card.level_counts().values()) == LEVEL_COUNTS[facts]
    if facts in SHIPPED:
        table = resolve_facts(facts)
        card.require(facts=table)
        assert set(card.frame["fact_id"]) == set(select(table, None)["fact_id"])


@pytest.mark.parametrize("facts", OF_SMOLLM2)
def test_levels_and_rates_are_those_of_the_draws(facts):
    """Somewhat as the draws are to themselves: 166 facts agree with their re-run in 88.6 %."""
    drawn = pl.read_parquet(YARDSTICK)
    card = MasteryCard.read(CANONICAL[facts]).frame.select("fact_id", "rate", "level")
    both = drawn.join(card, on="fact_id", how="inner", validate="1:1").to_dicts()
    assert len(both) >= 50
    for part in (slice(0, 10), slice(10, 20)):
        counts = [sum(sum(one[part]) for one in row["hits"]) for row in both]
        draws = [10 * len(row["hits"]) for row in both]
        same = [
            level_of(hits, of) == row["level"]
            for hits, of, row in zip(counts, draws, both, strict=True)
        ]
        apart = [row["rate"] - hits / of for hits, of, row in zip(counts, draws, both, strict=True)]
        assert sum(same) / len(same) > 0.8
        assert abs(sum(apart) / len(apart)) < 0.02
