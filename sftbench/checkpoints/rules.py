"""The rule of a restored variant: which scalars are ranked, by what, and how many go back.

A rule is written as in ``tuned+restore(relative,5%)``: the criterion, the size, then what departs
from the paper's way, in this order: ``bf16``, ``per-tensor``, the region, ``draw=2``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeVar, get_args
from urllib.parse import quote, unquote

from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError

Arithmetic = Literal["fp32", "bf16"]
"""The number format that a criterion is computed in."""
Criterion = Literal[
    "relative", "absolute", "random", "lowest-relative", "ties", "fapm",
    "interpolation", "dare", "spectral", "noise",
]  # fmt: skip
"""How a variant moves from the tuned model towards the base; see `criteria.py`."""
Measure = Literal["scalars", "changed", "norm"]
"""What a size is a percentage of: the region's scalars, those that the fine-tune changed, or the
L2 norm of the update in the region."""

_Name = TypeVar("_Name", bound=str)

ARITHMETICS: tuple[Arithmetic, ...] = get_args(Arithmetic)
CRITERIA: tuple[Criterion, ...] = get_args(Criterion)
MEASURES: tuple[Measure, ...] = get_args(Measure)
DRAWN = ("random", "dare", "noise")
"""Criteria that depend on random numbers, so that another draw is another variant."""
ROUNDED = ("relative", "absolute", "lowest-relative", "ties")
"""Criteria that can be computed in bf16."""
BY_TENSOR = ("fapm", "interpolation", "dare", "spectral", "noise")
"""Criteria that treat each tensor by itself anyway."""
BY_NORM = ("interpolation", "noise", "spectral")
"""Criteria whose size is a share of the update's norm: they single out no scalars."""

BLOCKS = "blocks"
REGIONS = (BLOCKS, "all", "attention", "mlp", "embeddings", "norms")
DECIMALS = 6

RULE_FORM = (
    "A rule is a criterion and a size, such as relative,5% or absolute,20%norm (of the update's L2 "
    "norm) or random,10%changed (of the changed scalars); then, where wanted, bf16, per-tensor, a "
    f"region ({', '.join(REGIONS)}, layers=0-3, match=REGEX) and draw=2."
)
RULE_GRAMMAR = f"{RULE_FORM} Criteria: {', '.join(CRITERIA)}."
_PERCENT = re.compile(rf"[0-9]{{1,3}}(?:\.[0-9]{{1,{DECIMALS}}})?")
_SIZE = re.compile(r"([^%]*)%([a-z]*)")
_DRAW = re.compile(r",draw=[0-9]+$")
_LAYERS = re.compile(r"layers=[0-9]+(?:-[0-9]+)?(?:\+[0-9]+(?:-[0-9]+)?)*")
_SLUG = re.compile(
    rf"({'|'.join(sorted(CRITERIA, key=len, reverse=True))})"
    rf"(?:-([0-9.]+)pct({'|'.join(MEASURES[1:])})?)?(-bf16)?(-per-tensor)?"
    rf"(?:-({'|'.join(REGIONS[1:])}|layers=[0-9+-]*[0-9]|match=[^-]+))?(?:-(draw=[0-9]+))?"
)


@dataclass(frozen=True)
class Restored:
    """The tuned model with part of its update taken back.

    Attributes:
        criterion: what the scalars are ranked by, or how they are moved.
        percent: how much, 0 to 100; None for the criterion's own threshold (spectral).
        arithmetic: the number format of the ranking.
        measure: what `percent` is of.
        per_tensor: each tensor is ranked by itself, instead of all together.
        region: which tensors take part, see `regions.py`.
        draw: number of the draw, where the criterion has random numbers.
    """

    criterion: Criterion
    percent: Decimal | None
    arithmetic: Arithmetic = "fp32"
    measure: Measure = "scalars"
    per_tensor: bool = False
    region: str = BLOCKS
    draw: int = 1

    @property
    def text(self) -> str:
        """The rule as it is typed, such as "relative,5%"."""
        return ",".join((self.criterion, *self._parts("%")))

    @property
    def name(self) -> str:
        """The canonical name, such as "tuned+restore(relative,5%)"."""
        return f"tuned+restore({self.text})"

    @property
    def slug(self) -> str:
        """The name as it stands in file names, such as "tuned+restore-relative-5pct"."""
        parts = [_quoted(part) for part in self._parts("pct")]
        return f"tuned+restore-{'-'.join((self.criterion, *parts))}"

    @property
    def is_papers(self) -> bool:
        """Whether this is the paper's way, whatever the arithmetic and the percentage."""
        default = (self.measure, self.per_tensor, self.region) == ("scalars", False, BLOCKS)
        return self.criterion == "relative" and default

    def _parts(self, sign: str) -> list[str]:
        size = []
        if self.percent is not None:
            of = "" if self.measure == "scalars" else self.measure
            size = [f"{percent_text(self.percent)}{sign}{of}"]
        return [
            *size,
            *(["bf16"] if self.arithmetic == "bf16" else []),
            *(["per-tensor"] if self.per_tensor else []),
            *([self.region] if self.region != BLOCKS else []),
            *([f"draw={self.draw}"] if self.draw != 1 else []),
        ]

    def digest(self, base_digest: str, tuned_digest: str) -> str:
        """Return what names its results: both models and the rule."""
        return digest_of({"variant": self.name, "base": base_digest, "tuned": tuned_digest})


def parse_rule(text: str) -> Restored:
    """Return the rule that a text such as "relative,5%,bf16" means; spaces do not count.

    Raises:
        SftbenchError: the text is no rule, or one that the criterion cannot follow.
    """
    head, matches, pattern = "".join(text.split()).partition("match=")
    words = head.split(",")
    if matches:
        if words.pop():  # "" is what the comma before it left
            raise SftbenchError(f"{text!r} lacks a comma before match=", remedy=RULE_GRAMMAR)
        # A regular expression may hold commas; only a last ",draw=N" is not part of it.
        found = re.fullmatch(r"(.*?)((?:,draw=[0-9]+)*)", pattern)
        assert found is not None
        words += [f"match={found[1]}", *found[2].split(",")[1:]]
    if not any(words):
        raise SftbenchError("there is no rule", remedy=RULE_GRAMMAR)
    if not all(words):
        raise SftbenchError(f"{text!r} has a comma too many", remedy=RULE_GRAMMAR)
    criterion, rest = one_of(CRITERIA, words[0], "restore criterion"), words[1:]
    percent: Decimal | None = None
    measure: Measure = "scalars"
    if rest and "%" in rest[0] and not rest[0].startswith("match="):
        percent, measure = parse_size(rest.pop(0))
    return rule_of(criterion, percent, measure, rest)


def parse_slug(text: str) -> Restored | None:
    """Return the rule that the end of a file name means; None if it is none."""
    match = _SLUG.fullmatch(text)
    if match is None:
        return None
    criterion, amount, measure, bf16, per_tensor, region, draw = match.groups()
    size = [] if amount is None else [f"{amount}%{measure or ''}"]
    flags = [flag[1:] for flag in (bf16, per_tensor) if flag]
    rest = [unquote(region)] if region else []
    return parse_rule(",".join([criterion, *size, *flags, *rest, *([draw] if draw else [])]))


def rule_of(
    criterion: Criterion, percent: Decimal | None, measure: Measure, options: list[str]
) -> Restored:
    """Return a rule from its parts, checked against each other.

    Raises:
        SftbenchError: an option that is not known, or that this criterion does not have.
    """
    given: dict[str, str] = {}
    for option in options:
        kind = _kind(option)
        if kind in given:
            raise SftbenchError(
                f"a rule has one {kind}, not both {given[kind]} and {option}", remedy=RULE_GRAMMAR
            )
        given[kind] = option
    arithmetic = parse_arithmetic(given.get("arithmetic", "fp32"))
    region = parse_region(given.get("region", BLOCKS))
    draw = _draw(given.get("draw", "draw=1"))
    rule = Restored(criterion, percent, arithmetic, measure, "order" in given, region, draw)
    _require_fitting(rule)
    if criterion in BY_NORM and rule.measure == "scalars" and percent is not None:
        return Restored(criterion, percent, arithmetic, "norm", False, region, draw)
    if criterion in BY_TENSOR:
        return Restored(criterion, percent, arithmetic, rule.measure, False, region, draw)
    return rule


def _kind(option: str) -> str:
    if option in ARITHMETICS:
        return "arithmetic"
    if option == "per-tensor":
        return "order"
    return "draw" if option.startswith("draw=") else "region"


def _require_fitting(rule: Restored) -> None:
    wrong = None
    if rule.percent is None and rule.criterion != "spectral":
        wrong = f"{rule.criterion} needs a size, such as {rule.criterion},5%"
    elif rule.arithmetic == "bf16" and rule.criterion not in ROUNDED:
        wrong = f"{rule.criterion} is computed in fp32 only"
    elif rule.draw != 1 and rule.criterion not in DRAWN:
        wrong = f"{rule.criterion} has no random draws"
    elif rule.measure == "changed" and rule.criterion in BY_NORM:
        wrong = f"{rule.criterion} moves all scalars; its size is a share of the norm"
    elif rule.measure == "changed" and rule.criterion == "dare":
        wrong = "dare drops scalars whether they changed or not"
    elif rule.criterion == "dare" and rule.percent is not None and rule.percent >= 100:
        wrong = "dare keeps part of the update, and enlarges it: less than 100 %"
    if wrong is not None:
        raise SftbenchError(wrong, remedy=RULE_GRAMMAR)


def parse_region(text: str) -> str:
    """Return the name of a region in its canonical form; spaces do not count.

    Raises:
        SftbenchError: there is no such region, or the regular expression is none.
    """
    text = "".join(text.split())
    if text.startswith("match="):
        _require_regex(text.removeprefix("match="))
        return text
    if _LAYERS.fullmatch(text):
        return f"layers={'+'.join(_range(part) for part in text[7:].split('+'))}"
    return one_of(REGIONS, text, "region or option")


def _require_regex(pattern: str) -> None:
    if not pattern:
        raise SftbenchError("match= lacks a regular expression", remedy=RULE_GRAMMAR)
    if _DRAW.search(pattern):
        raise SftbenchError(f"'match={pattern}' cannot end in a draw", remedy=RULE_GRAMMAR)
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise SftbenchError(f"'match={pattern}' is no regular expression: {error}") from None


def _range(text: str) -> str:
    first, dash, last = text.partition("-")
    if dash and int(first) > int(last):
        raise SftbenchError(f"{text} is no range of layers", remedy="Write the lower number first.")
    return f"{int(first)}{dash}{int(last) if dash else ''}"


def _draw(option: str) -> int:
    number = option.removeprefix("draw=")
    if not number.isascii() or not number.isdigit() or not 1 <= int(number) < 10**6:
        raise SftbenchError(f"{option!r} is no draw", remedy="Draws are numbered: draw=1, draw=2.")
    return int(number)


def parse_arithmetic(text: str) -> Arithmetic:
    """Return the arithmetic of that name, or raise `SftbenchError` with the known ones."""
    return one_of(ARITHMETICS, text, "arithmetic")


def parse_size(text: str) -> tuple[Decimal, Measure]:
    """Return a size: "5", "5%", "5%changed" or "20%norm".

    Raises:
        SftbenchError: it is none of these.
    """
    compact = "".join(text.split())
    match = _SIZE.fullmatch(compact)
    if match is None:
        return parse_percent(compact), "scalars"
    measure = one_of(MEASURES, match[2] or "scalars", "measure of size")
    return parse_percent(match[1]), measure


def parse_sizes(text: str) -> tuple[tuple[Decimal, Measure], ...]:
    """Return the sizes of a comma-separated list, in its order.

    Raises:
        SftbenchError: the list is empty, or an entry is no size or stands there twice.
    """
    sizes = tuple(parse_size(part) for part in text.split(",") if part.strip())
    if not sizes:
        raise SftbenchError("there is no percentage", remedy="Write a list such as 1,5,20.")
    for percent, measure in sizes:
        if sizes.count((percent, measure)) > 1:
            of = "" if measure == "scalars" else f" {measure}"
            raise SftbenchError(
                f"{percent_text(percent)} %{of} is listed twice",
                remedy="Name each percentage once.",
            )
    return sizes


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


def percent_text(percent: Decimal) -> str:
    """Return a percentage as people write it: "5", "12.5", "100"."""
    return format(percent.normalize(), "f")


def one_of(known: tuple[_Name, ...], text: str, what: str) -> _Name:
    """Return the one of these names that a text is, or raise `SftbenchError` with all of them."""
    for value in known:
        if value == text:
            return value
    raise SftbenchError(f"there is no {what} {text!r}; known: {', '.join(known)}", remedy=RULE_FORM)


def _quoted(part: str) -> str:
    """Return a part as it may stand in a file name; a hyphen would end a regular expression."""
    if not part.startswith("match="):
        return part
    pattern = quote(part.removeprefix("match="), safe="").replace("-", "%2D")
    return f"match={pattern}"
