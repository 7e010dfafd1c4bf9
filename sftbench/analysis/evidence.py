"""What a summary says of chance: intervals, paired differences and noise, as records for JSON.

Every figure is a fraction; 100 times it are percent, or percentage points for a difference. All
intervals are 95 %. docs/statistics.md has the formulas.
"""

from __future__ import annotations

import math
from typing import Any

from pydantic import field_validator

from sftbench.analysis.record import Record


class IntervalRecord(Record):
    """Lower and upper bound."""

    low: float
    high: float


class EstimateRecord(Record):
    """A figure with what it rests on: see `sftbench.analysis.estimates.Estimate`."""

    value: float
    se: float
    low: float
    high: float
    n: int
    clusters: int
    df: float
    deff: float


class TestedRecord(Record):
    """A difference over all facts or those of a level: see `sftbench.analysis.pairs.Tested`.

    Attributes:
        level: None for all facts.
        difference: clustered, with Tango's interval.
        tango, newcombe: as if facts were independent.
        p_mcnemar: exact, as if facts were independent; p: whole clusters exchanged; p_holm: that
            one, adjusted over the levels.
        smallest: smallest true difference that would be seen with 80 % probability.
    """

    level: int | None
    n: int
    kept: int
    lost: int
    gained: int
    wrong: int
    difference: EstimateRecord
    tango: IntervalRecord
    newcombe: IntervalRecord
    p_mcnemar: float
    p: float
    p_holm: float
    smallest: float | None


class PairDomain(Record):
    """Two variants in one domain: see `sftbench.analysis.pairs.Paired`."""

    domain: str
    facts: TestedRecord
    levels: tuple[TestedRecord, ...]
    macro: EstimateRecord
    macro_smallest: float | None
    retention: EstimateRecord | None


class PairResult(Record):
    """Two variants on the same facts, by name; differences are second minus first.

    Attributes:
        notes: what a reader must know of how the two were asked, one sentence each.
    """

    first: str
    second: str
    domains: tuple[PairDomain, ...]
    notes: tuple[str, ...] = ()

    def domain(self, name: str) -> PairDomain | None:
        """Return the result in a domain, or None where no fact of it was asked."""
        return next((one for one in self.domains if one.domain == name), None)


class RunsRecord(Record):
    """A mean over runs: see `sftbench.analysis.seeds.OverRuns`."""

    value: float
    runs: tuple[float, ...]
    between: float | None
    within: float
    se: float
    low: float
    high: float
    these_facts: IntervalRecord | None
    these_runs: IntervalRecord
    n: int
    clusters: int


class RatioRecord(Record):
    """A ratio; None stands for no bound, and as the value for a division by zero."""

    value: float | None
    low: float
    high: float | None

    @field_validator("value", "high", mode="before")
    @classmethod
    def _finite(cls, value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value


class DifferenceRecord(Record):
    """A difference with its bounds."""

    value: float
    low: float
    high: float


class AgainstRecord(Record):
    """A share forgotten, held against noise: see `sftbench.analysis.noise.Against`."""

    tuned: EstimateRecord
    noise: RunsRecord
    correlation: float
    excess: DifferenceRecord
    times: RatioRecord


class ForgettingRecord(Record):
    """Forgetting held against noise: see `sftbench.analysis.noise.Forgetting`.

    Attributes:
        tuned, noise, correlation, excess, times: of the mean over levels, 1 minus the retention
            score.
        alike: of the share of all known facts, each alike.
    """

    domain: str
    tuned: EstimateRecord
    noise: RunsRecord
    correlation: float
    excess: DifferenceRecord
    times: RatioRecord
    alike: AgainstRecord
    lost: int
    lost_by_noise: tuple[int, ...]
    known: int


class FlipsRecord(Record):
    """The base asked again in other batches: see `sftbench.analysis.noise.Flips`.

    Attributes:
        batch: prompts that were sent at a time.
    """

    batch: int
    n: int
    changed: int
    worded: int
    share: float
    interval: IntervalRecord


class RateRecord(Record):
    """A difference of two mean rates: see `sftbench.analysis.mastery_change.Rate`."""

    value: float
    se: float | None
    low: float | None
    high: float | None
    clusters: int
    df: float | None


class LevelChangeRecord(Record):
    """A level measured again: see `sftbench.analysis.mastery_change.LevelChange`."""

    level: int | None
    n: float
    levelled: float
    before: float
    chance: RateRecord | None
    after: float | None = None
    change: RateRecord | None = None
    naive: float | None = None


class MasteryChangeRecord(Record):
    """Mastery before and after: see `sftbench.analysis.mastery_change.MasteryChange`."""

    levels: tuple[LevelChangeRecord, ...]
    moved_by_chance: float
    moved: float | None
    facts: int
    draws: tuple[int, int]


class ChangeRecord(Record):
    """What a random change came to: see `sftbench.checkpoints.perturb.Perturbation`.

    Attributes:
        variant: its name, such as "base+noise(1)".
        ratio: `norm` over `update`.
    """

    variant: str
    norm: float
    update: float
    ratio: float
    tensors: int
    dtype: str
    numpy: str


class NoiseResult(Record):
    """What is only noise.

    Attributes:
        changes: the random changes of the fine-tune's size, by draw.
        forgetting: against random changes of the fine-tune's size, by domain; empty without any.
        flips: the base asked again; None where it was not.
        mastery: the base's mastery against itself on its other draws; None where it cannot be
            halved.
    """

    changes: tuple[ChangeRecord, ...] = ()
    forgetting: tuple[ForgettingRecord, ...] = ()
    flips: FlipsRecord | None = None
    mastery: MasteryChangeRecord | None = None

    def domain(self, name: str) -> ForgettingRecord | None:
        """Return the forgetting in a domain, or None where there is no figure."""
        return next((one for one in self.forgetting if one.domain == name), None)
