"""Weight files: which safetensors files a checkpoint has, what they hold, and reading them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
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
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
LENGTH_BYTES = 8  # a safetensors file begins with the length of its header
LONGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors library

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
        SftbenchError: there are none, only pickled ones, or a shard of the index is missing.
    """
    if (path / WEIGHTS).is_file():
        return [path / WEIGHTS]
    if (path / INDEX).is_file():
        return _shards(path)
    pickled = next((name for name in PICKLED if (path / name).is_file()), None)
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


def _shards(path: Path) -> list[Path]:
    weight_map = _weight_map(path / INDEX)
    shards = sorted({path / shard for shard in weight_map.values()})
    for shard in shards:
        if not shard.is_file():
            raise SftbenchError(
                f"names the shard {shard.name}, which is missing",
                where=path / INDEX,
                remedy=f"Copy or download {shard.name} into {path}.",
            )
    return shards


def _weight_map(index: Path) -> dict[str, str]:
    content = read_json(index)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise SftbenchError("has no weight_map", where=index, remedy=COPY_AGAIN)
    return weight_map


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
                    f"the tensor {name} is also in {headers[name].shard.name}", where=shard
                )
            headers[name] = header
    if not (path / WEIGHTS).is_file():
        for name, shard_name in _weight_map(path / INDEX).items():
            if name not in headers:
                raise SftbenchError(
                    f"the tensor {name} is missing, which {INDEX} says is here",
                    where=path / shard_name,
                    remedy=COPY_AGAIN,
                )
    return dict(sorted(headers.items()))


def file_headers(file: Path) -> dict[str, TensorHeader]:
    """Return what one safetensors file holds, by tensor name; no content is read.

    Raises:
        SftbenchError: the file is truncated or no safetensors file.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
        begin = LENGTH_BYTES + length
        if size < LENGTH_BYTES or length > LONGEST_HEADER:
            raise _broken(file, "it does not begin with the length of a header")
        if begin > size:
            raise _broken(file, f"its header ends at byte {begin:,}, the file at {size:,}")
        raw = stream.read(length)
    try:
        content = json.loads(raw)
        content.pop("__metadata__", None)
        headers = {name: _header(file, begin, entry) for name, entry in content.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _broken(file, "its header cannot be read") from None
    _check_layout(file, begin, size, headers)
    return headers


def _header(file: Path, begin: int, entry: Mapping[str, Any]) -> TensorHeader:
    start, stop = (begin + int(offset) for offset in entry["data_offsets"])
    return TensorHeader(str(entry["dtype"]), tuple(map(int, entry["shape"])), file, start, stop)


def _check_layout(file: Path, begin: int, size: int, headers: Mapping[str, TensorHeader]) -> None:
    """Raise unless the tensors fill the file without holes and have the size of their shapes."""
    position = begin
    for name, header in sorted(headers.items(), key=lambda item: (item[1].start, item[1].stop)):
        bits = BITS.get(header.dtype)
        fits = bits is None or math.prod(header.shape) * bits == 8 * (header.stop - header.start)
        if header.start != position or not fits:
            raise _broken(file, f"its header contradicts itself about the tensor {name}")
        position = header.stop
    if position > size:
        raise SftbenchError(
            f"is truncated: its tensors end at byte {position:,}, the file at {size:,}",
            where=file,
            remedy=COPY_AGAIN,
        )
    if position < size:
        raise _broken(file, f"its tensors end at byte {position:,}, the file at {size:,}")


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
                f"the tensor {name} holds {count:,} NaN or infinite scalar{'s' * (count > 1)}",
                where=where,
                remedy="The training diverged or the file is damaged: train again with a lower "
                "learning rate, or copy the checkpoint again.",
            )
