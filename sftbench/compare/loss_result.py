"""From what was measured of the losses to the part of the summary that tells them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from sftbench.analysis.calibration import calibration
from sftbench.analysis.kinds import change, kind_of
from sftbench.analysis.level_moves import level_moves, level_tables
from sftbench.analysis.loss import (
    FORMS,
    KINDS,
    Calibration,
    FormCheck,
    Healing,
    KindCounts,
    LevelTable,
    LossKinds,
    LossResult,
)
from sftbench.analysis.summary import BASE, TUNED
from sftbench.checkpoints.rules import Restored
from sftbench.checkpoints.variants import BASE as THE_BASE
from sftbench.checkpoints.variants import TUNED as THE_TUNED
from sftbench.checkpoints.variants import Noise, Variant
from sftbench.common.tables import TableSpec
from sftbench.compare.loss_run import measure_losses, speaker_of
from sftbench.compare.losses import KINDS_FILE
from sftbench.facts.table import DOMAINS
from sftbench.loss.again import Purpose, rates
from sftbench.loss.forms import BUDGET
from sftbench.mastery.card import MASTERY, with_levels
from sftbench.mastery.measured import Measured

if TYPE_CHECKING:
    from sftbench.analysis.kinds import Rate
    from sftbench.compare.losses import Losses
    from sftbench.compare.weights import VariantWeights
    from sftbench.engines.settings import EngineFactory

LOSS = TableSpec(
    kind="kinds of loss",
    columns={
        "fact_id": pl.String,
        "variant": pl.String,  # who lost it; "base" for the base held against itself
        "domain": pl.String,
        "kind": pl.String,  # format, access, knowledge, undecided
        "forms": pl.List(pl.String),  # those in which it came right
        "before": pl.Float64,  # mastery rate of the base by fresh draws; null for format
        "after": pl.Float64,  # of the variant; null for format
        "low": pl.Float64,  # 95 % interval of after - before; null for format
        "high": pl.Float64,
    },
    remedy="Make one with `sftbench compare --loss`.",
)


class ToldLoss(NamedTuple):
    """The losses told apart, and the table of them (columns as in `LOSS`)."""

    result: LossResult
    items: pl.DataFrame


def tell_losses(losses: Losses, factory: EngineFactory, weights: VariantWeights) -> ToldLoss:
    """Measure what is missing, tell the losses of every variant apart, and write the table.

    Raises:
        SftbenchError: as for a comparison.
    """
    measure_losses(losses, factory, weights)
    before = rates(losses.journal(THE_BASE, "kind"))
    told = pl.concat(
        [_told(losses, variant, before) for variant in losses.losers] + [_itself(losses, before)]
    )
    LOSS.write(told, losses.folder / KINDS_FILE, {"key": losses.plan.key})
    noise = tuple(one.name for one in losses.losers if isinstance(one, Noise))
    own = tuple(one.name for one in losses.losers if not isinstance(one, Noise))
    domains = [name for name in DOMAINS if name in set(losses.plan.rows["domain"])]
    result = LossResult(
        estimator=losses.again(THE_BASE, "kind").measure.name,
        forms=_forms_asked(losses),
        budget=BUDGET,
        kinds=_kinds(told, own, domains),
        against_itself=_kinds(told, (BASE,), domains),
        noise=_kinds(told, noise, domains),
        kept=_kinds(_kept(losses, before), (TUNED,), domains),
        more_tries=_more_tries(losses, domains),
        healing=_healing(losses, told, domains),
        calibration=_calibration(losses, domains),
        **_levels(losses, domains),
    )
    return ToldLoss(result, told)


def _told(losses: Losses, variant: Variant, before: Mapping[str, Rate]) -> pl.DataFrame:
    """Return each fact that a variant lost, with its kind."""
    forms = losses.forms(variant)
    assert forms is not None
    came: dict[str, list[str]] = {}
    for fact_id, form in forms.filter("right").select("fact_id", "form").iter_rows():
        came.setdefault(fact_id, []).append(form)
    after = rates(losses.journal(variant, "kind"))
    lost = losses.lost(variant).select("fact_id", "domain")
    return _table(
        [
            {"fact_id": fact_id, "domain": domain, "kind": "format", "forms": came[fact_id]}
            if fact_id in came
            else _measured(fact_id, domain, before[fact_id], after[fact_id])
            for fact_id, domain in lost.iter_rows()
        ],
        variant.name,
    )


def _itself(losses: Losses, before: Mapping[str, Rate]) -> pl.DataFrame:
    """Return the tuned model's losses as they look with the base itself in its place."""
    after = rates(losses.journal(THE_BASE, "itself"))
    return _all_measured(losses.unsaid(THE_TUNED), before, after, BASE)


def _kept(losses: Losses, before: Mapping[str, Rate]) -> pl.DataFrame:
    """Return facts that both models answer, told apart as if they were lost."""
    after = rates(losses.journal(THE_TUNED, "kind"))
    return _all_measured(losses.kept(THE_TUNED), before, after, TUNED)


def _all_measured(
    facts: pl.DataFrame, before: Mapping[str, Rate], after: Mapping[str, Rate], variant: str
) -> pl.DataFrame:
    rows = [
        _measured(fact_id, domain, before[fact_id], after[fact_id])
        for fact_id, domain in facts.select("fact_id", "domain").iter_rows()
    ]
    return _table(rows, variant)


def _measured(fact_id: str, domain: str, before: Rate, after: Rate) -> dict[str, Any]:
    bounds = change(before, after)
    return {
        "fact_id": fact_id,
        "domain": domain,
        "kind": kind_of(before, after),
        "forms": [],
        "before": before.value,
        "after": after.value,
        "low": bounds.low,
        "high": bounds.high,
    }


def _table(rows: Sequence[Mapping[str, Any]], variant: str) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema={k: v for k, v in LOSS.columns.items() if k != "variant"})
    return LOSS.conform(frame.with_columns(variant=pl.lit(variant)))


def _kinds(
    told: pl.DataFrame, variants: Sequence[str], domains: Sequence[str]
) -> tuple[LossKinds, ...]:
    found = []
    for variant in variants:
        for domain in domains:
            rows = told.filter(pl.col("variant") == variant, pl.col("domain") == domain)
            counted = {kind: rows.filter(pl.col("kind") == kind).height for kind in KINDS}
            forms = dict(rows["forms"].explode().drop_nulls().value_counts().iter_rows())
            found.append(
                LossKinds(
                    variant=variant,
                    domain=domain,
                    counts=KindCounts(lost=rows.height, **counted),
                    forms={form: int(forms[form]) for form in FORMS if form in forms},
                )
            )
    return tuple(found)


def _forms_asked(losses: Losses) -> tuple[Any, ...]:
    asked = {form for one in losses.losers for form in speaker_of(losses, one).forms}
    return tuple(form for form in FORMS if form in asked)


def _more_tries(losses: Losses, domains: Sequence[str]) -> tuple[FormCheck, ...]:
    """Return what the other forms find of facts that neither model answers."""
    forms = losses.forms(THE_TUNED)
    assert forms is not None
    tried = losses.tried(THE_TUNED).select("fact_id", "domain")
    came = tried.join(forms.filter("right"), on="fact_id", how="semi")
    return tuple(
        FormCheck(
            domain=domain,
            asked=tried.filter(pl.col("domain") == domain).height,
            came=came.filter(pl.col("domain") == domain).height,
        )
        for domain in domains
    )


def _healing(losses: Losses, told: pl.DataFrame, domains: Sequence[str]) -> tuple[Healing, ...]:
    """Return of the tuned model's losses of each kind those that each restored variant undoes."""
    rows = told.filter(pl.col("variant") == TUNED)
    found = []
    for variant in (one for one in losses.losers if isinstance(one, Restored)):
        for domain in domains:
            for kind in KINDS:
                lost = set(
                    rows.filter(pl.col("domain") == domain, pl.col("kind") == kind)["fact_id"]
                )
                healed = len(lost & losses.right[variant.name])
                found.append(
                    Healing(
                        variant=variant.name,
                        domain=domain,
                        kind=kind,
                        lost=len(lost),
                        healed=healed,
                    )
                )
    return tuple(found)


def _calibration(losses: Losses, domains: Sequence[str]) -> tuple[Calibration, ...]:
    found = []
    for variant in losses.confident:
        own = losses.confidence(variant)
        assert own is not None
        answers = next(one.answers for one in losses.answered if one.variant == variant)
        frame = (
            losses.plan.rows.select("fact_id", "domain")
            .join(answers.select("fact_id", "correct", "answer_logprob"), on="fact_id")
            .join(own.select("fact_id", "own_logprob"), on="fact_id")
            .with_columns(confidence=pl.col("own_logprob").exp().clip(0, 1))
        )
        for domain in domains:
            part = frame.filter(pl.col("domain") == domain)
            said = part.drop_nulls("confidence")
            if said.height:
                own_part = calibration(said, variant.name, domain)
                # Of all facts: an empty answer has no probability, the right one has.
                logprob = float(part["answer_logprob"].mean())  # type: ignore[arg-type]
                more = {"answer_logprob": logprob, "empty": part.height - said.height}
                found.append(own_part.model_copy(update=more))
    return tuple(found)


def _levels(losses: Losses, domains: Sequence[str]) -> dict[str, Any]:
    """Return the means and tables of levels before and after; nothing unless all were measured."""
    if not losses.remeasure:
        return {}
    before, after = (_levelled(losses, one, "level") for one in (THE_BASE, THE_TUNED))
    rows = losses.plan.rows.with_columns(answer=pl.col("answers").list.first())
    facts = rows.select("fact_id", "relation", "answer", "domain")
    card = rows.select("fact_id", "rate", "level")
    moves = {
        domain: level_moves(card, before, after, facts.filter(pl.col("domain") == domain))
        for domain in domains
    }
    tables: tuple[LevelTable, ...] = level_tables(card, before, after, facts)
    return {"levels": moves, "tables": tables}


def _levelled(losses: Losses, variant: Variant, purpose: Purpose) -> pl.DataFrame:
    """Return what a journal holds with levels: fact_id, rate, level."""
    found = list(losses.journal(variant, purpose).finished.values())
    schema = {name: MASTERY.columns[name] for name in Measured._fields}
    return with_levels(pl.DataFrame(found, schema, orient="row")).select("fact_id", "rate", "level")
