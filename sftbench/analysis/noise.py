"""What is only noise: forgetting held against random changes of its size, and answers that flip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from sftbench.analysis.design import Design, value_column
from sftbench.analysis.estimates import Estimate, share
from sftbench.analysis.intervals import Interval, Limited, difference_of, ratio_of, wilson
from sftbench.analysis.seeds import OverRuns, share_over_runs

if TYPE_CHECKING:
    from sftbench.analysis.design import Floats


class Against(NamedTuple):
    """A share that a fine-tune forgets, held against random changes of its size: fractions.

    Attributes:
        tuned: forgotten by the fine-tune.
        noise: forgotten by the random changes, the mean over them.
        correlation: of `tuned` and `noise` over facts, 0 to 1: facts on the border of being known
            are forgotten by both.
        excess: `tuned` minus `noise`.
        times: `tuned` over `noise`; infinite where noise forgets nothing, NaN where neither does.
            Its interval holds 1 just where that of `excess` holds 0.
    """

    tuned: Estimate
    noise: OverRuns
    correlation: float
    excess: Limited
    times: Limited


class Forgetting(NamedTuple):
    """How much of what the base knows a fine-tune forgets, and random changes of its size do.

    Known are the facts of level 1 to 4 that the base answers right; forgotten is what is then
    answered wrong.

    Attributes:
        tuned, noise, correlation, excess, times: as in `Against`, of the mean over levels: 1 minus
            the retention score.
        alike: of the share of all known facts, each alike: less at the mercy of small levels.
        lost: known facts that the fine-tune answers wrong.
        lost_by_noise: the same of each random change.
        known: known facts.
    """

    tuned: Estimate
    noise: OverRuns
    correlation: float
    excess: Limited
    times: Limited
    alike: Against
    lost: int
    lost_by_noise: tuple[int, ...]
    known: int


def forgetting(
    facts: pl.DataFrame, base: str, tuned: str, draws: Sequence[str]
) -> Forgetting | None:
    """Hold what a fine-tune forgets against what random changes of its size forget.

    Greedy answers of one model to one prompt do not vary, so base against base loses nothing, and
    says nothing of how easily borderline facts flip. A random change of the same norm does.

    Args:
        facts: one row per fact: fact_id, level, relation, answer, and a Boolean column per variant.
        base: the column of the base.
        tuned: the column of the tuned model.
        draws: the columns of the random changes, at least one.

    Returns:
        None where the base answers no fact of level 1 to 4 right.
    """
    rows = facts.filter(pl.col(base), pl.col("level") > 0)
    if rows.is_empty():
        return None
    by_level, alike = Design.of(rows), Design.of(rows, by_level=False)
    after = 1 - value_column(rows, alike, tuned)
    perturbed = np.stack([1 - value_column(rows, alike, name) for name in draws])
    return Forgetting(
        **_against(by_level, after, perturbed)._asdict(),
        alike=_against(alike, after, perturbed),
        lost=int(after.sum()),
        lost_by_noise=tuple(int(one.sum()) for one in perturbed),
        known=alike.n,
    )


def _against(design: Design, after: Floats, perturbed: Floats) -> Against:
    """Return the comparison of what is forgotten, ``[facts]`` and ``[draws, facts]``."""
    mine, noise = share(design, after), share_over_runs(design, perturbed)
    together = _correlation(design, after, perturbed.mean(axis=0))
    # What the choice of draws brings to a bound of the noise does not correlate with anything.
    sides = (
        together * _part(noise.these_runs.high - noise.value, noise.high - noise.value),
        together * _part(noise.value - noise.these_runs.low, noise.value - noise.low),
    )
    return Against(
        tuned=mine,
        noise=noise,
        correlation=together,
        excess=difference_of(mine.limited, noise.limited, sides),
        times=ratio_of(mine.limited, noise.limited, sides),
    )


def _part(some: float, whole: float) -> float:
    return min(1.0, some / whole) if whole > 0 else 0.0


def _correlation(design: Design, one: Floats, other: Floats) -> float:
    """Return the correlation of two means over levels on the same facts, 0 if it is negative.

    Args:
        design: the facts.
        one: value of each fact, ``[facts]``.
        other: the same.
    """
    both, first, second = (design.spread(x).variance for x in (one + other, one, other))
    scale = 2 * math.sqrt(first * second)
    return min(1.0, max(0.0, (both - first - second) / scale)) if scale > 0 else 0.0


class Flips(NamedTuple):
    """Facts that one model answers otherwise when it is asked again, such as in other batches.

    Attributes:
        n: facts asked twice.
        changed: whose answer is right once and wrong once.
        worded: whose text differs.
        share: `changed` over n, a fraction.
        interval: its 95 % Wilson interval.
    """

    n: int
    changed: int
    worded: int
    share: float
    interval: Interval


def flipped(first: pl.DataFrame, second: pl.DataFrame) -> Flips:
    """Return how many answers differ between two runs of one model.

    Args:
        first: fact_id, correct, text.
        second: the same columns and facts.

    Raises:
        ValueError: the two did not answer the same facts, each once.
    """
    rows = first.select("fact_id", "correct", "text").join(
        second.select("fact_id", "correct", "text"), on="fact_id", suffix="_again"
    )
    if not first.height == second.height == rows.height == rows["fact_id"].n_unique():
        raise ValueError("both runs must answer the same facts, each once")
    changed = int((rows["correct"] != rows["correct_again"]).sum())
    worded = int((rows["text"] != rows["text_again"]).sum())
    n = rows.height
    return Flips(n, changed, worded, changed / n, wilson(changed, n))
