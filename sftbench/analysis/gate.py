"""The result of a gate: what a candidate is held to, each endpoint's verdict, the lost facts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sftbench.analysis.noninferiority import PASSING, Verdict
from sftbench.analysis.record import Record

GATE_SCHEMA_VERSION: Literal[1] = 1

OnInconclusive = Literal["report", "pass", "fail"]
EXIT_OF: dict[Verdict, int] = {
    "superior": 0,
    "non_inferior": 0,
    "inconclusive": 3,
    "inferior": 1,
}
EXIT_ON: dict[OnInconclusive, int] = {"report": 3, "pass": 0, "fail": 1}


class RunName(Record):
    """One run of a recipe.

    Attributes:
        name: how the user named it.
        digest: digest of its weights; of lm-eval outputs, which do not tell, that of the answers.
        seed: of its recipe; None where that is not known.
        recipe: digest of its recipe but for the seed; None where that is not known.
        variant: such as "tuned" or "tuned+restore(relative,5%)"; None where that is not known.
    """

    name: str
    digest: str
    seed: int | None = None
    recipe: str | None = None
    variant: str | None = None


class SideRecord(Record):
    """The baseline or the candidate."""

    name: str
    runs: tuple[RunName, ...] = Field(min_length=1)


class Terms(Record):
    """What is declared before the candidate is seen.

    Attributes:
        margin: a loss below this does not matter; a fraction (0.02 is two percentage points).
        alpha: probability that a loss of the whole margin passes (one-sided).
        primary: the endpoints that decide: each of them must be shown to be no worse by the
            margin.
        seeds: runs that the candidate must come with, at least.
    """

    margin: float = Field(gt=0, lt=1)
    alpha: float = Field(gt=0, lt=0.5)
    primary: tuple[str, ...] = Field(min_length=1)
    seeds: int = Field(ge=1)


class SettlingRecord(Record):
    """What would probably settle an inconclusive verdict: see `analysis.noninferiority`."""

    facts: int | None
    runs: int | None
    near: bool


class EndpointResult(Record):
    """Candidate against baseline in one figure: fractions.

    Attributes:
        endpoint: its name, such as "retention:in" or "retention:in:level2".
        primary: it decides; else it is one of the others, adjusted by Holm.
        n: facts that the figure rests on.
        clusters: different answers (within relations) among them.
        baseline: mean over the baseline's runs.
        candidate: mean over the candidate's.
        difference: candidate minus baseline.
        low: lower bound, which the true difference is below with probability alpha.
        high: upper bound, likewise above.
        lost: facts that the candidate answers right less often than the baseline.
        gained: more often.
        p_noninferior: one-sided p value against a loss of the margin or more.
        p_inferior: against a loss of less than the margin.
        p_noninferior_holm: adjusted over the endpoints that do not decide; of those that do, as it
            is.
        p_inferior_holm: likewise.
        verdict: of primary endpoints by the bounds, of the others by the adjusted p values.
        settling: what would settle a primary endpoint that is inconclusive.
    """

    endpoint: str
    domain: str
    level: int | None
    primary: bool
    n: int
    clusters: int
    baseline: float
    candidate: float
    difference: float
    low: float
    high: float
    lost: int
    gained: int
    p_noninferior: float
    p_inferior: float
    p_noninferior_holm: float
    p_inferior_holm: float
    verdict: Verdict
    settling: SettlingRecord | None = None


class LostFact(Record):
    """A fact that the candidate answers right in fewer of its runs than the baseline.

    Attributes:
        before: share of the baseline's runs that answer it right.
        after: share of the candidate's.
        said: what the candidate said, in the first run that is wrong.
    """

    fact_id: str
    domain: str
    level: int
    relation: str
    question: str
    answer: str
    before: float
    after: float
    said: str


class GateResult(Record):
    """What a gate found.

    Attributes:
        verdict: that of the primary endpoints, the worst one; "inferior" also where another
            endpoint is shown to be.
        exit_code: of the command: 0 passes, 1 fails, 3 is inconclusive.
        identity: what both sides share, and what made them comparable.
        lost: most telling first.
        notes: what a reader must know, one sentence each.
    """

    kind: Literal["sftbench-gate"] = "sftbench-gate"
    schema_version: Literal[1] = GATE_SCHEMA_VERSION
    baseline: SideRecord
    candidate: SideRecord
    terms: Terms
    verdict: Verdict
    exit_code: int
    endpoints: tuple[EndpointResult, ...] = Field(min_length=1)
    lost: tuple[LostFact, ...]
    identity: dict[str, str]
    notes: tuple[str, ...] = ()
    software: dict[str, str]
    made: str

    @property
    def passed(self) -> bool:
        """Whether the command ends with 0."""
        return self.exit_code == 0

    @property
    def primary(self) -> tuple[EndpointResult, ...]:
        """The endpoints that decide."""
        return tuple(one for one in self.endpoints if one.primary)

    @property
    def others(self) -> tuple[EndpointResult, ...]:
        """The other endpoints."""
        return tuple(one for one in self.endpoints if not one.primary)


def worst(verdicts: list[Verdict]) -> Verdict:
    """Return the worst of several verdicts."""
    order: tuple[Verdict, ...] = ("inferior", "inconclusive", "non_inferior", "superior")
    return min(verdicts, key=order.index)


def passes(verdict: Verdict) -> bool:
    """Return whether a verdict is a pass."""
    return verdict in PASSING
