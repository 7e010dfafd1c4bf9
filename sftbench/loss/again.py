"""Mastery measured again, by draws that levelled nothing: a journal that grows and is resumed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sftbench.analysis.intervals import quantile
from sftbench.analysis.kinds import Rate
from sftbench.common.digests import digest_of
from sftbench.mastery.choose import EstimatorName, estimator_for
from sftbench.mastery.estimate import measure_all
from sftbench.mastery.journal import Journal
from sftbench.mastery.likelihood import LikelihoodEstimator, Readings
from sftbench.mastery.measured import Measured

if TYPE_CHECKING:
    import polars as pl

    from sftbench.engines.protocol import Sampler
    from sftbench.facts.table import FactSet
    from sftbench.mastery.card import MasteryCard
    from sftbench.mastery.estimate import Estimator

FEWEST_DF = 4
"""Degrees of freedom that a fact's error has at least."""

Purpose = Literal["kind", "itself", "level"]
PURPOSES: tuple[Purpose, ...] = ("kind", "itself", "level")
"""What a measurement is for: the kind of a loss, the base held against itself, or the level of
every fact. Each has draws of its own, other than those of the card."""


@dataclass(frozen=True)
class Again:
    """One model measured again for one purpose.

    Attributes:
        facts: the fact set, for its templates.
        card: of the base; its draws are not used again.
        estimator: "likelihood" or "sampled".
        purpose: what for.
        side: 0 for the base, 1 for every other variant, whose draws are thus not the base's.
    """

    facts: FactSet
    card: MasteryCard
    estimator: EstimatorName
    purpose: Purpose
    side: int

    @property
    def measure(self) -> Estimator:
        """The estimator; what tells kinds apart reads every template twice, to know its error."""
        settings = self.card.record.get("settings", {})
        seed = int(settings.get("seed", 0)) + 1 + 2 * PURPOSES.index(self.purpose) + self.side
        how = settings.get("how", "words")
        estimator, _ = estimator_for(self.facts, self.estimator, how=how, seed=seed)
        if isinstance(estimator, LikelihoodEstimator) and self.purpose != "level":
            return TwoPaths(how=how, seed=seed)
        return estimator

    def journal(self, folder: Path, slug: str, key: str) -> Journal:
        """Return the journal of a variant, with what it holds already.

        Args:
            folder: where journals lie.
            slug: of the variant.
            key: digest of what was compared and of the variant.

        Raises:
            SftbenchError: it belongs to something else.
        """
        made_by = digest_of([key, self.purpose, self.measure.settings()])
        return Journal(folder / f"{slug}-{self.purpose}.jsonl", made_by)

    def run(self, engine: Sampler, rows: pl.DataFrame, journal: Journal, title: str) -> None:
        """Measure the facts that the journal does not hold yet."""
        if missing(journal, rows):
            measure_all(engine, self.facts, self.measure, rows, journal, title)


@dataclass(frozen=True)
class TwoPaths(LikelihoodEstimator):
    """Likelihood along two paths of every template, whose error is what the two differ by.

    `LikelihoodEstimator` states an error that holds over many facts of many models; a verdict on
    one fact needs that fact's own. With d(t) the difference of the two paths of template t, the
    mean over n templates and both paths has the variance ``sum d(t)^2 / (2 n)^2``. Paths of one
    reading share what they saw of an answer's later tokens, so the variance is at least that of
    the two means, ``(mean of d / 2)^2``. Few templates may carry most of it: the error is widened
    by Student's t over the normal quantile, with Satterthwaite's degrees of freedom, at least 4.
    """

    gain: float = 0.0

    def settings(self) -> dict[str, Any]:
        """Return what decides the estimates."""
        return {**super().settings(), "error": "of two paths"}

    def error_of(self, readings: Readings) -> float:
        """Return the error of a fact's mean chance, widened to serve with a normal quantile."""
        apart = np.array([first - second for first, second in readings])
        variance = float((apart**2).sum()) / (2 * len(apart)) ** 2
        variance = max(variance, (float(apart.mean()) / 2) ** 2)
        if not variance:
            return 0.0
        df = max(FEWEST_DF, float((apart**2).sum() ** 2 / (apart**4).sum()))
        return round(math.sqrt(variance) * quantile(df) / quantile(), 6)


def missing(journal: Journal, rows: pl.DataFrame) -> int:
    """Return how many facts a journal does not hold yet."""
    return sum(fact_id not in journal.finished for fact_id in rows["fact_id"])


def rates(journal: Journal) -> Mapping[str, Rate]:
    """Return the rate of each fact of a journal."""
    return {fact_id: rate_of(found) for fact_id, found in journal.finished.items()}


def rate_of(found: Measured) -> Rate:
    """Return what was measured as a rate with what it rests on."""
    if found.hits is not None:
        drawn = [hit for template in found.hits for hit in template]
        return Rate(sum(drawn) / len(drawn), draws=len(drawn))
    chances = [chance for chance in found.chances or () if chance is not None]
    return Rate(sum(chances) / len(chances), error=found.error)
