"""A completion as it follows its prompt: the space that some tokenizers do not give back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sftbench.engines.protocol import Engine


def following(engine: Engine, said: str) -> str:
    """Return a completion with the space that separates it from its prompt.

    SentencePiece tokenizers (Llama 2, Mistral) leave the space before the first word out when
    they decode: "was born in" and "Paris" would be read as "was born inParis".

    Args:
        engine: decoded the completion.
        said: what it said.
    """
    if not said[:1].isalnum():
        return said
    _, word = engine.encode_pair("A", " B")
    decoded: str = engine.tokenizer.decode(word, skip_special_tokens=True)
    return said if decoded.startswith(" ") else f" {said}"
