"""The summary of a comparison: the shape of summary.json and all that the report shows."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from sftbench.analysis.drift import DriftResult
from sftbench.analysis.evidence import EstimateRecord, NoiseResult, PairResult
from sftbench.analysis.loss import LossResult
from sftbench.analysis.movement import MovementResult
from sftbench.analysis.record import Record

SCHEMA_VERSION: Literal[1] = 1
BASE, TUNED = "base", "tuned"
DOMAIN_NAMES = {"in": "in-domain", "out": "out-of-domain"}


class LevelAccuracy(Record):
    """Accuracy in one level: fractions, with their 95 % Wilson interval."""

    level: int
    n: int
    right: int
    accuracy: float
    low: float
    high: float


class LevelRetention(Record):
    """Retention and gains in one level; None where the share has no denominator.

    `low` and `high` are the 95 % Wilson interval of `retained`.
    """

    level: int
    known: int
    kept: int
    retained: float | None
    unknown: int
    gained: int
    gain: float | None
    low: float | None = None
    high: float | None = None


class Retention(Record):
    """The knowledge-retention score (levels 1..4) and, never mixed in, the gains (all levels)."""

    score: float | None
    scored_levels: tuple[int, ...]
    known: int
    kept: int
    unknown: int
    gained: int
    gain: float | None
    levels: tuple[LevelRetention, ...]


class Outcomes(Record):
    """What became of the facts against the base (counts that add up to all facts)."""

    kept: int
    lost: int
    gained: int
    wrong: int


class Repair(Record):
    """What a restore did: healed of lost, preserved of gained, undamaged of kept (counts)."""

    lost: int
    healed: int
    gained: int
    preserved: int
    kept: int
    undamaged: int


class DomainResult(Record):
    """One variant in one domain.

    Attributes:
        macro: unweighted mean of the accuracy over `macro_levels`, a fraction.
        macro_levels: the levels that have facts.
        mean_logprob: mean log-probability of the canonical answer, nats.
        retention: against the base; of the base against itself for the base.
        repair: None but for a restored variant.
        macro_interval: the macro with its clustered interval.
        score_interval: the retention score likewise; None where there is none.
        kept_interval: the share of the known facts of level 1 to 4 that is kept, each fact alike.
        gain_interval: the share of the unknown facts of all levels that is gained.
        facts_interval: the share of all facts that is answered right, each fact alike.
    """

    domain: str
    n: int
    levels: tuple[LevelAccuracy, ...]
    macro: float
    macro_levels: tuple[int, ...]
    mean_logprob: float
    retention: Retention
    outcomes: Outcomes
    repair: Repair | None = None
    macro_interval: EstimateRecord | None = None
    score_interval: EstimateRecord | None = None
    kept_interval: EstimateRecord | None = None
    gain_interval: EstimateRecord | None = None
    facts_interval: EstimateRecord | None = None


class TaskResult(Record):
    """One figure of an lm-eval task that was run beside the facts: what the fine-tune was for.

    Attributes:
        task: name of the task.
        metric: its metric, such as "acc,none".
        value: the figure, in the metric's own unit.
        stderr: its standard error as the harness gives it; None where it gives none.
        n: documents asked.
        higher_is_better: whether more of it is better, as the task says; None where it does not.
    """

    task: str
    metric: str
    value: float
    stderr: float | None = None
    n: int
    higher_is_better: bool | None = None


class VariantResult(Record):
    """One variant: what it is and what it answered.

    Attributes:
        percent: restored share of the ranked scalars, percent; None for base and tuned.
        seconds: time that making and asking it took (in the run that did, if it was resumed).
        restore: the restore's own report (counts of unchanged and zero-base scalars ...).
        tasks: figures of lm-eval tasks; the same tasks and metrics for every variant.
    """

    name: str
    slug: str
    variant_id: str
    percent: float | None = None
    seconds: float
    domains: tuple[DomainResult, ...]
    restore: dict[str, Any] | None = None
    tasks: tuple[TaskResult, ...] = ()

    def domain(self, name: str) -> DomainResult | None:
        """Return the result in a domain, or None where no fact of it was asked."""
        return next((one for one in self.domains if one.domain == name), None)


class RelationOutcome(Record):
    """One variant on the facts of one relation: counts; kept and lost are against the base."""

    variant: str
    right: int
    kept: int
    lost: int
    gained: int


class RelationResult(Record):
    """The facts asked of one relation, and what each variant made of them.

    Attributes:
        n: facts asked.
        variants: one each, in the order of `Summary.variants`.
    """

    relation: str
    domain: str
    n: int
    variants: tuple[RelationOutcome, ...]


class RelationBaseline(Record):
    """What needs no knowledge scores in one relation: fractions of its test facts.

    Attributes:
        majority_answer: the most frequent answer.
        majority: share of the scored test facts that this answer is right for.
        echo: share of all test facts whose question holds the answer. They are left out of
            scoring unless asked for, so this says what leaving them out prevents.
    """

    relation: str
    majority_answer: str
    majority: float
    echo: float


class CheckpointRecord(Record):
    """A checkpoint: how the user named it, and the digests of its tensors and tokenizer."""

    name: str
    digest: str
    tokenizer_digest: str


class RepairCandidate(Record):
    """One restore that was tried on the validation facts.

    Attributes:
        rule: such as "relative,20%norm"; "" for the tuned model as it is.
        right: validation facts that it answers right.
        removed: L2 norm of what it takes back over that of the update in its region.
        distance: L2 norm of what it takes back, in the units of the weights; None in files of
            earlier versions.
        p: p value that it gets more right than the tuned model, adjusted for all that were tried
            (`analysis.exact.better_than_chance`); None for the tuned model.
        tasks: figures of the validation task, if there is one.
        worse_in_task: it does worse in the task than the tuned model by more than one standard
            error, and cannot be chosen.
    """

    rule: str
    right: int
    removed: float
    distance: float | None = None
    p: float | None = None
    tasks: tuple[TaskResult, ...] = ()
    worse_in_task: bool = False


class RepairChoice(Record):
    """Which restore was chosen, and on what.

    Attributes:
        facts: validation facts; none of them is scored.
        candidates: what was tried, the tuned model first.
        best: the rule that answers most of them right, "" for the tuned model.
        chosen: of the rules that are told from the tuned model the gentlest within one standard
            error of the best; None where none is told from it.
    """

    facts: int
    candidates: tuple[RepairCandidate, ...]
    best: str
    chosen: str | None = None

    @property
    def words(self) -> str:
        """What was chosen and how, as one or two sentences."""
        right = {one.rule: one.right for one in self.candidates}
        tried = f"{len(self.candidates) - 1} restores tried on {self.facts:,} validation facts"
        rest = "which are not scored"
        if self.chosen is None:
            best = f" (the best one gets {right[self.best]:,} right)" if self.best else ""
            return (
                f"Of {tried}, {rest}, none is told from leaving the model as it is, which gets "
                f"{right['']:,} right{best}: no repair is recommended."
            )
        return (
            f"Of {tried}, {rest}, {self.chosen} was chosen: it gets {right[self.chosen]:,} right, "
            f"the tuned model {right['']:,}{self._chance}; it takes the least of the update back "
            f"among those within one standard error of the best one ({right[self.best]:,})."
        )

    @property
    def _chance(self) -> str:
        p = next((one.p for one in self.candidates if one.rule == self.chosen), None)
        if p is None:  # of an earlier version
            return ""
        shown = "p < 0.001" if p < 1e-3 else f"p = {p:.3f}"
        return f" ({shown}, adjusted for all that were tried)"


class FactsRecord(Record):
    """The facts: which set, and which of them were asked.

    Attributes:
        asked: number of facts asked.
        asked_digest: digest of their fact_ids, sorted.
        unlevelled: facts of the test split without a level in the card, left out.
        limit: the most facts to ask, if there was a limit.
        part: "all", or of these the "validation" facts, on which a restore is chosen, or those
            "scored".
    """

    name: str
    digest: str
    domains: tuple[str, ...]
    asked: int
    asked_digest: str
    unlevelled: int
    limit: int | None = None
    part: str = "all"


class PromptRecord(Record):
    """The prompt and the way answers are matched."""

    name: str
    shots: int
    max_new_tokens: int
    how: str


class RunRecord(Record):
    """What made the result: everything that is needed to make it again.

    Attributes:
        key: digest of all that decides an answer; a folder is resumed only under this key.
        card: the mastery card's own record.
        update_norm: L2 norm of tuned minus base over all tensors.
        command: the command line.
        made: date and time in UTC, ISO 8601.
        seconds: wall time of this run; of a resumed one, only of its own part.
    """

    key: str
    base: CheckpointRecord
    tuned: CheckpointRecord
    facts: FactsRecord
    card: dict[str, Any]
    prompt: PromptRecord
    update_norm: float
    arithmetic: str
    engine: dict[str, str]
    software: dict[str, str]
    command: str
    made: str
    seconds: float


class Summary(Record):
    """All of a comparison but the answers themselves: summary.json.

    Attributes:
        variants: base, tuned, then the restored ones by percent.
        recipe: the recipe record of the tuned checkpoint, if there is one beside it.
        chat: asked through the chat template of the tokenizer.
        rescored_from: how the result names the one whose answers it scores again, if it does.
        relations: the facts by relation, in-domain first, then by name.
        baselines: of the relations asked, those that the fact set has figures for.
        perturbed: the base with random changes of the fine-tune's size, by draw.
        again: the base asked once more in other batches.
        pairs: base and tuned model, then tuned model and each restored variant.
        noise: what is only noise; None in files of earlier versions.
        repair: how a restore was chosen on facts that are not among these, if one was.
        loss: what kinds of loss there are; None unless they were told apart.
        drift: how the predictions moved; None unless it was measured.
        movement: how the weights moved; None unless it was measured.
    """

    kind: Literal["sftbench-compare"] = "sftbench-compare"
    schema_version: Literal[1] = SCHEMA_VERSION
    run: RunRecord
    variants: tuple[VariantResult, ...] = Field(min_length=2)
    recipe: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    chat: bool = False
    rescored_from: str | None = None
    relations: tuple[RelationResult, ...] = ()
    baselines: tuple[RelationBaseline, ...] = ()
    perturbed: tuple[VariantResult, ...] = ()
    again: VariantResult | None = None
    pairs: tuple[PairResult, ...] = ()
    noise: NoiseResult | None = None
    repair: RepairChoice | None = None
    loss: LossResult | None = None
    drift: DriftResult | None = None
    movement: MovementResult | None = None

    @property
    def every(self) -> tuple[VariantResult, ...]:
        """All variants that were asked, those that show noise last."""
        return (*self.variants, *self.perturbed, *([self.again] if self.again else []))

    def pair(self, first: str, second: str) -> PairResult | None:
        """Return the comparison of two variants, or None where there is none."""
        wanted = (first, second)
        return next((one for one in self.pairs if (one.first, one.second) == wanted), None)

    @property
    def base(self) -> VariantResult:
        """The base."""
        return self.variants[0]

    @property
    def tuned(self) -> VariantResult:
        """The tuned model."""
        return self.variants[1]

    @property
    def restored(self) -> tuple[VariantResult, ...]:
        """The restored variants, by percent."""
        return self.variants[2:]

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that were asked, "in" before "out"."""
        return tuple(one.domain for one in self.base.domains)
