"""Adapters merged into their base, in fp32: as checkpoints in the cache, or tensor by tensor."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sftbench.checkpoints.adapter_source import AdapterSource, adapter_over, adapter_source
from sftbench.checkpoints.adapters import Adapter, adapter_digest, open_adapter, require_base
from sftbench.checkpoints.cached import made_once
from sftbench.checkpoints.digest import source_digest
from sftbench.checkpoints.folder import Checkpoint, open_checkpoint
from sftbench.checkpoints.names import name_of
from sftbench.checkpoints.tokenizers import has_tokenizer
from sftbench.checkpoints.writer import COPIED, RECORD, write_weights
from sftbench.common.digests import digest_of, software_versions
from sftbench.common.errors import SftbenchError
from sftbench.common.files import cache_folder, read_json, write_json

VERSION = 2
"""Counts changes of what a merged folder holds; part of its key."""
DIGEST = "digest.json"
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
    folder = cache_folder() / "merged" / _key(opened, into)
    needs_peft = not folder.is_dir() and adapter_source(adapter, base) is None
    if needs_peft and importlib.util.find_spec("peft") is None:
        raise SftbenchError(
            "merging an adapter needs the package peft, which is not installed",
            where=adapter,
            remedy=INSTALL,
        )
    return made_once(folder, lambda staging: _make(opened, into, staging))


@dataclass(frozen=True)
class LaidOver:
    """An adapter over its base, none of whose tensors is written.

    Attributes:
        source: the merged tensors.
        merged: the merged model: its digest and its config; `path` is the adapter's.
        files: folder with config.json, tokenizer and record of the merged model, without weights.
    """

    source: AdapterSource
    merged: Checkpoint
    files: Path


def can_be_laid_over(adapter: Path, base: Path) -> bool:
    """Return whether an adapter can be merged tensor by tensor; see `adapter_source`.

    Raises:
        SftbenchError: as `adapter_source`, or the base is no full checkpoint.
    """
    open_checkpoint(base)
    return adapter_source(adapter, base) is not None


def laid_over(adapter: Path, base: Path) -> LaidOver:
    """Return an adapter over its base, to be merged tensor by tensor.

    Raises:
        SftbenchError: a folder is broken, or the adapter is not for this base or not of the kind
            that `can_be_laid_over`.
    """
    opened, into = open_adapter(adapter), open_checkpoint(base)
    source = adapter_over(adapter, base)
    folder = cache_folder() / "laid-over" / _key(opened, into)

    def make(staging: Path) -> None:
        _write_files(opened, into, staging)
        write_json(staging / DIGEST, {"digest": source_digest(source)})

    files = made_once(folder, make)
    digest = str(read_json(files / DIGEST)["digest"])
    return LaidOver(source, Checkpoint(adapter, digest, read_json(files / "config.json")), files)


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
    source = adapter_source(adapter.path, base.path)
    if source is None:
        from sftbench.checkpoints.peft_merge import write_merged

        write_merged(adapter, base, out)
        _copy_tokenizer(adapter.path, base.path, out)
        write_json(out / RECORD, _record(adapter, base))
    else:
        write_weights(out, source)
        _write_files(adapter, base, out)


def _write_files(adapter: Adapter, base: Checkpoint, out: Path) -> None:
    """Write what stands beside the weights, where the merge changes neither names nor shapes."""
    config = {key: value for key, value in base.config.items() if key != "torch_dtype"}
    write_json(out / "config.json", {**config, "dtype": "float32"})
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
