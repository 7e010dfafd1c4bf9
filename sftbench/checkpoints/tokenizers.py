"""Tokenizers as files: what decides ids and text, and in which way two of them differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError
from sftbench.common.files import read_json

TOKENIZER_TABLES = ("tokenizer.model", "vocab.json", "merges.txt", "vocab.txt", "spiece.model")
"""What decides the ids where there is no tokenizer.json."""
TOKENIZER_FILES = ("tokenizer.json", *TOKENIZER_TABLES)
DECIDING_SETTINGS = (
    "add_bos_token", "add_eos_token", "add_prefix_space", "clean_up_tokenization_spaces",
    "bos_token", "eos_token", "unk_token",
)  # fmt: skip
"""Settings of tokenizer_config.json that change ids or text; padding does not."""
TOKENS_SHOWN = 3


def tokenizer_digest(path: Path) -> str:
    """Return the digest of what decides ids and text: tables, special tokens, chat template.

    Padding, truncation, the order of JSON keys and the two ways to write a merge do not count:
    saving a tokenizer again often changes those.

    Raises:
        SftbenchError: there is no tokenizer, or its files cannot be read.
    """
    return digest_of(_content(path))


def chat_template_digest(path: Path) -> str | None:
    """Return the digest of a tokenizer's chat template; None where it has none.

    Raises:
        SftbenchError: its settings cannot be read.
    """
    template = _chat_template(path, _json_object(path / "tokenizer_config.json"))
    return None if template is None else digest_of(template)


def same_tokenizer(base: Path, tuned: Path) -> bool:
    """Return whether two checkpoint folders turn every text into the same ids and back.

    A chat template does not count: it decides what text is made, not which ids a text has.

    Raises:
        SftbenchError: as `tokenizer_digest`.
    """
    mine, theirs = _content(base), _content(tuned)
    return all(mine[key] == theirs[key] for key in ("tables", "settings"))


def tokenizer_difference(base: Path, tuned: Path) -> str | None:
    """Return in which way the tuned tokenizer differs from the base's, for people; None if not.

    Such as "the tuned tokenizer adds 2 tokens: <|user|>, <|end|>" or "only the chat template
    differs". Chat templates count here, unlike in `same_tokenizer`.

    Raises:
        SftbenchError: as `tokenizer_digest`.
    """
    mine, theirs = _content(base), _content(tuned)
    parts = [
        *_table_differences(mine["tables"], theirs["tables"]),
        *_setting_differences(mine["settings"], theirs["settings"]),
    ]
    if mine["chat_template"] != theirs["chat_template"]:
        parts.append(_template_difference(mine, theirs, only=not parts))
    return "; ".join(parts) or None


def highest_token_id(path: Path) -> int | None:
    """Return the highest id that a folder's tokenizer can give; None where its files do not say.

    Raises:
        SftbenchError: a file of it cannot be read.
    """
    ids = _ids(_canonical_tokenizer(_json_object(path / "tokenizer.json")))
    for name in ("vocab.json", "added_tokens.json"):
        ids.update(_whole_numbers(_json_object(path / name)))
    return max(ids.values(), default=None)


def require_tokenizer(path: Path) -> None:
    """Raise `SftbenchError` unless the folder holds a tokenizer."""
    if not has_tokenizer(path):
        raise SftbenchError(
            "there is no tokenizer: none of " + ", ".join(TOKENIZER_FILES),
            where=path,
            remedy="Copy the tokenizer files of the base model into the folder.",
        )


def has_tokenizer(path: Path) -> bool:
    """Return whether the folder holds a tokenizer."""
    return any((path / name).is_file() for name in TOKENIZER_FILES)


def _content(path: Path) -> dict[str, Any]:
    """Return all that decides ids and text, as a JSON value."""
    settings = _json_object(path / "tokenizer_config.json")
    special = {**_json_object(path / "special_tokens_map.json"), **settings}
    return {
        "tables": _tables(path),
        "settings": {
            key: _plain(special[key])
            for key in DECIDING_SETTINGS
            if special.get(key) not in (None, False)
        },
        "chat_template": _chat_template(path, settings),
    }


def _json_object(file: Path) -> dict[str, Any]:
    content = read_json(file) if file.is_file() else {}
    if not isinstance(content, dict):
        raise SftbenchError("is not a JSON object", where=file)
    return content


def _plain(value: object) -> object:
    """Return the text of a token that is written as an object, other values as they are."""
    return value["content"] if isinstance(value, dict) and "content" in value else value


def _chat_template(path: Path, settings: Mapping[str, Any]) -> object:
    file = path / "chat_template.jinja"
    return file.read_text(encoding="utf-8") if file.is_file() else settings.get("chat_template")


def _tables(path: Path) -> dict[str, Any]:
    require_tokenizer(path)
    if (path / "tokenizer.json").is_file():
        return _canonical_tokenizer(_json_object(path / "tokenizer.json"))
    return {
        name: hashlib.sha256((path / name).read_bytes()).hexdigest()
        for name in TOKENIZER_TABLES
        if (path / name).is_file()
    }


def _canonical_tokenizer(content: Mapping[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in content.items() if k not in ("version", "truncation", "padding")}
    stored = content.get("model")
    if not isinstance(stored, dict):
        return kept
    model = {k: v for k, v in stored.items() if v not in (None, False, "")}
    if "merges" in model:
        model["merges"] = [
            merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]
        ]
    return {**kept, "model": model}


def _table_differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    if mine == theirs:
        return []
    if not all(isinstance(tables.get("model"), dict) for tables in (mine, theirs)):
        kinds = [", ".join(n for n in TOKENIZER_TABLES if n in t) for t in (mine, theirs)]
        named = [kind or "tokenizer.json" for kind in kinds]
        if named[0] != named[1]:
            return [f"the base's is stored as {named[0]} and the tuned model's as {named[1]}, "
                    "which cannot be laid side by side"]  # fmt: skip
        files = [name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)]
        return [f"the contents of {', '.join(sorted(files))} differ"]
    tokens = _token_differences(_ids(mine), _ids(theirs))
    other = _rule_differences(mine, theirs)
    rules = [f"other rules ({', '.join(other)})"] if other else []
    return [*tokens, *rules] or ["the tokens have other flags"]


def _token_differences(mine: Mapping[str, int], theirs: Mapping[str, int]) -> list[str]:
    """Return what tells two vocabularies apart, as phrases."""
    added = sorted(theirs.keys() - mine.keys(), key=lambda token: theirs[token])
    lost = sorted(mine.keys() - theirs.keys(), key=lambda token: mine[token])
    moved = [token for token in mine if token in theirs and mine[token] != theirs[token]]
    phrases = []
    if added:
        phrases.append(f"the tuned tokenizer adds {_tokens(added)}")
    if lost:
        phrases.append(f"it lacks {_tokens(lost)}" if added else f"the tuned lacks {_tokens(lost)}")
    if moved:
        phrases.append(f"the ids of {_tokens(moved)} differ")
    return phrases


def _rule_differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return the parts besides vocabulary and added tokens that differ, such as "normalizer"."""
    outer = {"added_tokens", "model"}
    found = {k for k in (mine.keys() | theirs.keys()) - outer if mine.get(k) != theirs.get(k)}
    one, two = mine["model"], theirs["model"]
    found |= {k for k in (one.keys() | two.keys()) - {"vocab"} if one.get(k) != two.get(k)}
    return sorted(found)


def _ids(tables: Mapping[str, Any]) -> dict[str, int]:
    """Return token to id of a tokenizer.json; what is not written as usual is left out."""
    model = tables.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    ids: dict[str, int] = {}
    if isinstance(vocab, dict):
        ids.update(_whole_numbers(vocab))
    elif isinstance(vocab, list):  # Unigram: [token, score], the place is the id
        pieces = (entry[0] for entry in vocab if isinstance(entry, list) and entry)
        ids.update({piece: place for place, piece in enumerate(pieces)})
    for token in _objects(tables.get("added_tokens")):
        if isinstance(token.get("id"), int) and isinstance(token.get("content"), str):
            ids[token["content"]] = token["id"]
    return ids


def _whole_numbers(content: Mapping[str, Any]) -> dict[str, int]:
    return {key: value for key, value in content.items() if isinstance(value, int)}


def _objects(value: object) -> Iterable[dict[str, Any]]:
    return (entry for entry in value if isinstance(entry, dict)) if isinstance(value, list) else ()


def _setting_differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    return [
        f"{key} is {_shown(mine.get(key))} in the base and {_shown(theirs.get(key))} in the tuned"
        for key in DECIDING_SETTINGS
        if mine.get(key) != theirs.get(key)
    ]


def _template_difference(mine: Mapping[str, Any], theirs: Mapping[str, Any], *, only: bool) -> str:
    one, two = (side["chat_template"] is not None for side in (mine, theirs))
    if one and two:
        return "only the chat template differs" if only else "the chat template differs"
    who, other = ("the base", "the tuned") if one else ("the tuned", "the base")
    return f"{'only ' if only else ''}{who} has a chat template, {other} has none"


def _shown(value: object) -> str:
    return "not set" if value is None else str(value)


def _tokens(tokens: Sequence[str]) -> str:
    rest = len(tokens) - TOKENS_SHOWN
    shown = ", ".join(tokens[:TOKENS_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
    return f"{len(tokens)} token{'s' * (len(tokens) > 1)}: {shown}"
