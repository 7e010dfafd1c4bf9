"""Shots: reserved by rule, independent of row order, the same for every model."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftbench.common.errors import SftbenchError
from sftbench.facts.matching import normalise
from sftbench.facts.shots import MOST_SHOTS, Shot, reserve_shots, shots_of
from sftbench.facts.table import ANSWER_IN_QUESTION, FACTS, SHOTS, FactSet, fact_id_of

pytestmark = pytest.mark.unit


def row(relation, number, answers, *, split="train", domain="in", flags=(), question=None):
    question = question or f"What is the {relation} of thing {number}?"
    return {
        "fact_id": fact_id_of(relation, f"thing {number}", question, answers[0]),
        "relation": relation,
        "subject": f"thing {number}",
        "question": question,
        "answers": list(answers),
        "domain": domain,
        "split": split,
        "flags": sorted(flags),
    }


def table(rows):
    return pl.DataFrame(rows, schema=dict(FACTS.columns))


def distinct(relation, count, **options):
    return [row(relation, i, [f"{relation} answer {i}"], **options) for i in range(count)]


def shot_flag(flags):
    return [flag for flag in flags if flag in SHOTS]


def reserved(frame):
    """Return {relation: {flag: [row, ...]}} of the reserved facts."""
    sets = {}
    for one in reserve_shots(frame).iter_rows(named=True):
        for flag in shot_flag(one["flags"]):
            sets.setdefault(one["relation"], {}).setdefault(flag, []).append(one)
    return sets


def facts(rows):
    return FactSet(reserve_shots(table(rows)), {}, {"name": "toy"})


rows_of_a_relation = st.lists(
    st.tuples(
        st.sampled_from(["Paris", "paris", "Rome", "Oslo", "Bern", "Lima", "Riga"]),
        st.sampled_from(["train", "train", "test"]),
        st.sampled_from([(), (), (ANSWER_IN_QUESTION,)]),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(rows_of_a_relation, st.randoms(use_true_random=False))
def test_rules_hold_for_any_relation(drawn, random):
    rows = [
        row("capital", i, [answer], split=split, flags=flags)
        for i, (answer, split, flags) in enumerate(drawn)
    ]
    frame = table(rows)
    sets = reserved(frame)
    counts = Counter(answer for answer, _, _ in drawn)
    most = max(counts.values(), default=0)
    tops = sorted(answer for answer, count in counts.items() if count == most)
    for shots in sets.get("capital", {}).values():
        assert 1 <= len(shots) <= MOST_SHOTS
        answers = [normalise(one["answers"][0]) for one in shots]
        assert len(set(answers)) == len(answers)
        assert all(one["split"] == "train" for one in shots)
        assert all(ANSWER_IN_QUESTION not in one["flags"] for one in shots)
        if most > 1:
            assert normalise(tops[0]) not in answers
    random.shuffle(rows)
    shuffled = reserve_shots(table(rows)).sort("fact_id")
    assert shuffled.equals(reserve_shots(frame).sort("fact_id"))
    assert reserve_shots(shuffled).equals(shuffled)


def test_a_large_relation_gives_three_sets_of_eight():
    sets = reserved(table(distinct("capital", 120)))["capital"]
    assert {flag: len(shots) for flag, shots in sets.items()} == dict.fromkeys(SHOTS, 8)


def test_a_small_relation_keeps_its_train_facts():
    sets = reserved(table(distinct("capital", 40)))["capital"]
    assert {flag: len(shots) for flag, shots in sets.items()} == dict.fromkeys(SHOTS, 4)


def test_few_distinct_answers_give_smaller_sets():
    rows = [row("continent", i, [["Asia", "Africa", "Europe"][i % 3]]) for i in range(31)]
    sets = reserved(table(rows))["continent"]  # Asia is the majority answer: 11 of 31
    for shots in sets.values():
        assert sorted(one["answers"][0] for one in shots) == ["Africa", "Europe"]


def test_aliases_count_as_answers():
    rows = [row("land", i, [f"land {i}"]) for i in range(4)]
    rows += [row("land", 10 + i, ["Britain"]) for i in range(3)]
    rows += [row("land", 20, ["UK", "Britain"]), row("land", 21, ["land 0", "other"])]
    shown = [one for shots in reserved(table(rows))["land"].values() for one in shots]
    assert all("Britain" not in one["answers"] for one in shown)
    for shots in reserved(table(rows))["land"].values():
        assert sum("land 0" in one["answers"] for one in shots) <= 1


def test_a_question_that_is_tested_is_no_shot():
    twice = "What is the capital?"
    rows = [*distinct("capital", 5), row("capital", 50, ["leak"], question=twice)]
    rows.append(row("capital", 51, ["leaked"], question=twice, split="test"))
    shown = [one for shots in reserved(table(rows))["capital"].values() for one in shots]
    assert len(shown) == 5
    assert all(one["question"] != twice for one in shown)


def test_other_flags_and_the_row_order_are_kept():
    rows = [row("capital", i, [f"a {i}"], flags=("well_known",), split="train") for i in range(20)]
    frame = table(rows)
    done = reserve_shots(frame)
    assert done["fact_id"].to_list() == frame["fact_id"].to_list()
    assert all(
        "well_known" in flags and flags == sorted(flags) for flags in done["flags"].to_list()
    )
    assert sum(bool(shot_flag(flags)) for flags in done["flags"].to_list()) == 12


def test_a_fact_has_one_set_and_all_three_are_used():
    both = facts(distinct("capital", 60))
    shots = shots_of(both)
    names = Counter(shots.name_of(f"{i:016x}", "capital") for i in range(600))
    assert set(names) == set(SHOTS)
    assert min(names.values()) > 150
    again = shots_of(FactSet(both.frame.reverse(), {}, {}))
    for i in range(50):
        one = shots(f"{i:016x}", "capital")
        assert one == again(f"{i:016x}", "capital")
        assert len(one) == 5  # 60 candidates: 60 // 12 to a set
        assert all(isinstance(shot, Shot) for shot in one)


def test_a_relation_without_shots_takes_those_of_its_domain():
    rows = [
        *distinct("capital", 40),
        *distinct("river", 40),
        *distinct("anthem", 40, domain="out"),
        row("motto", 0, ["none"], split="test"),
    ]
    shots = shots_of(facts(rows))
    shown = shots("0" * 16, "motto")
    assert len(shown) == MOST_SHOTS
    assert {shot.question.split()[3] for shot in shown} == {"capital", "river"}


def test_a_domain_without_shots_takes_those_of_the_whole_set():
    rows = [*distinct("capital", 40), row("motto", 0, ["none"], split="test", domain="out")]
    assert {shot.question.split()[3] for shot in shots_of(facts(rows))("0" * 16, "motto")} == {
        "capital"
    }


@pytest.mark.parametrize("relation", ["capital", "unknown"])
def test_no_shots_at_all_is_an_error(relation):
    shots = shots_of(facts(distinct("capital", 5, split="test")))
    with pytest.raises(SftbenchError, match=f"as an example for the relation {relation}"):
        shots("0" * 16, relation)
