"""A result scored again without a model, and the original left as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from fakes import FACT_COUNT, card_for

from sftbench.common.errors import SftbenchError
from sftbench.compare.request import Request
from sftbench.compare.rescored import Rescoring, rescore_result
from sftbench.compare.result import Compared
from sftbench.facts.table import FactSet
from sftbench.scoring.answers import ANSWERS

pytestmark = pytest.mark.unit


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def with_alias(facts: FactSet, alias: str) -> FactSet:
    wider = pl.col("answers").list.concat(pl.lit([alias]))
    return FactSet(facts.frame.with_columns(wider), facts.templates, {"name": "wider"})


def test_scoring_again_alike_gives_the_same(
    compared: Compared, request_: Request, tmp_path: Path
) -> None:
    before = files_of(request_.out)
    again = rescore_result(request_.out, tmp_path / "again", Rescoring(), "sftbench rescore out")
    assert again.summary.variants == compared.summary.variants
    assert again.lost.equals(compared.lost)
    assert files_of(request_.out) == before
    run = compared.summary.run
    assert again.summary.rescored_from == f"{request_.out} (key {run.key[:12]})"
    assert again.summary.warnings[0].startswith(f"Scored again from the answers in {request_.out}")
    assert again.summary.run.command == "sftbench rescore out"
    written = json.loads((tmp_path / "again" / "summary.json").read_text())
    assert written["rescored_from"] == again.summary.rescored_from
    assert {"report.html", "lost.csv", "gained.csv", "facts.parquet"} < set(
        files_of(tmp_path / "again")
    )


def test_other_aliases_change_what_is_right(
    compared: Compared, request_: Request, tmp_path: Path
) -> None:
    wider = with_alias(request_.facts, "nothing")
    again = rescore_result(request_.out, tmp_path / "again", Rescoring(facts=wider)).summary
    assert [one.macro for one in again.tuned.domains] == [1.0, 1.0]
    assert again.run.facts.name == "wider"
    assert again.run.key != compared.summary.run.key
    frame, _ = ANSWERS.read(tmp_path / "again" / "answers" / "tuned.parquet")
    assert frame["correct"].all()


def test_other_matching_is_recorded(compared: Compared, request_: Request, tmp_path: Path) -> None:
    assert compared.summary.run.prompt.how == "strict-paper"
    again = rescore_result(request_.out, tmp_path / "again", Rescoring(matching="words")).summary
    assert again.run.prompt.how == "words"
    assert "matching words (was strict-paper)" in again.warnings[0]


def test_a_rescored_result_keeps_its_matching_and_its_key_names_the_facts(
    compared: Compared, request_: Request, tmp_path: Path
) -> None:
    # By words an answer in capitals is right; by plain substring it is not.
    first = rescore_result(request_.out, tmp_path / "first", Rescoring(matching="words")).summary
    for path in (tmp_path / "first" / "answers").iterdir():
        frame, record = ANSWERS.read(path)
        ANSWERS.write(frame.with_columns(pl.col("text").str.to_uppercase()), path, record)
    second = rescore_result(tmp_path / "first", tmp_path / "second", Rescoring()).summary
    wider = with_alias(request_.facts, "nothing")
    third = rescore_result(tmp_path / "first", tmp_path / "third", Rescoring(facts=wider)).summary

    assert second.run.prompt.how == "words"
    assert [one.macro for one in second.base.domains] == [one.macro for one in first.base.domains]
    assert "matching words (as before)" in second.warnings[0]
    assert third.run.key != second.run.key


def test_other_levels_move_the_facts(compared: Compared, request_: Request, tmp_path: Path) -> None:
    card = card_for(request_.facts, compared.summary.run.base.digest, shift=1)
    part = replace(card, frame=card.frame.head(30))
    again = rescore_result(request_.out, tmp_path / "again", Rescoring(card=part)).summary
    assert again.run.card["digest"] == part.digest
    assert (again.run.facts.asked, again.run.facts.unlevelled) == (30, FACT_COUNT - 30)
    assert "10 facts without a level in that card are left out" in again.warnings[0]
    frame, _ = ANSWERS.read(tmp_path / "again" / "answers" / "base.parquet")
    assert frame.height == 30


def test_what_does_not_belong_to_the_result_is_an_error(
    compared: Compared, request_: Request, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    with pytest.raises(SftbenchError, match=r"is for other base .digest eeeeeeeeeeee"):
        rescore_result(request_.out, out, Rescoring(card=card_for(request_.facts, "e" * 32)))
    other = replace(request_.facts, frame=request_.facts.frame.head(30))
    with pytest.raises(SftbenchError, match="holds only 30 of the 40 facts that were asked"):
        rescore_result(request_.out, out, Rescoring(facts=other))
    with pytest.raises(SftbenchError, match="already exists"):
        rescore_result(request_.out, request_.out, Rescoring())
    assert not out.exists()


def test_a_folder_without_a_whole_result_is_an_error(request_: Request, tmp_path: Path) -> None:
    with pytest.raises(SftbenchError, match=r"no summary\.json, so this is no result"):
        rescore_result(request_.base, tmp_path / "again", Rescoring())


def test_a_result_without_its_facts_says_how_to_get_them(
    compared: Compared, request_: Request, tmp_path: Path
) -> None:
    (request_.out / "facts.parquet").unlink()
    with pytest.raises(SftbenchError, match=r"(?s)facts\.parquet, .*command of this result again"):
        rescore_result(request_.out, tmp_path / "again", Rescoring())


def test_a_rescored_result_can_be_scored_again_but_not_resumed(
    compared: Compared, request_: Request, tmp_path: Path
) -> None:
    first = rescore_result(request_.out, tmp_path / "one", Rescoring())
    second = rescore_result(tmp_path / "one", tmp_path / "two", Rescoring())
    assert second.summary.variants == first.summary.variants
    assert not (tmp_path / "one" / "run.json").exists()
