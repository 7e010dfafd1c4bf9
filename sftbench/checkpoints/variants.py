"""Variants: the one grammar that names what is compared, in commands, tables and file names."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sftbench.checkpoints.rules import RULE_GRAMMAR, Restored, parse_rule, parse_slug
from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError

GRAMMAR = (
    "A variant is `base`, `tuned` or `tuned+restore(RULE)`, such as `tuned+restore(relative,5%)`; "
    "`base+noise(1)` for a random change of the fine-tune's size, `base+again(7)` for the base "
    f"asked once more in batches of 7. {RULE_GRAMMAR}"
)
_NAME = re.compile(r"tuned\+restore\((.*)\)")
_SLUG = "tuned+restore-"
_NUMBERED = re.compile(r"base\+(?:(noise|again)\(([0-9]{1,6})\)|(noise|again)-([0-9]{1,6}))")


@dataclass(frozen=True)
class Base:
    """The model before the fine-tune."""

    @property
    def name(self) -> str:
        """The canonical name, "base"."""
        return "base"

    @property
    def slug(self) -> str:
        """The name as it stands in file names, "base"."""
        return "base"

    def digest(self, base_digest: str, tuned_digest: str) -> str:
        """Return what names its results; they do not depend on `tuned_digest`."""
        return digest_of({"variant": self.name, "base": base_digest})


@dataclass(frozen=True)
class Tuned:
    """The model after the fine-tune."""

    @property
    def name(self) -> str:
        """The canonical name, "tuned"."""
        return "tuned"

    @property
    def slug(self) -> str:
        """The name as it stands in file names, "tuned"."""
        return "tuned"

    def digest(self, base_digest: str, tuned_digest: str) -> str:
        """Return what names its results; they do not depend on `base_digest`."""
        return digest_of({"variant": self.name, "tuned": tuned_digest})


@dataclass(frozen=True)
class Noise:
    """The base with a random change that has, in every tensor, the norm of the fine-tune's.

    Attributes:
        draw: number of the draw, 1, 2, ...; another is another random change.
    """

    draw: int

    @property
    def name(self) -> str:
        """The canonical name, such as "base+noise(1)"."""
        return f"base+noise({self.draw})"

    @property
    def slug(self) -> str:
        """The name as it stands in file names, such as "base+noise-1"."""
        return f"base+noise-{self.draw}"

    def digest(self, base_digest: str, tuned_digest: str) -> str:
        """Return what names its results: both models and the draw."""
        return digest_of({"variant": self.name, "base": base_digest, "tuned": tuned_digest})


@dataclass(frozen=True)
class Again:
    """The base, asked once more in batches of another size.

    Attributes:
        batch: prompts that are sent at a time.
    """

    batch: int

    @property
    def name(self) -> str:
        """The canonical name, such as "base+again(7)"."""
        return f"base+again({self.batch})"

    @property
    def slug(self) -> str:
        """The name as it stands in file names, such as "base+again-7"."""
        return f"base+again-{self.batch}"

    def digest(self, base_digest: str, tuned_digest: str) -> str:
        """Return what names its results; they do not depend on `tuned_digest`."""
        return digest_of({"variant": self.name, "base": base_digest})


Variant = Base | Tuned | Restored | Noise | Again

BASE = Base()
TUNED = Tuned()


def parse_variant(text: str) -> Variant:
    """Return the variant that a name or a slug means; spaces do not count.

    Raises:
        SftbenchError: the text is no variant; the message says what the grammar is.
    """
    compact = "".join(text.split())
    if compact in ("base", "tuned"):
        return BASE if compact == "base" else TUNED
    numbered = _NUMBERED.fullmatch(compact)
    if numbered is not None:
        return _numbered(numbered[1] or numbered[3], int(numbered[2] or numbered[4]))
    match = _NAME.fullmatch(compact)
    if match is not None:
        return parse_rule(match[1])
    slug = parse_slug(compact.removeprefix(_SLUG)) if compact.startswith(_SLUG) else None
    if slug is None:
        raise SftbenchError(f"{text!r} is no variant", remedy=GRAMMAR)
    return slug


def _numbered(kind: str, number: int) -> Noise | Again:
    if number < 1:
        raise SftbenchError(f"base+{kind}({number}) is no variant", remedy=GRAMMAR)
    return Noise(number) if kind == "noise" else Again(number)
