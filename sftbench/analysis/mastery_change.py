"""Mastery before and after, without the loss that chance alone shows (regression to the mean).

A fact that is put into the top level because it was lucky falls when it is measured again, even
by the same model. So a fact is levelled by one half of the base's draws and its rate before is
taken from the other half; then the halves change places (cross-fitting), and both count half.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from sftbench.analysis.design import Design, value_column
from sftbench.analysis.estimates import mean_change

if TYPE_CHECKING:
    from collections.abc import Mapping


LEVELS = (0, 1, 2, 3, 4)


class Rate(NamedTuple):
    """A difference of two mean rates, in [-1, 1], with its clustered 95 % interval.

    Attributes:
        value: the difference.
        se: its standard error.
        low: lower bound; se and bounds are None where the facts show no variation to judge by: one
            cluster alone, or the same difference in each.
        high: upper bound.
        clusters: different answers (within relations) among the facts.
        df: degrees of freedom of the t quantile; None without bounds.
    """

    value: float
    se: float | None
    low: float | None
    high: float | None
    clusters: int
    df: float | None


class LevelChange(NamedTuple):
    """The facts of one level, levelled by half of the base's draws.

    Attributes:
        level: the level; None for all facts.
        n: facts, the mean of the two ways to halve the draws.
        levelled: mean rate in the draws that levelled the facts.
        before: mean rate of the base in its other draws.
        chance: `before` minus `levelled`: the change that chance alone shows; None over all facts,
            where it is 0 because the halves change places.
        after: mean rate of the tuned model; None without one.
        change: `after` minus `before`; None without a tuned model.
        naive: `after` minus `levelled`: what levelling and scoring by the same draws shows.
    """

    level: int | None
    n: float
    levelled: float
    before: float
    chance: Rate | None
    after: float | None = None
    change: Rate | None = None
    naive: float | None = None


class MasteryChange(NamedTuple):
    """Mastery before and after.

    Attributes:
        levels: of each level that has facts, then over all facts.
        moved_by_chance: share of the facts whose level differs between the halves of the base's
            draws.
        moved: share whose level differs between a half of the base's and a half of the tuned
            model's draws; None without a tuned model.
        facts: how many there are.
        draws: completions of a fact in each half.
    """

    levels: tuple[LevelChange, ...]
    moved_by_chance: float
    moved: float | None
    facts: int
    draws: tuple[int, int]


def halves(hits: pl.DataFrame) -> pl.DataFrame:
    """Return how often each fact was hit in each half of its draws.

    The halves alternate over the draws of every template, beginning with the other half in every
    second template, so that both hold the same templates as far as the draws are even in number.

    Args:
        hits: fact_id, hits ``[templates][draws]``.

    Returns:
        fact_id, hits_0, draws_0, hits_1, draws_1, in the order of the rows.
    """
    rows = []
    for fact_id, templates in hits.select("fact_id", "hits").iter_rows():
        counted = [[0, 0], [0, 0]]
        for place, drawn in enumerate(templates):
            for number, hit in enumerate(drawn):
                half = counted[(place + number) % 2]
                half[0] += int(hit)
                half[1] += 1
        rows.append((fact_id, *counted[0], *counted[1]))
    names = ["fact_id", "hits_0", "draws_0", "hits_1", "draws_1"]
    return pl.DataFrame(rows, schema=names, orient="row")


def mastery_change(
    facts: pl.DataFrame, base: pl.DataFrame, tuned: pl.DataFrame | None = None
) -> MasteryChange:
    """Return mastery before and after by level; without a tuned model, what chance alone shows.

    Args:
        facts: fact_id, relation, answer (canonical) of at least the facts measured.
        base: fact_id, hits ``[templates][draws]`` of the base.
        tuned: the same of the tuned model; None for the base against itself.

    Raises:
        ValueError: no fact was measured in both, or there are too few draws to halve.
    """
    rows = facts.select("fact_id", "relation", "answer").join(halves(base), on="fact_id")
    if tuned is not None:
        rows = rows.join(halves(tuned), on="fact_id", suffix="_after")
    if rows.is_empty() or not (rows["draws_0"].min() and rows["draws_1"].min()):
        raise ValueError("halving needs facts with at least two draws each")
    both = pl.concat([_direction(rows, half) for half in (0, 1)])
    present = [level for level in LEVELS if level in set(both["level"])]
    parts: list[tuple[int | None, pl.DataFrame]] = [
        (level, both.filter(pl.col("level") == level)) for level in present
    ]
    levelled = both.filter(pl.col("half") == 0)
    other = both.filter(pl.col("half") == 1)
    moved = None if tuned is None else _mean(both["level"] != both["level_after"])
    return MasteryChange(
        levels=tuple(_level_change(level, part) for level, part in [*parts, (None, both)]),
        moved_by_chance=_mean(levelled["level"] != other["level"]),
        moved=moved,
        facts=rows.height,
        draws=(int(rows["draws_0"].max()), int(rows["draws_1"].max())),  # type: ignore[arg-type]
    )


def _mean(marks: pl.Series) -> float:
    return float(marks.mean())  # type: ignore[arg-type]


def _direction(rows: pl.DataFrame, half: int) -> pl.DataFrame:
    """Return the facts levelled by one half of the base's draws, and measured in the other."""
    rate = pl.col(f"hits_{half}") / pl.col(f"draws_{half}")
    fresh = pl.col(f"hits_{1 - half}") / pl.col(f"draws_{1 - half}")
    columns: Mapping[str, pl.Expr] = {
        "level": _level(f"hits_{half}", f"draws_{half}"),
        "half": pl.lit(half),
        "levelled": rate,
        "before": fresh,
    }
    if "hits_0_after" in rows.columns:
        hit, drawn = ("hits_0_after", "hits_1_after"), ("draws_0_after", "draws_1_after")
        other = 1 - half
        columns = {
            **columns,
            "after": (pl.col(hit[0]) + pl.col(hit[1])) / (pl.col(drawn[0]) + pl.col(drawn[1])),
            "level_after": _level(hit[other], drawn[other]),
        }
    return rows.select("fact_id", "relation", "answer", **columns)


def _level(hits: str, draws: str) -> pl.Expr:
    """Return the mastery level of a share, 0 to 4: the quarters of (0, 1], and 0 apart."""
    return (-((-4 * pl.col(hits)) // pl.col(draws))).cast(pl.Int8)


def _level_change(level: int | None, part: pl.DataFrame) -> LevelChange:
    levelled, before = _mean(part["levelled"]), _mean(part["before"])
    chance = None if level is None else _rate(part, pl.col("before") - pl.col("levelled"))
    found = LevelChange(level, part.height / 2, levelled, before, chance)
    if "after" not in part.columns:
        return found
    after = _mean(part["after"])
    return found._replace(
        after=after,
        change=_rate(part, pl.col("after") - pl.col("before")),
        naive=after - levelled,
    )


def _rate(part: pl.DataFrame, values: pl.Expr) -> Rate:
    """Return the mean of a value; a fact that stands there twice is one, as is its cluster."""
    rows = part.with_columns(
        pl.concat_str("fact_id", pl.lit(" "), "half").alias("fact_id"), value=values
    )
    design = Design.of(rows, by_level=False)
    value = value_column(rows, design, "value")
    found = mean_change(design, value)
    if found is None:
        return Rate(design.mean(value), None, None, None, design.clusters, None)
    return Rate(found.value, found.se, found.low, found.high, found.clusters, found.df)
