"""Writing a checkpoint: a standard Hugging Face folder from tensors, and how it was made.

Tensors are taken one at a time, so that a model larger than the memory can be written. A folder
appears under its name when it is whole, or not at all.
"""

from __future__ import annotations

import errno
import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from sftbench.checkpoints.lazy import ahead
from sftbench.checkpoints.source import TORCH
from sftbench.checkpoints.tokenizers import TOKENIZER_FILES
from sftbench.checkpoints.weights import BITS, INDEX, LENGTH_BYTES, WEIGHTS
from sftbench.common.errors import SftbenchError
from sftbench.common.files import atomic_folder, read_json, write_json

if TYPE_CHECKING:
    import torch

RECORD = "sftbench_variant.json"
"""The provenance of a written checkpoint, beside its weights."""

COPIED = (
    *TOKENIZER_FILES, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja", "chat_template.json", "additional_chat_templates",
    "generation_config.json",
)  # fmt: skip
"""What a new checkpoint takes over; never weights, records or training state."""

SHARD_BYTES = 5_000_000_000
"""The largest weight file, as transformers writes them."""

UNWRITABLE = (
    errno.EACCES,
    errno.EROFS,
    errno.EPERM,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
)
"""What a system says of a place where no folder can be made."""

Form = tuple[str, tuple[int, ...]]
"""Dtype, as safetensors writes it, and shape."""
_ST = {name: form for form, name in TORCH.items()}


class Writable(Protocol):
    """Tensors by checkpoint name, of which form and size are known before they are made."""

    def forms(self) -> Mapping[str, Form]:
        """Return the form of each tensor."""
        ...

    def tensor(self, name: str) -> torch.Tensor:
        """Return one tensor, on the CPU."""
        ...


@dataclass(frozen=True)
class _InMemory:
    tensors: Mapping[str, torch.Tensor]

    def forms(self) -> Mapping[str, Form]:
        return {
            name: (_ST[str(tensor.dtype).removeprefix("torch.")], tuple(tensor.shape))
            for name, tensor in self.tensors.items()
        }

    def tensor(self, name: str) -> torch.Tensor:
        return self.tensors[name]


def write_checkpoint(
    out: Path,
    tensors: Writable | Mapping[str, torch.Tensor],
    *,
    like: Path,
    record: Mapping[str, Any] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write tensors as a checkpoint that transformers reads; all of it appears, or nothing.

    Args:
        out: the folder to make; it must not exist, or be empty.
        tensors: by the checkpoint names of `like`; a tied head that `like` leaves out is left
            out here as well, and stays tied.
        like: the checkpoint that configuration and tokenizer are taken from.
        record: how this checkpoint was made, as a JSON value; written to `RECORD`.
        shard_bytes: the largest weight file, but for one that holds a single larger tensor.

    Raises:
        SftbenchError: `out` is not free, `like` has no config.json, or the disk is full.
    """
    weights = _InMemory(tensors) if isinstance(tensors, Mapping) else tensors
    forms = weights.forms()
    with _disk_errors(out), atomic_folder(out) as folder:
        write_weights(folder, weights, shard_bytes)
        _write_config(folder, forms, like)
        for name in COPIED:
            _copy(like / name, folder / name)
        if record is not None:
            write_json(folder / RECORD, dict(record))


@contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    """Turn a disk that is full, or that does not let us write, into an error for people."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(out) from error
        if error.errno in UNWRITABLE:
            raise SftbenchError(
                f"cannot be written ({error.strerror})", where=out, remedy="Name another output."
            ) from error
        raise


def require_room(out: Path, weights: Sequence[Writable]) -> None:
    """Raise unless the disk has room for the weights of all these checkpoints.

    Args:
        out: the folder that they, or the folders above them, will be in.
        weights: the checkpoints.

    Raises:
        SftbenchError: it has not.
    """
    needed = sum(_bytes(form) for one in weights for form in one.forms().values())
    there = next(one for one in (out, *out.absolute().parents) if one.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise _full(out, f": the weights take {needed:,} bytes, {free:,} are free")


def _full(where: Path, why: str = "") -> SftbenchError:
    return SftbenchError(
        f"the disk is full{why}", where=where, remedy="Free some room, or name another output."
    )


def _bytes(form: Form) -> int:
    dtype, shape = form
    return math.prod(shape) * BITS[dtype] // 8


def write_weights(folder: Path, weights: Writable, shard_bytes: int = SHARD_BYTES) -> None:
    """Write the weight files alone, with their index where there are several.

    Raises:
        SftbenchError: the disk has no room for them.
    """
    forms = weights.forms()
    require_room(folder.parent, [weights])
    shards = _shards(forms, shard_bytes)
    files = [WEIGHTS]
    if len(shards) > 1:
        files = [
            f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            for number in range(1, len(shards) + 1)
        ]
    for file, names in zip(files, shards, strict=True):
        with (folder / file).open("wb") as stream:
            _write_shard(stream, weights, {name: forms[name] for name in names})
        (folder / file).chmod(0o644)
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(_bytes(form) for form in forms.values())},
            "weight_map": {
                name: file for file, names in zip(files, shards, strict=True) for name in names
            },
        }
        write_json(folder / INDEX, index)


def _shards(forms: Mapping[str, Form], most: int) -> list[list[str]]:
    """Return the names of each shard: in order, as many as fit."""
    shards: list[list[str]] = [[]]
    size = 0
    for name in sorted(forms):
        if shards[-1] and size + _bytes(forms[name]) > most:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += _bytes(forms[name])
    return shards


def _write_shard(stream: BinaryIO, weights: Writable, forms: Mapping[str, Form]) -> None:
    """Write one safetensors file: the length of its header, the header, the tensors.

    Wider numbers come first, as the safetensors library does it, so that all of them are aligned.
    """
    order = sorted(forms, key=lambda name: (-BITS[forms[name][0]], name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name in order:
        dtype, shape = forms[name]
        stop = place + _bytes(forms[name])
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, stop]}
        place = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    stream.write(len(text).to_bytes(LENGTH_BYTES, "little") + text)
    for name, tensor in ahead(order, weights.tensor, most=1):
        _write_tensor(stream, name, tensor, forms[name])


def _write_tensor(stream: BinaryIO, name: str, tensor: torch.Tensor, form: Form) -> None:
    import torch

    found = _ST[str(tensor.dtype).removeprefix("torch.")], tuple(tensor.shape)
    if found != form:
        raise ValueError(f"{name} is {found} where {form} was announced")
    if tensor.numel():
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        stream.write(flat.numpy().data)


def _write_config(folder: Path, forms: Mapping[str, Form], like: Path) -> None:
    config = read_json(like / "config.json")
    if not isinstance(config, dict):
        raise SftbenchError("is not a JSON object", where=like / "config.json")
    scalars: Counter[str] = Counter()
    for dtype, shape in forms.values():
        if dtype in ("BF16", "F16", "F32", "F64"):
            scalars[TORCH[dtype]] += math.prod(shape)
    if scalars:
        config.pop("torch_dtype", None)  # the key of transformers before version 5
        config["dtype"] = scalars.most_common(1)[0][0]
    write_json(folder / "config.json", config)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.is_file():
        shutil.copyfile(source, target)
