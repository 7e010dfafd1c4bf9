"""The knowledge-retention score: its definition, and what must hold for any answers."""

from __future__ import annotations

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftbench.common.errors import SftbenchError
from sftbench.scoring.retention import SCORED_LEVELS, Retention, retention

pytestmark = pytest.mark.unit

Fact = tuple[int, bool, bool]
FACTS = st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.booleans()), max_size=60)


def score(facts: list[Fact]) -> Retention:
    """Score facts given as (level, base right, variant right)."""
    names = pl.Series("fact_id", [f"{i:04x}" for i in range(len(facts))], dtype=pl.String)
    levels = pl.Series("level", [level for level, _, _ in facts], dtype=pl.Int8)
    base = pl.Series("correct", [base for _, base, _ in facts], dtype=pl.Boolean)
    variant = pl.Series("correct", [variant for _, _, variant in facts], dtype=pl.Boolean)
    answers = (pl.DataFrame([names, column]) for column in (base, variant))
    return retention(*answers, pl.DataFrame([names, levels]))


def test_the_score_is_the_mean_over_levels_not_over_facts() -> None:
    level_1 = [(1, True, True)] * 9 + [(1, True, False)]  # keeps 9 of 10
    level_4 = [(4, True, True), (4, True, False)]  # keeps 1 of 2
    found = score(level_1 + level_4)
    assert found.score == pytest.approx((0.9 + 0.5) / 2)
    assert found.scored_levels == (1, 4)
    assert (found.known, found.kept) == (12, 10)


def test_level_0_is_counted_but_not_scored() -> None:
    found = score([(0, True, False), (2, True, True)])
    assert found.score == 1.0
    assert found.scored_levels == (2,)
    assert found.levels[0].known == 1
    assert found.levels[0].retained == 0.0
    assert (found.known, found.kept) == (1, 1)


def test_gains_stand_beside_the_score() -> None:
    kept = [(1, True, True), (1, True, False)]
    without, with_gains = score(kept), score([*kept, (0, False, True), (1, False, True)])
    assert with_gains.score == without.score == 0.5
    assert (with_gains.gained, with_gains.unknown, with_gains.gain) == (2, 2, 1.0)
    assert [one.gained for one in with_gains.levels] == [1, 1, 0, 0, 0]
    assert without.gain is None


def test_nothing_known_has_no_score_rather_than_nan() -> None:
    found = score([(0, True, True), (3, False, True)])
    assert found.score is None
    assert found.scored_levels == ()
    json.dumps(found, allow_nan=False)


def test_facts_without_a_level_do_not_count() -> None:
    names = pl.DataFrame({"fact_id": ["a", "b"], "correct": [True, True]})
    found = retention(names, names, pl.DataFrame({"fact_id": ["a"], "level": [2]}))
    assert found.known == 1


def test_other_facts_are_an_error() -> None:
    levels = pl.DataFrame({"fact_id": ["a", "b"], "level": [1, 2]})
    both = pl.DataFrame({"fact_id": ["a", "b"], "correct": [True, True]})
    with pytest.raises(SftbenchError, match="answered 2 facts and the variant 1"):
        retention(both, both.head(1), levels)
    with pytest.raises(SftbenchError, match="of which 1 are the same"):
        retention(pl.concat([both.head(1)] * 2), pl.concat([both.head(1)] * 2), levels)


@given(FACTS)
def test_a_copy_of_the_base_scores_1(facts: list[Fact]) -> None:
    found = score([(level, base, base) for level, base, _ in facts])
    assert found.score in (None, 1.0)
    assert found.gained == 0


@given(FACTS)
def test_counts_add_up_and_shares_are_shares(facts: list[Fact]) -> None:
    found = score(facts)
    assert sum(one.known + one.unknown for one in found.levels) == len(facts)
    assert found.known == sum(found.levels[level].known for level in SCORED_LEVELS)
    for one in found.levels:
        assert 0 <= one.kept <= one.known
        assert 0 <= one.gained <= one.unknown
        assert (one.retained is None) == (one.known == 0)
    assert found.score is None or 0 <= found.score <= 1
    json.dumps(found, allow_nan=False)


@given(FACTS, st.integers(0, 10))
def test_gaining_a_fact_never_moves_the_score(facts: list[Fact], place: int) -> None:
    more = [
        (level, base, variant or not base) if i == place else (level, base, variant)
        for i, (level, base, variant) in enumerate(facts)
    ]
    assert score(more).score == score(facts).score


@given(FACTS, st.integers(0, 10))
def test_losing_a_fact_never_raises_the_score(facts: list[Fact], place: int) -> None:
    worse = [
        (level, base, variant and i != place) for i, (level, base, variant) in enumerate(facts)
    ]
    less, before = score(worse).score, score(facts).score
    assert less == before or (less is not None and before is not None and less < before)
