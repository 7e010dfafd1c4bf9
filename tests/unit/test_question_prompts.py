"""Mastery without cloze templates: 21 prompts, the first line counts, cards are kept apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from lands import TEMPLATES, land

from sftbench.common.errors import SftbenchError
from sftbench.engines.protocol import Completion, Draws, Sampling
from sftbench.facts.shots import reserve_shots, shots_of
from sftbench.facts.table import FACTS, FactSet
from sftbench.mastery.choose import SAYS, WITHOUT_TEMPLATES, estimator_for
from sftbench.mastery.estimate import make_card
from sftbench.mastery.question_prompts import WORDINGS, QuestionEstimator, prompts_of
from sftbench.mastery.sampled import SampledEstimator

pytestmark = pytest.mark.unit


def fact_set(train: int = 60, test: int = 8, templates: Any = None) -> FactSet:
    rows = [land(i, "in", "train" if i < train else "test") for i in range(train + test)]
    frame = reserve_shots(pl.DataFrame(rows, schema=dict(FACTS.columns))).sort("fact_id")
    return FactSet(frame, templates or {}, {"name": "lands"})


class Parrot:
    """An engine that completes every prompt with one text, and keeps what it was asked."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.draws: list[Draws] = []

    def describe(self) -> dict[str, str]:
        return {"engine": "parrot", "dtype": "float32"}

    def sample(self, draws: Sequence[Draws], how: Sampling) -> Iterator[list[Completion]]:
        assert (how.temperature, how.max_new_tokens) == (0.7, 32)
        for draw in draws:
            self.draws.append(draw)
            yield [Completion(self.text, "stop", 3)] * draw.n


def test_every_wording_is_shown_with_three_sets_of_four_examples() -> None:
    facts = fact_set()
    prompts = prompts_of(shots_of(facts), "capital")
    texts = [prompt.ask("What is {question} {subject}?") for prompt in prompts]
    assert len(set(texts)) == 21
    assert len({prompt.wording for prompt in prompts}) == len(WORDINGS) == 7
    reserved = [shot for shots in shots_of(facts).by_relation["capital"].values() for shot in shots]
    for prompt, text in zip(prompts, texts, strict=True):
        shown = [shot for shot in reserved if shot.question in text]
        assert len(shown) == 4
        assert all(f" {shot.answer}\n\n" in prompt.examples for shot in shown)
        assert text.count("What is {question} {subject}?") == 1
        assert text == text.rstrip()


def test_one_set_is_shown_in_three_orders() -> None:
    one = fact_set(train=14)  # 12 facts in three sets of four
    kept = one.frame.filter(~pl.col("flags").list.contains("shot_2"))
    kept = kept.filter(~pl.col("flags").list.contains("shot_3"))
    prompts = prompts_of(shots_of(FactSet(kept, {}, {})), "capital")
    assert len({prompt.ask("Q?") for prompt in prompts}) == 21


def test_too_few_train_facts_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(SftbenchError, match="too few train facts") as raised:
        QuestionEstimator(fact_set(train=2))
    assert "--templates" in str(raised.value)


def hits_of(text: str, facts: FactSet | None = None) -> list[list[bool]]:
    facts = facts or fact_set()
    row = facts.frame.filter(pl.col("subject") == "Land60").row(0, named=True)
    (found,) = QuestionEstimator(facts, samples=2).estimate(Parrot(text), [row], {})
    assert found.hits is not None
    return found.hits


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (" Town60", True),
        ("\n\n Town60.\nQuestion: What next?", True),
        (" Oslo\n\nQuestion: What is the capital of Land60?\nAnswer: Town60", False),
        (" Town600", False),
        ("", False),
    ],
)
def test_only_the_first_line_counts(text: str, right: bool) -> None:
    assert hits_of(text) == [[right, right]] * 21


def test_a_completion_ends_when_its_line_or_its_answer_is_whole() -> None:
    facts = fact_set()
    row = facts.frame.filter(pl.col("subject") == "Land60").row(0, named=True)
    engine = Parrot(" x")
    list(QuestionEstimator(facts).estimate(engine, [row], {}))
    ended = engine.draws[0].found
    assert ended is not None
    text = "\n Oslo\n\nAnswer: Town60, of course"
    states = [ended(text[:length]) for length in range(len(text) + 1)]
    assert states == sorted(states)  # never from True to False
    assert states.index(True) == len("\n Oslo\n")
    assert not ended(" Town60")  # "Town600" may come
    assert ended(" Town60,")


def test_seeds_depend_on_fact_prompt_and_seed_alone() -> None:
    facts = fact_set()
    rows = facts.scored().to_dicts()
    seeds = []
    for order, seed in ((rows, 0), (rows[::-1][:3], 0), (rows, 1)):
        engine = Parrot(" x")
        list(QuestionEstimator(facts, seed=seed).estimate(engine, order, {}))
        seeds.append({draw.prompt: draw.seed for draw in engine.draws})
    assert len(set(seeds[0].values())) == len(seeds[0]) == 21 * len(rows)
    assert seeds[1].items() <= seeds[0].items()
    assert not set(seeds[2].values()) & set(seeds[0].values())


def test_the_card_says_how_it_was_made(tmp_path: Path) -> None:
    facts = fact_set()
    estimator, said = estimator_for(facts, samples=2)
    assert said == WITHOUT_TEMPLATES
    card = make_card(
        Parrot(" Town60"),
        facts,
        estimator,
        model_name="parrot",
        model_digest="0" * 32,
        output=tmp_path / "card.parquet",
    )
    made = card.record["settings"]
    assert made["estimator"] == "question-prompts"
    assert (made["wordings"], made["shot_sets"], made["shots"]) == (7, 3, 4)
    assert set(card.frame["draws"]) == {42}
    assert card.level_counts()[4] == 1


def test_other_examples_are_another_measurement() -> None:
    one, other = fact_set(), fact_set(train=80)
    settings = [QuestionEstimator(facts).settings() for facts in (one, one, other)]
    assert settings[0] == settings[1]
    assert settings[0]["prompts_digest"] != settings[2]["prompts_digest"]


def test_cloze_templates_are_used_where_every_relation_has_them() -> None:
    estimator, said = estimator_for(fact_set(templates=TEMPLATES), how="strict-paper", seed=3)
    assert estimator == SampledEstimator(how="strict-paper", seed=3)
    assert said == SAYS["sampled"]


def test_relations_with_and_without_templates_are_not_mixed() -> None:
    facts = fact_set(templates=TEMPLATES)
    more = facts.frame.with_columns(
        relation=pl.lit("river"), fact_id=pl.col("fact_id").str.reverse()
    )
    mixed = FactSet(pl.concat([facts.frame, more]), TEMPLATES, {})
    with pytest.raises(SftbenchError, match=r"others have none \(river\)"):
        estimator_for(mixed)
