"""What may be wrong with a record: the codes, which programs may rely on, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sftbench_leaderboard.record import LeaderboardRecord

CODES: Mapping[str, str] = {
    "unreadable": "the file cannot be read",
    "symlink": "a link in place of a file or folder",
    "too-large": "a file is larger than is allowed",
    "json": "no JSON, a key twice, or too deep",
    "not-finite": "NaN, infinity, or a number that is too long",
    "text": "a text that is too long or holds characters that hide",
    "schema": "a field is missing, unknown, of another type or out of bounds",
    "place": "the record lies elsewhere than its content says",
    "stray-file": "a file that is neither a record nor the items of one",
    "timestamp": "the time is none, before 2024 or in the future",
    "suite": "asked otherwise than the suite of this version asks",
    "variant": "the variant is none that a leaderboard takes",
    "wrong-digest": "a digest does not follow from what it names",
    "impossible-counts": "counts that cannot be together",
    "items-missing": "there is no file of items",
    "items-digest": "the items are not those that the record names",
    "items-unreadable": "the items are no Parquet file",
    "items-columns": "the items have other columns",
    "items-duplicates": "a fact stands twice among the items",
    "items-bounds": "a value of the items is out of bounds",
    "foreign-facts": "the fact set is not known here",
    "foreign-items": "an item is no test fact of the fact set, or says otherwise of it",
    "wrong-correct": "an answer is marked right that is wrong, or the reverse",
    "unknown-card": "calls a card canonical that is not known here",
    "wrong-levels": "levels or rates other than those of the card",
    "selection": "other facts than a comparison asks",
    "headline": "a figure does not follow from the items",
    "duplicate": "the same variant on the same facts, card and suite stands in the folder twice",
    "internal": "the validation itself failed; please report it",
}


class Problem(NamedTuple):
    """One reason why a record is rejected.

    Attributes:
        code: a key of `CODES`.
        what: a sentence for people; it may quote what the file holds, as ASCII.
        where: the field or column; "" for the whole file.
    """

    code: str
    what: str
    where: str = ""

    def __str__(self) -> str:
        """Return one line."""
        return f"[{self.code}] {self.where + ': ' if self.where else ''}{self.what}"


class Verdict(NamedTuple):
    """What is to be said of one file.

    Attributes:
        path: the file.
        record: the record; None where there is any problem.
        problems: all that was found, in the order found.
    """

    path: Path
    record: LeaderboardRecord | None
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the record is accepted."""
        return self.record is not None
