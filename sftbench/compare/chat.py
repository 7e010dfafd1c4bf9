"""Questions in the form of a chat: conversations, written by the tokenizer's own template."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from sftbench.common.errors import SftbenchError
from sftbench.facts.prompts import Message, Prompt, chat_messages
from sftbench.facts.shots import Shot

if TYPE_CHECKING:
    import polars as pl

Chat = Literal["none", "all", "tuned"]
"""Who is asked through a chat template: nobody, every variant, or the tuned model's side alone."""
CHATS: tuple[Chat, ...] = get_args(Chat)

FLAGS: Mapping[Chat, tuple[str, ...]] = {
    "none": (),
    "all": ("--apply-chat-template",),
    "tuned": ("--apply-chat-template-to-tuned",),
}
"""What asks for each on the command line."""
DATED = "strftime_now"
"""What a template calls to write today's date into the prompt."""


def conversations(
    rows: pl.DataFrame, prompt: Prompt, shots: Callable[[str, str], Sequence[Shot]]
) -> list[list[Message]]:
    """Return the conversation that each fact is asked with, in the order of `rows`.

    Args:
        rows: facts, columns as in `sftbench.facts.table.FACTS`.
        prompt: the prompt.
        shots: the ordered shots of a fact; not called for a zero-shot prompt.
    """
    return [
        chat_messages(prompt, question, shots(fact_id, relation) if prompt.shots else ())
        for fact_id, relation, question in rows.select(
            "fact_id", "relation", "question"
        ).iter_rows()
    ]


def write_chats(
    folder: Path, who: str, chats: Sequence[Sequence[Message]], chat: Chat = "all"
) -> tuple[str, ...]:
    """Return each conversation as the text that ends where the model's answer begins.

    Args:
        folder: the checkpoint whose tokenizer writes it.
        who: "base" or "tuned model", for messages.
        chats: the conversations.
        chat: who is asked through a chat template, for messages.

    Raises:
        SftbenchError: the tokenizer cannot be read, has no chat template, or the template fails.
    """
    tokenizer = _tokenizer(folder)
    if getattr(tokenizer, "chat_template", None) is None:
        raise SftbenchError(
            f"the tokenizer of the {who} has no chat template",
            where=folder,
            remedy=_remedy(who, chat),
        )
    try:
        # Exactly the call of lm-eval's HFLM.apply_chat_template.
        return tuple(
            tokenizer.apply_chat_template(
                list(conversation),
                tokenize=False,
                add_generation_prompt=True,
                continue_final_message=False,
            )
            for conversation in chats
        )
    except Exception as error:  # a template is a program: what it raises is not known beforehand
        raise SftbenchError(
            f"the chat template of the {who} fails on turns of user and assistant "
            f"({type(error).__name__}: {_first_line(error)})",
            where=folder,
            remedy=_plain_remedy(chat),
        ) from None


def has_template(folder: Path) -> bool:
    """Return whether the tokenizer of a checkpoint can write a chat."""
    return getattr(_tokenizer(folder), "chat_template", None) is not None


def writes_the_date(folder: Path) -> bool:
    """Return whether the chat template of a checkpoint writes the date of the day."""
    return DATED in str(getattr(_tokenizer(folder), "chat_template", None))


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # tokenizers raises plain exceptions of its own
        raise SftbenchError(
            f"the tokenizer cannot be read ({_first_line(error)})",
            where=folder,
            remedy="Copy or download the tokenizer files again.",
        ) from None


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")


def _plain_remedy(chat: Chat) -> str:
    flags = " ".join(FLAGS[chat])
    return f"Leave {flags} out, so that all are asked with the same plain text."


def _remedy(who: str, chat: Chat) -> str:
    if who != "base":
        return _plain_remedy(chat)
    return (
        f"{_plain_remedy(chat)} Or ask only the tuned model's side as a chat with "
        "--apply-chat-template-to-tuned; base and tuned are then asked in different forms, and "
        "part of the difference is that of the forms."
    )
