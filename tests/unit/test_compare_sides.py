"""Base and tuned model asked each in its own way: other tokenizers, chat templates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import (
    CHAT_TEMPLATE,
    FACT_COUNT,
    FakeEngine,
    card_for,
    fact_set,
    factory_of,
    never,
    write_model,
    write_tokenizer,
)
from fakes import TUNED as TUNED_SCALARS

from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.checkpoints.variants import BASE, TUNED
from sftbench.common.errors import SftbenchError
from sftbench.compare.chat import Chat, write_chats
from sftbench.compare.plan import make_plan
from sftbench.compare.request import Request
from sftbench.compare.run import run
from sftbench.engines.protocol import Engine
from sftbench.engines.settings import EngineSettings
from sftbench.facts.prompts import PROMPTS
from sftbench.scoring.answers import ANSWERS

pytestmark = pytest.mark.unit

OTHER_TEMPLATE = CHAT_TEMPLATE.replace("<assistant>", "<model>")


class Workshop:
    """Makes fake engines and remembers which folder each is for, and what was open beside it."""

    def __init__(self) -> None:
        self.made: list[tuple[str, FakeEngine]] = []

    def __call__(self, path: Path, settings: EngineSettings) -> Engine:
        assert all(engine.closed for _, engine in self.made)
        self.made.append((path.name, FakeEngine()))
        return self.made[-1][1]


def test_one_tokenizer_is_one_engine(request_: Request) -> None:
    workshop = Workshop()
    run(request_, workshop)
    assert [(name, engine.loads) for name, engine in workshop.made] == [("base", 4)]
    assert workshop.made[0][1].closed


def test_another_tokenizer_has_an_engine_of_its_own_after_the_base_s(request_: Request) -> None:
    write_tokenizer(request_.tuned, more=["word"])
    workshop, told = Workshop(), list[str]()
    found = run(request_, workshop, told.append).summary
    assert [(name, engine.loads) for name, engine in workshop.made] == [("base", 1), ("tuned", 3)]
    assert told[0] == (
        "The two tokenizers differ: the tuned tokenizer adds 1 token: word; "
        "each side is asked through its own."
    )
    assert found.run.base.tokenizer_digest != found.run.tuned.tokenizer_digest
    assert workshop.made[0][1].asked == workshop.made[1][1].asked[:FACT_COUNT]  # the same text


@pytest.mark.parametrize("change", [{"rows": 3}, {"tie_word_embeddings": True}])
def test_other_shapes_or_heads_have_an_engine_of_their_own(
    request_: Request, tmp_path: Path, change: dict[str, Any]
) -> None:
    other = write_model(tmp_path / "other", TUNED_SCALARS, **change)
    workshop = Workshop()
    found = run(replace(request_, tuned=other), workshop).summary
    assert [(name, engine.loads) for name, engine in workshop.made] == [("base", 1), ("other", 3)]
    resized = [text for text in found.warnings if text.startswith("The vocabulary was resized")]
    assert len(resized) == ("rows" in change)
    assert found.restored[1].domains[0].repair is not None


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        ({"rope_theta": 5.0}, "rope_theta"),
        ({"rope_theta": 5.0, "rms_norm_eps": 1e-06, "dtype": "float32"}, "rope_theta"),
        ({"model_type": "own", "depth": 3}, "depth, model_type"),  # unknown to transformers
    ],
)
def test_another_configuration_has_an_engine_of_its_own(
    request_: Request, tmp_path: Path, config: dict[str, Any], keys: str
) -> None:
    other = write_model(tmp_path / "other", TUNED_SCALARS, **config)
    workshop = Workshop()
    found = run(replace(request_, tuned=other), workshop).summary
    assert [(name, engine.loads) for name, engine in workshop.made] == [("base", 1), ("other", 3)]
    assert found.warnings[0] == (
        f"The two config.json differ in {keys}; base and tuned model are each run with their own, "
        "and what is restored from the tuned model with the tuned model's."
    )


@pytest.mark.parametrize(
    "config",
    [
        {"torch_dtype": "bfloat16", "use_cache": False, "_name_or_path": "org/base"},
        {"rope_theta": 10000.0, "tie_word_embeddings": False},  # what transformers takes anyway
        {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}},
    ],
)
def test_a_configuration_that_computes_the_same_is_one_engine(
    request_: Request, tmp_path: Path, config: dict[str, Any]
) -> None:
    other = write_model(tmp_path / "other", TUNED_SCALARS, **config)
    plan = make_plan(replace(request_, tuned=other))
    assert plan.sides.one_engine
    assert plan.warnings == ()


def test_other_ends_of_text_have_an_engine_of_their_own(request_: Request) -> None:
    (request_.tuned / "generation_config.json").write_text('{"eos_token_id": [8, 7]}')
    plan = make_plan(request_)
    assert not plan.sides.one_engine
    assert plan.sides.engine_of(plan.variants[2]).path == request_.tuned
    assert plan.warnings == (
        "The base ends a text at the token ids 2, the tuned model's own files at 2, 7, 8; each "
        "ends at its own, and what is restored from the tuned model where the tuned model does.",
    )


def test_a_resumed_run_makes_only_the_engine_that_it_needs(request_: Request) -> None:
    write_tokenizer(request_.tuned, more=["word"])
    run(replace(request_, restored=()), Workshop())
    workshop = Workshop()
    run(request_, workshop)
    assert [(name, engine.loads) for name, engine in workshop.made] == [("tuned", 2)]


@pytest.mark.parametrize("which", ["base", "tuned"])
def test_both_tokenizers_belong_to_the_folder(request_: Request, which: str) -> None:
    run(request_, factory_of(FakeEngine()))
    write_tokenizer(getattr(request_, which), more=["word"])
    parts = json.loads((request_.out / "run.json").read_text())["parts"]
    assert {"tokenizer", "tokenizer of the tuned model"} < parts.keys()
    named = {"base": "tokenizer", "tuned": "tokenizer of the tuned model"}[which]
    with pytest.raises(SftbenchError, match=rf"holds a comparison with another {named}\n"):
        run(request_, never)


def chatting(request: Request, base: str | None, tuned: str | None) -> Request:
    """Return a few-shot request whose tokenizers have these chat templates."""
    write_tokenizer(request.base, chat=base)
    write_tokenizer(request.tuned, chat=tuned)
    facts = fact_set(shots=True)
    return replace(
        request,
        facts=facts,
        card=card_for(facts, checkpoint_digest(request.base)),
        prompt=PROMPTS["fewshot"],
        chat="all",
    )


def test_a_chat_shows_shots_as_turns_and_ends_where_the_answer_begins(request_: Request) -> None:
    plan = make_plan(chatting(request_, CHAT_TEMPLATE, CHAT_TEMPLATE))
    assert plan.sides.one_engine
    assert plan.sides.base.texts == plan.sides.tuned.texts
    text = plan.sides.of(TUNED).texts[0]
    assert text.count("<s>") == 1  # the template writes it; the engine must not add another
    assert text.count("<user>") == 5
    assert text.count("<assistant>") == 5
    assert text.startswith("<s><user>Question: What is number 4")
    assert text.endswith("Answer:<end><assistant>")


def test_the_answer_follows_a_chat_without_a_space(request_: Request) -> None:
    class Listening(FakeEngine):
        pairs: Sequence[tuple[str, str]] = ()

        def logprobs(self, pairs, *, advance=None):  # type: ignore[no-untyped-def]
            self.pairs = pairs
            return super().logprobs(pairs, advance=advance)

    engine = Listening()
    found = run(chatting(request_, CHAT_TEMPLATE, CHAT_TEMPLATE), factory_of(engine)).summary
    assert found.chat
    assert all(answer.startswith("Answer") for _, answer in engine.pairs)


def test_a_base_without_a_template_is_an_error_that_says_what_to_do(request_: Request) -> None:
    with pytest.raises(SftbenchError, match=r"(?s)base has no chat template.*template-to-tuned;"):
        make_plan(chatting(request_, None, CHAT_TEMPLATE))
    with pytest.raises(SftbenchError, match="tuned model has no chat template"):
        make_plan(chatting(request_, CHAT_TEMPLATE, None))


@pytest.mark.parametrize(
    ("chat", "flag"),
    [("all", "--apply-chat-template"), ("tuned", "--apply-chat-template-to-tuned")],
)
@pytest.mark.parametrize("template", [None, "{{ raise_exception('no') }}"])
def test_a_template_that_fails_names_the_flag_that_was_given(
    tmp_path: Path, chat: Chat, flag: str, template: str | None
) -> None:
    write_tokenizer(tmp_path, chat=template)
    with pytest.raises(SftbenchError) as caught:
        write_chats(tmp_path, "tuned model", [[{"role": "user", "content": "?"}]], chat)
    assert str(caught.value.remedy).startswith(f"Leave {flag} out, so that")


def test_only_the_tuned_side_may_chat_and_the_page_says_so(request_: Request) -> None:
    request = replace(chatting(request_, None, CHAT_TEMPLATE), chat="tuned")
    plan = make_plan(request)
    assert (plan.sides.of(BASE).chat, plan.sides.of(TUNED).chat) == (False, True)
    assert plan.sides.one_engine  # a template decides the text, not its ids
    assert "<user>" not in plan.sides.base.texts[0]
    assert any(text.startswith("The tuned model and what is restored") for text in plan.warnings)
    run(request, factory_of(FakeEngine()))
    ids = [
        ANSWERS.read(request.out / "answers" / f"{name}.parquet")[0]["prompt_id"]
        for name in ("base", "tuned")
    ]
    assert not set(ids[0]) & set(ids[1])


def test_templates_that_differ_are_said(request_: Request) -> None:
    plan = make_plan(chatting(request_, CHAT_TEMPLATE, OTHER_TEMPLATE))
    assert plan.sides.tuned.texts[0].endswith("<model>")
    assert any("different chat templates" in text for text in plan.warnings)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('Only a system turn may begin') }}", "Only a system turn may begin"),
        ("{% for message in messages %}", "TemplateSyntaxError"),
        ("{{ messages[0].content.nothing.more }}", "UndefinedError"),
    ],
)
def test_a_template_that_fails_is_one_clear_line(
    request_: Request, template: str, said: str
) -> None:
    with pytest.raises(SftbenchError, match=f"chat template of the base fails .*{said}") as error:
        make_plan(chatting(request_, template, CHAT_TEMPLATE))
    assert error.value.where == str(request_.base)
    assert "\n" not in error.value.what


def test_a_template_that_writes_the_date_is_said(request_: Request) -> None:
    dated = "{{ strftime_now('%d %b %Y') }}" + CHAT_TEMPLATE
    plan = make_plan(chatting(request_, dated, dated))
    assert any("today's date" in text for text in plan.warnings)


def test_another_form_needs_another_folder(request_: Request) -> None:
    request = chatting(request_, CHAT_TEMPLATE, CHAT_TEMPLATE)
    run(request, factory_of(FakeEngine()))
    with pytest.raises(SftbenchError, match="another form of the question, prompt text\n"):
        run(replace(request, chat="none"), never)
