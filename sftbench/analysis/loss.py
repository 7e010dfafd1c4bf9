"""What kind of loss it is: the records of a summary that tell loss of form, access and knowledge.

docs/loss.md says how each is measured. Counts are facts; every other figure is a fraction unless
said; all intervals are 95 %.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sftbench.analysis.evidence import EstimateRecord
from sftbench.analysis.record import Record

Kind = Literal["format", "access", "knowledge", "undecided"]
KINDS: tuple[Kind, ...] = ("format", "access", "knowledge", "undecided")

Form = Literal["longer", "fewshot", "paper", "chat"]
FORMS: tuple[Form, ...] = ("longer", "fewshot", "paper", "chat")
"""Ways to ask once more: the same prompt with a longer budget, another prompt, as a chat."""


class KindCounts(Record):
    """Facts that a variant lost, by kind; they add up to `lost`.

    Attributes:
        format: right in another form, or with a longer budget.
        access: wrong there too, but still known under the cloze templates.
        knowledge: credibly less known there, by a quarter or more, in draws that levelled nothing.
        undecided: so little known by the base that no draws could show a loss.
    """

    lost: int
    format: int
    access: int
    knowledge: int
    undecided: int


class LossKinds(Record):
    """What the facts are that one variant lost against the base.

    Attributes:
        domain: "in" or "out".
        counts: of them.
        forms: facts that came right in each form asked; one may come in several.
    """

    variant: str
    domain: str
    counts: KindCounts
    forms: dict[str, int]


class FormCheck(Record):
    """What more tries find by themselves: facts that base and tuned model both had wrong.

    Attributes:
        asked: of these, how many were asked in the other forms (the tuned model).
        came: how many came right there, though nothing was lost.
    """

    domain: str
    asked: int
    came: int


class Healing(Record):
    """Of the tuned model's losses of one kind, those that a restored variant answers again."""

    variant: str
    domain: str
    kind: Kind
    lost: int
    healed: int


class LevelMove(Record):
    """The facts of one level of the card, measured again before and after the fine-tune.

    Attributes:
        level: of the base's card; None for all facts.
        n: facts.
        levelled: mean mastery rate in the card.
        before: mean rate of the base in fresh draws.
        after: mean rate of the tuned model in fresh draws.
        chance: `before` minus `levelled`, what levelling by luck shows; over all facts near 0,
            unless the card measured in another way. None where nothing shows how it varies (one
            cluster alone, or the same in each).
        change: `after` minus `before`; None likewise.
    """

    level: int | None
    n: int
    levelled: float
    before: float
    after: float
    chance: EstimateRecord | None
    change: EstimateRecord | None


class LevelTable(Record):
    """Facts by their level in the card (rows 0..4) and their level measured again (columns 0..4).

    Attributes:
        domain: "in", "out".
        relation: None for all relations of the domain.
        before: counts of the base measured again: what moves by chance alone.
        after: counts of the tuned model.
    """

    domain: str
    relation: str | None
    before: tuple[tuple[int, ...], ...]
    after: tuple[tuple[int, ...], ...]


class CalibrationBin(Record):
    """Facts whose answers are about equally likely: mean confidence and the share that is right."""

    n: int
    confidence: float
    accuracy: float
    low: float
    high: float


class Calibration(Record):
    """How well a variant's probability for its own answer says whether that is right.

    Attributes:
        n: facts with an answer; all figures but `answer_logprob` are of these.
        empty: facts that were answered with nothing, which has no probability: left out.
        answer_logprob: mean log-probability of the canonical answer over all facts, nats.
        confidence: mean probability of the model's own greedy answer.
        accuracy: share of answers that are right.
        brier: mean squared difference of the two (Brier 1950); 0 is perfect.
        ece: expected calibration error over bins of equal size (Naeini et al. 2015).
        ece_chance: the error that a perfectly calibrated model would show with so many facts.
        ece_limit: what such a model stays below in 95 % of cases; above it, the model is
            miscalibrated by more than chance (facts taken as independent).
        auroc: probability that a right answer is the more confident one; None where all or none
            are right.
        bins: of equal size, the least confident first.
    """

    variant: str
    domain: str
    n: int
    answer_logprob: float
    confidence: float
    accuracy: float
    brier: float
    ece: float
    ece_chance: float
    ece_limit: float
    auroc: float | None
    bins: tuple[CalibrationBin, ...]
    empty: int = 0


class LossResult(Record):
    """Loss told apart: the part of a summary that `sftbench compare --loss` adds.

    Attributes:
        estimator: what measured mastery again: "likelihood", "sampled" ...
        forms: the further forms in which facts were asked.
        budget: tokens that an answer may take in these.
        kinds: of the tuned model and each restored variant, by domain.
        against_itself: the tuned model's losses with the base's own fresh draws in its place: all
            that is called knowledge there is called so by mistake.
        noise: losses by a random change of the fine-tune's size, classed alike.
        kept: facts that both base and tuned model answer, measured alike, so none of form: where
            many of these are less known too, the fall is not what lost the others.
        more_tries: what the other forms find where nothing was lost.
        healing: which kind each restored variant heals.
        calibration: of each variant, by domain.
        levels: means by level, before and after; empty unless all facts were measured again.
        tables: level before and after, by domain, then by relation.
    """

    estimator: str
    forms: tuple[Form, ...]
    budget: int
    kinds: tuple[LossKinds, ...]
    against_itself: tuple[LossKinds, ...]
    noise: tuple[LossKinds, ...] = ()
    kept: tuple[LossKinds, ...] = ()
    more_tries: tuple[FormCheck, ...] = ()
    healing: tuple[Healing, ...] = ()
    calibration: tuple[Calibration, ...] = ()
    levels: dict[str, tuple[LevelMove, ...]] = Field(default_factory=dict)
    tables: tuple[LevelTable, ...] = ()
