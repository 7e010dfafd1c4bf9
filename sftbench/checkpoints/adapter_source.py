"""A LoRA adapter over its base: tensors that are merged one at a time, when they are looked at."""

from __future__ import annotations

import math
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftbench.checkpoints.adapters import (
    ADAPTER_WEIGHTS,
    Adapter,
    open_adapter,
    require_base,
)
from sftbench.checkpoints.source import (
    FLOATS,
    FolderSource,
    Source,
    as_tensor,
    cast,
    stored_of,
    tensor_of,
)
from sftbench.checkpoints.tokenizers import has_tokenizer, highest_token_id
from sftbench.checkpoints.update import HEAD, embedding_name
from sftbench.checkpoints.weights import file_headers, require_finite
from sftbench.common.errors import SftbenchError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

PREFIX = "base_model.model."
"""How the names of an adapter's tensors begin."""
PARTS = ("lora_A", "lora_B")
UNDERSTOOD = frozenset({
    "peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern",
    "target_modules", "lora_dropout", "init_lora_weights", "base_model_name_or_path", "revision",
    "task_type", "inference_mode", "peft_version", "auto_mapping", "bias",
    "megatron_core", "qalora_group_size",
})  # fmt: skip
"""Settings that this way of merging knows, and two that say nothing by themselves; any other one
that is set needs peft."""
KEPT_BYTES = 1 << 28
"""Merged tensors that are kept for the next look, in bytes; the last one is, whatever its size."""


@dataclass(frozen=True)
class Delta:
    """What is added to one tensor: scaling * (B @ A).

    Attributes:
        down: A, float32, shape [rank, columns].
        up: B, float32, shape [rows, rank].
        scaling: alpha / rank, or alpha / sqrt(rank).
    """

    down: torch.Tensor
    up: torch.Tensor
    scaling: float


class AdapterSource:
    """The tensors of a base with a LoRA adapter merged in, in fp32, to the bit as peft merges.

    A tensor is merged when it is looked at, and again when it is looked at later: the last few
    are kept (`KEPT_BYTES`). So memory holds the adapter and a few tensors, whatever the model.
    Hu et al. 2021 (arXiv 2106.09685): W + alpha / r B A; rsLoRA (arXiv 2312.03732): alpha / sqrt r.

    Args:
        path: the adapter's folder.
        base: the base.
        deltas: what is added, by the checkpoint name of the tensor.
    """

    def __init__(self, path: Path, base: FolderSource, deltas: Mapping[str, Delta]) -> None:
        self.path, self.base, self.deltas = path, base, deltas
        self._kept: OrderedDict[str, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of each tensor, sorted by name."""
        return self.base.shapes

    def dtype(self, name: str) -> str:
        """Return a tensor's dtype as safetensors writes it: F32 for all floats."""
        stored = self.base.dtype(name)
        return "F32" if stored in FLOATS else stored

    def flat(self, name: str) -> NDArray[Any]:
        """Return a tensor's scalars in one row; not to be changed."""
        if name not in self.deltas:
            return self.span(name, 0, math.prod(self.shapes[name]))
        with self._lock:  # the product uses all processors by itself
            if name not in self._kept:
                self._kept[name] = self._merged(name)
                while len(self._kept) > 1 and self._size() > KEPT_BYTES:
                    self._kept.popitem(last=False)
            return self._kept[name]

    def span(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return the scalars between two flat indices; not to be changed."""
        if name in self.deltas:
            return self.flat(name)[start:stop]
        return cast(self.base.span(name, start, stop), self.base.dtype(name), self.dtype(name))

    def origin(self) -> dict[str, str]:
        """Return JSON of which `source_of` makes the same source."""
        return {"adapter": str(self.path.resolve()), "base": str(self.base.path.resolve())}

    def forms(self) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """Return dtype and shape of each tensor, sorted by name."""
        return {name: (self.dtype(name), shape) for name, shape in self.shapes.items()}

    def tensor(self, name: str) -> torch.Tensor:
        """Return one tensor."""
        return tensor_of(self, name)

    def _merged(self, name: str) -> NDArray[Any]:
        delta, shape = self.deltas[name], self.shapes[name]
        before = cast(self.base.flat(name), self.base.dtype(name), "F32")
        added = (delta.up @ delta.down) * delta.scaling
        return stored_of(as_tensor(before, "F32", shape) + added, "F32")

    def _size(self) -> int:
        return sum(kept.nbytes for kept in self._kept.values())


def source_of(origin: str | Mapping[str, str]) -> Source:
    """Return the source that says of itself that this is its origin.

    Raises:
        SftbenchError: a folder is gone or broken.
    """
    if isinstance(origin, str):
        return FolderSource(Path(origin))
    found = adapter_source(Path(origin["adapter"]), Path(origin["base"]))
    if found is None:
        raise SftbenchError("the adapter was changed meanwhile", where=origin["adapter"])
    return found


def adapter_source(adapter: Path, base: Path) -> AdapterSource | None:
    """Return an adapter over its base, merged tensor by tensor; None where that takes peft.

    Only LoRA on stored matrices is merged here. What trains or adds anything else (DoRA, whole
    modules, embeddings, new tokens, PiSSA's other base ...), and what does not fit, is left to
    `merging.merged`, which merges it or says what is wrong.

    Raises:
        SftbenchError: a folder is broken, the adapter is for another base, or it holds NaN.
    """
    import torch
    from safetensors.torch import load_file

    opened = open_adapter(adapter)
    require_base(opened, base)
    source = FolderSource(base)
    if not _is_plain(opened) or _has_other_tokens(opened, source):
        return None
    found = _targets(opened, source)
    if not found or any(name in (HEAD, embedding_name(source.shapes)) for name in found):
        return None
    tensors = load_file(adapter / ADAPTER_WEIGHTS)
    require_finite(tensors, adapter / ADAPTER_WEIGHTS)
    deltas: dict[str, Delta] = {}
    for name, module in found.items():
        down, up = (tensors[f"{PREFIX}{module}.{part}.weight"].to(torch.float32) for part in PARTS)
        rank = _setting(opened, "rank_pattern", module, opened.settings.get("r"))
        if rank != len(down):
            return None
        alpha = _setting(opened, "alpha_pattern", module, opened.settings.get("lora_alpha"))
        root = math.sqrt(rank) if opened.settings.get("use_rslora") else rank
        deltas[name] = Delta(down, up, alpha / root)
    return AdapterSource(adapter, source, deltas)


def _is_plain(adapter: Adapter) -> bool:
    """Return whether the settings ask for nothing but low-rank matrices beside weights."""
    settings = adapter.settings
    start = settings.get("init_lora_weights", True)
    return (
        adapter.kind == "LORA"
        and not any(value for key, value in settings.items() if key not in UNDERSTOOD)
        and settings.get("task_type") in (None, "CAUSAL_LM")
        and settings.get("bias", "none") == "none"
        and (isinstance(start, bool) or start == "gaussian")  # others change the base as well
    )


def _has_other_tokens(adapter: Adapter, base: FolderSource) -> bool:
    """Return whether the adapter's tokenizer gives ids that the base has no rows for."""
    if not has_tokenizer(adapter.path):
        return False
    highest, name = highest_token_id(adapter.path), embedding_name(base.shapes)
    return highest is None or name is None or highest >= base.shapes[name][0]


def _targets(adapter: Adapter, base: FolderSource) -> dict[str, str] | None:
    """Return the module of each tensor that is added to; None if any is of another kind."""
    headers = file_headers(adapter.path / ADAPTER_WEIGHTS)
    modules: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, header in headers.items():
        match = re.fullmatch(rf"{re.escape(PREFIX)}(.+)\.(lora_[AB])\.weight", name)
        if match is None:
            return None
        modules.setdefault(match[1], {})[match[2]] = tuple(header.shape)
    if modules.keys() != _asked_for(adapter, base):
        return None
    for module, shapes in modules.items():
        name = f"{module}.weight"
        down, up = (shapes.get(part, ()) for part in PARTS)
        fits = len(down) == len(up) == 2 and base.shapes[name] == (up[0], down[1])
        if not fits or up[1] != down[0] or base.dtype(name) not in FLOATS:
            return None
    return {f"{module}.weight": module for module in modules}


def _asked_for(adapter: Adapter, base: FolderSource) -> set[str]:
    """Return the modules with a matrix in the blocks that the settings are about."""
    wanted = adapter.settings.get("target_modules") or []
    stored = [
        name.removesuffix(".weight")
        for name, shape in base.shapes.items()
        if name.endswith(".weight") and len(shape) == 2
    ]
    if isinstance(wanted, str):
        return {module for module in stored if re.fullmatch(wanted, module)}
    ends = tuple(f".{one}" for one in wanted)
    return {module for module in stored if module in wanted or module.endswith(ends)}


def _setting(adapter: Adapter, pattern: str, module: str, default: Any) -> Any:
    """Return a number that a pattern of module names may set, as peft looks it up."""
    patterns = adapter.settings.get(pattern) or {}
    for key, value in patterns.items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default
