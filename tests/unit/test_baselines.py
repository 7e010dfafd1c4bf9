"""Baselines: one constant answer and an echo, by hand and against a plain recount."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftbench.common.errors import SftbenchError
from sftbench.facts.baselines import Baseline, baselines_of, of_record, to_record
from sftbench.facts.geography import load_geography
from sftbench.facts.matching import answer_in_question, is_right
from sftbench.facts.reference import resolve_facts
from sftbench.facts.summary import baseline_rows
from sftbench.facts.table import ANSWER_IN_QUESTION, FACTS, IN_TRAIN, FactSet

pytestmark = pytest.mark.unit


def row(number: int, *answers: str, **changed: Any) -> dict[str, Any]:
    return {
        "fact_id": f"{number:016x}",
        "relation": "country",
        "subject": f"place {number}",
        "question": f"In which country is place {number}?",
        "answers": list(answers),
        "domain": "in",
        "split": "test",
        "flags": [],
    } | changed


def table(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict(FACTS.columns))


def test_shares_of_the_scored_and_of_all_test_facts() -> None:
    frame = table(
        row(1, "Veldria"),
        row(2, "Veldria"),
        row(3, "Republic of Ostmar", "Veldria"),  # right for a synonym
        row(4, "Kessia"),
        row(5, "Kessia", question="Where is Kessia Bridge?", flags=[ANSWER_IN_QUESTION]),
        row(6, "Kessia", flags=[IN_TRAIN]),
        row(7, "Kessia", split="train"),
        row(8, "Tove", relation="spouse", split="train"),
    )
    found = baselines_of(frame)
    assert found["country"] == Baseline(
        majority_answer="Veldria",
        majority=3 / 4,
        echo=1 / 6,
        scored=4,
        facts=6,
        majority_of_all=3 / 6,
        echo_of_scored=0.0,
    )
    assert found["spouse"] == Baseline("", 0.0, 0.0, 0, 0, 0.0, 0.0)
    shown = baseline_rows(FactSet(frame, {}, {}))
    assert shown.rows() == [("country", "Veldria", 0.75, 1 / 6, 0.0)]


def test_without_a_scored_fact_the_answer_is_that_of_all() -> None:
    (found,) = baselines_of(table(row(1, "Quell", flags=[IN_TRAIN]))).values()
    assert (found.majority_answer, found.majority, found.majority_of_all) == ("Quell", 0.0, 1.0)


def test_an_echo_needs_words_or_letters() -> None:
    frame = table(row(1, "Niger", question="Where is Nigeria's capital?"))
    assert baselines_of(frame)["country"].echo == 0.0
    assert baselines_of(frame, "strict-paper")["country"].echo == 1.0


facts = st.lists(
    st.tuples(
        st.sampled_from(["Oslo", "Bern", "Lima", "Riga"]),
        st.sampled_from(["train", "test", "test"]),
        st.sampled_from([(), (), (IN_TRAIN,)]),
        st.booleans(),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(facts)
def test_a_plain_recount_agrees(drawn: list[tuple[str, str, tuple[str, ...], bool]]) -> None:
    rows = [
        row(
            number,
            answer,
            split=split,
            flags=list(flags),
            question=f"Is {answer} it?" if echoes else "What is it?",
        )
        for number, (answer, split, flags, echoes) in enumerate(drawn)
    ]
    test = [one for one in rows if one["split"] == "test"]
    scored = [one for one in test if not one["flags"]]
    found = baselines_of(table(*rows)).get("country")
    if not rows:
        assert found is None
        return
    assert found is not None
    assert (found.facts, found.scored) == (len(test), len(scored))
    counted = Counter(one["answers"][0] for one in scored or test)
    if counted:
        assert counted[found.majority_answer] == max(counted.values())
    for share, chosen in ((found.majority, scored), (found.majority_of_all, test)):
        right = [is_right(found.majority_answer, one["answers"]) for one in chosen]
        assert share == (sum(right) / len(right) if right else 0.0)
    for share, chosen in ((found.echo_of_scored, scored), (found.echo, test)):
        echoed = [answer_in_question(one["question"], one["answers"]) for one in chosen]
        assert share == (sum(echoed) / len(echoed) if echoed else 0.0)


def test_the_record_keeps_them_and_an_old_table_computes_them(tmp_path: Path) -> None:
    frame = table(row(1, "Veldria"), row(2, "Veldria"))
    made = FactSet(frame, {}, {"name": "toy"})
    path = tmp_path / "facts.parquet"
    made.write(path)
    read = FactSet.read(path)
    assert read.stored_baselines == read.baselines == made.baselines
    assert read.digest == made.digest
    FACTS.write(frame, path, {"digest": made.digest, "templates": {}, "source": {}})
    old = FactSet.read(path)
    assert old.stored_baselines is None
    assert old.baselines == made.baselines


def test_a_record_of_another_form_is_refused() -> None:
    good = to_record(baselines_of(table(row(1, "Veldria"))))
    assert of_record(good)["country"].majority == 1.0
    del good["country"]["echo"]
    with pytest.raises(SftbenchError, match="not a baseline"):
        of_record(good)


def test_the_shipped_tables_have_the_digests_they_always_had() -> None:
    geography = load_geography()
    assert geography.digest == "68ba9ee291127d6cab845eccd6b6902c"
    assert geography.baselines["country_continent"].majority_answer == "Africa"
    assert 0.2 < geography.baselines["country_continent"].majority < 0.4
    lab = resolve_facts("lab")
    assert set(lab.baselines) == set(lab.frame["relation"])
