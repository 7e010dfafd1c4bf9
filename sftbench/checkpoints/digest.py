"""The digest of a checkpoint: what its tensors are, whatever the files."""

from __future__ import annotations

import hashlib
import json
import mmap
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftbench.checkpoints.tokenizers import tokenizer_digest
from sftbench.checkpoints.weights import TensorHeader, tensor_headers, weight_files
from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError
from sftbench.common.files import cache_folder, write_json

if TYPE_CHECKING:
    from sftbench.checkpoints.source import Source

__all__ = [
    "checkpoint_digest",
    "content_digest",
    "folders_of_digest",
    "source_digest",
    "tokenizer_digest",
]

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
    return content_digest(tensor_headers(path))


def content_digest(headers: Mapping[str, TensorHeader]) -> str:
    """Return the digest of tensors in weight files: names, shapes, dtypes and content.

    Several threads hash a tensor each: where all of a large model is read, that is what takes time.
    """
    with ExitStack() as opened, ThreadPoolExecutor() as pool:
        shards: dict[Path, memoryview] = {}
        for shard in dict.fromkeys(header.shard for header in headers.values()):
            stream = opened.enter_context(shard.open("rb"))
            mapped = opened.enter_context(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
            shards[shard] = opened.enter_context(memoryview(mapped))

        def hashed(header: TensorHeader) -> str:
            with shards[header.shard][header.start : header.stop] as part:
                return hashlib.sha256(part).hexdigest()

        hashes = list(pool.map(hashed, headers.values()))
    both = zip(headers.items(), hashes, strict=True)
    return digest_of({n: [one.dtype, list(one.shape), found] for (n, one), found in both})


def source_digest(source: Source) -> str:
    """Return the digest that a folder with the tensors of a source would have."""
    from sftbench.checkpoints.source import tensor_of

    def hashed(name: str) -> str:
        import torch

        tensor = tensor_of(source, name).contiguous().reshape(-1)
        return hashlib.sha256(tensor.view(torch.uint8).numpy().data).hexdigest()

    return digest_of(
        {
            name: [source.dtype(name), list(shape), hashed(name)]
            for name, shape in source.shapes.items()
        }
    )


def folders_of_digest(digest: str) -> list[Path]:
    """Return the folders on this machine that still hold the tensors of that digest.

    Looks among the checkpoints whose digests are cached; nothing is searched for and no content
    is read, so that a folder that was changed since is not returned.
    """
    found: list[Path] = []
    for kept in sorted((cache_folder() / "digests").glob("*.json")):
        try:
            content = json.loads(kept.read_text(encoding="utf-8"))
            folder = Path(content["path"])
            if content["digest"] == digest and content["files"] == _states(folder):
                found.append(folder)
        except (OSError, ValueError, KeyError, TypeError, SftbenchError):
            continue
    return found
