"""The fact sets and cards that a record is held against: those that ship, and those named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sftbench.facts.reference import resolve_facts, shipped_facts
from sftbench.facts.table import FactSet
from sftbench.mastery.bundled import bundled_cards
from sftbench.mastery.card import MasteryCard

if TYPE_CHECKING:
    import polars as pl


@dataclass
class Known:
    """Finds fact sets and cards by their digests, and reads each once.

    Attributes:
        facts: fact sets besides those that ship or were made.
        cards: cards besides those that ship.
    """

    facts: Sequence[FactSet] = ()
    cards: Sequence[MasteryCard] = ()
    _facts: dict[str, FactSet | None] = field(default_factory=dict, repr=False)
    _cards: dict[str, MasteryCard | None] = field(default_factory=dict, repr=False)
    _tests: dict[str, pl.DataFrame] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, facts: Sequence[str] = (), cards: Sequence[str] = ()) -> Known:
        """Return what a user names: fact sets by name or path, cards by path.

        Raises:
            SftbenchError: one of them is none.
        """
        return cls(
            [resolve_facts(one) for one in facts], [MasteryCard.read(Path(c)) for c in cards]
        )

    def fact_set(self, digest: str) -> FactSet | None:
        """Return the fact set with this digest, None where it is not known."""
        if digest not in self._facts:
            named = (one for one in self.facts if one.digest == digest)
            self._facts[digest] = next(named, None) or shipped_facts(digest)
        return self._facts[digest]

    def test_facts(self, digest: str) -> pl.DataFrame:
        """Return the facts of a known set that may be scored: columns of `FACTS`."""
        if digest not in self._tests:
            facts = self.fact_set(digest)
            assert facts is not None
            self._tests[digest] = facts.scored(split="test")
        return self._tests[digest]

    def card(self, digest: str) -> MasteryCard | None:
        """Return the card with this digest, None where it is not known."""
        if digest not in self._cards:
            named = (one for one in self.cards if one.digest == digest)
            self._cards[digest] = next(named, None) or _bundled(digest)
        return self._cards[digest]


def _bundled(digest: str) -> MasteryCard | None:
    for path, record in bundled_cards():
        if record.get("digest") == digest:
            return MasteryCard.read(path)
    return None
