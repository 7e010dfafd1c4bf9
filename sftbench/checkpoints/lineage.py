"""The base of a tuned model, as its own files name it; nothing is loaded, no network is used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sftbench.checkpoints.adapters import ADAPTER_CONFIG
from sftbench.checkpoints.digest import folders_of_digest
from sftbench.checkpoints.hub import parse_hub_id
from sftbench.checkpoints.names import SHORT_NAMES, name_of
from sftbench.checkpoints.writer import RECORD

RECIPE_RECORD = "sftbench_recipe.json"
"""The record that `sftbench finetune` writes into a tuned folder."""
CARD = "README.md"
LONGEST_CARD = 1_000_000  # bytes read of a model card; its front matter is at the beginning
RELATIONS = ("finetune", "adapter")
"""Values of the card's base_model_relation with which the named model is what was tuned."""


@dataclass(frozen=True)
class Lineage:
    """Which model a tuned one says it was made from.

    Attributes:
        ref: what to give to `resolve`: a folder, a short name or a hub id.
        revision: branch, tag or commit of a hub id, if it is named.
        source: where that stands: "its recipe record", "its variant record",
            "adapter_config.json" or "the model card's base_model".
        digest: of the base's tensors, where the source has it; what `ref` gives must match.
    """

    ref: str
    source: str
    revision: str | None = None
    digest: str | None = None

    @property
    def words(self) -> str:
        """What to say aloud: "the base is org/name, by adapter_config.json"."""
        at = "" if self.revision is None else f"@{self.revision}"
        return f"the base is {self.ref}{at}, by {self.source}"


@dataclass(frozen=True)
class Search:
    """What was found in all places, in the order in which they are trusted.

    Attributes:
        found: the first usable one, None if there is none.
        ignored: why each entry before it was passed over, a sentence each.
    """

    found: Lineage | None
    ignored: tuple[str, ...]


def find_base(tuned: Path) -> Lineage | None:
    """Return the base that the files of a tuned folder name; None if none does usably."""
    return search_base(tuned).found


def search_base(tuned: Path) -> Search:
    """Look for the base: the records of sftbench, adapter_config.json, then the model card.

    A record names its base by digest: a folder on this machine that still holds these tensors
    is found whatever it is called. A file that is broken, or an entry that is no name, is passed
    over with a reason.
    """
    ignored: list[str] = []
    for entry in _entries(tuned):
        if isinstance(entry, Lineage):
            return Search(entry, tuple(ignored))
        ignored.append(entry)
    return Search(None, tuple(ignored))


def _entries(tuned: Path) -> Iterator[Lineage | str]:
    """Yield each base that is named, or the reason why a place that names one is of no use."""
    yield from _of_record(tuned / RECIPE_RECORD, "its recipe record")
    yield from _of_record(tuned / RECORD, "its variant record")
    yield from _of_adapter(tuned / ADAPTER_CONFIG)
    yield from _of_card(tuned / CARD)


def _of_record(file: Path, source: str) -> Iterator[Lineage | str]:
    content = _read(file)
    if not isinstance(content, dict):
        if content is not None:
            yield content
        return
    digest = content.get("base_digest")
    if not isinstance(digest, str):
        yield f"{file.name} does not name its base (base_digest)."
        return
    known = {name: ref for ref, name in SHORT_NAMES.items()}
    here = {name_of(folder): str(folder) for folder in folders_of_digest(digest)}
    if here:
        short = next((known[name] for name in here if name in known), None)
        yield Lineage(short or next(iter(here.values())), source, digest=digest)
        return
    written = _recorded_name(content)
    ref = known.get(written) or _usable(written)
    if ref is None:
        name = written or "a base without a name"
        yield f"{file.name} names {name} (digest {digest[:12]}), which is not found here."
        return
    yield Lineage(ref, source, digest=digest)


def _recorded_name(content: Mapping[str, Any]) -> str:
    """Return how a record calls its base: a name, or the folder that it was."""
    base = content.get("base")
    place = base.get("path") if isinstance(base, dict) else None
    written = content.get("base_name", place)
    return written if isinstance(written, str) else ""


def _of_adapter(file: Path) -> Iterator[Lineage | str]:
    content = _read(file)
    if not isinstance(content, dict):
        if content is not None:
            yield content
        return
    revision = content.get("revision")
    yield from _named(
        content.get("base_model_name_or_path"),
        "base_model_name_or_path",
        file.name,
        revision=revision if isinstance(revision, str) and revision else None,
    )


def _of_card(file: Path) -> Iterator[Lineage | str]:
    matter = _front_matter(file)
    if not isinstance(matter, dict):
        if matter is not None:
            yield matter
        return
    base, relation = matter.get("base_model"), matter.get("base_model_relation")
    if isinstance(base, list) and len(base) == 1:
        base = base[0]
    if isinstance(base, list):
        yield f"The model card names {len(base)} base models; which one was tuned is not said."
    elif base is not None and relation is not None and relation not in RELATIONS:
        yield f"The model card's base_model is not what was tuned: its relation is {relation!r}."
    else:
        yield from _named(base, "base_model", "the model card's base_model")


def _named(
    value: object, key: str, source: str, *, revision: str | None = None
) -> Iterator[Lineage | str]:
    if value is None or value == "":
        return
    if not isinstance(value, str):
        yield f"{key} is {value!r}, which is no name."
        return
    ref = _usable(value.strip())
    if ref is None:
        yield f"{key} is {value!r}, which is no folder here and no hub id."
        return
    yield Lineage(ref, source, revision=None if Path(ref).is_dir() else revision)


def _usable(written: str) -> str | None:
    """Return a name as a reference: the absolute path of a folder that is here, or a hub id."""
    if not written:
        return None
    folder = Path(written).expanduser()
    if (folder / "config.json").is_file():
        return str(folder.absolute())
    return written if parse_hub_id(written) is not None else None


def _read(file: Path) -> dict[str, Any] | str | None:
    """Return the object of a JSON file, why it cannot be used, or None if there is none."""
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return f"{file.name} cannot be read as JSON."
    return content if isinstance(content, dict) else f"{file.name} is not a JSON object."


def _front_matter(file: Path) -> dict[str, Any] | str | None:
    """Return the YAML at the head of a model card, why it cannot be used, or None without any."""
    if not file.is_file():
        return None
    import yaml

    with file.open("rb") as stream:
        text = stream.read(LONGEST_CARD).decode("utf-8-sig", errors="replace")
    lines = text.splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    end = next((i for i, line in enumerate(lines[1:], start=1) if line.strip() == "---"), None)
    if end is None:
        return f"The front matter of {file.name} has no end."
    try:
        matter = yaml.safe_load("\n".join(lines[1:end]))
    except (yaml.YAMLError, ValueError, RecursionError):
        return f"The front matter of {file.name} is not valid YAML."
    if matter is None:
        return None
    return matter if isinstance(matter, dict) else f"The front matter of {file.name} has no keys."
