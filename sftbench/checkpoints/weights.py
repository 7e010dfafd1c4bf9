"""Weight files: which safetensors files a checkpoint has, what they hold, and reading them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftbench.common.errors import SftbenchError
from sftbench.common.files import read_json

if TYPE_CHECKING:
    import torch

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.bin", "model.pt")

BITS = {
    "F4": 4, "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32,
    "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
"""Dtypes that the safetensors library gives to torch."""
ENTRY = {"dtype", "shape", "data_offsets"}
LENGTH_BYTES = 8  # a safetensors file begins with the length of its header
LONGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors library, here of an index too
LONGEST_INTEGER = 19  # digits of 2**63 - 1
MOST_BITS = 2**63 - 1  # of a tensor, an empty dimension counted as 1: libraries count in int64
NAME_SHOWN = 100  # characters

COPY_AGAIN = "Copy or download the file again."


@dataclass(frozen=True)
class TensorHeader:
    """What a weight file says about one tensor.

    Attributes:
        dtype: as safetensors writes it ("BF16", "F32").
        shape: the dimensions; () for a scalar.
        shard: the file that holds it.
        start: first byte of the content in that file.
        stop: the byte after the last.
    """

    dtype: str
    shape: tuple[int, ...]
    shard: Path
    start: int
    stop: int


def weight_files(path: Path) -> list[Path]:
    """Return the safetensors files that transformers would read from a folder, sorted by name.

    Raises:
        SftbenchError: there are none, only pickled ones, the index cannot be read, or a shard that
            it names is missing or elsewhere.
    """
    if _is_file(path / WEIGHTS):
        return [path / WEIGHTS]
    if _is_file(path / INDEX):
        return _shards(path)
    pickled = next((name for name in PICKLED if _is_file(path / name)), None)
    if pickled is not None:
        raise SftbenchError(
            "the weights are pickled, and reading a pickle can run any code",
            where=path / pickled,
            remedy="Convert them to safetensors: load the model where you trust it and call "
            "save_pretrained.",
        )
    raise SftbenchError(
        f"there are no weights: neither {WEIGHTS} nor {INDEX}",
        where=path,
        remedy="Name the folder of a full Hugging Face checkpoint.",
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError as error:
        raise SftbenchError(f"cannot be read ({error.strerror})", where=path.parent) from None
    except OSError:  # no file can have such a name
        return False


def _shards(path: Path) -> list[Path]:
    names = sorted(set(_weight_map(path / INDEX).values()))
    for name in names:
        if not _is_file(path / name):
            raise SftbenchError(
                f"names the shard {_shown(name)}, which is missing",
                where=path / INDEX,
                remedy=f"Copy or download {_shown(name)} into {path}.",
            )
    return sorted({path / name for name in names})


def _weight_map(index: Path) -> dict[str, str]:
    try:
        if index.stat().st_size > LONGEST_HEADER:
            raise ValueError(f"longer than {LONGEST_HEADER:,} bytes")
        content = read_json(index)
    except (OSError, ValueError, RecursionError) as error:
        raise SftbenchError(
            f"cannot be read as JSON ({error})", where=index, remedy=COPY_AGAIN
        ) from None
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise SftbenchError("has no weight_map", where=index, remedy=COPY_AGAIN)
    if not isinstance(content.get("metadata", {}), dict):
        raise SftbenchError("has metadata that are no object", where=index, remedy=COPY_AGAIN)
    for tensor, shard in weight_map.items():
        _require_shard_name(shard, tensor, index)
    return weight_map


def _require_shard_name(shard: object, tensor: str, index: Path) -> None:
    if not isinstance(shard, str) or not shard.endswith(".safetensors"):
        raise SftbenchError(
            f"names no .safetensors file for the tensor {_shown(tensor)}",
            where=index,
            remedy=COPY_AGAIN,
        )
    path = Path(shard)
    if path.anchor or ".." in path.parts:
        raise SftbenchError(
            f"names the shard {_shown(shard)}, which is not in the folder of the index",
            where=index,
            remedy="Put all shards into that folder, and only their names into the index.",
        )


def tensor_headers(path: Path) -> dict[str, TensorHeader]:
    """Return what the weight files of a checkpoint hold, by tensor name; no content is read.

    Raises:
        SftbenchError: weights are missing or pickled, or a file is truncated or no safetensors.
    """
    headers: dict[str, TensorHeader] = {}
    for shard in weight_files(path):
        for name, header in file_headers(shard).items():
            if name in headers:
                raise SftbenchError(
                    f"the tensor {_shown(name)} is also in {headers[name].shard.name}", where=shard
                )
            headers[name] = header
    if not _is_file(path / WEIGHTS):
        for name, shard_name in _weight_map(path / INDEX).items():
            if name not in headers:
                raise SftbenchError(
                    f"the tensor {_shown(name)} is missing, which {INDEX} says is here",
                    where=path / shard_name,
                    remedy=COPY_AGAIN,
                )
    return dict(sorted(headers.items()))


def file_headers(file: Path) -> dict[str, TensorHeader]:
    """Return what one safetensors file holds, by tensor name; no content is read.

    Raises:
        SftbenchError: the file cannot be read, is truncated or no safetensors file, or has a dtype
            that torch cannot read.
    """
    try:
        size, raw = _raw_header(file)
    except OSError as error:
        raise SftbenchError(
            f"cannot be read ({error.strerror})", where=file, remedy=COPY_AGAIN
        ) from None
    begin = LENGTH_BYTES + len(raw)
    try:
        headers = {
            name: _header(file, begin, entry) for name, entry in _entries(raw.decode()).items()
        }
    except (ValueError, RecursionError):
        raise _broken(file, "its header cannot be read") from None
    _check_layout(file, begin, size, headers)
    return headers


def _raw_header(file: Path) -> tuple[int, bytes]:
    """Return the size of a file and its header as bytes."""
    with file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
        begin = LENGTH_BYTES + length
        if size < LENGTH_BYTES or length > LONGEST_HEADER:
            raise _broken(file, "it does not begin with the length of a header")
        if begin > size:
            raise _broken(file, f"its header ends at byte {begin:,}, the file at {size:,}")
        return size, stream.read(length)


def _entries(header: str) -> dict[str, Any]:
    """Return what a header says of each tensor; `ValueError` for what safetensors refuses."""
    content = json.loads(header, object_pairs_hook=_object, parse_int=_natural)
    if not isinstance(content, dict):
        raise ValueError("no object")
    about = content.pop("__metadata__", None)
    if about is not None and not isinstance(about, dict):
        raise ValueError("no object")
    if not all(isinstance(value, str) for value in (about or {}).values()):
        raise ValueError("no text")
    return content


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; no key may come twice, and no text hold half a surrogate pair."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key comes twice")
    for text in (*content, *content.values()):
        if isinstance(text, str):
            text.encode()
    return content


def _natural(digits: str) -> int:
    if not digits.isdecimal() or len(digits) > LONGEST_INTEGER:
        raise ValueError("no size")
    return int(digits)


def _header(file: Path, begin: int, entry: Any) -> TensorHeader:
    if not isinstance(entry, dict) or entry.keys() != ENTRY:
        raise ValueError("no tensor")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not (isinstance(dtype, str) and _are_sizes(shape) and _are_sizes(offsets)):
        raise ValueError("no tensor")
    start, stop = offsets
    return TensorHeader(dtype, tuple(shape), file, begin + start, begin + stop)


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(entry) is int for entry in value)


def _check_layout(file: Path, begin: int, size: int, headers: Mapping[str, TensorHeader]) -> None:
    """Raise unless the tensors fill the file without holes and have the size of their shapes."""
    position = begin
    for name, header in sorted(headers.items(), key=lambda item: (item[1].start, item[1].stop)):
        if header.dtype not in BITS:
            raise SftbenchError(
                f"the tensor {_shown(name)} has the dtype {_shown(header.dtype)}, which torch "
                "does not read",
                where=file,
                remedy="Save the checkpoint in another dtype, or copy or download the file again.",
            )
        if header.start != position or not _has_size_of_shape(header):
            raise _broken(file, f"its header contradicts itself about the tensor {_shown(name)}")
        position = header.stop
    if position > size:
        raise SftbenchError(
            f"is truncated: its tensors end at byte {position:,}, the file at {size:,}",
            where=file,
            remedy=COPY_AGAIN,
        )
    if position < size:
        raise _broken(file, f"its tensors end at byte {position:,}, the file at {size:,}")


def _has_size_of_shape(header: TensorHeader) -> bool:
    bits = most = BITS[header.dtype]
    if bits < 8 and header.shape and header.shape[-1] % 2:
        return False  # torch holds two scalars in a byte, side by side
    for dimension in header.shape:
        bits *= dimension
        most *= max(dimension, 1)
        if most > MOST_BITS:
            return False
    return bits == 8 * (header.stop - header.start)


def _shown(name: str) -> str:
    """Return a name from a file so that it can be printed, and is not too long for it."""
    cut = name if len(name) <= NAME_SHOWN else f"{name[:NAME_SHOWN]}..."
    return cut if cut.isprintable() else ascii(cut)[1:-1]


def _broken(file: Path, why: str) -> SftbenchError:
    return SftbenchError(
        f"is truncated or not a safetensors file: {why}", where=file, remedy=COPY_AGAIN
    )


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint on the CPU, by name, sorted, in their stored dtypes.

    Raises:
        SftbenchError: as `tensor_headers`.
    """
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = {}
    shards = dict.fromkeys(header.shard for header in tensor_headers(path).values())
    for shard in shards:
        tensors.update(load_file(shard))
    return dict(sorted(tensors.items()))


def require_finite(tensors: Mapping[str, torch.Tensor], where: str | Path) -> None:
    """Raise `SftbenchError` naming the first tensor that holds NaN or infinity."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        finite = tensor.isfinite()
        if not finite.all():
            count = int((~finite).sum())
            raise SftbenchError(
                f"the tensor {_shown(name)} holds {count:,} NaN or infinite "
                f"scalar{'s' * (count > 1)}",
                where=where,
                remedy="The training diverged or the file is damaged: train again with a lower "
                "learning rate, or copy the checkpoint again.",
            )
