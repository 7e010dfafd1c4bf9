"""The design of a fact set: levels that are averaged, relations as strata, answers as clusters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Places = NDArray[np.intp]

NEEDED = ("fact_id", "level", "relation", "answer")


class Spread(NamedTuple):
    """How uncertain a mean over levels is.

    Attributes:
        variance: of the mean, in its squared unit; facts of one cluster may depend on each other.
        deff: design effect, `variance` over what independent facts would give; at least 1.
        df: degrees of freedom of `variance`, at least 1.
    """

    variance: float
    deff: float
    df: float


@dataclass(frozen=True, eq=False)
class Design:
    """Facts with what decides how far they tell of other facts.

    The figure is a mean over levels of means over facts. Facts that share an answer in a relation
    are a cluster: a model that stops saying "Kyrgyzstan" loses them together. Relations are fixed
    strata: that they differ is no uncertainty, since other facts would be of the same relations.

    Attributes:
        fact_ids: of the facts, ``[facts]``; values given to the methods are in this order.
        levels: the levels that have facts, ascending.
        level: place in `levels` of each fact, ``[facts]``.
        cluster: cluster of each fact, 0, 1, ..., ``[facts]``.
        stratum: stratum of each cluster, 0, 1, ..., ``[clusters]``; one for all where every
            relation has a single cluster.
    """

    fact_ids: pl.Series
    levels: tuple[int, ...]
    level: Places
    cluster: Places
    stratum: Places

    @classmethod
    def of(cls, facts: pl.DataFrame, *, by_level: bool = True) -> Design:
        """Return the design of facts, one row each, in the order of fact_id.

        Args:
            facts: fact_id, level, relation, answer (canonical).
            by_level: False averages over facts, whatever their level.

        Raises:
            ValueError: there are no facts, or one stands there twice.
        """
        rows = facts.select(NEEDED).sort("fact_id")
        if not rows.height or rows["fact_id"].n_unique() < rows.height:
            raise ValueError("a design needs facts, each once")
        levels = rows["level"] if by_level else pl.zeros(rows.height, pl.Int8, eager=True)
        kinds = rows.select(
            relation=pl.col("relation").rank("dense") - 1,
            cluster=pl.struct("relation", "answer").rank("dense") - 1,
        )
        pairs = kinds.unique("cluster").sort("cluster")
        stratum = pairs["relation"].to_numpy().astype(np.intp)
        if len(set(stratum)) == len(stratum):
            # No relation has two answers that could show how answers vary: they show it together.
            stratum = np.zeros_like(stratum)
        return cls(
            fact_ids=rows["fact_id"],
            levels=tuple(sorted(int(level) for level in levels.unique())),
            level=(levels.rank("dense") - 1).to_numpy().astype(np.intp),
            cluster=kinds["cluster"].to_numpy().astype(np.intp),
            stratum=stratum,
        )

    @property
    def n(self) -> int:
        """The number of facts."""
        return len(self.level)

    @property
    def clusters(self) -> int:
        """The number of clusters."""
        return len(self.stratum)

    @cached_property
    def sizes(self) -> Floats:
        """Facts in each level, ``[levels]``."""
        return np.bincount(self.level, minlength=len(self.levels)).astype(float)

    @cached_property
    def weights(self) -> Floats:
        """Weight of each fact in the mean over levels, ``[facts]``; they add up to 1."""
        return 1 / (len(self.levels) * self.sizes[self.level])

    def means(self, values: Floats) -> Floats:
        """Return the mean of each level, ``[levels]``.

        Args:
            values: of each fact, ``[facts]``.
        """
        return np.bincount(self.level, values, minlength=len(self.levels)) / self.sizes

    def mean(self, values: Floats) -> float:
        """Return the unweighted mean over levels of their means."""
        return float(self.means(values).mean())

    def spread(self, values: Floats) -> Spread:
        """Return how uncertain the mean over levels is.

        The variance is that of Taylor linearisation for a stratified sample of clusters, drawn
        with replacement (Särndal, Swensson and Wretman 1992, section 5.5; R's `survey` computes
        the same): each fact contributes its weight times its distance from the mean of its level,
        contributions add up within a cluster, and clusters vary within their stratum. A stratum
        with one cluster is held against 0, the mean of all contributions. A single cluster shows
        nothing of how clusters vary: its facts are taken to hang together completely.

        Args:
            values: of each fact, ``[facts]``.
        """
        alone = self.alone(values)
        if self.clusters == 1:
            return Spread(alone * self.most, self.most, 1.0)
        apart = values - self.means(values)[self.level]
        contributions = self.weights * apart
        variance = self._variance(self._added(contributions))
        deff = max(1.0, variance / alone) if alone > 0 else 1.0
        return Spread(variance, deff, self.df(deff))

    def alone(self, values: Floats) -> float:
        """Return the variance of the mean over levels if all facts were independent.

        Args:
            values: of each fact, ``[facts]``.
        """
        in_level = self.means((values - self.means(values)[self.level]) ** 2)
        return float((in_level / self.sizes).sum()) / len(self.levels) ** 2

    def _variance(self, totals: Floats) -> float:
        """Return the variance of the sum of the clusters' totals, ``[clusters]``."""
        count = self._clusters_in_stratum
        means = np.bincount(self.stratum, totals) / count
        lonely = count == 1
        apart = totals - np.where(lonely, 0.0, means)[self.stratum]
        factor = np.where(lonely, 1.0, count / np.maximum(1.0, count - 1))
        return float((factor[self.stratum] * apart**2).sum())

    @cached_property
    def _clusters_in_stratum(self) -> Floats:
        return np.bincount(self.stratum).astype(float)

    @cached_property
    def _together(self) -> tuple[Floats, Floats]:
        """Return the sums of squared weights and the squared sums of weights, ``[clusters]``."""
        return self._added(self.weights**2), self._added(self.weights) ** 2

    @property
    def most(self) -> float:
        """Return the design effect if the facts of a cluster hung together completely."""
        squares, sums = self._together
        return float(sums.sum() / squares.sum())

    def _added(self, values: Floats) -> Floats:
        """Return the sums over the facts of each cluster, ``[clusters]``."""
        return np.bincount(self.cluster, values, self.clusters).astype(float)

    def df(self, deff: float) -> float:
        """Return the degrees of freedom of the variance (Satterthwaite).

        Under a working model in which facts of a cluster correlate alike, as much as the design
        effect says: clusters of very different weight make a variance that few of them decide
        (Bell and McCaffrey 2002, for means within strata).
        """
        squares, sums = self._together
        shared = min(1.0, (deff - 1) / (self.most - 1)) if self.most > 1 else 0.0
        expected = (1 - shared) * squares + shared * sums
        count = self._clusters_in_stratum
        total = np.bincount(self.stratum, expected)
        squared = np.bincount(self.stratum, expected**2)
        several = count > 1
        m = count[several]
        varying = (m / (m - 1)) ** 2 * ((1 - 2 / m) * squared[several] + (total[several] / m) ** 2)
        # A single cluster, held against 0, has one degree of freedom.
        spread = float(varying.sum() + squared[~several].sum())
        return max(1.0, float(total.sum()) ** 2 / spread)


def value_column(frame: pl.DataFrame, design: Design, column: str) -> Floats:
    """Return a column of a table as floats in the order of a design, paired by fact_id.

    Raises:
        ValueError: a fact of the design is missing, or stands there twice.
    """
    rows = pl.DataFrame({"fact_id": design.fact_ids}).join(
        frame.select("fact_id", column), on="fact_id", how="left", maintain_order="left"
    )
    if rows.height != design.n or rows[column].null_count():
        raise ValueError(f"the column {column} must hold each fact of the design once")
    return rows[column].cast(pl.Float64).to_numpy()
