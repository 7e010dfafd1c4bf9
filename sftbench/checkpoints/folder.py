"""Checkpoint folders: what must be there before any work starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sftbench.checkpoints.adapters import ADAPTER_CONFIG, is_adapter
from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.checkpoints.tokenizers import require_tokenizer
from sftbench.checkpoints.weights import (
    TensorHeader,
    read_tensors,
    require_finite,
    tensor_headers,
)
from sftbench.common.errors import SftbenchError
from sftbench.common.files import read_json

__all__ = [
    "Checkpoint",
    "TensorHeader",
    "open_checkpoint",
    "read_tensors",
    "require_finite",
    "tensor_headers",
]


@dataclass(frozen=True)
class Checkpoint:
    """A valid checkpoint folder.

    Attributes:
        path: the folder.
        digest: the name of its tensors, see `checkpoint_digest`.
        config: the content of config.json.
    """

    path: Path
    digest: str
    config: Mapping[str, Any]


def open_checkpoint(path: Path) -> Checkpoint:
    """Check a checkpoint folder and name it by its tensors; NaN is looked for only on reading.

    Raises:
        SftbenchError: the folder or a file in it is missing or broken, the model needs code of
            its own, or the weights are pickled. Each error says which, and the remedy.
    """
    if not path.is_dir():
        raise SftbenchError(
            "there is no such checkpoint folder",
            where=path,
            remedy="Name a local folder, or one of the names that `sftbench model` knows.",
        )
    config = _config(path)
    tensor_headers(path)
    _require_tokenizer_without_code(path)
    return Checkpoint(path, checkpoint_digest(path), config)


def _config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    _require_no_adapter(path)
    if not file.is_file():
        raise SftbenchError(
            "there is no config.json, so this is no Hugging Face checkpoint",
            where=path,
            remedy="Name the folder that holds config.json and the .safetensors files.",
        )
    config = read_json(file)
    if not isinstance(config, dict):
        raise SftbenchError("is not a JSON object", where=file)
    _require_no_code(config, file)
    return config


def _require_no_adapter(path: Path) -> None:
    if is_adapter(path):
        raise SftbenchError(
            "is an adapter, not a full checkpoint",
            where=path,
            remedy="An adapter can be the tuned model, and is merged into its base by itself; "
            "for all else, `sftbench model ADAPTER` merges it and prints the folder to name.",
        )
    if (path / ADAPTER_CONFIG).is_file():
        raise SftbenchError(
            f"holds a full checkpoint and an adapter ({ADAPTER_CONFIG}), and transformers would "
            "read the one and apply the other",
            where=path,
            remedy="Move the adapter's files into a folder of their own.",
        )


def _require_no_code(settings: Mapping[str, Any], file: Path) -> None:
    if "auto_map" in settings:
        raise SftbenchError(
            "asks for code that comes with the checkpoint (auto_map), which is never run",
            where=file,
            remedy="Use a model that transformers has built in; if it has this one, "
            "remove auto_map from the file.",
        )


def _require_tokenizer_without_code(path: Path) -> None:
    require_tokenizer(path)
    settings = path / "tokenizer_config.json"
    if settings.is_file():
        content = read_json(settings)
        _require_no_code(content if isinstance(content, dict) else {}, settings)
