"""Cards go to a store and come back: under the name of what made them, checked by their digest."""

from __future__ import annotations

import tempfile
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
                f"{there.digest[:12]}; this one: {card.digest[:12]})",
                where=f"{where}: {name}",
                remedy="Cards of the same seed differ where processors round differently. Keep "
                "the one that is there, or remove it first.",
            )
        card.write(path)
        message = f"Mastery of {card.record['model_name']} on {card.record['facts_name']}"
        store.put(path, name, message)
    return Pushed(name, False)


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
    if digest is not None:
        cards = [card for card in cards if card.digest.startswith(digest)]
    elif len(cards) > 1:
        # Of all facts, and of those of the test split: the first holds the second.
        shared = sorted(filter(is_canonical, cards), key=lambda card: card.frame.height)
        cards = shared[-1:] or cards
    if len(cards) == 1:
        return cards[0]
    if not cards and wrong:
        raise wrong[0]
    if not cards:
        raise SftbenchError(
            f"holds no card of this base (digest {model_digest[:12]}) on these facts (digest "
            f"{facts_digest[:12]})" + (f" with the digest {digest}" if digest else ""),
            where=where,
            remedy="Make one with `sftbench mastery`, and share it with `sftbench card push`.",
        )
    raise SftbenchError(
        f"holds {len(cards)} cards of this base on these facts, by "
        f"{', '.join(sorted({card.estimator for card in cards}))}, and none is the canonical one",
        where=where,
        remedy="Name the one that you want with --digest.",
    )


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
