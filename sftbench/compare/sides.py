"""The two sides of a comparison: what each is asked, with which tokenizer, in whose engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sftbench.checkpoints.folder import Checkpoint, tensor_headers
from sftbench.checkpoints.tokenizers import same_tokenizer, tokenizer_digest
from sftbench.checkpoints.variants import Base, Variant
from sftbench.checkpoints.vocabulary import vocabulary_change
from sftbench.common.errors import SftbenchError
from sftbench.compare.chat import conversations, write_chats
from sftbench.compare.request import Request
from sftbench.facts.shots import shots_of
from sftbench.scoring.answers import prompt_texts

if TYPE_CHECKING:
    import polars as pl

NEEDS_SHOTS = (
    "Use a fact table whose train split has at least one fact to show, "
    "or ask zero-shot with --prompt paper."
)


@dataclass(frozen=True)
class Side:
    """Variants that are asked alike.

    Attributes:
        checkpoint: the model whose tokenizer reads the text.
        tokenizer: digest of that tokenizer.
        chat: the text was written by its chat template.
        texts: what each fact is asked with, shots included, in the order of the rows.
    """

    checkpoint: Checkpoint
    tokenizer: str
    chat: bool
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Sides:
    """The base on one side, the tuned model and what is restored from it on the other.

    Attributes:
        base: how the base is asked.
        tuned: how the others are asked.
        one_engine: one engine, made from the base, serves both: the tokenizers give the same
            ids, the tensors have the same names and shapes, and lm-eval needs no other chat
            template. Otherwise each side has an engine of its own, with its own configuration.
    """

    base: Side
    tuned: Side
    one_engine: bool

    def of(self, variant: Variant) -> Side:
        """Return the side that a variant is on."""
        return self.base if isinstance(variant, Base) else self.tuned

    def engine_of(self, variant: Variant) -> Checkpoint:
        """Return the checkpoint that the engine of a variant is made from."""
        return self.base.checkpoint if self.one_engine else self.of(variant).checkpoint


def make_sides(request: Request, base: Checkpoint, tuned: Checkpoint, rows: pl.DataFrame) -> Sides:
    """Return what each side is asked; loads a tokenizer only where a chat template writes.

    Raises:
        SftbenchError: a fact has no shots, a tokenizer that must write a chat has no template or
            its template fails, or the tensors differ in more than the size of the vocabulary.
    """
    plain = _plain_texts(request, rows)
    return Sides(
        base=_side(request, base, "base", rows, plain),
        tuned=_side(request, tuned, "tuned model", rows, plain),
        one_engine=_fit_one_engine(request, base, tuned),
    )


def _fit_one_engine(request: Request, base: Checkpoint, tuned: Checkpoint) -> bool:
    """Return whether an engine made from the base can ask for both sides."""
    if vocabulary_change(base.path, tuned.path) is not None or _heads_differ(base, tuned):
        return False
    if not same_tokenizer(base.path, tuned.path):
        return False
    # lm-eval writes the chats of its tasks with the template that the engine carries.
    chats_of_tasks = request.tasks is not None and request.chat != "none"
    return not chats_of_tasks or tokenizer_digest(base.path) == tokenizer_digest(tuned.path)


def _heads_differ(base: Checkpoint, tuned: Checkpoint) -> bool:
    """Return whether one ties its output head to the embedding and the other does not.

    A tied engine would write a head of its own over the embedding.
    """
    tie = "tie_word_embeddings"
    names = (tensor_headers(base.path).keys(), tensor_headers(tuned.path).keys())
    return names[0] != names[1] or base.config.get(tie) != tuned.config.get(tie)


def _side(
    request: Request, checkpoint: Checkpoint, who: str, rows: pl.DataFrame, plain: tuple[str, ...]
) -> Side:
    chat = request.chat == "all" or (request.chat == "tuned" and who != "base")
    texts = plain
    if chat:
        chats = conversations(rows, request.prompt, shots_of(request.facts))
        texts = write_chats(checkpoint.path, who, chats)
    return Side(checkpoint, tokenizer_digest(checkpoint.path), chat, texts)


def _plain_texts(request: Request, rows: pl.DataFrame) -> tuple[str, ...]:
    try:
        return tuple(prompt_texts(rows, request.prompt, shots_of(request.facts)))
    except SftbenchError as error:
        raise SftbenchError(error.what, where=error.where, remedy=NEEDS_SHOTS) from None
