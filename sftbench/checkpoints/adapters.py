"""Adapters (LoRA and kin) as files: what one is, which base it is for, what names it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sftbench.checkpoints.digest import checkpoint_digest, content_digest
from sftbench.checkpoints.hub import parse_hub_id
from sftbench.checkpoints.names import name_of
from sftbench.checkpoints.weights import INDEX, WEIGHTS, file_headers
from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError
from sftbench.common.files import read_json

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_PICKLES = ("adapter_model.bin", "adapter_model.pt")
PROVENANCE_KEYS = ("base_model_name_or_path", "revision", "inference_mode", "peft_version")
"""Entries of adapter_config.json that do not decide what the adapter computes."""

SAVE_AGAIN = "Save the adapter again with peft's save_pretrained, or copy the file again."
_QUANTISED_COPY = re.compile(r"(-unsloth)?(-bnb)?(-[48]bit)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Adapter:
    """An adapter folder whose files are there and readable; its tensors are not read yet.

    Attributes:
        path: the folder.
        settings: the content of adapter_config.json.
    """

    path: Path
    settings: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """The peft type, such as "LORA"."""
        return str(self.settings["peft_type"])

    @property
    def base_ref(self) -> str | None:
        """The base that it says it was trained on: a hub id or the folder of that day."""
        return _text(self.settings.get("base_model_name_or_path"))

    @property
    def revision(self) -> str | None:
        """The revision of the base that it was trained on."""
        return _text(self.settings.get("revision"))

    @property
    def words(self) -> str:
        """What it is, for people: "an adapter (LORA, rank 8) for org/name"."""
        rank = self.settings.get("r")
        kind = f"{self.kind}, rank {rank}" if isinstance(rank, int) else self.kind
        return f"an adapter ({kind}) for {self.base_ref or 'a base that it does not name'}"


def is_adapter(path: Path) -> bool:
    """Return whether a folder holds an adapter and no full weights."""
    full = any((path / name).is_file() for name in (WEIGHTS, INDEX))
    return (path / ADAPTER_CONFIG).is_file() and not full


def open_adapter(path: Path) -> Adapter:
    """Check the files of an adapter folder; peft is not needed.

    Raises:
        SftbenchError: there is no adapter, its settings are broken or would import code, or its
            weights are missing, pickled or truncated.
    """
    if not (path / ADAPTER_CONFIG).is_file():
        raise SftbenchError(f"there is no {ADAPTER_CONFIG}, so this is no adapter", where=path)
    settings = _settings(path / ADAPTER_CONFIG)
    pickled = next((name for name in ADAPTER_PICKLES if (path / name).is_file()), None)
    if not (path / ADAPTER_WEIGHTS).is_file():
        if pickled is None:
            what = f"the adapter has no weights: there is no {ADAPTER_WEIGHTS}"
            raise SftbenchError(what, where=path, remedy=SAVE_AGAIN)
        raise SftbenchError(
            "the adapter is pickled, and reading a pickle can run any code",
            where=path / pickled,
            remedy="Load it where you trust it and save it again with peft's save_pretrained, "
            "which writes safetensors.",
        )
    file_headers(path / ADAPTER_WEIGHTS)
    return Adapter(path, settings)


def _settings(file: Path) -> dict[str, Any]:
    settings = read_json(file)
    if not isinstance(settings, dict) or not isinstance(settings.get("peft_type"), str):
        raise SftbenchError(
            "does not say which kind of adapter it is (peft_type)", where=file, remedy=SAVE_AGAIN
        )
    for key in ("auto_map", "megatron_config"):
        if settings.get(key) is not None:
            raise SftbenchError(
                f"asks for code from elsewhere ({key}), which is never run",
                where=file,
                remedy="Use an adapter that peft has built in, trained without that setting.",
            )
    return settings


def adapter_digest(path: Path) -> str:
    """Return the digest of what an adapter computes: its settings and its tensors.

    The name of its base and the version of peft do not count.

    Raises:
        SftbenchError: as `open_adapter`.
    """
    adapter = open_adapter(path)
    settings = {k: v for k, v in adapter.settings.items() if k not in PROVENANCE_KEYS}
    text = _stable_text({k: v for k, v in settings.items() if not _is_unset(v)})
    return digest_of([text, content_digest(file_headers(path / ADAPTER_WEIGHTS))])


def _is_unset(value: object) -> bool:
    """Return whether a setting says as much as one that is left out; a 0 does not."""
    return value is None or value is False or value in ({}, [])


def _stable_text(value: object) -> str:
    """Return a text that is equal for equal settings, whatever the order of keys and names."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{k!r}:{_stable_text(value[k])}" for k in sorted(value)) + "}"
    if isinstance(value, list):
        texts = [_stable_text(entry) for entry in value]
        names = all(isinstance(entry, str) for entry in value)  # peft writes sets as lists
        return "[" + ",".join(sorted(texts) if names else texts) + "]"
    return repr(value)


def require_base(adapter: Adapter, base: Path) -> None:
    """Raise if an adapter names another base than the one it is to be merged into.

    What can be known is checked: a folder that is still there by its tensors, a hub id against
    the hub id of `base` by the model's name (a mirror under another owner, or a quantised copy,
    has the same). Nothing is known of a folder on another machine.

    Raises:
        SftbenchError: the names or the tensors differ.
    """
    named = adapter.base_ref
    if named is None:
        return
    where = adapter.path / ADAPTER_CONFIG
    folder = Path(named).expanduser()
    if (folder / "config.json").is_file():
        _require_same_tensors(folder, base, where)
        return
    known = name_of(base)
    if can_be_checked(adapter, base) and _model_name(named) != _model_name(known):
        raise SftbenchError(
            f"the adapter was trained on {named}, not on {known}",
            where=where,
            remedy=f"Name {named} as the base. If it is the same model under another name, "
            "change base_model_name_or_path in a copy of the adapter.",
        )


def can_be_checked(adapter: Adapter, base: Path) -> bool:
    """Return whether the base that an adapter names can be told from another one.

    It can where it is a folder on this machine, or where both are known by their hub ids.
    """
    named = adapter.base_ref or ""
    if (Path(named).expanduser() / "config.json").is_file():
        return True
    return parse_hub_id(named) is not None and parse_hub_id(name_of(base)) is not None


def _require_same_tensors(named: Path, base: Path, where: Path) -> None:
    if named.resolve() == base.expanduser().resolve():
        return
    if checkpoint_digest(named) != checkpoint_digest(base):
        raise SftbenchError(
            f"the adapter was trained on {named}, whose weights are not those of {base}",
            where=where,
            remedy=f"Name {named} as the base.",
        )


def _model_name(ref: str) -> str:
    """Return the part of a hub id that names the model: no owner, commit, case or 4-bit ending."""
    name = ref.partition("@")[0].rpartition("/")[2]
    return _QUANTISED_COPY.sub("", name).lower()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None
