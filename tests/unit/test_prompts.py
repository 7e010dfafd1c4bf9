"""Prompts: the exact text that is sent and trained on."""

from __future__ import annotations

import pytest

from sftbench.facts.prompts import PROMPTS, answer_text, chat_messages, prompt_text
from sftbench.facts.shots import Shot

pytestmark = pytest.mark.unit

SHOTS = [Shot(f"Q{i}?", f"A{i}") for i in range(8)]


def test_fewshot_shows_four_examples():
    text = prompt_text(PROMPTS["fewshot"], "Where is {Rome}?", SHOTS)
    assert text == (
        "Question: Q0?\nAnswer: A0\n\nQuestion: Q1?\nAnswer: A1\n\n"
        "Question: Q2?\nAnswer: A2\n\nQuestion: Q3?\nAnswer: A3\n\n"
        "Question: Where is {Rome}?\nAnswer:"
    )


def test_fewer_shots_are_all_shown():
    text = prompt_text(PROMPTS["fewshot"], "Q?", SHOTS[:1])
    assert text == "Question: Q0?\nAnswer: A0\n\nQuestion: Q?\nAnswer:"


def test_paper_is_zero_shot():
    paper = PROMPTS["paper"]
    assert prompt_text(paper, "Q?", SHOTS) == "<|question|> Q? <|answer|>"
    assert prompt_text(paper, "Q?") + answer_text(paper, "A") == "<|question|> Q? <|answer|> A"


@pytest.mark.parametrize("name", PROMPTS)
def test_answer_follows_after_a_space(name):
    assert answer_text(PROMPTS[name], "Paris") == " Paris"
    assert PROMPTS[name].name == name
    assert PROMPTS[name].max_new_tokens == 16


def test_stops_and_matching():
    assert PROMPTS["fewshot"].stop == ("\n",)
    assert PROMPTS["fewshot"].how == "words"
    assert PROMPTS["paper"].stop == ()
    assert PROMPTS["paper"].how == "strict-paper"


def test_a_chat_shows_each_shot_as_two_turns():
    messages = chat_messages(PROMPTS["fewshot"], "Where?", SHOTS[:2])
    assert [one["role"] for one in messages] == ["user", "assistant"] * 2 + ["user"]
    assert [one["content"] for one in messages[:2]] == ["Question: Q0?\nAnswer:", "A0"]
    assert messages[-1]["content"] == "Question: Where?\nAnswer:"


def test_a_chat_shows_no_more_shots_than_the_prompt_has():
    assert len(chat_messages(PROMPTS["fewshot"], "Q?", SHOTS)) == 9
    (only,) = chat_messages(PROMPTS["paper"], "Q?", SHOTS)
    assert only == {"role": "user", "content": "<|question|> Q? <|answer|>"}
