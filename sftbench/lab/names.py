"""Invented names: distinct, pronounceable, built of halves that a tokenizer learns whole."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

_ONSETS = sorted([*"bdfghjklmnprstvwz", "br", "dr", "gl", "kr", "sk", "th", "tr"])
_FIRST = [onset + vowel + coda for onset in _ONSETS for vowel in "aeiou" for coda in "lnr"]
_SECOND = [
    onset + vowels + coda
    for onset in "bdfgkmpstvz"
    for vowels in ("ae", "ei", "io", "ua", "y")
    for coda in ("l", "m", "r", "sk", "th")
]
# A first half ends with the letter after its only vowel, so a name splits in one way: two
# different pairs of halves never spell the same name. The vowels of the second half keep the
# names away from those of the real world.


def invent(rng: random.Random, count: int) -> list[str]:
    """Return `count` different names of two halves each.

    As few halves as give enough names: each then stands in many names and becomes a token, as
    syllables of real names do.

    Raises:
        ValueError: there are not so many names.
    """
    # Half of the possible names stay unused, so that names do not exhaust the halves' pairs.
    halves = 1
    while halves * halves < 2 * count:
        halves += 1
    if halves > min(len(_FIRST), len(_SECOND)):
        raise ValueError(f"{count} names are more than can be invented")
    pairs = list(itertools.product(rng.sample(_FIRST, halves), rng.sample(_SECOND, halves)))
    return [(first + second).capitalize() for first, second in rng.sample(pairs, count)]
