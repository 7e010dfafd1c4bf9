"""What the files of a checkpoint say of decoding: where text ends, and what else generate does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sftbench.checkpoints.folder import Checkpoint
from sftbench.common.files import read_json

APPLIED_BY_GENERATE = (
    "bad_words_ids", "begin_suppress_tokens", "exponential_decay_length_penalty",
    "forced_bos_token_id", "forced_decoder_ids", "forced_eos_token_id", "guidance_scale",
    "min_length", "min_new_tokens", "no_repeat_ngram_size", "num_beams", "sequence_bias",
    "suppress_tokens",
)  # fmt: skip
"""Settings of generation_config.json that change even a greedy answer of `generate`.

The repetition penalty is not among them: it is for the lm-eval tasks to set it to 1."""


IDLE = {
    "guidance_scale": 1, "min_length": 0, "min_new_tokens": 0, "no_repeat_ngram_size": 0,
    "num_beams": 1,
}  # fmt: skip
"""Values that do nothing; elsewhere 0 may be a token's id."""


def end_ids(checkpoint: Checkpoint) -> tuple[int, ...]:
    """Return the token ids that end a text, ascending.

    They are those of generation_config.json, or of config.json where that names none, and the
    tokenizer's own end token, where its tables are JSON.

    Raises:
        SftbenchError: a file cannot be read as JSON.
    """
    named = _content(checkpoint.path / "generation_config.json").get("eos_token_id")
    if named is None:
        named = checkpoint.config.get("eos_token_id")
    listed = named if isinstance(named, list) else [named]
    return tuple(
        sorted({one for one in [*listed, _tokenizer_end(checkpoint.path)] if one is not None})
    )


def settings_of_generate(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return the names in `APPLIED_BY_GENERATE` that generation_config.json sets."""
    content = _content(checkpoint.path / "generation_config.json")
    return tuple(name for name in APPLIED_BY_GENERATE if _is_set(name, content.get(name)))


def _is_set(name: str, value: object) -> bool:
    """Return whether a setting does anything."""
    return value not in (None, [], {}) and value != IDLE.get(name)


def _tokenizer_end(path: Path) -> int | None:
    settings = _content(path / "tokenizer_config.json")
    token = settings.get("eos_token", _content(path / "special_tokens_map.json").get("eos_token"))
    text = token.get("content") if isinstance(token, dict) else token
    tables = _content(path / "tokenizer.json")
    added = {one["content"]: one["id"] for one in tables.get("added_tokens", [])}
    vocabulary = tables.get("model", {}).get("vocab", {})
    known = {**vocabulary, **added} if isinstance(vocabulary, dict) else added
    found = known.get(text)
    return found if isinstance(found, int) else None


def _content(file: Path) -> Mapping[str, Any]:
    content = read_json(file) if file.is_file() else {}
    return content if isinstance(content, dict) else {}
