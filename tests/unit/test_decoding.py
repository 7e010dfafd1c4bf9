"""Where the files of a checkpoint say that text ends, and what else they ask of `generate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sftbench.checkpoints.folder import Checkpoint
from sftbench.compare.decoding import end_ids, settings_of_generate

pytestmark = pytest.mark.unit

TOKENIZER = {
    "model": {"type": "BPE", "vocab": {"a": 0, "<eos>": 6}},
    "added_tokens": [{"content": "<end>", "id": 7}, {"content": "<turn>", "id": 8}],
}


def checkpoint(folder: Path, config: Any, generation: Any, token: Any) -> Checkpoint:
    """Return a checkpoint whose files name these ends of text; None leaves one out."""
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    if generation is not None:
        content = json.dumps({"eos_token_id": generation})
        (folder / "generation_config.json").write_text(content)
    if token is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": token}))
    return Checkpoint(folder, "0" * 32, {} if config is None else {"eos_token_id": config})


@pytest.mark.parametrize(
    ("config", "generation", "token", "ends"),
    [
        (7, None, None, (7,)),
        (0, 7, None, (7,)),  # generation_config.json comes first
        (7, [8, 7], "<end>", (7, 8)),
        (None, None, "<end>", (7,)),  # as a trainer writes it: the same, in other places
        (7, 7, "<end>", (7,)),
        (0, None, {"content": "<turn>"}, (0, 8)),
        (None, None, "<eos>", (6,)),
        (None, None, "<unknown>", ()),
        (None, None, None, ()),
    ],
)
def test_ends_are_those_of_generation_or_config_and_the_tokenizer(
    tmp_path: Path, config: Any, generation: Any, token: Any, ends: tuple[int, ...]
) -> None:
    assert end_ids(checkpoint(tmp_path, config, generation, token)) == ends


def test_a_folder_without_tables_in_json_says_what_it_can(tmp_path: Path) -> None:
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": "<end>"}')
    assert end_ids(Checkpoint(tmp_path, "0" * 32, {"eos_token_id": 7})) == (7,)
    (tmp_path / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    assert end_ids(Checkpoint(tmp_path, "0" * 32, {})) == (7,)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (
            {"no_repeat_ngram_size": 3, "forced_bos_token_id": 0, "repetition_penalty": 1.3},
            ("forced_bos_token_id", "no_repeat_ngram_size"),
        ),
        ({"no_repeat_ngram_size": 0, "suppress_tokens": [], "bad_words_ids": None}, ()),
    ],
)
def test_settings_that_do_something_are_named(
    tmp_path: Path, content: dict[str, Any], names: tuple[str, ...]
) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps(content))
    assert settings_of_generate(Checkpoint(tmp_path, "0" * 32, {})) == names
