"""What text a record may hold: nothing that hides, turns the reading order or breaks a line."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

SHORT, LONG = 200, 4_000
"""Characters of a name, and of the longest text that is no answer: a command line."""
JOINERS = "\u200c\u200d"
"""Invisible, but part of how Persian, Indic scripts and emoji are written."""
BREAKING = frozenset(("Cc", "Cs", "Zl", "Zp"))
"""Unicode categories: control characters, half a surrogate pair, line and paragraph separators."""
HIDDEN = "Cf"
"""Unicode category: format characters, those that override the reading order among them."""


def flaw_of(text: str, most: int = LONG) -> str | None:
    """Return what is wrong with a text, or None; at most so many characters are allowed."""
    if len(text) > most:
        return f"is longer than {most:,} characters ({len(text):,})"
    if text.isascii() and text.isprintable():
        return None
    bad = next((one for one in text if not _is_allowed(one)), None)
    return None if bad is None else f"holds the character U+{ord(bad):04X}, which is not allowed"


def cleaned(text: str, most: int = SHORT) -> str:
    """Return a text that a record may hold: U+FFFD for what it may not, spaces for line breaks."""
    line = " ".join(text.split())
    kept = "".join(one if _is_allowed(one) else "\N{REPLACEMENT CHARACTER}" for one in line)
    return kept[:most]


def _is_allowed(character: str) -> bool:
    category = unicodedata.category(character)
    return category not in BREAKING and (category != HIDDEN or character in JOINERS)


def _plain(text: str) -> str:
    flaw = flaw_of(text)
    if flaw is not None:
        raise ValueError(f"text {flaw}")
    return text


Line = Annotated[str, Field(max_length=SHORT), AfterValidator(_plain)]
"""A name or value, on one line."""
LongLine = Annotated[str, Field(max_length=LONG), AfterValidator(_plain)]
"""A command line."""
