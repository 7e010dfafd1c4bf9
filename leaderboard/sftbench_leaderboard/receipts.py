"""Validations that need not be made again: which records were accepted, by the digest of all of it.

Computing every figure of a record anew takes some tenths of a second. A receipt says that the very
bytes of a record and its items were accepted by this version of sftbench, with these facts and
cards. It lies in a file of one's own, never among the results: it would be input from anyone.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import sftbench
from sftbench.common.digests import digest_of
from sftbench.common.files import cache_folder, write_json
from sftbench.mastery.bundled import bundled_cards
from sftbench.scoring.suite import SUITE
from sftbench_leaderboard.items import MOST_BYTES, sha256_of
from sftbench_leaderboard.known import Known
from sftbench_leaderboard.layout import items_beside
from sftbench_leaderboard.record import SCHEMA_VERSION
from sftbench_leaderboard.validate import MOST_RECORD_BYTES

KIND = "sftbench-receipts"
MOST = 200_000
"""Receipts that are kept."""


@dataclass
class Receipts:
    """Receipts in a file.

    Attributes:
        path: the file; None keeps none.
        known: what records are held against, which a receipt holds for.
    """

    path: Path | None
    known: Known
    _given: dict[str, None] = field(default_factory=dict, repr=False)
    _used: set[str] = field(default_factory=set, repr=False)
    _judge: str = ""

    def __post_init__(self) -> None:
        """Read the receipts; a file that is none is no reason to stop: all is validated again."""
        self._judge = _judge(self.known)
        if self.path is not None:
            with suppress(OSError, ValueError, TypeError, LookupError, RecursionError):
                content = json.loads(self.path.read_text(encoding="utf-8"))
                if content["kind"] == KIND and isinstance(content["accepted"], list):
                    self._given = dict.fromkeys(content["accepted"])

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

    def close(self) -> None:
        """Write the receipts, those of this time first; the oldest go where there are too many.

        Where nothing can be written, all is validated again the next time.
        """
        if self.path is not None and not self._used <= self._given.keys():
            kept = [*sorted(self._used), *(one for one in self._given if one not in self._used)]
            with suppress(OSError):
                write_json(self.path, {"kind": KIND, "accepted": kept[:MOST]})

    def _key(self, record: Path) -> str | None:
        """Return the digest of place, record, items and judge; None of what is not read at all."""
        if self.path is None:
            return None
        contents = []
        try:
            for one, most in ((record, MOST_RECORD_BYTES), (items_beside(record), MOST_BYTES)):
                if one.is_symlink() or not one.is_file() or one.stat().st_size > most:
                    return None
                contents.append(sha256_of(one.read_bytes()))
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
