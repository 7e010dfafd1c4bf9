"""Variants: the one grammar that names what is compared, in commands, tables and file names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeVar, get_args

from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError

Arithmetic = Literal["fp32", "bf16"]
"""The number format that a restore criterion is computed in."""
Criterion = Literal["relative"]
"""How a restore ranks the scalars of the update: by |s - p| / |p| (the paper, section 6)."""

_Name = TypeVar("_Name", bound=str)

ARITHMETICS: tuple[Arithmetic, ...] = get_args(Arithmetic)
CRITERIA: tuple[Criterion, ...] = get_args(Criterion)
DECIMALS = 6

GRAMMAR = (
    "A variant is `base`, `tuned` or `tuned+restore(relative,5%)`, "
    "with `,bf16` before the bracket for bf16 arithmetic; `base+noise(1)` for a random change of "
    "the fine-tune's size, `base+again(7)` for the base asked once more in batches of 7."
)
_NAME = re.compile(r"tuned\+restore\(([^,()]*),([^,()%]*)%(?:,([^,()]*))?\)")
_SLUG = re.compile(r"tuned\+restore-([a-z_]+)-([0-9.]+)pct(?:-([a-z0-9]+))?")
_NUMBERED = re.compile(r"base\+(?:(noise|again)\(([0-9]{1,6})\)|(noise|again)-([0-9]{1,6}))")
_PERCENT = re.compile(rf"[0-9]{{1,3}}(?:\.[0-9]{{1,{DECIMALS}}})?")


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
class Restored:
    """The tuned model with the scalars that changed most set back to the base.

    Attributes:
        criterion: what the scalars are ranked by.
        percent: how many of the region are set back, 0 to 100; see `parse_percent`.
        arithmetic: the number format of the ranking.
    """

    criterion: Criterion
    percent: Decimal
    arithmetic: Arithmetic = "fp32"

    @property
    def name(self) -> str:
        """The canonical name, such as "tuned+restore(relative,5%)"."""
        return f"tuned+restore({self.criterion},{percent_text(self.percent)}%{self._tail(',')})"

    @property
    def slug(self) -> str:
        """The name as it stands in file names, such as "tuned+restore-relative-5pct"."""
        return f"tuned+restore-{self.criterion}-{percent_text(self.percent)}pct{self._tail('-')}"

    def _tail(self, separator: str) -> str:
        return "" if self.arithmetic == "fp32" else separator + self.arithmetic

    def digest(self, base_digest: str, tuned_digest: str) -> str:
        """Return what names its results: both models and the rule."""
        return digest_of({"variant": self.name, "base": base_digest, "tuned": tuned_digest})


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
    match = _NAME.fullmatch(compact) or _SLUG.fullmatch(compact)
    if match is None:
        raise SftbenchError(f"{text!r} is no variant", remedy=GRAMMAR)
    criterion, percent, arithmetic = match.groups()
    return Restored(
        _one_of(CRITERIA, criterion, "restore criterion"),
        parse_percent(percent),
        "fp32" if arithmetic is None else parse_arithmetic(arithmetic),
    )


def _numbered(kind: str, number: int) -> Noise | Again:
    if number < 1:
        raise SftbenchError(f"base+{kind}({number}) is no variant", remedy=GRAMMAR)
    return Noise(number) if kind == "noise" else Again(number)


def parse_arithmetic(text: str) -> Arithmetic:
    """Return the arithmetic of that name, or raise `SftbenchError` with the known ones."""
    return _one_of(ARITHMETICS, text, "arithmetic")


def parse_percent(text: str) -> Decimal:
    """Return a percentage from 0 to 100 exactly, without trailing zeros ("5.0" is "5").

    Raises:
        SftbenchError: not a plain decimal number, out of range, or more than six decimals.
    """
    number = text.strip().removesuffix("%").strip()
    percent = Decimal(number) if _PERCENT.fullmatch(number) else None
    if percent is None or percent > 100:
        raise SftbenchError(
            f"{text!r} is no percentage",
            remedy=f"Write a number from 0 to 100 with at most {DECIMALS} decimals, such as 12.5.",
        )
    return percent.normalize()


def parse_percents(text: str) -> tuple[Decimal, ...]:
    """Return the percentages of a comma-separated list, in its order.

    Raises:
        SftbenchError: the list is empty, or an entry is no percentage or stands there twice.
    """
    percents = tuple(parse_percent(part) for part in text.split(",") if part.strip())
    if not percents:
        raise SftbenchError("there is no percentage", remedy="Write a list such as 1,5,20.")
    for percent in percents:
        if percents.count(percent) > 1:
            raise SftbenchError(
                f"{percent_text(percent)} % is listed twice", remedy="Name each percentage once."
            )
    return percents


def percent_text(percent: Decimal) -> str:
    """Return a percentage as people write it: "5", "12.5", "100"."""
    return format(percent.normalize(), "f")


def _one_of(known: tuple[_Name, ...], text: str, what: str) -> _Name:
    for value in known:
        if value == text:
            return value
    raise SftbenchError(f"there is no {what} {text!r}; known: {', '.join(known)}", remedy=GRAMMAR)
