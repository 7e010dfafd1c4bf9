"""The record of one model on one fact set: the shape of a file that a leaderboard takes.

docs/leaderboard.md says how one is made and checked. Fractions and nats are as in
`sftbench.analysis.summary`, whose records stand here as they are; intervals are 95 %.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from sftbench.analysis.evidence import EstimateRecord, FlipsRecord, ForgettingRecord
from sftbench.analysis.loss import Form, KindCounts
from sftbench.analysis.record import Record
from sftbench.analysis.summary import LevelAccuracy, Outcomes, Retention, TaskResult
from sftbench_leaderboard.text import Line, LongLine

SCHEMA_VERSION: Literal[1] = 1
KIND: Literal["sftbench-record"] = "sftbench-record"
MOST_ROWS = 200_000
MOST_ENTRIES = 64
"""Entries of a mapping, or of a list that does not come from the domains."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Domain = Literal["in", "out"]
Count = Annotated[int, Field(ge=0, le=2**53)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Logprob = Annotated[float, Field(le=0, allow_inf_nan=False)]
Texts = Annotated[dict[Line, Line], Field(max_length=MOST_ENTRIES)]
Scalar = bool | int | Finite | Line | None
MOST_DOMAINS = 2


class Suite(Record):
    """How the facts were asked; all of it follows from name and version.

    Attributes:
        name: of facts and prompt, such as "geography-fewshot"; the name of the file, too.
        version: of the suite (`sftbench.scoring.suite`).
        chat: asked through the chat template of the tokenizer.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,95}$")]
    version: Annotated[str, Field(pattern=r"^[0-9]{1,4}\.[0-9]{1,4}$")]
    prompt: Literal["fewshot", "paper"]
    shots: Annotated[int, Field(ge=0, le=64)]
    max_new_tokens: Annotated[int, Field(ge=1, le=64)]
    matching: Literal["words", "strict-paper"]
    chat: bool


class Facts(Record):
    """Which facts were asked.

    Attributes:
        digest: of the whole fact set.
        asked: how many.
        asked_digest: of their fact_ids, sorted.
        limit: the most facts to ask, if there was a limit.
        part: "scored" where a restore was chosen on the other facts.
    """

    name: Line
    digest: Digest
    asked: Annotated[int, Field(ge=1, le=MOST_ROWS)]
    asked_digest: Digest
    limit: Annotated[int, Field(ge=1, le=2**53)] | None
    part: Literal["all", "scored"]


class Card(Record):
    """The mastery card that gave the facts their levels.

    Attributes:
        settings_digest: of the settings of its estimator.
        canonical: made as the canonical card of this base and these facts is; only such records
            are ranked, and those of one card among themselves.
    """

    digest: Digest
    estimator: Line
    settings_digest: Digest
    canonical: bool


class BaseAccuracy(Record):
    """The base's own answers in one domain: see `sftbench.analysis.summary.DomainResult`."""

    domain: Domain
    n: Annotated[int, Field(ge=1, le=MOST_ROWS)]
    levels: tuple[LevelAccuracy, ...] = Field(max_length=5)
    macro: Share
    macro_levels: tuple[int, ...] = Field(max_length=5)
    mean_logprob: Logprob | None
    macro_interval: EstimateRecord | None


class Base(Record):
    """The model before the fine-tune, and what it answers."""

    name: Line
    digest: Digest
    tokenizer_digest: Digest
    domains: tuple[BaseAccuracy, ...] = Field(max_length=MOST_DOMAINS)


class Model(Record):
    """The variant that the record is of.

    Attributes:
        name: "org/model".
        digest: of the variant: both models and the rule.
        variant: "tuned", or a restore such as "tuned+restore(relative,5%)".
        tuned_digest: of the tuned model's tensors.
        chat_template_digest: None where there is no template, or none is known.
        parameters: scalars of the tuned model; None where that is not known.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,96}/[A-Za-z0-9._-]{1,96}$")]
    digest: Digest
    variant: Line
    tuned_digest: Digest
    tokenizer_digest: Digest
    chat_template_digest: Digest | None
    parameters: Annotated[int, Field(ge=1, le=2**53)] | None


class RestoreFigures(Record):
    """What a restore takes back.

    Attributes:
        removed: L2 norm of what it takes back over that of the update, in its region.
        scalars: share of the region's scalars that are restored.
    """

    removed: NotNegative
    scalars: Share


class Headline(Record):
    """One domain: the fields of `sftbench.analysis.summary.DomainResult`, but for the repair.

    What a restore healed is not here, since it takes the tuned model's answers, which stand beside
    the tuned model's own record.

    Attributes:
        mean_logprob: None where the answers' log-probabilities were not measured.
    """

    domain: Domain
    n: Annotated[int, Field(ge=1, le=MOST_ROWS)]
    levels: tuple[LevelAccuracy, ...] = Field(max_length=5)
    macro: Share
    macro_levels: tuple[int, ...] = Field(max_length=5)
    mean_logprob: Logprob | None
    retention: Retention
    outcomes: Outcomes
    macro_interval: EstimateRecord | None
    score_interval: EstimateRecord | None
    kept_interval: EstimateRecord | None
    gain_interval: EstimateRecord | None
    facts_interval: EstimateRecord | None


class Checks(Record):
    """What the run checked of itself.

    Attributes:
        base_again: the base asked once more in other batches; None where it was not.
        swap_parity: how an engine proved that it answers with the weights given; None if unknown.
    """

    base_again: FlipsRecord | None = None
    swap_parity: Line | None = None


class LossCounts(Record):
    """The lost facts of one domain by kind of loss (docs/loss.md).

    Attributes:
        forms: lost facts that came right in each form asked; one may come in several.
    """

    domain: Domain
    counts: KindCounts
    forms: dict[Form, Count]


Row = Annotated[tuple[Count, ...], Field(min_length=5, max_length=5)]
Grid = Annotated[tuple[Row, ...], Field(min_length=5, max_length=5)]


class MasteryTable(Record):
    """Facts of one domain by their level in the card (rows 0..4) and measured again (columns 0..4).

    Attributes:
        before: counts of the base measured again: what moves by chance alone.
        after: counts of the variant.
    """

    domain: Domain
    before: Grid
    after: Grid


class Cost(Record):
    """What it cost.

    Attributes:
        seconds: that making and asking the variant took; None where that is not known.
        training_seconds: that training took; None without a recipe record.
        tokens: that went through the model in training; None likewise.
    """

    seconds: NotNegative | None = None
    training_seconds: NotNegative | None = None
    tokens: Count | None = None


class ItemsFile(Record):
    """The file of the items beside the record."""

    file: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,95}\.items\.parquet$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    rows: Annotated[int, Field(ge=1, le=MOST_ROWS)]


class LeaderboardRecord(Record):
    """One variant of one model on one fact set, with all that names it and all that it scored.

    Attributes:
        domains: the headline, by domain: recomputed from the items by whoever validates.
        noise: forgetting held against random changes of the fine-tune's size, by domain; empty
            without any, and of restored variants.
        recipe: how it was tuned: method, level, size, learning rate, seed ...; None if unknown.
        update_norm: L2 norm of tuned minus base over all tensors; None if unknown.
        loss: kinds of loss, by domain; None unless they were told apart.
        mastery: levels before and after, by domain; None unless all facts were measured again.
        drift: how the predictions moved: figure to nats; None unless it was measured.
        tasks, base_tasks: the same figures of lm-eval tasks; their difference is the task gain.
        made: date and time in UTC, ISO 8601.
    """

    schema_version: Literal[1]
    kind: Literal["sftbench-record"]
    suite: Suite
    facts: Facts
    card: Card
    base: Base
    model: Model
    recipe: Annotated[dict[Line, Scalar], Field(max_length=MOST_ENTRIES)] | None = None
    update_norm: NotNegative | None = None
    restore: RestoreFigures | None = None
    domains: tuple[Headline, ...] = Field(min_length=1, max_length=MOST_DOMAINS)
    noise: tuple[ForgettingRecord, ...] = Field(default=(), max_length=MOST_DOMAINS)
    checks: Checks = Checks()
    loss: Annotated[tuple[LossCounts, ...], Field(max_length=MOST_DOMAINS)] | None = None
    mastery: Annotated[tuple[MasteryTable, ...], Field(max_length=MOST_DOMAINS)] | None = None
    drift: Annotated[dict[Line, Finite], Field(max_length=MOST_ENTRIES)] | None = None
    tasks: tuple[TaskResult, ...] = Field(default=(), max_length=MOST_ENTRIES)
    base_tasks: tuple[TaskResult, ...] = Field(default=(), max_length=MOST_ENTRIES)
    cost: Cost = Cost()
    software: Texts
    engine: Texts
    made: Annotated[str, Field(max_length=40)]
    command: LongLine
    items: ItemsFile

    def domain(self, name: str) -> Headline | None:
        """Return the headline of a domain, or None where no fact of it was asked."""
        return next((one for one in self.domains if one.domain == name), None)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a record as it lies in a file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A record of the sftbench leaderboard",
        **LeaderboardRecord.model_json_schema(mode="validation"),
    }
