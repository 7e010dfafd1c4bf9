"""The two sides of a comparison: what each is asked, with which tokenizer, in whose engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sftbench.checkpoints.folder import Checkpoint, tensor_headers
from sftbench.checkpoints.tokenizers import same_tokenizer, tokenizer_digest
from sftbench.checkpoints.variants import Again, Base, Noise, Variant
from sftbench.checkpoints.vocabulary import vocabulary_change
from sftbench.common.errors import SftbenchError
from sftbench.compare.chat import conversations, write_chats
from sftbench.compare.decoding import end_ids
from sftbench.compare.request import Request
from sftbench.facts.shots import shots_of
from sftbench.scoring.answers import prompt_texts

if TYPE_CHECKING:
    import polars as pl

COSMETIC_CONFIG = frozenset(
    (
        "_name_or_path", "architectures", "bos_token_id", "dtype", "eos_token_id",
        "pad_token_id", "torch_dtype", "transformers_version", "use_cache",
    )
)  # fmt: skip
"""Keys of config.json that do not change what the weights compute; where text ends is told apart
by `end_ids`, since other values here may come to the same ids."""

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
    """The base and its random changes on one side, the tuned model and its restores on the other.

    Attributes:
        base: how the base is asked.
        tuned: how the others are asked.
        one_engine: one engine, made from the base, serves both: the tokenizers give the same
            ids, the tensors have the same names and shapes, the configurations compute the same
            and end a text at the same ids, and lm-eval needs no other chat template. Otherwise
            each side has an engine of its own, with its own configuration.
    """

    base: Side
    tuned: Side
    one_engine: bool

    def of(self, variant: Variant) -> Side:
        """Return the side that a variant is on."""
        return self.base if isinstance(variant, Base | Noise | Again) else self.tuned

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
    if vocabulary_change(base.path, tuned.path) is not None or _names_differ(base, tuned):
        return False
    if config_difference(base, tuned) or end_ids(base) != end_ids(tuned):
        return False
    if not same_tokenizer(base.path, tuned.path):
        return False
    # lm-eval writes the chats of its tasks with the template that the engine carries.
    chats_of_tasks = request.tasks is not None and request.chat != "none"
    return not chats_of_tasks or tokenizer_digest(base.path) == tokenizer_digest(tuned.path)


def _names_differ(base: Checkpoint, tuned: Checkpoint) -> bool:
    """Return whether the tensors have other names, as where only one has a head of its own.

    A tied engine would write such a head over the embedding.
    """
    return tensor_headers(base.path).keys() != tensor_headers(tuned.path).keys()


def config_difference(base: Checkpoint, tuned: Checkpoint) -> tuple[str, ...]:
    """Return the keys by which two config.json compute something else, sorted; empty if none.

    A key that only one file writes out, with the value that transformers takes anyway, is none:
    another version of transformers writes other keys. Where transformers does not know the model,
    the files themselves are compared.
    """
    named = _other_keys(base.config, tuned.config)
    if not named:
        return ()
    mine, theirs = _effective(base), _effective(tuned)
    if mine is None or theirs is None:
        return named
    other = _other_keys(mine, theirs)
    if not other:
        return ()
    # People know the names in their files: transformers moves some, such as rope_theta.
    same = (mine.keys() & theirs.keys()) - set(other)
    return tuple(key for key in named if key not in same) or other


def _other_keys(one: Mapping[str, Any], two: Mapping[str, Any]) -> tuple[str, ...]:
    one, two = _computing(one), _computing(two)
    return tuple(sorted(key for key in one.keys() | two.keys() if one.get(key) != two.get(key)))


def _computing(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without its cosmetic keys, those of its parts included."""
    return {
        key: _computing(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in COSMETIC_CONFIG
    }


def _effective(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Return a configuration with every default filled in; None if transformers cannot read it."""
    from transformers import AutoConfig

    try:
        found = AutoConfig.from_pretrained(
            checkpoint.path, local_files_only=True, trust_remote_code=False
        )
    except Exception:  # each configuration class raises errors of its own
        return None
    content: dict[str, Any] = found.to_dict()
    return content


def _side(
    request: Request, checkpoint: Checkpoint, who: str, rows: pl.DataFrame, plain: tuple[str, ...]
) -> Side:
    chat = request.chat == "all" or (request.chat == "tuned" and who != "base")
    texts = plain
    if chat:
        chats = conversations(rows, request.prompt, shots_of(request.facts))
        texts = write_chats(checkpoint.path, who, chats, request.chat)
    return Side(checkpoint, tokenizer_digest(checkpoint.path), chat, texts)


def _plain_texts(request: Request, rows: pl.DataFrame) -> tuple[str, ...]:
    try:
        return tuple(prompt_texts(rows, request.prompt, shots_of(request.facts)))
    except SftbenchError as error:
        raise SftbenchError(error.what, where=error.where, remedy=NEEDS_SHOTS) from None
