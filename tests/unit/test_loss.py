"""Loss told apart, from the asking to the summary: with a fake engine that knows each kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from fakes import CHAT_TEMPLATE, FakeEngine, Scripted, fact_set, factory_of, never, write_tokenizer

from sftbench.analysis.loss import KindCounts, LossResult
from sftbench.common.errors import SftbenchError
from sftbench.compare.loss_result import LOSS
from sftbench.compare.request import Request
from sftbench.compare.rescored import Rescoring, rescore_result
from sftbench.compare.run import run
from sftbench.compare.verdict import sentences
from sftbench.engines.protocol import Advance, Completion, Draws, Sampling
from sftbench.facts.prompts import PROMPTS
from sftbench.facts.shots import shots_of
from sftbench.loss.again import TwoPaths
from sftbench.loss.confidence import own_confidence
from sftbench.loss.forms import BUDGET, Speaker, ask_in_forms
from sftbench.scoring.answers import ANSWERS

pytestmark = pytest.mark.unit

# The fine-tune of `fakes` turns the scalars of facts 0..7 into -9..-2.
FORMAT, KNOWLEDGE = (-9, -8), (-7, -6, -5)


class LosingEngine(FakeEngine):
    """Has lost the form of facts 0 and 1, the knowledge of 2 to 4, and the access to 5 to 7."""

    dies_at_form = False

    def greedy(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        stop: Sequence[str],
        advance: Advance | None = None,
    ) -> list[Completion]:
        found = super().greedy(prompts, max_new_tokens=max_new_tokens, stop=stop)
        if max_new_tokens != BUDGET:
            return found
        if self.dies_at_form:
            raise KeyboardInterrupt
        numbers = [int(prompt.split("number ")[-1].split("?")[0]) for prompt in prompts]
        return [
            Completion(f"Well, Answer{n}.", "stop", 9) if self.scalars[n] in FORMAT else one
            for n, one in zip(numbers, found, strict=True)
        ]

    def sample(self, draws: Sequence[Draws], how: Sampling) -> Iterator[list[Completion]]:
        for one in draws:
            number = int(one.prompt.split()[-1])
            known = self.scalars[number] not in (*FORMAT, *KNOWLEDGE)
            yield [
                Completion(f"Answer{number}" if known and child < 8 else "", "stop", 1)
                for child in range(one.n)
            ]


def told(request: Request, engine: FakeEngine) -> LossResult:
    result = run(replace(request, loss=True), factory_of(engine)).summary.loss
    assert result is not None
    return result


def counts(result: LossResult, variant: str) -> dict[str, int]:
    rows = [
        one.counts.model_dump()
        for one in (*result.kinds, *result.against_itself, *result.noise)
        if one.variant == variant
    ]
    return {name: sum(row[name] for row in rows) for name in KindCounts.model_fields}


def test_each_loss_is_of_its_kind(request_: Request) -> None:
    result = told(request_, LosingEngine())
    assert result.estimator == "sampled"
    assert counts(result, "tuned") == {
        "lost": 8, "format": 2, "access": 3, "knowledge": 3, "undecided": 0,
    }  # fmt: skip
    # The base against itself: the six that came in no other form, and none is less known.
    assert counts(result, "base") == {
        "lost": 6, "format": 0, "access": 6, "knowledge": 0, "undecided": 0,
    }  # fmt: skip
    # What both answer is known as before, and shown beside the losses.
    kept = [one.counts for one in result.kept]
    assert sum(one.lost for one in kept) == sum(one.access for one in kept) == 22
    # 10 % brings back facts 0..3: both losses of form and two of the three of knowledge.
    ten = "tuned+restore(relative,10%)"
    assert counts(result, ten)["knowledge"] == 1
    healed = {
        kind: (sum(one.lost for one in rows), sum(one.healed for one in rows))
        for kind in ("format", "access", "knowledge")
        if (rows := [one for one in result.healing if (one.variant, one.kind) == (ten, kind)])
    }
    assert healed == {"format": (2, 2), "access": (3, 0), "knowledge": (3, 2)}


def test_the_lost_facts_say_their_kind(request_: Request) -> None:
    compared = run(replace(request_, loss=True), factory_of(LosingEngine()))
    kinds = dict(compared.lost.select("question", "kind").iter_rows())
    assert kinds["What is number 1?"] == "format"
    assert kinds["What is number 3?"] == "knowledge"
    assert kinds["What is number 7?"] == "access"
    assert "kind" in pl.read_csv(request_.out / "lost.csv").columns
    frame, _ = LOSS.read(request_.out / "loss" / "kinds.parquet")
    mine = frame.filter(pl.col("variant") == "tuned")
    assert mine.height == 8
    lower = mine.filter(pl.col("kind") == "knowledge")
    assert (lower["high"] < 0).all()
    assert lower["before"].to_list() == [0.8] * 3
    assert mine.filter(pl.col("kind") == "format")["before"].null_count() == 2


def test_a_comparison_is_told_apart_later_and_not_asked_again(request_: Request) -> None:
    run(request_, factory_of(LosingEngine()))
    engine = LosingEngine()
    result = told(request_, engine)
    assert counts(result, "tuned")["lost"] == 8
    # The 8 that the tuned model and the 4 that the restored one lost, and 6 that both had wrong.
    assert len(engine.asked) == 18
    # From then on it stays told apart, and needs no engine.
    again = run(request_, never).summary.loss
    assert again == result


def test_a_killed_run_goes_on(request_: Request) -> None:
    dying = LosingEngine()
    dying.dies_at_form = True
    with pytest.raises(KeyboardInterrupt):
        told(request_, dying)
    assert not (request_.out / "loss" / "kinds.parquet").exists()
    engine = LosingEngine()
    assert counts(told(request_, engine), "tuned")["format"] == 2


def test_noise_is_told_apart_as_well(request_: Request) -> None:
    result = told(replace(request_, noise=2), LosingEngine())
    assert {one.variant for one in result.noise} == {"base+noise(1)"}


def test_every_fact_is_measured_again_where_asked(request_: Request) -> None:
    wanted = replace(request_, loss=True, remeasure=True)
    result = run(wanted, factory_of(LosingEngine())).summary.loss
    assert result is not None
    assert set(result.levels) == {"in", "out"}
    everything = result.levels["in"][-1]
    assert (everything.level, everything.n) == (None, 20)
    # 8 of 10 draws of the base; five of forty facts are gone from the tuned model.
    assert everything.before == pytest.approx(0.8)
    assert everything.after < everything.before
    assert sum(sum(row) for row in result.tables[0].after) == 20


def test_confidence_is_that_of_the_own_answer() -> None:
    engine = Scripted(lambda prompt: "")
    answers = ANSWERS.conform(
        pl.DataFrame(
            {
                **{name: ["a", "b", "c"] for name in ("fact_id", "prompt", "prompt_id")},
                "variant": ["base"] * 3,
                "variant_id": ["0"] * 3,
                "text": [" Paris", "", " New York"],
                "correct": [True, False, False],
                "finish": ["stop"] * 3,
                "answer_logprob": [-1.0] * 3,
                "answer_tokens": [1] * 3,
            }
        )
    )
    seen: list[int] = []
    frame = own_confidence(engine, answers, ["p", "q", "r"], advance=seen.append)
    assert engine.pairs == [("p", " Paris"), ("r", " New York")]
    assert frame["own_logprob"].to_list() == [-6.0, None, -9.0]
    assert sum(seen) == 3


def speaker(prompt: str, *, chat: bool = False, can_chat: bool = False) -> Speaker:
    facts = fact_set(shots=True)
    rows = facts.scored()
    return Speaker(
        PROMPTS[prompt],
        chat,
        {fact_id: f"asked {fact_id}" for fact_id in rows["fact_id"]},
        shots_of(facts),
        (lambda chats: [f"chat: {one[0]['content']}" for one in chats]) if can_chat else None,
    )


def test_the_further_forms_are_those_that_were_not_asked() -> None:
    assert speaker("fewshot").forms == ("longer", "paper")
    assert speaker("paper", can_chat=True).forms == ("longer", "fewshot", "chat")
    assert speaker("fewshot", chat=True, can_chat=True).forms == ("longer", "paper", "fewshot")
    without = replace(speaker("paper"), shots=None)
    assert without.forms == ("longer",)


def test_the_next_question_is_no_answer_but_a_line_break_is_no_end() -> None:
    rows = fact_set().scored().head(1)
    engine = Scripted(lambda prompt: "\n\nAnswer0 it is")
    frame = ask_in_forms(engine, rows, speaker("fewshot"), "tuned")
    assert frame["form"].to_list() == ["longer", "paper"]
    assert engine.budget == (BUDGET, ("<|question|>",))
    answer = rows["answers"][0][0]
    assert frame["right"].all() == (answer == "Answer0")


def test_two_paths_state_the_error_that_they_show() -> None:
    estimator = TwoPaths()
    assert estimator.error_of([[0.3, 0.3]] * 21) == 0.0
    spread = estimator.error_of([[0.3, 0.4], [0.4, 0.3]] * 10)
    # sqrt(20 * 0.01) / 40, widened from the normal to Student's t with 20 degrees of freedom.
    assert spread == pytest.approx(0.2**0.5 / 40 * 2.08596 / 1.95996, rel=1e-4)
    # All paths of one reading higher: what they share does not average out.
    assert estimator.error_of([[0.3, 0.4]] * 21) == pytest.approx(0.05 * 2.0796 / 1.95996, rel=1e-3)
    # One template alone carries the error: four degrees of freedom, and no fewer.
    alone = estimator.error_of([[0.9, 0.1]] + [[0.0, 0.0]] * 20)
    assert alone == pytest.approx(0.8 / 42 * 2.77645 / 1.95996, rel=1e-4)
    assert estimator.settings()["error"] == "of two paths"


def test_a_chat_template_is_one_more_form(request_: Request) -> None:
    write_tokenizer(Path(request_.tuned), chat=CHAT_TEMPLATE)
    result = told(request_, LosingEngine())
    assert result.forms == ("longer", "chat")


def test_a_foreign_journal_is_named(request_: Request) -> None:
    told(request_, LosingEngine())
    journal = request_.out / "loss" / "mastery" / "tuned-kind.jsonl"
    journal.write_text('{"key":"other"}\n')
    with pytest.raises(SftbenchError, match="another model, facts"):
        told(request_, LosingEngine())


def test_a_check_says_what_kind_of_loss_it_is(request_: Request) -> None:
    compared = run(replace(request_, loss=True), factory_of(LosingEngine()))
    said = " ".join(sentences(compared.summary))
    assert "1 is a matter of form" in said
    assert "less known" in said


def test_a_rescoring_says_that_kinds_are_left_out(request_: Request, tmp_path: Path) -> None:
    told(request_, LosingEngine())
    again = rescore_result(request_.out, tmp_path / "again", Rescoring(matching="words"))
    assert again.summary.loss is None
    assert any("kind of loss" in warning for warning in again.summary.warnings)


def test_other_templates_are_other_measurements(request_: Request) -> None:
    told(request_, LosingEngine())
    other = {**request_.facts.templates, "of_in": ["{subject}", "Number {subject}"]}
    facts = replace(request_.facts, templates=other)
    assert facts.digest == request_.facts.digest
    with pytest.raises(SftbenchError, match="facts, templates or settings"):
        told(replace(request_, facts=facts), LosingEngine())
