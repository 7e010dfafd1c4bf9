"""The draw of training facts: balance, determinism, no duplicates, and errors with counts."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftbench.common.errors import SftbenchError
from sftbench.facts.table import ANSWER_IN_QUESTION, FACTS, FactSet, fact_id_of
from sftbench.mastery.card import MasteryCard
from sftbench.recipes.choose import choose, epoch_order
from sftbench.recipes.recipe import Recipe

pytestmark = pytest.mark.unit

Sizes = dict[tuple[str, int], int]
"""(relation, level) to how many train facts there are."""


def _row(relation: str, number: int, **changes: Any) -> dict[str, Any]:
    subject, question = f"{relation} {number}", f"What is {relation} of {number}?"
    row = {
        "fact_id": fact_id_of(relation, subject, question, str(number)),
        "relation": relation,
        "subject": subject,
        "question": question,
        "answers": [str(number)],
        "domain": "in",
        "split": "train",
        "flags": [],
    }
    return row | changes


def _world(sizes: Sizes) -> tuple[FactSet, MasteryCard]:
    rows: list[dict[str, Any]] = []
    levels: list[int] = []
    for (relation, level), count in sizes.items():
        rows += [_row(relation, 1000 * level + number) for number in range(count)]
        levels += [level] * count
    frame = pl.DataFrame(rows, schema=FACTS.columns)
    card = frame.select("fact_id").with_columns(pl.Series("level", levels, pl.Int8))
    return FactSet(frame.sort("fact_id"), {}, {"name": "world"}), MasteryCard(card, {})


def _counts(frame: pl.DataFrame, column: str) -> Counter[Any]:
    return Counter(frame[column].to_list())


worlds = st.dictionaries(
    st.tuples(st.sampled_from(["ra", "rb", "rc", "rd"]), st.integers(0, 4)),
    st.integers(1, 9),
    min_size=1,
)


@settings(deadline=None, max_examples=60)
@given(worlds, st.integers(0, 4), st.integers(0, 3), st.data())
def test_one_level_is_spread_as_evenly_as_the_facts_allow(
    sizes: Sizes, level: int, seed: int, data: st.DataObject
) -> None:
    stock = {relation: n for (relation, at), n in sizes.items() if at == level}
    if not stock:
        return
    size = data.draw(st.integers(1, sum(stock.values())))
    drawn = choose(*_world(sizes), Recipe(level=level, size=size, seed=seed))
    counts = _counts(drawn, "relation")
    assert drawn.height == size == drawn["fact_id"].n_unique()
    assert set(drawn["level"]) == {level}
    most = max(counts.values())
    for relation, available in stock.items():
        assert counts[relation] >= min(available, most - 1)


@settings(deadline=None, max_examples=60)
@given(worlds, st.integers(0, 3), st.data())
def test_mixed_is_spread_over_levels_first(sizes: Sizes, seed: int, data: st.DataObject) -> None:
    stock: Counter[int] = Counter()
    for (_, level), count in sizes.items():
        stock[level] += count
    size = data.draw(st.integers(1, stock.total()))
    drawn = choose(*_world(sizes), Recipe(level="mixed", size=size, seed=seed))
    counts = _counts(drawn, "level")
    assert drawn.height == size == drawn["fact_id"].n_unique()
    most = max(counts.values())
    for level, available in stock.items():
        assert counts[level] >= min(available, most - 1)


def test_mixed_is_even_over_relations_too_where_there_are_enough() -> None:
    sizes = {(relation, level): 20 for relation in ("ra", "rb", "rc") for level in range(5)}
    drawn = choose(*_world(sizes), Recipe(level="mixed", size=61))
    assert sorted(_counts(drawn, "level").values()) == [12, 12, 12, 12, 13]
    assert sorted(_counts(drawn, "relation").values()) == [20, 20, 21]


@settings(deadline=None, max_examples=25)
@given(worlds, st.sampled_from(["mixed", "any"]), st.integers(0, 3), st.randoms())
def test_the_order_of_rows_does_not_matter(
    sizes: Sizes, level: str, seed: int, shuffle: Any
) -> None:
    facts, card = _world(sizes)
    recipe = Recipe(level=level, size=min(7, facts.frame.height), seed=seed)
    order = list(range(facts.frame.height))
    shuffle.shuffle(order)
    mixed_up = FactSet(facts.frame[order], {}, {})
    other_card = MasteryCard(card.frame.reverse(), {})
    assert choose(facts, card, recipe).equals(choose(mixed_up, other_card, recipe))


def test_a_smaller_size_draws_a_subset() -> None:
    facts, card = _world({(name, level): 9 for name in ("ra", "rb") for level in range(5)})
    for level in ("mixed", "any", 3):
        draws = [
            set(choose(facts, card, Recipe(level=level, size=size))["fact_id"])
            for size in (3, 8, 17)
        ]
        assert all(less < more for less, more in pairwise(draws))


def test_another_seed_is_another_draw_and_the_same_seed_the_same() -> None:
    facts, card = _world({("ra", 2): 40, ("rb", 2): 40})
    first, again, other = (
        choose(facts, card, Recipe(level=2, size=20, seed=seed)) for seed in (0, 0, 1)
    )
    assert first.equals(again)
    assert set(first["fact_id"]) != set(other["fact_id"])


def test_a_draw_is_the_same_in_every_version() -> None:
    facts, card = _world({("ra", 0): 5, ("rb", 0): 5, ("ra", 4): 5})
    drawn = choose(facts, card, Recipe(level="mixed", size=5, seed=7))
    assert drawn["subject"].to_list() == ["ra 4000", "ra 4002", "ra 4004", "rb 1", "rb 4"]


def test_only_train_facts_of_the_domain_without_excluded_flags_are_drawn() -> None:
    rows = [
        _row("ra", 1),
        _row("ra", 2, split="test"),
        _row("ra", 3, flags=[ANSWER_IN_QUESTION]),
        _row("ra", 4, flags=["shot_2"]),
        _row("rb", 5, domain="out"),
    ]
    facts = FactSet(pl.DataFrame(rows, schema=FACTS.columns).sort("fact_id"), {}, {})
    assert choose(facts, None, Recipe(level="any", size=1))["subject"].to_list() == ["ra 1"]
    out = choose(facts, None, Recipe(level="any", size=1, domain="out"))
    assert out["subject"].to_list() == ["rb 5"]


def test_any_level_keeps_the_levels_that_are_known() -> None:
    facts, card = _world({("ra", 1): 2})
    half = MasteryCard(card.frame.head(1), {})
    levelled = choose(facts, half, Recipe(level="any", size=2))
    assert sorted(levelled["level"].to_list(), key=str) == [1, None]
    bare = choose(facts, None, Recipe(level="any", size=2))
    assert bare["level"].to_list() == [None, None]
    assert bare["fact_id"].to_list() == levelled["fact_id"].to_list()
    assert bare.schema["level"] == levelled.schema["level"] == pl.Int8


def test_facts_without_a_level_are_not_drawn_by_level() -> None:
    facts, card = _world({("ra", 1): 3})
    half = MasteryCard(card.frame.head(2), {})
    drawn = choose(facts, half, Recipe(level="mixed", size=2))
    assert set(drawn["fact_id"]) == set(card.frame["fact_id"][:2])


def test_a_level_needs_a_card() -> None:
    facts, _ = _world({("ra", 1): 3})
    with pytest.raises(SftbenchError, match="needs the base model's mastery card") as caught:
        choose(facts, None, Recipe(level=1, size=1))
    assert "--level any" in str(caught.value)


def test_too_few_facts_are_counted_per_relation() -> None:
    facts, card = _world({("ra", 1): 3, ("rb", 1): 1, ("rc", 0): 9})
    with pytest.raises(SftbenchError) as caught:
        choose(facts, card, Recipe(level=1, size=5))
    assert "5 train facts of level 1" in str(caught.value)
    assert "there are 4 (ra 3, rb 1, rc 0)" in str(caught.value)
    assert "at most 4 with --size" in str(caught.value)


def test_a_card_of_the_test_split_is_refused_for_a_level() -> None:
    facts, card = _world({("ra", 1): 3})
    tested = MasteryCard(card.frame.clear(), card.record)
    for level in (1, "mixed"):
        with pytest.raises(SftbenchError, match="levels none of the facts") as caught:
            choose(facts, tested, Recipe(level=level, size=1))
        assert "--split train" in str(caught.value)
    assert choose(facts, tested, Recipe(level="any", size=2)).height == 2


def test_no_facts_at_all_is_said_plainly() -> None:
    facts, card = _world({("ra", 1): 3})
    with pytest.raises(SftbenchError, match="there are 0 \\(no relation at all\\)"):
        choose(facts, card, Recipe(level=1, size=1, domain="out"))


@given(st.lists(st.text(min_size=1), unique=True), st.integers(0, 9), st.integers(0, 3))
def test_an_epoch_goes_through_every_fact_once(names: list[str], seed: int, epoch: int) -> None:
    order = epoch_order(names, seed, epoch)
    assert sorted(order) == list(range(len(names)))
    visited = [names[index] for index in order]
    backwards = names[::-1]
    assert [backwards[index] for index in epoch_order(backwards, seed, epoch)] == visited


def test_epochs_differ_in_order() -> None:
    names = [f"fact {number}" for number in range(30)]
    orders = {tuple(epoch_order(names, 0, epoch)) for epoch in range(4)}
    assert len(orders) == 4
