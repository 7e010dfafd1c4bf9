"""Which kind of loss a lost fact is, by what it was seen to do elsewhere: one rule, no model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from sftbench.analysis.intervals import Interval, quantile, wilson

if TYPE_CHECKING:
    from sftbench.analysis.loss import Kind

LEAST_ERROR = 0.002
"""No mean of estimated chances is surer than this: what is extrapolated has an error, too."""

LEAST_FALL = 0.25
"""Part of the base's rate that must be gone. Where rates are nearly exact, a change of the
weights moves nearly every fact credibly: of 40 facts of the lab that both models answer, 36 were
less known after a fine-tune, 23 of these by a tenth at most (`python benchmarks/loss.py`, see
docs/loss.md)."""


class Rate(NamedTuple):
    """A fact's mastery rate R in [0, 1], measured once.

    Attributes:
        value: the share of draws that state an answer, or the mean of estimated chances.
        draws: completions drawn; None for chances.
        error: standard error of the mean of the chances; None for draws.
    """

    value: float
    draws: int | None = None
    error: float | None = None

    @property
    def bounds(self) -> Interval:
        """The 95 % interval: Wilson's of draws, normal of chances."""
        if self.draws is not None:
            return wilson(self.value * self.draws, self.draws)
        assert self.error is not None, "a rate comes of draws or of chances"
        half = quantile() * max(self.error, LEAST_ERROR)
        # Not cut at 0 and 1: both ends are needed at their full length for a difference.
        return Interval(self.value - half, self.value + half)


def change(before: Rate, after: Rate) -> Interval:
    """Return the 95 % interval of ``after - before``, two independent measurements of one fact.

    The bounds of the two are put together as by Newcombe (1998, Statistics in Medicine 17:873,
    method 10). The draws of a rate are stratified over templates, which makes it surer than the
    binomial law says: the interval is, if anything, too wide.
    """
    mine, theirs = before.bounds, after.bounds
    value = after.value - before.value
    low = value - math.hypot(after.value - theirs.low, mine.high - before.value)
    high = value + math.hypot(theirs.high - after.value, before.value - mine.low)
    return Interval(max(-1.0, low), min(1.0, high))


def is_lower(before: Rate, after: Rate) -> bool:
    """Return whether a fact is credibly less known, by a quarter of its rate or more.

    The whole interval of the difference lies below zero, and the rates differ by `LEAST_FALL`.
    """
    fallen = after.value <= (1 - LEAST_FALL) * before.value
    return fallen and change(before, after).high < 0


def none_left(after: Rate) -> Rate:
    """Return what a measurement like `after` shows of a fact that is not known at all."""
    return after._replace(value=0.0, error=None if after.error is None else 0.0)


def kind_of(before: Rate, after: Rate) -> Kind:
    """Return the kind of a loss that no other form of the question undoes.

    Args:
        before: of the base, by draws that levelled nothing.
        after: of the model that lost the fact, by draws of its own.

    Returns:
        "knowledge" where the fact is credibly less known; "undecided" where even none of it left
        would not be credibly less, so that nothing could be seen; else "access".
    """
    if is_lower(before, after):
        return "knowledge"
    return "access" if is_lower(before, none_left(after)) else "undecided"
