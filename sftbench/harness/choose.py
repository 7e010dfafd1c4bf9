"""Which card an evaluation uses: the named one, or the one that ships for the model's base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sftbench.common.errors import SftbenchError
from sftbench.common.files import read_json
from sftbench.facts.reference import MADE, SHIPPED, cached_facts, resolve_facts
from sftbench.harness.variant_args import TwoModels

RECORDS = ("sftbench_recipe.json", "sftbench_variant.json")
"""Files in a checkpoint folder that name its base (key ``base_digest``)."""
NAME_ONE = (
    'Name a card: --metadata \'{"mastery": "card.parquet"}\'; make one for the base with '
    "`sftbench mastery --model BASE --facts FACTS -o card.parquet`."
)


@dataclass(frozen=True)
class Chosen:
    """What to read; the states make a file that is written again another choice.

    Attributes:
        card: the card's file.
        facts: a fact table's file or shipped name; None for the one that the card names.
        states: size and mtime (ns) of the files that are named.
    """

    card: Path
    facts: str | None
    states: tuple[tuple[int, int], ...]


def choose(mastery: str | None, facts: str | None, pretrained: object) -> Chosen:
    """Return the card and facts of an evaluation (see `sftbench.harness.data.load`).

    Raises:
        SftbenchError: there is no such card, none was named and none ships for the model, or
            what was named is not a text.
    """
    from sftbench.mastery.bundled import CANONICAL

    for key, value in (("mastery", mastery), ("facts", facts)):
        if value is not None and not isinstance(value, str):
            raise SftbenchError(f"is {value!r}, not a file or a name", where=f"--metadata {key}")
    if mastery is not None and mastery != CANONICAL:
        card = named_card(mastery)
    else:
        card = card_of_model(pretrained, facts, canonical=mastery == CANONICAL)
    files = [card] if facts is None else [card, _facts_file(facts)]
    return Chosen(card.resolve(), facts, _states(files))


def _facts_file(ref: str) -> Path:
    """Return the file that `resolve_facts` reads."""
    if ref in SHIPPED:
        return SHIPPED[ref]
    return cached_facts(ref) if ref in MADE and not Path(ref).is_file() else Path(ref)


def _states(files: Sequence[Path]) -> tuple[tuple[int, int], ...]:
    """Return sizes and times (ns) of the files that are there."""
    found = [file.stat() for file in files if file.exists()]
    return tuple((one.st_size, one.st_mtime_ns) for one in found)


@lru_cache(maxsize=4)
def _digest_of(facts: str, states: tuple[tuple[int, int], ...]) -> str:
    """Return the digest of a fact table, which lm-eval's ten tasks ask for in turn."""
    del states  # a file that is written again is another table
    return resolve_facts(facts).digest


def shipped_cards() -> dict[str, Path]:
    """Return the cards that ship, by name: the file's stem, and "lab" for the lab's."""
    from sftbench.mastery.bundled import bundled_cards

    lab = SHIPPED["lab"].parent
    return {"lab" if path.parent == lab else path.stem: path for path, _ in bundled_cards()}


def named_card(ref: str) -> Path:
    """Return the file of a card that was named by its file or by a shipped name."""
    path = Path(ref).expanduser()
    if path.is_file():
        return path
    shipped = shipped_cards()
    if ref in shipped:
        return shipped[ref]
    names = f"; these ship: {', '.join(sorted(shipped))}" if shipped else ""
    raise SftbenchError(f"there is no such mastery card{names}", where=ref, remedy=NAME_ONE)


def card_of_model(pretrained: object, facts: str | None, *, canonical: bool = False) -> Path:
    """Return the shipped card of the model's base: the base it records, or the model itself."""
    from sftbench.mastery.bundled import find_path

    digests = base_digests(pretrained)
    facts_digest = None if facts is None else _digest_of(facts, _states([_facts_file(facts)]))
    for digest in digests:
        found = find_path(base_digest=digest, facts_digest=facts_digest, canonical=canonical)
        if found is not None:
            return found
    if pretrained is None:
        why = "the evaluated model is not known"
    elif not digests:
        why = f"{pretrained} is no local folder, so its base is not known"
    else:
        why = f"none ships for {pretrained} (base {' or '.join(d[:12] for d in digests)})"
    asked = "the canonical mastery card was asked for" if canonical else "no mastery card was named"
    raise SftbenchError(f"{asked}, and {why}", remedy=NAME_ONE)


def base_digests(pretrained: object) -> list[str]:
    """Return the digests that the base of a model may have: those recorded, then its own.

    Where two models are named, it is the base's. A model that is no local folder (a hub id, a
    model in memory) has none.
    """
    from sftbench.checkpoints.digest import checkpoint_digest
    from sftbench.checkpoints.reference import KNOWN_MODELS, resolve
    from sftbench.harness.variant_weights import folders_of

    if isinstance(pretrained, TwoModels):
        return [checkpoint_digest(folders_of(pretrained).base)]
    if not isinstance(pretrained, str | Path):
        return []
    if str(pretrained) not in KNOWN_MODELS and not Path(pretrained).expanduser().is_dir():
        return []
    folder = resolve(str(pretrained))
    recorded = [_recorded_base(folder / name) for name in RECORDS]
    found = [digest for digest in recorded if digest is not None]
    return list(dict.fromkeys([*found, checkpoint_digest(folder)]))


def _recorded_base(path: Path) -> str | None:
    if not path.is_file():
        return None
    content = read_json(path)
    digest = content.get("base_digest") if isinstance(content, dict) else None
    return digest if isinstance(digest, str) else None
