"""Two variants on the same facts: the difference, whether it is real, and what n could see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from sftbench.analysis.design import Design, value_column
from sftbench.analysis.estimates import Estimate, difference, floats
from sftbench.analysis.exact import holm, mcnemar, sign_flip
from sftbench.analysis.intervals import CONFIDENCE, Interval, newcombe, tango

if TYPE_CHECKING:
    from numpy.typing import NDArray

POWER = 0.8
"""Probability with which the smallest difference seen is seen."""


class Counts(NamedTuple):
    """What became of facts between two variants: counts that add up to all facts."""

    kept: int
    lost: int
    gained: int
    wrong: int

    @property
    def n(self) -> int:
        """All facts."""
        return sum(self)

    @property
    def changed(self) -> int:
        """Facts that one of the two answers right and the other wrong."""
        return self.lost + self.gained


class Tested(NamedTuple):
    """A difference in the share of facts answered right, over all facts or those of one level.

    Attributes:
        level: the level; None for all facts.
        counts: what became of the facts.
        estimate: the second minus the first (fractions), clustered.
        tango: Tango's interval, as if facts were independent.
        newcombe: Newcombe's, likewise.
        p_mcnemar: exact, as if facts were independent.
        p: exact, whole clusters exchanged (`sign_flip`).
        p_holm: `p` adjusted over the levels; of all facts `p` itself.
        smallest: smallest true difference (a fraction) that so many facts show with 80 %
            probability; None if none would.
    """

    level: int | None
    counts: Counts
    estimate: Estimate
    tango: Interval
    newcombe: Interval
    p_mcnemar: float
    p: float
    p_holm: float
    smallest: float | None


class Paired(NamedTuple):
    """Two variants on the same facts.

    Attributes:
        facts: over all facts, each alike.
        levels: of each level that has facts.
        macro: difference of the unweighted means over levels.
        macro_smallest: as `Tested.smallest`, for the macro.
        retention: difference of the knowledge-retention scores; None where there is none.
    """

    facts: Tested
    levels: tuple[Tested, ...]
    macro: Estimate
    macro_smallest: float | None
    retention: Estimate | None


def paired(facts: pl.DataFrame, first: str, second: str, *, known: str | None = None) -> Paired:
    """Compare two variants that answered the same facts.

    Args:
        facts: one row per fact: fact_id, level, relation, answer, and a Boolean column per variant.
        first: the column of the one.
        second: the column of the other; differences are second minus first.
        known: the column of the base, for the difference in retention; None leaves that out.

    Raises:
        ValueError: there are no facts, or one stands there twice.
    """
    levels = sorted(int(level) for level in facts["level"].unique())
    each = [
        _tested(facts.filter(pl.col("level") == level), first, second, level) for level in levels
    ]
    adjusted = holm([one.p for one in each])
    design = Design.of(facts)
    before, after = (value_column(facts, design, name) for name in (first, second))
    macro = difference(design, before, after)
    return Paired(
        facts=_tested(facts, first, second, None),
        levels=tuple(one._replace(p_holm=p) for one, p in zip(each, adjusted, strict=True)),
        macro=macro,
        macro_smallest=smallest_seen(
            [one.counts.changed for one in each], [one.counts.n for one in each], macro
        ),
        retention=None if known is None else _retention(facts, first, second, known),
    )


def _tested(facts: pl.DataFrame, first: str, second: str, level: int | None) -> Tested:
    design = Design.of(facts, by_level=False)
    before, after = (value_column(facts, design, name) for name in (first, second))
    estimate = difference(design, before, after)
    counts = count(before, after)
    p = sign_flip(after - before, design.cluster)
    return Tested(
        level=level,
        counts=counts,
        estimate=estimate,
        tango=tango(counts.gained, counts.lost, counts.n),
        newcombe=newcombe(counts.kept, counts.gained, counts.lost, counts.n),
        p_mcnemar=mcnemar(counts.lost, counts.gained),
        p=p,
        p_holm=p,
        smallest=smallest_seen([counts.changed], [counts.n], estimate),
    )


def count(before: NDArray[Any], after: NDArray[Any]) -> Counts:
    """Return what became of the facts; true or 1 is right, false or 0 wrong, ``[facts]`` each."""
    was, now = before.astype(bool), after.astype(bool)
    return Counts(
        kept=int((was & now).sum()),
        lost=int((was & ~now).sum()),
        gained=int((~was & now).sum()),
        wrong=int((~was & ~now).sum()),
    )


def _retention(facts: pl.DataFrame, first: str, second: str, known: str) -> Estimate | None:
    rows = facts.filter(pl.col(known), pl.col("level") > 0)
    if rows.is_empty():
        return None
    design = Design.of(rows)
    return difference(design, value_column(rows, design, first), value_column(rows, design, second))


def smallest_seen(changed: Sequence[int], n: Sequence[int], estimate: Estimate) -> float | None:
    """Return the smallest true difference whose interval would exclude 0 with 80 % probability.

    Solves ``difference = t_0.975 * se_0 + t_0.8 * se`` (Connor 1987, Biometrics 43:207): the
    interval excludes 0 by the standard error that there is under no difference, and how far the
    observed one scatters is told by that under the true one. Both are those of a paired
    difference with the share of changed facts seen here (with one changed and one unchanged fact
    added to each level, so that no change at all is not taken for certainty), or, if more, with
    as many as the difference itself takes.

    Args:
        changed: facts of each level that changed.
        n: facts of each level.
        estimate: gives the design effect and the degrees of freedom.

    Returns:
        a fraction; None where even a change of every fact would not be seen.
    """
    from scipy.optimize import brentq
    from scipy.special import stdtrit

    sizes = floats(n)
    shares = (floats(changed) + 1) / (sizes + 2)
    excluded, seen = (stdtrit(estimate.df, one) for one in ((1 + CONFIDENCE) / 2, POWER))
    unit = estimate.deff / len(sizes) ** 2

    def excess(true: float) -> float:
        changing = np.maximum(shares, true)
        under_none = unit * float((changing / sizes).sum())
        under_true = unit * float((np.maximum(0.0, changing - true**2) / sizes).sum())
        return float(true - excluded * np.sqrt(under_none) - seen * np.sqrt(under_true))

    return float(brentq(excess, 0.0, 1.0)) if excess(1.0) > 0 else None
