"""Text to token ids and back: the same for every engine, so that their prompts are identical."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Codec:
    """A checkpoint's own tokenizer, used in one way.

    Attributes:
        tokenizer: as `AutoTokenizer` returns it.
    """

    tokenizer: Any

    def encode(self, text: str) -> list[int]:
        """Return the ids of a prompt: the tokenizer's own special tokens, as lm-eval sends them."""
        bos = self.tokenizer.bos_token
        written = bos is not None and text.startswith(bos)
        ids = self.tokenizer(text, add_special_tokens=not written)["input_ids"]
        return [int(token) for token in ids]

    def encode_pair(self, prompt: str, continuation: str) -> tuple[list[int], list[int]]:
        """Return the ids of a prompt and of what follows it.

        Trailing spaces of the prompt belong to the continuation, as in lm-eval; where the two
        merge at the border, the prompt keeps the ids that it has alone.
        """
        kept = prompt.rstrip()
        continuation = prompt[len(kept) :] + continuation
        alone, both = self.encode(kept), self.encode(kept + continuation)
        return alone, both[len(alone) :]

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of a completion; special tokens left out.

        A last half character is U+FFFD, whatever engine made the ids.
        """
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def texts(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """Return the texts of many completions, in one call where the tokenizer can."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return [self.text(sequence) for sequence in sequences]
        return list(backend.decode_batch([list(ids) for ids in sequences]))

    def pad_id(self) -> int:
        """Return an id for places that are masked."""
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.tokenizer.eos_token_id or 0)

    def end_ids(self, generation_config: Any) -> frozenset[int]:
        """Return the ids that end a completion: the generation config's and the tokenizer's."""
        named = getattr(generation_config, "eos_token_id", None)
        listed = named if isinstance(named, list) else [named]
        return frozenset(
            int(token) for token in [*listed, self.tokenizer.eos_token_id] if token is not None
        )


def cut(text: str, stop: Sequence[str]) -> str:
    """Return the text up to the first stop string in it."""
    for mark in stop:
        text = text.split(mark)[0]
    return text
