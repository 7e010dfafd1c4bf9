"""Writing a checkpoint: a standard Hugging Face folder from tensors, and how it was made."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftbench.checkpoints.tokenizers import TOKENIZER_FILES
from sftbench.checkpoints.weights import INDEX
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

SHARD_SIZE = "5GB"
WEIGHTS_PATTERN = "model{suffix}.safetensors"


def write_checkpoint(
    out: Path,
    tensors: Mapping[str, torch.Tensor],
    *,
    like: Path,
    record: Mapping[str, Any] | None = None,
    shard_size: str = SHARD_SIZE,
) -> None:
    """Write tensors as a checkpoint that transformers reads; all of it appears, or nothing.

    Args:
        out: the folder to make; it must not exist, or be empty.
        tensors: by the checkpoint names of `like`; a tied head that `like` leaves out is left
            out here as well, and stays tied.
        like: the checkpoint that configuration and tokenizer are taken from.
        record: how this checkpoint was made, as a JSON value; written to `RECORD`.
        shard_size: the largest weight file, such as "5GB".

    Raises:
        SftbenchError: `out` is not free, or `like` has no config.json.
    """
    with atomic_folder(out) as folder:
        _write_weights(folder, tensors, shard_size)
        _write_config(folder, tensors, like)
        for name in COPIED:
            _copy(like / name, folder / name)
        if record is not None:
            write_json(folder / RECORD, dict(record))


def _write_weights(folder: Path, tensors: Mapping[str, torch.Tensor], shard_size: str) -> None:
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    plan = split_torch_state_dict_into_shards(
        dict(tensors), filename_pattern=WEIGHTS_PATTERN, max_shard_size=shard_size
    )
    for file, names in plan.filename_to_tensors.items():
        content = {name: tensors[name].contiguous() for name in names}
        save_file(content, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(0o644)
    if plan.is_sharded:
        index = {"metadata": dict(plan.metadata), "weight_map": dict(plan.tensor_to_filename)}
        write_json(folder / INDEX, index)


def _write_config(folder: Path, tensors: Mapping[str, torch.Tensor], like: Path) -> None:
    config = read_json(like / "config.json")
    if not isinstance(config, dict):
        raise SftbenchError("is not a JSON object", where=like / "config.json")
    scalars: Counter[str] = Counter()
    for tensor in tensors.values():
        if tensor.is_floating_point():
            scalars[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    if scalars:
        config.pop("torch_dtype", None)  # the key of transformers before version 5
        config["dtype"] = scalars.most_common(1)[0][0]
    write_json(folder / "config.json", config)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.is_file():
        shutil.copyfile(source, target)
