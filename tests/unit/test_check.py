"""The check: facts, levels and size are chosen, noted and said; a resumed check asks no more."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import FACT_COUNT, FakeEngine, card_for, fact_set, factory_of, never, write_model
from two_models import relative
from typer.main import get_command

from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.checkpoints.pair import Pair
from sftbench.cli.app import app
from sftbench.cli.check import check
from sftbench.common.errors import SftbenchError
from sftbench.compare import budget
from sftbench.compare.check import run_check
from sftbench.compare.check_request import CheckRequest
from sftbench.compare.levels import cautions_of_levels
from sftbench.compare.request import Request
from sftbench.compare.verdict import sentences, telling_facts
from sftbench.engines.protocol import Completion, Draws, Sampling
from sftbench.engines.settings import EngineSettings, parse_engine
from sftbench.facts.prompts import PROMPTS
from sftbench.mastery.card import MasteryCard
from sftbench.report.words import MINUS

pytestmark = pytest.mark.unit


class Drawing(FakeEngine):
    """Completes a cloze template with the answer where the fact is known."""

    draws = 0

    def sample(self, draws: Sequence[Draws], how: Sampling) -> Iterator[list[Completion]]:
        for one in draws:
            self.draws += 1
            number = int(one.prompt)
            text = f"Answer{number}" if number < 30 else "no idea"
            yield [Completion(text, "stop", 1)] * one.n


@pytest.fixture
def wanted(request_: Request, tmp_path: Path) -> CheckRequest:
    """Return a check of the tiny models whose facts and card are files."""
    facts = fact_set()
    facts.write(tmp_path / "facts.parquet")
    card_for(facts, checkpoint_digest(request_.base)).write(tmp_path / "card.parquet")
    return CheckRequest(
        models=Pair(request_.base, request_.tuned, "tiny", "mine", ("The base is tiny.",)),
        out=tmp_path / "check",
        budget=600.0,
        facts=str(tmp_path / "facts.parquet"),
        mastery=str(tmp_path / "card.parquet"),
        restored=relative(10, 20),
        prompt=PROMPTS["paper"],
    )


def test_a_check_asks_what_fits_and_says_what_it_chose(wanted: CheckRequest) -> None:
    told: list[str] = []
    checked = run_check(wanted, factory_of(FakeEngine()), told.append)
    summary = checked.compared.summary
    assert summary.run.facts.asked == FACT_COUNT
    assert summary.run.facts.limit is None
    assert told[0] == "The base is tiny."
    assert told[1] == "The levels are those of the mastery card of tiny on numbers (40 facts)."
    assert f"all {FACT_COUNT} levelled facts are asked of 4 models" in told[3]
    assert told.count("The base is tiny.") == 1
    assert told[-1].endswith("of the 10.0 min given.")
    assert checked.folder == wanted.out / "compare"


def test_too_little_time_asks_the_fewest_facts_and_says_so(wanted: CheckRequest) -> None:
    told: list[str] = []
    checked = run_check(replace(wanted, budget=1e-6), factory_of(FakeEngine()), told.append)
    assert checked.compared.summary.run.facts.asked == budget.FEWEST_FACTS
    assert "20 of 40 levelled facts, balanced over level and domain," in told[3]
    assert told[3].endswith("The time given is used up, but fewer than 20 would say nothing.")
    known = sum(one.retention.known for one in checked.compared.summary.tuned.domains)
    assert 0 < known < 20
    assert told[-2].startswith(f"What was kept rests on the {known} facts of level 1 to 4 ")


def test_a_slow_model_is_said_to_need_more_than_is_left(
    wanted: CheckRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = budget.Speed(fact=10.0, read=0.0, scalars=0)
    monkeypatch.setattr("sftbench.compare.check.measure", lambda *_: slow)
    told: list[str] = []
    run_check(replace(wanted, budget=1200.0, restored=()), factory_of(FakeEngine()), told.append)
    assert told[3].endswith("are asked of 2 models, in about 13.3 min.")
    assert "all 40 levelled facts" in told[3]
    told.clear()
    short = replace(wanted, budget=302.0, restored=(), out=wanted.out.with_name("short"))
    run_check(short, factory_of(FakeEngine()), told.append)
    assert "20 of 40 levelled facts" in told[3]
    assert told[3].endswith(
        "in about 6.7 min. That is more than the 5.0 min left, but fewer than 20 would say nothing."
    )


def test_a_resumed_check_keeps_its_size_and_asks_nothing(wanted: CheckRequest) -> None:
    first = run_check(replace(wanted, budget=1e-6), factory_of(FakeEngine()), lambda _: None)
    told: list[str] = []
    again = run_check(wanted, never, told.append)
    assert again.compared.summary.variants == first.compared.summary.variants
    assert "As before, 20 of 40 levelled facts are asked." in told


def test_one_engine_measures_and_answers(wanted: CheckRequest) -> None:
    engine = FakeEngine()
    made = []

    def factory(path, settings):  # type: ignore[no-untyped-def]
        made.append(path)
        return engine.start(path)

    run_check(wanted, factory, lambda _: None)
    assert made == [wanted.models.base]
    assert engine.closed


def test_a_folder_of_another_check_is_left_alone(wanted: CheckRequest, tmp_path: Path) -> None:
    run_check(wanted, factory_of(FakeEngine()), lambda _: None)
    other = write_model(tmp_path / "other", [1.0] * 40)
    models = replace(wanted.models, tuned=other)
    with pytest.raises(SftbenchError, match="holds the check of other models, facts or settings"):
        run_check(replace(wanted, models=models), never, lambda _: None)
    wanted.out.joinpath("check.json").unlink()
    with pytest.raises(SftbenchError, match="already exists"):
        run_check(wanted, never, lambda _: None)


def test_without_a_card_test_facts_are_levelled_first(wanted: CheckRequest) -> None:
    told: list[str] = []
    engine = Drawing()
    run_check(replace(wanted, mastery=None), factory_of(engine), told.append)
    assert told[1] == "Mastery: sampled completions of 21 cloze templates."
    assert told[2].startswith(
        "No mastery card ships for this base on numbers: 40 of 40 test facts are levelled first"
    )
    card = MasteryCard.read(wanted.out / "card.parquet")
    assert card.level_counts() == {0: 10, 1: 0, 2: 0, 3: 0, 4: 30}
    assert card.record["facts_digest"] == fact_set().digest
    assert sorted(path.name for path in wanted.out.iterdir()) == [
        "card.parquet", "check.json", "compare",
    ]  # fmt: skip
    told.clear()
    run_check(replace(wanted, mastery=None), never, told.append)
    assert told[1].startswith("As before, the levels are those of ")


def test_levels_made_in_too_little_time_are_warned_of(wanted: CheckRequest) -> None:
    told: list[str] = []
    request = replace(wanted, mastery=None, budget=1e-6)
    checked = run_check(request, factory_of(Drawing()), told.append)
    facts = checked.compared.summary.run.facts
    assert (facts.asked, facts.limit, facts.unlevelled) == (20, None, 20)
    assert "20 of 40 test facts are levelled first" in told[2]
    assert told[2].endswith(
        "more than levelling's share of the time given, but fewer than 20 would say nothing."
    )
    assert told[-2].startswith("What was kept rests on the ")
    assert told[-2].endswith("see the commands at the end.")
    steps = dict(checked.next_steps)
    assert list(steps)[:2] == ["the levels of all facts", "all facts, after that"]
    card = f"{wanted.out}-card.parquet"
    assert shlex.split(steps["the levels of all facts"]) == [
        "sftbench", "mastery", "--model", "tiny", "--facts", str(wanted.facts), "--engine", "hf",
        "--output", card,
    ]  # fmt: skip
    assert f"--mastery {card} " in steps["all facts, after that"]
    assert "--limit" not in steps["all facts, after that"]


def test_levels_from_question_prompts_are_warned_of() -> None:
    card = card_for(fact_set(), "0" * 32)
    for name, warned in (("sampled", False), ("question-prompts", True)):
        made = replace(card, record={**card.record, "settings": {"estimator": name}})
        lines = cautions_of_levels(made)
        assert [line.startswith("The levels come from question prompts") for line in lines] == (
            [True] if warned else []
        )


def test_a_killed_levelling_goes_on(wanted: CheckRequest) -> None:
    class Killed(Drawing):
        def sample(self, draws: Sequence[Draws], how: Sampling) -> Iterator[list[Completion]]:
            for place, one in enumerate(super().sample(draws, how)):
                if place == 12:
                    raise KeyboardInterrupt
                yield one

    request = replace(wanted, mastery=None)
    with pytest.raises(KeyboardInterrupt):
        run_check(request, factory_of(Killed()), lambda _: None)
    noted = json.loads((wanted.out / "check.json").read_text())
    assert noted["levelled"] == 40
    engine = Drawing()
    run_check(request, factory_of(engine), lambda _: None)
    assert engine.draws == 28


def plain(text: str) -> str:
    """Return a sentence with ordinary spaces."""
    return text.replace("\N{NARROW NO-BREAK SPACE}", " ").replace("\N{NO-BREAK SPACE}", " ")


def test_the_verdict_has_sentences_with_their_intervals(wanted: CheckRequest) -> None:
    summary = run_check(wanted, factory_of(FakeEngine()), lambda _: None).compared.summary
    kept, right, restored = map(plain, sentences(summary))
    assert kept.startswith("The fine-tune kept ")
    change = f"75 % [51, 90] to 65 % [41, 83], {MINUS}10 points [{MINUS}37, +19], exact p 0.69"
    assert right == (
        "Of 40 facts the base answers 30 right and mine 26: 8 lost, 4 gained "
        f"(in-domain {change}; out-of-domain {change})."
    )
    # In each domain 4 are lost and 2 gained of 20: exactly 2 (1 + 6 + 15) / 2^6.
    assert right.count("exact p 0.69") == 2
    assert restored == (
        "Of 8 lost facts, setting back 10 % of the parameters brings back 4 and keeps 4 of 4 "
        "gained; 20 % brings back 8 and keeps 4 of 4 gained."
    )


def test_the_verdict_says_what_noise_of_its_size_does(wanted: CheckRequest) -> None:
    engine = FakeEngine()
    checked = run_check(replace(wanted, noise=3), factory_of(engine), lambda _: None)
    said = sentences(checked.compared.summary)
    assert len(said) == 4
    assert "3 draws" in plain(said[1])
    assert "--noise 3 " in dict(checked.next_steps)["what it was tuned for"]
    assert [one.name for one in checked.compared.summary.perturbed] == [
        "base+noise(1)", "base+noise(2)", "base+noise(3)",
    ]  # fmt: skip


def test_no_restore_and_no_loss_are_said(wanted: CheckRequest, tmp_path: Path) -> None:
    unrestored = run_check(replace(wanted, restored=()), factory_of(FakeEngine()), lambda _: None)
    assert sentences(unrestored.compared.summary)[-1].startswith("No restore was tried")
    models = replace(wanted.models, tuned=wanted.models.base)
    same = replace(wanted, models=models, out=tmp_path / "same")
    copy = run_check(same, factory_of(FakeEngine()), lambda _: None)
    assert sentences(copy.compared.summary)[-1].startswith("There is nothing to restore")
    assert not any("restored" in purpose for purpose, _ in copy.next_steps)


def test_only_percentages_that_healed_are_offered(wanted: CheckRequest) -> None:
    request = replace(wanted, restored=relative(0.1, 12.5))
    checked = run_check(request, factory_of(FakeEngine()), lambda _: None)
    assert "--percent 12.5 " in dict(checked.next_steps)["a restored model"]


@pytest.mark.parametrize(
    "settings",
    [
        EngineSettings(),
        EngineSettings("hf", "bfloat16", 4, (("device", "cpu"), ("sample_rows", 8))),
        EngineSettings("vllm", "float16", 32, (("hf_overrides", '{"a":1,"b":"x, y"}'), ("x", 0.5))),
    ],
)
def test_the_commands_name_the_engine_that_answered(
    wanted: CheckRequest, settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sftbench.engines.settings.vllm_installed", lambda: True)
    request = replace(wanted, engine=settings, budget=1e-6)
    checked = run_check(request, factory_of(FakeEngine()), lambda _: None)
    steps = dict(checked.next_steps)
    commands = (
        checked.compared.summary.run.command, steps["all facts"], steps["what it was tuned for"],
    )  # fmt: skip
    for command in commands:
        assert _parsed_engine(command) == settings
    assert ("--batch-size" in commands[0]) == (settings != EngineSettings())


def _parsed_engine(command: str) -> EngineSettings:
    """Return the settings that `sftbench compare` makes of a printed command line."""
    words = shlex.split(command)
    verb = get_command(app).commands[words[1]]  # type: ignore[attr-defined]
    found = verb.make_context(words[1], words[2:])
    names = {"name": "engine", "dtype": "dtype", "batch_size": "batch_size"}
    given = {name: found.params[flag] for name, flag in names.items()}
    return parse_engine(**given, options=found.params["engine_options"])


def test_the_facts_that_tell_most_come_first(wanted: CheckRequest) -> None:
    compared = run_check(wanted, factory_of(FakeEngine()), lambda _: None).compared
    facts = telling_facts(compared.lost, shown=3)
    assert [fact["level"] for fact in facts] == ["3", "3", "2"]
    assert facts[0]["after"] == "<nothing>"
    assert facts[0]["change"] == "+0.0"
    # The order is that of lost.csv and the page, whatever else could be sorted by.
    turned = telling_facts(compared.lost.reverse(), shown=compared.lost.height)
    assert [fact["question"] for fact in turned] == compared.lost["question"].to_list()[::-1]


def test_the_commands_that_follow_name_the_same_things(wanted: CheckRequest) -> None:
    checked = run_check(replace(wanted, budget=1e-6), factory_of(FakeEngine()), lambda _: None)
    steps = dict(checked.next_steps)
    assert list(steps) == [
        "all facts", "what kind of loss it is", "what it was tuned for", "the restored models",
        "the paper's matching",
    ]  # fmt: skip
    assert "--percent 10,20" in steps["the restored models"]
    words = shlex.split(steps["all facts"])
    assert words[:6] == ["sftbench", "compare", "--base", "tiny", "--tuned", "mine"]
    assert "--limit" not in words
    assert words[words.index("--mastery") + 1] == wanted.mastery
    assert "--limit 20" in checked.compared.summary.run.command


def test_the_command_line_reads_its_flags_before_it_works() -> None:
    with pytest.raises(SftbenchError, match="is no length of time"):
        check("no-such-model", budget="soon")
    with pytest.raises(SftbenchError, match="exclude each other"):
        check("no-such-model", apply_chat_template=True, chat_for_tuned=True, engine="hf")
