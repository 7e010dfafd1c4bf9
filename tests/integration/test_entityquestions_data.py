"""The real EntityQuestions: the paper's totals to the row, and what is known about its test set.

Runs where SFTBENCH_ENTITYQUESTIONS names the folder (or zip file) with the published files.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import polars as pl
import pytest

from sftbench.facts.baselines import baselines_of
from sftbench.facts.entityquestions import (
    PAPER_TOTALS,
    aliases,
    build_entityquestions,
    question_forms,
    totals_of,
)
from sftbench.facts.entityquestions_filter import IN_DOMAIN, OUT_OF_DOMAIN
from sftbench.facts.flags import majority_answers
from sftbench.facts.table import FACTS, IN_TRAIN, SHOTS, FactSet, has_flag

NAMED = os.environ.get("SFTBENCH_ENTITYQUESTIONS", "")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not NAMED, reason="SFTBENCH_ENTITYQUESTIONS is not set"),
]

DIGEST = "93c8cd8138c4f63786213654ffd6aeac"
"""Of all rows: who makes the table from the published files has the same facts."""


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(NAMED)


@pytest.fixture(scope="module")
def facts(folder: Path) -> FactSet:
    return build_entityquestions(folder)


def test_the_totals_of_the_paper(facts: FactSet) -> None:
    assert totals_of(facts) == PAPER_TOTALS
    assert facts.source["has_paper_totals"] is True
    kept = facts.frame.filter(pl.col("domain") == "out", pl.col("split") == "train")
    assert kept.height == 336  # 14 relations, 3 sets of 8
    assert kept.filter(has_flag(*SHOTS)).height == 336


def test_everyone_makes_the_same_facts(facts: FactSet) -> None:
    assert facts.digest == DIGEST


def test_the_leaks_that_are_known(facts: FactSet) -> None:
    assert facts.source["test_records_asked_in_train"] == 156
    assert facts.frame.filter(has_flag(IN_TRAIN)).height == 133
    assert facts.source["test_facts_asked_in_train"] == 133
    assert facts.source["test_facts_with_answer_in_question"] == 1_428
    assert facts.source["test_facts_with_a_train_subject"] == 1_095


def test_as_paper_scores_exactly_the_papers_facts(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "dataset.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("P*.json"):
            archive.write(file, f"dataset/{file.relative_to(folder).as_posix()}")
    paper = build_entityquestions(path, as_paper=True)
    assert paper.scored(split="train", domain="in").height == 75_944
    assert paper.scored(split="test", domain="in").height == 9_555
    assert paper.scored(split="test", domain="out").height == 11_613
    assert paper.frame.height == sum(PAPER_TOTALS.values())


def test_the_papers_synonyms_are_all_there(folder: Path) -> None:
    path = folder / "aliases.json"
    if not path.is_file():
        pytest.skip("the paper's table does not come with the published files")
    known = json.loads(path.read_text(encoding="utf-8"))
    assert {name: list(others) for name, others in aliases().items()} == known


def test_questions_are_the_data_sets_own(folder: Path) -> None:
    path = folder / "relation_query_templates.json"
    if not path.is_file():
        pytest.skip("the question forms do not come with the published files")
    known = json.loads(path.read_text(encoding="utf-8"))
    for relation, asked in question_forms().relations.items():
        assert asked.question == known[relation].replace("[X]", "{subject}")


def records_of(folder: Path, relation: str) -> pl.DataFrame:
    """Return all test records of a relation as facts, whatever their number of answers."""
    records = json.loads((folder / "test" / f"{relation}.test.json").read_text(encoding="utf-8"))
    rows = [
        {
            "fact_id": str(number),
            "relation": relation,
            "subject": "",
            **record,
            "domain": "in",
            "split": "test",
            "flags": [],
        }
        for number, record in enumerate(records)
    ]
    return pl.DataFrame(rows, schema=dict(FACTS.columns))


def test_baselines_of_all_test_records(folder: Path) -> None:
    """The shares that are known of the whole test files, by the paper's plain substring."""
    frame = pl.concat(records_of(folder, one) for one in (*IN_DOMAIN, *OUT_OF_DOMAIN))
    found = baselines_of(frame, "strict-paper")
    echoes = {"P36": 41.6, "P176": 29.9, "P276": 27.5, "P159": 11.8, "P131": 9.6}
    assert {name: round(100 * found[name].echo, 1) for name in echoes} == echoes
    majorities = {"P495": 71.9, "P413": 48.8, "P106": 29.6, "P407": 26.5, "P17": 21.9}
    assert {name: round(100 * found[name].majority, 1) for name in majorities} == majorities
    assert majority_answers(frame)["P495"] == found["P495"].majority_answer


def test_baselines_of_the_facts(facts: FactSet) -> None:
    """By words, of what is kept: an echo needs whole words, a majority counts synonyms."""
    found = facts.baselines
    echoes = {"P36": 38.9, "P176": 30.0, "P276": 28.1, "P159": 11.7, "P131": 9.6}
    assert {name: round(100 * found[name].echo, 1) for name in echoes} == echoes
    assert all(one.echo_of_scored == 0 for one in found.values())
    majorities = {"P495": 72.1, "P413": 48.9, "P106": 30.5, "P407": 25.7, "P17": 22.2}
    assert {name: round(100 * found[name].majority, 1) for name in majorities} == majorities
    assert found["P413"].majority_answer == "midfielder"
