"""Adapters merged into their base: once, in fp32, as full checkpoints in the cache."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sftbench.checkpoints.adapters import Adapter, adapter_digest, open_adapter, require_base
from sftbench.checkpoints.cached import made_once
from sftbench.checkpoints.folder import Checkpoint, open_checkpoint
from sftbench.checkpoints.names import name_of
from sftbench.checkpoints.tokenizers import has_tokenizer
from sftbench.checkpoints.writer import COPIED, RECORD
from sftbench.common.digests import digest_of, software_versions
from sftbench.common.errors import SftbenchError
from sftbench.common.files import cache_folder, write_json

VERSION = 1
"""Counts changes of what a merged folder holds; part of its key."""
TOKENIZER_PARTS = tuple(name for name in COPIED if name != "generation_config.json")
INSTALL = 'Install it with `pip install "sftbench[peft]"`.'


def merged(adapter: Path, base: Path) -> Path:
    """Return a full checkpoint with an adapter merged into its base, made once and kept.

    The folder lies in the cache, keyed by what the adapter and the base hold. Its weights are
    fp32, so that no update is lost to rounding; its tokenizer is the adapter's, if there is one
    beside it, else the base's; its record (`RECORD`) says what it was made of.

    Args:
        adapter: folder with adapter_config.json and adapter_model.safetensors.
        base: folder of the full checkpoint that the adapter was trained on.

    Raises:
        SftbenchError: a folder is broken, the adapter is for another base or of a kind that
            cannot be merged, or peft is not installed.
    """
    opened, into = open_adapter(adapter), open_checkpoint(base)
    require_base(opened, base)
    key = _key(opened, into)
    folder = cache_folder() / "merged" / key
    if not folder.is_dir() and importlib.util.find_spec("peft") is None:
        raise SftbenchError(
            "merging an adapter needs the package peft, which is not installed",
            where=adapter,
            remedy=INSTALL,
        )
    return made_once(folder, lambda staging: _make(opened, into, staging))


def _key(adapter: Adapter, base: Checkpoint) -> str:
    return digest_of(
        {
            "version": VERSION,
            "adapter": adapter_digest(adapter.path),
            "base": base.digest,
            "files": [_contents(adapter.path), _contents(base.path, "config.json")],
        }
    )


def _contents(path: Path, *more: str) -> Mapping[str, str]:
    """Return the digests of the small files that a merged folder takes over from another."""
    return {
        name: hashlib.sha256((path / name).read_bytes()).hexdigest()
        for name in (*COPIED, *more)
        if (path / name).is_file()
    }


def _make(adapter: Adapter, base: Checkpoint, out: Path) -> None:
    from sftbench.checkpoints.peft_merge import write_merged

    write_merged(adapter, base, out)
    _copy_tokenizer(adapter.path, base.path, out)
    write_json(out / RECORD, _record(adapter, base))


def _copy_tokenizer(adapter: Path, base: Path, out: Path) -> None:
    """Take the whole tokenizer from one side, never a mixture; and the base's way to decode."""
    source = adapter if has_tokenizer(adapter) else base
    for name in TOKENIZER_PARTS:
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)
        elif (source / name).is_dir():
            shutil.copytree(source / name, out / name)
    decoding = base / "generation_config.json"
    if decoding.is_file():
        shutil.copyfile(decoding, out / decoding.name)


def _record(adapter: Adapter, base: Checkpoint) -> dict[str, Any]:
    return {
        "kind": "merged adapter",
        "name": f"{name_of(adapter.path)} on {name_of(base.path)}",
        "base_digest": base.digest,  # where every record has it; finds the base's mastery card
        "base": {"path": str(base.path), "digest": base.digest},
        "adapter": {
            "path": str(adapter.path),
            "digest": adapter_digest(adapter.path),
            "peft_type": adapter.kind,
            "base_model_name_or_path": adapter.base_ref,
            "revision": adapter.revision,
        },
        "dtype": "float32",
        "software": dict(software_versions("sftbench", "peft", "torch", "transformers")),
    }
