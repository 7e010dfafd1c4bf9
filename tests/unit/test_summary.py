"""Analysis: accuracy, macro, intervals, and what changed fact by fact."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from report_samples import full, with_relations, with_tasks

from sftbench.analysis.accuracy import accuracy, macro
from sftbench.analysis.changes import (
    gained_facts,
    lost_facts,
    outcomes,
    repair,
    wide,
)
from sftbench.analysis.intervals import wilson
from sftbench.analysis.noise import flipped
from sftbench.analysis.relations import by_relation
from sftbench.analysis.summary import LevelAccuracy, Summary

pytestmark = pytest.mark.unit

ANSWERS = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=40)


def items(variants: dict[str, list[bool]], levels: list[int], domain: str = "in") -> pl.DataFrame:
    """Return one row per fact and variant; facts are named 0, 1, ..."""
    return pl.concat(
        pl.DataFrame(
            {
                "fact_id": [str(i) for i in range(len(levels))],
                "variant": name,
                "domain": domain,
                "relation": "city_country",
                "question": [f"Question {i}?" for i in range(len(levels))],
                "answer": "Peru",
                "level": levels,
                "rate": [level / 4 for level in levels],
                "correct": correct,
                "text": [" Peru" if right else " Chile" for right in correct],
                "answer_logprob": [-1.0 if right else -2.0 - i for i, right in enumerate(correct)],
            }
        )
        for name, correct in variants.items()
    )


def test_accuracy_counts_per_variant_domain_and_level() -> None:
    found = accuracy(items({"base": [True, False, True], "tuned": [False] * 3}, [0, 0, 4]))
    assert found.select("variant", "level", "n", "right", "accuracy").rows() == [
        ("base", 0, 2, 1, 0.5),
        ("base", 4, 1, 1, 1.0),
        ("tuned", 0, 2, 0, 0.0),
        ("tuned", 4, 1, 0, 0.0),
    ]
    assert (found["low"] <= found["accuracy"]).all()
    assert (found["accuracy"] <= found["high"]).all()


def test_macro_is_over_the_levels_that_have_facts_and_says_which() -> None:
    table = items({"base": [True, True, True, False]}, [1, 1, 1, 3])
    assert macro(accuracy(table)).rows(named=True) == [
        {"variant": "base", "domain": "in", "macro": 0.5, "levels": [1, 3], "n": 4}
    ]


def test_wilson_is_the_closed_formula() -> None:
    right, n, z = 7, 20, 1.959963984540054
    p = right / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert wilson(right, n) == pytest.approx((centre - half, centre + half))
    assert wilson(0, 5).low == 0.0
    assert wilson(5, 5).high == 1.0


def test_lost_facts_are_sorted_by_how_well_the_base_knew_them() -> None:
    table = items(
        {
            "base": [True, True, True, False],
            "tuned": [False, False, True, False],
            "r1": [False, True, True, True],
            "r5": [True, True, True, True],
        },
        [1, 4, 4, 0],
    )
    found = lost_facts(table, "base", "tuned", ["r1", "r5"])
    assert found["fact_id"].to_list() == ["1", "0"]
    assert found["healed_by"].to_list() == [["r1", "r5"], ["r5"]]
    assert found["base_text"].to_list() == [" Peru", " Peru"]
    assert found["tuned_text"].to_list() == [" Chile", " Chile"]
    assert found["tuned_logprob"].to_list() == [-3.0, -2.0]


def test_among_equally_known_facts_the_largest_fall_comes_first() -> None:
    table = items({"base": [True, True], "tuned": [False, False]}, [2, 2])
    assert lost_facts(table, "base", "tuned")["fact_id"].to_list() == ["1", "0"]


def test_lost_facts_without_a_restore_name_no_healer() -> None:
    table = items({"base": [True], "tuned": [False]}, [2])
    assert lost_facts(table, "base", "tuned")["healed_by"].to_list() == [[]]
    kept = items({"base": [True], "tuned": [True]}, [2])
    assert lost_facts(kept, "base", "tuned").height == 0


def test_gained_facts_are_sorted_by_how_little_the_base_knew_them() -> None:
    table = items(
        {
            "base": [False, False, False, True],
            "tuned": [True, True, False, True],
            "r1": [True, False, True, True],
            "r5": [True, True, True, True],
        },
        [2, 0, 0, 4],
    )
    found = gained_facts(table, "base", "tuned", ["r5", "r1"])
    assert found["fact_id"].to_list() == ["1", "0"]
    assert found["preserved_by"].to_list() == [["r5"], ["r5", "r1"]]
    assert found["base_logprob"].to_list() == [-3.0, -2.0]
    assert found["tuned_text"].to_list() == [" Peru", " Peru"]


def test_among_equally_unknown_facts_the_largest_rise_comes_first() -> None:
    table = items({"base": [False, False], "tuned": [True, True]}, [1, 1])
    assert gained_facts(table, "base", "tuned")["fact_id"].to_list() == ["1", "0"]


@settings(deadline=None, max_examples=50)
@given(ANSWERS)
def test_lost_and_gained_facts_are_as_many_as_the_outcomes_say(
    answers: list[tuple[bool, bool, bool]],
) -> None:
    columns = dict(zip(("base", "tuned", "r"), map(list, zip(*answers, strict=True)), strict=True))
    table = items(columns, [1] * len(answers))
    found = outcomes(wide(table), "base", "tuned")
    assert lost_facts(table, "base", "tuned", ["r"]).height == found.lost
    assert gained_facts(table, "base", "tuned", ["r"]).height == found.gained


def test_relations_are_counted_per_domain_and_variant() -> None:
    first = items({"base": [True, True, False], "tuned": [True, False, True]}, [1, 1, 1])
    other = items({"base": [False], "tuned": [True]}, [1], domain="out").with_columns(
        fact_id=pl.lit("x")
    )
    found = by_relation(pl.concat([other, first]), "base")
    assert found.rows() == [
        ("in", "city_country", "base", 3, 2, 2, 0, 0),
        ("in", "city_country", "tuned", 3, 2, 1, 1, 1),
        ("out", "city_country", "base", 1, 0, 0, 0, 0),
        ("out", "city_country", "tuned", 1, 1, 0, 0, 1),
    ]


@settings(deadline=None, max_examples=50)
@given(ANSWERS)
def test_outcomes_and_repairs_add_up(answers: list[tuple[bool, bool, bool]]) -> None:
    columns = dict(zip(("base", "tuned", "r"), map(list, zip(*answers, strict=True)), strict=True))
    facts = wide(items(columns, [1] * len(answers)))
    found = outcomes(facts, "base", "tuned")
    assert found.n == len(answers)
    fixed = repair(facts, "base", "tuned", "r")
    assert (fixed.lost, fixed.gained, fixed.kept) == (found.lost, found.gained, found.kept)
    right = sum(again for base, tuned, again in answers if base or tuned)
    assert fixed.healed + fixed.preserved + fixed.undamaged == right


def test_restoring_everything_heals_all_and_preserves_nothing() -> None:
    facts = wide(items({"base": [True, False], "tuned": [False, True], "r": [True, False]}, [1, 1]))
    assert repair(facts, "base", "tuned", "r") == (1, 1, 1, 0, 0, 0)


def test_flips_are_the_facts_scored_differently() -> None:
    table = items({"a": [True, True, False], "b": [True, False, False]}, [1, 1, 1])
    first, second = (table.filter(pl.col("variant") == name) for name in "ab")
    found = flipped(first, second.reverse())
    assert (found.n, found.changed, found.worded, found.share) == (3, 1, 1, 1 / 3)
    assert found.interval == wilson(1, 3)
    assert flipped(first, first)[:3] == (3, 0, 0)
    with pytest.raises(ValueError, match="same facts"):
        flipped(first, second.head(2))


def test_a_summary_is_read_as_it_was_written_and_without_later_fields() -> None:
    summary = with_tasks(with_relations(full()))
    written = summary.model_dump(mode="json")
    assert Summary.model_validate(written) == summary
    for later in ("chat", "rescored_from", "relations", "baselines"):
        del written[later]
    for one in written["variants"]:
        del one["tasks"]
    assert Summary.model_validate(written) == full()


def test_a_summary_record_takes_no_unknown_field() -> None:
    with pytest.raises(ValidationError, match="share"):
        LevelAccuracy.model_validate(
            {"level": 1, "n": 1, "right": 1, "accuracy": 1.0, "low": 0.2, "high": 1.0, "share": 1}
        )
