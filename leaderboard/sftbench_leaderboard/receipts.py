"""Validations that need not be made again: which records were accepted, by the digest of all of it.

Computing every figure of a record anew takes some tenths of a second. A receipt says that the very
bytes of a record and its items were accepted by this version of sftbench, with these facts and
cards. It lies in a file of one's own, never among the results: it would be input from anyone.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import sftbench
from sftbench.common.digests import digest_of
from sftbench.common.files import cache_folder, write_json
from sftbench.mastery.bundled import bundled_cards
from sftbench.scoring.suite import SUITE
from sftbench_leaderboard.known import Known
from sftbench_leaderboard.layout import items_beside
from sftbench_leaderboard.record import SCHEMA_VERSION

KIND = "sftbench-receipts"


@dataclass
class Receipts:
    """Receipts in a file.

    Attributes:
        path: the file; None keeps none.
        known: what records are held against, which a receipt holds for.
    """

    path: Path | None
    known: Known
    _given: set[str] = field(default_factory=set, repr=False)
    _used: set[str] = field(default_factory=set, repr=False)
    _judge: str = ""

    def __post_init__(self) -> None:
        """Read the receipts; a file that is none is no reason to stop: all is validated again."""
        self._judge = _judge(self.known)
        if self.path is not None:
            with suppress(OSError, ValueError, TypeError):
                content = json.loads(self.path.read_text(encoding="utf-8"))
                if content["kind"] == KIND:
                    self._given = set(content["accepted"])

    def has(self, record: Path) -> bool:
        """Return whether a record and its items were accepted as they are now."""
        key = self._key(record)
        found = key is not None and key in self._given
        if found and key is not None:
            self._used.add(key)
        return found

    def give(self, record: Path) -> None:
        """Say that a record was accepted."""
        key = self._key(record)
        if key is not None:
            self._used.add(key)

    def save(self) -> None:
        """Write the receipts that were used or given; others are of files that are gone."""
        if self.path is not None and self._used != self._given:
            write_json(self.path, {"kind": KIND, "accepted": sorted(self._used)})

    def _key(self, record: Path) -> str | None:
        """Return the digest of place, record, items and judge; None where a file is missing."""
        if self.path is None:
            return None
        items = items_beside(record)
        try:
            if record.is_symlink() or items.is_symlink():
                return None
            contents = [hashlib.sha256(one.read_bytes()).hexdigest() for one in (record, items)]
        except OSError:
            return None
        return digest_of([*record.absolute().parts[-3:], *contents, self._judge])


def _judge(known: Known) -> str:
    """Return the digest of what decides whether a record is accepted, besides its bytes."""
    cards = sorted(str(record.get("digest")) for _, record in bundled_cards())
    return digest_of([
        sftbench.__version__, SCHEMA_VERSION, SUITE, cards,
        sorted(one.digest for one in known.facts), sorted(one.digest for one in known.cards),
    ])  # fmt: skip


def receipts_file() -> Path:
    """Return where receipts are kept for this user."""
    return cache_folder() / "leaderboard" / "receipts.json"
