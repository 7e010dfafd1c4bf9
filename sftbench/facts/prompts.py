"""Prompts: the two ways a question is put, used alike by training, compare and lm-eval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from sftbench.facts.matching import How
    from sftbench.facts.shots import Shot

SHOT_DELIMITER = "\n\n"


class Message(TypedDict):
    """One turn of a conversation, as chat templates take it: "user" or "assistant"."""

    role: str
    content: str


@dataclass(frozen=True)
class Prompt:
    """How a question is put to a model and how its answer is read.

    The text is character for character what lm-eval builds from the task files (tested).

    Attributes:
        name: "fewshot" or "paper".
        template: the text of one question; holds ``{question}``, ends where the answer begins.
        shots: how many examples come first.
        stop: strings that end an answer; end of text always does.
        how: how an answer is matched, see `sftbench.facts.matching`.
        delimiter: what stands between a question and its answer.
        max_new_tokens: tokens that an answer may take.
    """

    name: str
    template: str
    shots: int
    stop: tuple[str, ...]
    how: How
    delimiter: str = " "
    max_new_tokens: int = 16


PROMPTS = {
    prompt.name: prompt
    for prompt in (
        Prompt(
            name="fewshot",
            template="Question: {question}\nAnswer:",
            shots=4,
            stop=("\n",),
            how="words",
        ),
        # The paper's evaluation (section 3.1) and the text that its recipe trains on.
        Prompt(
            name="paper",
            template="<|question|> {question} <|answer|>",
            shots=0,
            stop=(),
            how="strict-paper",
        ),
    )
}


def prompt_text(prompt: Prompt, question: str, shots: Sequence[Shot] = ()) -> str:
    """Return the text that is sent for a question, with the first `prompt.shots` of `shots`."""
    shown = (
        prompt.template.format(question=shot.question)
        + answer_text(prompt, shot.answer)
        + SHOT_DELIMITER
        for shot in shots[: prompt.shots]
    )
    return "".join(shown) + prompt.template.format(question=question)


def chat_messages(prompt: Prompt, question: str, shots: Sequence[Shot] = ()) -> list[Message]:
    """Return the conversation that puts a question to a chat model.

    Each of the first `prompt.shots` shots is a turn of the user and one of the assistant, then
    the question is the user's. This is what lm-eval makes of the task files with
    ``--apply_chat_template --fewshot_as_multiturn`` (tested). There is no system message.
    """
    messages: list[Message] = []
    for shot in shots[: prompt.shots]:
        messages.append(_turn("user", prompt.template.format(question=shot.question)))
        messages.append(_turn("assistant", shot.answer))
    return [*messages, _turn("user", prompt.template.format(question=question))]


def _turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def answer_text(prompt: Prompt, answer: str) -> str:
    """Return the answer as it follows the prompt: " Paris", with the space.

    This is what is trained on and what log-probability is taken of.
    """
    return prompt.delimiter + answer
