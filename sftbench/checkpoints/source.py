"""A checkpoint folder as tensors that are looked at where they lie, without being read in.

The weight files are mapped into memory: what is looked at is in the page cache of the system,
which it takes back when it needs room. So a model can be far larger than the memory.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sftbench.checkpoints.weights import TensorHeader, tensor_headers

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

FLOATS = ("BF16", "F16", "F32", "F64")
"""Dtypes that can be ranked and restored."""
STORED: Mapping[str, str] = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "BF16": "<u2", "F16": "<f2",
    "U32": "<u4", "I32": "<i4", "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip
"""How numpy reads a dtype of safetensors; bfloat16 as its bits, others as bytes."""
TORCH: Mapping[str, str] = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16",
    "BF16": "bfloat16", "F16": "float16", "U32": "uint32", "I32": "int32", "F32": "float32",
    "U64": "uint64", "I64": "int64", "F64": "float64", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "C64": "complex64",
}  # fmt: skip


class Source(Protocol):
    """Tensors by checkpoint name, made or looked up one at a time.

    Attributes:
        path: the folder that errors name.
    """

    path: Path

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of each tensor, sorted by name."""
        ...

    def dtype(self, name: str) -> str:
        """Return a tensor's dtype as safetensors writes it."""
        ...

    def flat(self, name: str) -> NDArray[Any]:
        """Return a tensor's scalars in one row (row-major), as `STORED` says; not to be changed."""
        ...

    def span(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return those between two flat indices; the whole tensor need not be made for it."""
        ...

    def origin(self) -> str | dict[str, str]:
        """Return JSON of which `adapter_source.source_of` makes the same source."""
        ...


class FolderSource:
    """The tensors of a folder with safetensors files.

    Args:
        path: the folder.

    Attributes:
        path: the folder.
        headers: what the files say of each tensor, sorted by name.

    Raises:
        SftbenchError: as `tensor_headers`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.headers: Mapping[str, TensorHeader] = tensor_headers(path)
        self._mapped: dict[Path, NDArray[np.uint8]] = {}

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of each tensor, sorted by name."""
        return {name: header.shape for name, header in self.headers.items()}

    def dtype(self, name: str) -> str:
        """Return a tensor's dtype as safetensors writes it."""
        return self.headers[name].dtype

    def flat(self, name: str) -> NDArray[Any]:
        """Return a tensor's scalars in one row, where they lie in the file."""
        return self.bytes(name).view(STORED.get(self.headers[name].dtype, "u1"))

    def span(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return the scalars between two flat indices, where they lie in the file."""
        return self.flat(name)[start:stop]

    def origin(self) -> str:
        """Return the folder's absolute path."""
        return str(self.path.resolve())

    def bytes(self, name: str) -> NDArray[np.uint8]:
        """Return a tensor's content as it lies in the file."""
        header = self.headers[name]
        return self._map(header.shard)[header.start : header.stop]

    def _map(self, shard: Path) -> NDArray[np.uint8]:
        if shard not in self._mapped:
            with shard.open("rb") as stream:
                # Copied where it is written to, so that nothing can reach the file.
                mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
            self._mapped[shard] = np.frombuffer(mapped, np.uint8)
        return self._mapped[shard]


def tensor_of(source: Source, name: str) -> torch.Tensor:
    """Return one tensor of a source in its dtype and shape, where it lies; not to be changed."""
    return as_tensor(source.flat(name), source.dtype(name), source.shapes[name])


def as_tensor(flat: NDArray[Any], dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return scalars as they are stored as a tensor of the same memory."""
    import torch

    form: torch.dtype = getattr(torch, TORCH[dtype])
    if not flat.size:
        return torch.empty(shape, dtype=form)
    aligned = np.require(flat, requirements=["ALIGNED"])
    return torch.from_numpy(aligned.view(np.uint8)).view(form).reshape(shape)


def stored_of(tensor: torch.Tensor, dtype: str) -> NDArray[Any]:
    """Return the scalars of a tensor in one row as `Source.flat` gives them."""
    import torch

    raw = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return raw.view(STORED.get(dtype, "u1"))


class Tensors(Mapping[str, "torch.Tensor"]):
    """The tensors of a source as a mapping that makes them when they are asked for."""

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of each tensor, sorted by name; no tensor is made."""
        return self._source.shapes

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._source.shapes:
            raise KeyError(name)
        return tensor_of(self._source, name)

    def __contains__(self, name: object) -> bool:
        return name in self._source.shapes  # a mapping would make the tensor to know

    def __iter__(self) -> Iterator[str]:
        return iter(self._source.shapes)

    def __len__(self) -> int:
        return len(self._source.shapes)


def shapes_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor; those of a source are not made for it."""
    if isinstance(tensors, Tensors):
        return dict(tensors.shapes)
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def as_floats(flat: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return scalars as the kernels read them: float32, or bfloat16 as uint16; aligned.

    Args:
        flat: as `Source.flat` gives them, or a piece of that.
        dtype: one of `FLOATS`.
    """
    if dtype in ("F16", "F64"):
        with np.errstate(over="ignore"):
            return flat.astype(np.float32)
    return np.require(flat, requirements=["ALIGNED"])


def cast(flat: NDArray[Any], dtype: str, target: str) -> NDArray[Any]:
    """Return float scalars in another stored dtype, rounded as torch rounds; aligned.

    Args:
        flat: scalars of `dtype`, as `Source.flat` gives them.
        dtype: one of `FLOATS`.
        target: one of `FLOATS`.
    """
    if dtype == target:
        return np.require(flat, requirements=["ALIGNED"])
    import torch

    form: torch.dtype = getattr(torch, TORCH[target])
    tensor = as_tensor(flat, dtype, (flat.size,)).to(form)
    raw = tensor.view(torch.uint8).numpy()
    return raw.view(STORED[target])


def pieces(size: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of consecutive parts of at most so many scalars."""
    for start in range(0, size, most):
        yield start, min(start + most, size)
