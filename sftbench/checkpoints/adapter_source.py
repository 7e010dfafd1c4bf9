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
from sftbench.common.files import read_json

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
TRANSPOSED = ("gpt2", "openai-gpt")
"""Language models of transformers whose linear layers (Conv1D) store columns for rows."""
KEPT_BYTES = 1 << 28
"""Merged tensors that are kept for the next look, in bytes."""
KEPT_ALWAYS = 2
"""The last few are kept whatever their size: a variant makes so many at a time (`lazy.ahead`)."""


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


@dataclass
class _Kept:
    """The place of a merged tensor: whoever waits for it holds the place, not only the cache."""

    flat: NDArray[Any] | None = None


class AdapterSource:
    """The tensors of a base with a LoRA adapter merged in, in fp32, to the bit as peft merges.

    A tensor is merged when it is looked at: as a rule once in a pass over the model, however many
    pieces of it are asked for by however many threads (a thread that falls tensors behind merges
    again), and once more in the next pass. The last ones are kept (`KEPT_BYTES`, `KEPT_ALWAYS`), so
    that memory holds the adapter and a few tensors, whatever the model. Names, shapes and dtypes
    cost nothing.
    Hu et al. 2021 (arXiv 2106.09685): W + alpha / r B A; rsLoRA (arXiv 2312.03732): alpha / sqrt r.

    Args:
        path: the adapter's folder.
        base: the base.
        deltas: what is added, by the checkpoint name of the tensor.
    """

    def __init__(self, path: Path, base: FolderSource, deltas: Mapping[str, Delta]) -> None:
        self.path, self.base, self.deltas = path, base, deltas
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock, self._merging = threading.Lock(), threading.Lock()

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
        kept = self._place(name)
        with self._merging:  # one at a time: the product uses all processors by itself
            if kept.flat is None:
                kept.flat = self._merged(name)
            return kept.flat

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

    def _place(self, name: str) -> _Kept:
        """Return where a tensor is, or will be once it is merged; older ones are let go."""
        with self._lock:
            kept = self._kept.setdefault(name, _Kept())
            while len(self._kept) > KEPT_ALWAYS and self._size() > KEPT_BYTES:
                self._kept.popitem(last=False)
            return kept

    def _merged(self, name: str) -> NDArray[Any]:
        delta, shape = self.deltas[name], self.shapes[name]
        before = cast(self.base.flat(name), self.base.dtype(name), "F32")
        added = (delta.up @ delta.down) * delta.scaling
        return stored_of(as_tensor(before, "F32", shape) + added, "F32")

    def _size(self) -> int:
        return sum(4 * math.prod(self.shapes[name]) for name in self._kept)


def source_of(origin: str | Mapping[str, str]) -> Source:
    """Return the source that says of itself that this is its origin.

    Raises:
        SftbenchError: a folder is gone or broken.
    """
    if isinstance(origin, str):
        return FolderSource(Path(origin))
    return adapter_over(Path(origin["adapter"]), Path(origin["base"]))


def adapter_over(adapter: Path, base: Path) -> AdapterSource:
    """Return an adapter over its base, merged tensor by tensor.

    Raises:
        SftbenchError: as `adapter_source`, or this adapter takes peft.
    """
    found = adapter_source(adapter, base)
    if found is None:
        raise SftbenchError(
            "this adapter cannot be merged tensor by tensor",
            where=adapter,
            remedy="`sftbench model ADAPTER` merges it into a folder, or says why it cannot be.",
        )
    return found


def adapter_source(adapter: Path, base: Path) -> AdapterSource | None:
    """Return an adapter over its base, merged tensor by tensor; None where that takes peft.

    Only LoRA on stored matrices is merged here. What trains or adds anything else (DoRA, whole
    modules, embeddings, new tokens, PiSSA's other base ...), a base that stores its matrices in
    another way (quantised, transposed), and what does not fit, is left to `merging.merged`, which
    merges it or says what is wrong.

    Raises:
        SftbenchError: a folder is broken, the adapter is for another base, or it holds NaN.
    """
    import torch
    from safetensors.torch import load_file

    opened = open_adapter(adapter)
    require_base(opened, base)
    source = FolderSource(base)
    if not _is_plain(opened) or not _stores_matrices(base) or _has_other_tokens(opened, source):
        return None
    found = _targets(opened, source)
    if not found or any(name in (HEAD, embedding_name(source.shapes)) for name in found):
        return None
    tensors = load_file(adapter / ADAPTER_WEIGHTS)
    require_finite(tensors, adapter / ADAPTER_WEIGHTS)
    deltas: dict[str, Delta] = {}
    for name, module in found.items():
        down, up = (tensors[f"{PREFIX}{module}.{part}.weight"].to(torch.float32) for part in PARTS)
        scaling = _scaling(opened, module, len(down))
        if scaling is None:
            return None
        deltas[name] = Delta(down, up, scaling)
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
        and _has_plain_names(settings)
    )


def _has_plain_names(settings: Mapping[str, Any]) -> bool:
    """Return whether the settings that hold names of modules can be read as such."""
    wanted = settings.get("target_modules")
    tables = [settings.get(key) or {} for key in ("rank_pattern", "alpha_pattern")]
    if not isinstance(wanted, str | list) or not all(isinstance(one, dict) for one in tables):
        return False
    try:
        for pattern in (*([wanted] if isinstance(wanted, str) else ()), *tables[0], *tables[1]):
            re.compile(pattern)
    except re.error:
        return False
    return True


def _stores_matrices(base: Path) -> bool:
    """Return whether a base stores the matrix W of each y = W x, and not another form of it."""
    config = read_json(base / "config.json") if (base / "config.json").is_file() else {}
    if not isinstance(config, dict):
        return False
    return "quantization_config" not in config and config.get("model_type") not in TRANSPOSED


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
    wanted = adapter.settings["target_modules"]
    stored = [
        name.removesuffix(".weight")
        for name, shape in base.shapes.items()
        if name.endswith(".weight") and len(shape) == 2
    ]
    if isinstance(wanted, str):
        return {module for module in stored if re.fullmatch(wanted, module)}
    ends = tuple(f".{one}" for one in wanted)
    return {module for module in stored if module in wanted or module.endswith(ends)}


def _scaling(adapter: Adapter, module: str, rank: int) -> float | None:
    """Return alpha / rank, or alpha / sqrt(rank); None where the settings do not say it plainly."""
    wanted = _setting(adapter, "rank_pattern", module, adapter.settings.get("r"))
    alpha = _setting(adapter, "alpha_pattern", module, adapter.settings.get("lora_alpha"))
    if type(wanted) is not int or wanted != rank or rank == 0:
        return None
    if type(alpha) not in (int, float) or not math.isfinite(alpha):
        return None
    return float(alpha / (math.sqrt(rank) if adapter.settings.get("use_rslora") else rank))


def _setting(adapter: Adapter, pattern: str, module: str, default: Any) -> Any:
    """Return a number that a pattern of module names may set, as peft looks it up."""
    patterns = adapter.settings.get(pattern) or {}
    for key, value in patterns.items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default
