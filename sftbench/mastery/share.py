"""Cards go to a store and come back: under the name of what made them, checked by their digest."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from sftbench.common.errors import SftbenchError
from sftbench.mastery.canonical import is_canonical, place_of
from sftbench.mastery.card import MasteryCard
from sftbench.mastery.store import Store


class Pushed(NamedTuple):
    """Where a card lies in a store, and whether it was there already."""

    name: str
    there: bool


def push(card: MasteryCard, store: Store, *, where: str) -> Pushed:
    """Put a card into a store, at the place that is named by what made it.

    Raises:
        SftbenchError: another card lies there already: same base, facts and settings, other rows.
    """
    name = place_of(card.record)
    with tempfile.TemporaryDirectory(prefix="sftbench-") as folder:
        path = Path(folder) / "card.parquet"
        if name in store.names(str(PurePosixPath(name).parent)):
            store.fetch(name, path)
            there = MasteryCard.read(path)
            if there.digest == card.digest:
                return Pushed(name, True)
            raise SftbenchError(
                f"holds another card of the same base, facts and settings (digest "
                f"{there.digest[:12]}; this one: {card.digest[:12]}); {_apart(there, card)}",
                where=f"{where}: {name}",
                remedy="Chances of the same seed differ by rounding, which processors and batches "
                "change (docs/mastery.md). Use the one that is there: `sftbench card pull`.",
            )
        card.write(path)
        message = f"Mastery of {card.record['model_name']} on {card.record['facts_name']}"
        store.put(path, name, message)
    return Pushed(name, False)


def _apart(one: MasteryCard, other: MasteryCard) -> str:
    """Say how far two cards of the same settings are from each other."""
    both = one.frame.select("fact_id", "rate", "level").join(
        other.frame.select("fact_id", "rate", "level"), on="fact_id", suffix="_other"
    )
    if both.is_empty():
        return "they have no fact in common"
    rates = max((both["rate"] - both["rate_other"]).abs().to_list())
    levels = int((both["level"] != both["level_other"]).sum())
    return f"of {both.height:,} facts {levels:,} have another level, R differs by up to {rates:.1g}"


def pull(
    store: Store,
    *,
    where: str,
    model_digest: str,
    facts_digest: str,
    digest: str | None = None,
) -> MasteryCard:
    """Return a card of a base and a fact set from a store, checked against its own digest.

    Where there are several, the canonical one is meant.

    Args:
        store: where to look.
        where: what a person calls it.
        model_digest: of the base.
        facts_digest: of the fact set.
        digest: the card that is wanted, by the first characters of its digest.

    Raises:
        SftbenchError: there is none, or several, or it is not what its digest says.
    """
    under = str(
        PurePosixPath(place_of({"model_digest": model_digest, "facts_digest": facts_digest})).parent
    )
    names = [name for name in store.names(under) if name.endswith(".parquet")]
    cards: list[MasteryCard] = []
    wrong: list[SftbenchError] = []
    with tempfile.TemporaryDirectory(prefix="sftbench-") as folder:
        for number, name in enumerate(sorted(names)):
            path = Path(folder) / f"{number}.parquet"
            store.fetch(name, path)
            try:
                cards.append(_checked(path, model_digest, facts_digest, where, name))
            except SftbenchError as error:  # one that is spoilt does not take the others with it
                wrong.append(error)
    # A card of a table of test facts alone lies there twice if both selections were pushed.
    found = list({card.digest: card for card in cards}.values())
    if digest is not None:
        found = [card for card in found if card.digest.startswith(digest)]
    elif len(found) > 1:
        found = _largest_canonical(found) or found
    if len(found) == 1:
        return found[0]
    if not found and wrong:
        raise wrong[0]
    if not found:
        raise SftbenchError(
            f"holds no card of this base (digest {model_digest[:12]}) on these facts (digest "
            f"{facts_digest[:12]})" + (f" with the digest {digest}" if digest else ""),
            where=where,
            remedy="Make one with `sftbench mastery`, and share it with `sftbench card push`.",
        )
    raise SftbenchError(
        f"holds {len(found)} cards of this base on these facts that may be meant: "
        + ", ".join(sorted(f"{card.digest[:12]} by {card.estimator}" for card in found)),
        where=where,
        remedy="Name the one that you want with --digest.",
    )


def _largest_canonical(cards: Sequence[MasteryCard]) -> list[MasteryCard]:
    """Return the canonical cards; if all are of the same templates, the one that holds the others.

    There may be one of all facts beside one of the test split.
    """
    shared = sorted(filter(is_canonical, cards), key=lambda card: card.frame.height)
    same = len({card.record.get("templates_digest") for card in shared}) == 1
    sizes = {card.frame.height for card in shared}
    return shared[-1:] if same and len(sizes) == len(shared) else shared


def _checked(
    path: Path, model_digest: str, facts_digest: str, where: str, name: str
) -> MasteryCard:
    try:
        card = MasteryCard.read(path)
    except SftbenchError as error:
        raise SftbenchError(
            error.what, where=f"{where}: {name}", remedy="Do not use it; remove it."
        ) from None
    held = (card.record["model_digest"], card.record["facts_digest"])
    if held != (model_digest, facts_digest) or place_of(card.record) != name:
        raise SftbenchError(
            "is not the card that its name says",
            where=f"{where}: {name}",
            remedy="Somebody moved or replaced it; do not use it.",
        )
    return card
