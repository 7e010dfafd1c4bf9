"""Analysis: accuracy, macro, intervals, and what changed fact by fact."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sftbench.analysis.accuracy import accuracy, macro, wilson
from sftbench.analysis.changes import flips, lost_facts, outcomes, repair, wide
from sftbench.analysis.summary import LevelAccuracy

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
    assert flips(first, second).rows() == [("1", True, False, " Peru", " Chile")]
    assert flips(first, first).height == 0


def test_a_summary_record_takes_no_unknown_field() -> None:
    with pytest.raises(ValidationError, match="share"):
        LevelAccuracy.model_validate(
            {"level": 1, "n": 1, "right": 1, "accuracy": 1.0, "low": 0.2, "high": 1.0, "share": 1}
        )
