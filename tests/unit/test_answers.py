"""The answers table: what is sent, what is kept, and rescoring without a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fakes import Scripted
from hypothesis import given, settings
from hypothesis import strategies as st

from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError
from sftbench.engines.protocol import Advance, Scored
from sftbench.facts.prompts import PROMPTS
from sftbench.facts.shots import Shot
from sftbench.facts.table import FACTS
from sftbench.scoring.answers import ANSWERS, Asked, ask, prompt_texts, rescore

pytestmark = pytest.mark.unit

SHOTS = [Shot(f"Shot {i}?", f"Answer {i}") for i in range(4)]


def facts() -> pl.DataFrame:
    rows = [
        ("b", "capital", "Chad", "What is the capital of Chad?", ["N'Djamena", "Ndjamena"]),
        ("a", "country", "Lyon", "In which country is Lyon?", ["France"]),
    ]
    names = ("fact_id", "relation", "subject", "question", "answers")
    frame = pl.DataFrame([dict(zip(names, row, strict=True)) for row in rows])
    return FACTS.conform(
        frame.with_columns(
            domain=pl.lit("in"), split=pl.lit("test"), flags=pl.lit([], dtype=pl.List(pl.String))
        )
    )


def asked(engine: Scripted, prompt: str = "fewshot", **more: Any) -> pl.DataFrame:
    texts = prompt_texts(facts(), PROMPTS[prompt], lambda *_: SHOTS)
    return ask(engine, facts(), PROMPTS[prompt], texts, Asked("tuned", "0" * 32), **more)


def test_each_fact_is_asked_and_its_canonical_answer_scored() -> None:
    engine = Scripted(lambda prompt: " Ndjamena" if "Chad" in prompt else " Germany")
    frame = asked(engine)
    assert frame.columns == list(ANSWERS.columns)
    assert frame["fact_id"].to_list() == ["b", "a"]  # the order of the facts given
    assert frame["correct"].to_list() == [True, False]
    assert frame["variant"].unique().to_list() == ["tuned"]
    assert engine.budget == (16, ("\n",))
    assert engine.pairs == list(zip(engine.prompts, [" N'Djamena", " France"], strict=True))
    assert frame["answer_logprob"].to_list() == [-10.0, -7.0]
    assert frame["answer_tokens"].to_list() == [1, 1]


def test_the_prompt_id_names_the_exact_text() -> None:
    engine = Scripted(lambda _: "")
    frame = asked(engine)
    assert frame["prompt_id"].to_list() == [digest_of(text) for text in engine.prompts]
    assert all("Shot 3?" in text for text in engine.prompts)


def test_a_zero_shot_prompt_needs_no_shots() -> None:
    def none(fact_id: str, relation: str) -> Sequence[Shot]:
        raise AssertionError(fact_id, relation)

    engine = Scripted(lambda _: " Paris is in France")
    texts = prompt_texts(facts(), PROMPTS["paper"], none)
    frame = ask(engine, facts(), PROMPTS["paper"], texts, Asked("base", "1" * 32))
    assert engine.prompts[1] == "<|question|> In which country is Lyon? <|answer|>"
    assert frame["correct"].to_list() == [False, True]


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_logprob_that_is_no_number_names_the_variant(value: float) -> None:
    class Broken(Scripted):
        def logprobs(
            self, pairs: Sequence[tuple[str, str]], *, advance: Advance | None = None
        ) -> list[Scored]:
            return [Scored(value, 1), *super().logprobs(pairs[1:])]

    with pytest.raises(SftbenchError, match=r"^tuned: 1 of 2 log-probabilities are NaN"):
        asked(Broken(lambda _: ""))


def test_progress_counts_every_fact_twice() -> None:
    steps: list[int] = []
    asked(Scripted(lambda _: ""), advance=steps.append)
    assert sum(steps) == 2 * facts().height


@pytest.mark.parametrize("prompt", list(PROMPTS))
@settings(deadline=None)
@given(text=st.one_of(st.text(max_size=30), st.sampled_from([" France", "N'Djamena.", " the us"])))
def test_rescoring_fresh_answers_changes_nothing(prompt: str, text: str) -> None:
    frame = asked(Scripted(lambda _: text), prompt)
    assert rescore(frame, facts()).equals(frame)


def test_rescoring_follows_the_aliases() -> None:
    frame = asked(Scripted(lambda _: " Frankreich"))
    wider = facts().with_columns(answers=pl.col("answers").list.concat(pl.lit(["Frankreich"])))
    assert frame["correct"].to_list() == [False, False]
    assert rescore(frame, wider)["correct"].to_list() == [True, True]


def test_rescoring_names_what_it_cannot_score() -> None:
    frame = asked(Scripted(lambda _: ""))
    with pytest.raises(SftbenchError, match=r"fact b: is answered .* not in the fact table"):
        rescore(frame, facts().filter(pl.col("fact_id") == "a"))
    with pytest.raises(SftbenchError, match="no prompt 'poem'; there is fewshot, paper"):
        rescore(frame.with_columns(prompt=pl.lit("poem")), facts())


def test_answers_survive_the_file(tmp_path: Path) -> None:
    frame = asked(Scripted(lambda _: " été\N{REPLACEMENT CHARACTER}"))
    ANSWERS.write(frame, tmp_path / "a.parquet", {"key": "k"})
    read, record = ANSWERS.read(tmp_path / "a.parquet")
    assert read.equals(frame)
    assert record["key"] == "k"
