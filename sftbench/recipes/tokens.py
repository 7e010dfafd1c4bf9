"""Training tokens: exactly the ids that lm-eval sends for a prompt, then the answer and its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sftbench.common.errors import SftbenchError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""Label of a token that does not count in the loss."""

ANCHORS = ("", "\n", "x", ":")
"""Texts that an answer is encoded after when the prompt's own end would merge with it."""


@dataclass(frozen=True)
class TrainingIds:
    """One training example.

    Attributes:
        input_ids: prompt, answer, end-of-text.
        labels: as long as input_ids; the id where the token counts in the loss, else -100.
        prompt_tokens: how many of the ids are the prompt.
    """

    input_ids: list[int]
    labels: list[int]
    prompt_tokens: int

    @property
    def counted(self) -> int:
        """How many tokens count in the loss."""
        return sum(label != IGNORED for label in self.labels)


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Return the ids that lm-eval's HFLM feeds the model for a prompt.

    As `HFLM.tok_batch_encode` (lm-eval 0.4.13), which `generate_until` calls: the tokenizer's own
    special tokens, unless the text already begins with BOS.
    """
    bos = tokenizer.bos_token
    if isinstance(bos, str) and prompt.startswith(bos):
        return list(tokenizer.encode(prompt, add_special_tokens=False))
    return list(tokenizer.encode(prompt))


def answer_ids(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str) -> list[int]:
    """Return the ids of `answer` (with its leading space) as they follow the ids of `prompt`.

    Where the tokenizer keeps the boundary these are the ids of the whole text after those of the
    prompt. Where a token would span it, the prompt keeps the ids that inference sends, and the
    answer is encoded after a text that it does not merge with. Encoding the answer by itself is
    not enough: some tokenizers put a space before any text, and the model would learn two.

    Raises:
        SftbenchError: no encoding of the answer reads as the answer after this prompt.
    """
    start = tokenizer.encode(prompt, add_special_tokens=False)
    whole = tokenizer.encode(prompt + answer, add_special_tokens=False)
    if len(whole) > len(start) and whole[: len(start)] == start:
        return list(whole[len(start) :])
    wanted = tokenizer.decode(whole)
    for anchor in ANCHORS:
        before = tokenizer.encode(anchor, add_special_tokens=False)
        both = tokenizer.encode(anchor + answer, add_special_tokens=False)
        found = both[len(before) :]
        if found and both[: len(before)] == before and tokenizer.decode(start + found) == wanted:
            return list(found)
    raise SftbenchError(
        f"this tokenizer cannot put {answer!r} after a prompt without changing the prompt",
        where=f"prompt ending in {prompt[-40:]!r}",
        remedy="Use another prompt in the recipe.",
    )


def training_ids(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    answer: str,
    loss: Literal["answer", "full"] = "answer",
) -> TrainingIds:
    """Return the ids and labels of one training example.

    Args:
        tokenizer: the base model's.
        prompt: the text that inference sends (`facts.prompts.prompt_text`).
        answer: what is to follow it, leading space included (`facts.prompts.answer_text`).
        loss: "answer" counts the answer and end-of-text; "full" every token but the first, which
            nothing precedes.

    Raises:
        SftbenchError: the tokenizer has no end-of-text token, the prompt has no tokens, or prompt
            and answer cannot be told apart.
    """
    if tokenizer.eos_token_id is None:
        raise SftbenchError(
            "the tokenizer has no end-of-text token, so a tuned model could not learn to stop",
            where="tokenizer_config.json",
            remedy="Set eos_token there.",
        )
    before = prompt_ids(tokenizer, prompt)
    if not before:
        raise SftbenchError("the prompt has no tokens", where=f"prompt {prompt!r}")
    after = [*answer_ids(tokenizer, prompt, answer), int(tokenizer.eos_token_id)]
    ids = [*before, *after]
    first_counted = 1 if loss == "full" else len(before)
    labels = [IGNORED] * first_counted + ids[first_counted:]
    return TrainingIds(ids, labels, len(before))
