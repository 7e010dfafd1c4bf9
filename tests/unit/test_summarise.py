"""From answers to the summary: relations, baselines and tasks."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from sftbench.analysis.summary import RelationBaseline, RelationOutcome, TaskResult
from sftbench.checkpoints.rules import Restored
from sftbench.checkpoints.variants import Base, Tuned, Variant
from sftbench.compare.summarise import (
    Answered,
    baseline_results,
    gained_of,
    items_of,
    lost_of,
    relation_results,
    variant_results,
)
from sftbench.facts.table import FactSet

pytestmark = pytest.mark.unit

TASK = {"task": "gsm8k", "metric": "exact_match", "value": 0.5, "stderr": 0.1, "n": 20}


def rows() -> pl.DataFrame:
    """Return four facts asked: three of one relation in-domain, one of another out-of-domain."""
    return pl.DataFrame(
        {
            "fact_id": ["a", "b", "c", "d"],
            "relation": ["river_sea", "river_sea", "river_sea", "ship_captain"],
            "subject": ["A", "B", "C", "D"],
            "question": ["Where is A?", "Where is B?", "Where is C?", "Who leads D?"],
            "answers": [["Peru"], ["Peru"], ["Chile"], ["Ann"]],
            "domain": ["in", "in", "in", "out"],
            "split": ["test"] * 4,
            "flags": pl.Series([[]] * 4, dtype=pl.List(pl.String)),
            "level": [4, 3, 1, 2],
            "rate": [0.9, 0.7, 0.1, 0.4],
        }
    )


def answered(variant: Variant, correct: list[bool], **record: Any) -> Answered:
    frame = pl.DataFrame(
        {
            "fact_id": ["a", "b", "c", "d"],
            "variant": variant.name,
            "variant_id": "0",
            "correct": correct,
            "text": " Peru",
            "answer_logprob": -1.0,
        }
    )
    return Answered(variant, frame, {"seconds": 1.0, **record})


def three(**tuned: Any) -> list[Answered]:
    return [
        answered(Base(), [True, True, False, True]),
        answered(Tuned(), [True, False, True, True], **tuned),
        answered(Restored("relative", Decimal(5)), [True, True, False, True]),
    ]


def test_relations_hold_every_variant_in_order() -> None:
    those = three()
    found = relation_results(those, items_of(those, rows()))
    assert [(one.relation, one.domain, one.n) for one in found] == [
        ("river_sea", "in", 3),
        ("ship_captain", "out", 1),
    ]
    assert [one.variant for one in found[0].variants] == [one.variant.name for one in those]
    assert found[0].variants[1] == RelationOutcome(
        variant="tuned", right=2, kept=1, lost=1, gained=1
    )


def test_lost_and_gained_facts_name_what_the_restore_made_of_them() -> None:
    those = three()
    items = items_of(those, rows())
    lost, gained = lost_of(items, those), gained_of(items, those)
    assert lost.select("fact_id", "healed_by").rows() == [("b", ["tuned+restore(relative,5%)"])]
    assert gained.select("fact_id", "preserved_by").rows() == [("c", [])]


def test_baselines_are_those_of_the_relations_asked() -> None:
    those = three()
    asked = relation_results(those, items_of(those, rows()))
    facts = FactSet(rows().drop("level", "rate"), {}, {})
    found = baseline_results(facts, asked[:1])
    assert found == (
        RelationBaseline(relation="river_sea", majority_answer="Peru", majority=2 / 3, echo=0.0),
    )


def test_tasks_come_from_the_record_of_a_variant() -> None:
    those = three(tasks=[TASK])
    results = variant_results(those, items_of(those, rows()))
    assert [one.tasks for one in results] == [(), (TaskResult(**TASK),), ()]
