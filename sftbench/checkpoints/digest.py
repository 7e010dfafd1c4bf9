"""Digests of checkpoints: what the tensors are and what the tokenizer does, whatever the files."""

from __future__ import annotations

import hashlib
import json
import mmap
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sftbench.checkpoints.weights import tensor_headers, weight_files
from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError
from sftbench.common.files import cache_folder, read_json, write_json

SETTLED_SECONDS = 2.0
"""A file younger than this may be written again within the clock's grain: it is not cached."""

FileState = list[Any]
"""Name, size, inode, and times of content and status change in ns: what an edit cannot keep."""


def checkpoint_digest(path: Path) -> str:
    """Return the digest of a checkpoint's tensors: names, shapes, dtypes and content.

    A renamed folder, other shards or other file metadata are the same model; one changed bit is
    not. The result is kept in `cache_folder()`, keyed by path and by size and times of every
    weight file, so that a second call costs nothing.

    Raises:
        SftbenchError: the weights cannot be read, or are written to meanwhile.
    """
    path = path.resolve()
    kept = cache_folder() / "digests" / f"{digest_of(str(path))}.json"
    began = time.time()
    before = _states(path)
    found = _recall(kept, before)
    if found is not None:
        return found
    digest = _digest_of_tensors(path)
    if _states(path) != before:
        raise SftbenchError(
            "the weights changed while they were read",
            where=path,
            remedy="Wait until the checkpoint is finished.",
        )
    if all(began - state[3] / 1e9 > SETTLED_SECONDS for state in before):
        with suppress(OSError):  # a cache that cannot be written only costs time
            write_json(kept, {"path": str(path), "files": before, "digest": digest})
    return digest


def _states(path: Path) -> list[FileState]:
    states: list[FileState] = []
    for file in weight_files(path):
        stat = file.stat()
        states.append([file.name, stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns])
    return states


def _recall(kept: Path, states: Sequence[FileState]) -> str | None:
    """Return the kept digest if the weight files are in the very state that it was made from."""
    try:
        content = json.loads(kept.read_text(encoding="utf-8"))
        digest = content["digest"] if content["files"] == states else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return digest if isinstance(digest, str) else None


def _digest_of_tensors(path: Path) -> str:
    headers = tensor_headers(path)
    content: dict[str, Any] = {}
    for shard in dict.fromkeys(header.shard for header in headers.values()):
        with (
            shard.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as view,
        ):
            for name, header in headers.items():
                if header.shard == shard:
                    with view[header.start : header.stop] as part:
                        content_hash = hashlib.sha256(part).hexdigest()
                    content[name] = [header.dtype, list(header.shape), content_hash]
    return digest_of(content)


TOKENIZER_TABLES = ("tokenizer.model", "vocab.json", "merges.txt", "vocab.txt", "spiece.model")
"""What decides the ids where there is no tokenizer.json."""
TOKENIZER_FILES = ("tokenizer.json", *TOKENIZER_TABLES)
DECIDING_SETTINGS = (
    "add_bos_token", "add_eos_token", "add_prefix_space", "clean_up_tokenization_spaces",
    "bos_token", "eos_token", "unk_token",
)  # fmt: skip
"""Settings of tokenizer_config.json that change ids or text; padding does not."""


def tokenizer_digest(path: Path) -> str:
    """Return the digest of what decides ids and text: tables, special tokens, chat template.

    Padding, truncation, the order of JSON keys and the two ways to write a merge do not count:
    saving a tokenizer again often changes those.

    Raises:
        SftbenchError: there is no tokenizer, or its files cannot be read.
    """
    settings = _json_object(path / "tokenizer_config.json")
    special = {**_json_object(path / "special_tokens_map.json"), **settings}
    content: dict[str, Any] = {
        "tables": _tables(path),
        "settings": {
            key: _plain(special[key])
            for key in DECIDING_SETTINGS
            if special.get(key) not in (None, False)
        },
        "chat_template": _chat_template(path, settings),
    }
    return digest_of(content)


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


def require_tokenizer(path: Path) -> None:
    """Raise `SftbenchError` unless the folder holds a tokenizer."""
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise SftbenchError(
            "there is no tokenizer: none of " + ", ".join(TOKENIZER_FILES),
            where=path,
            remedy="Copy the tokenizer files of the base model into the folder.",
        )


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
    model = {k: v for k, v in content.get("model", {}).items() if v not in (None, False, "")}
    if "merges" in model:
        model["merges"] = [
            merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]
        ]
    return {**kept, "model": model}
